"""Scenario files: what is right is read, what is wrong is refused with the field and what to write."""

from pathlib import Path

import pytest
import yaml

from fallow.domain.workloads import ServiceKey
from fallow.twin.faults import DcgmFault, FaultError, Faults, VllmFault
from fallow.twin.scenario import ScenarioError, read_scenario, scenario_from

RIGHT = """
seed: 7
tickSeconds: 0.2
services:
- namespace: demo
  service: chat
  prefixHitShare: 0.2
  traffic:
    cv: 1.5
    rate: {points: [[0, 2], [60, 20], [120, 0]], between: step}
    prompt: {mean: 500, cv: 1}
    output: {mean: 150}
- namespace: demo
  service: batch
  traffic:
    rate: {daily: {mean: 3, peakToMean: 2.5, secondsPerDay: 300, quiet: [[22, 6]]}}
- namespace: demo
  service: recorded
  traffic: {trace: {file: trace.csv, scale: 2, compress: 10, repeat: true}}
"""


def test_a_scenario_is_read(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival,prompt,output\n5,10,20\n15,30,40\n")
    (tmp_path / "scenario.yaml").write_text(RIGHT)
    scenario = read_scenario(tmp_path / "scenario.yaml")
    assert (scenario.tick_seconds, scenario.sample_seconds) == (0.2, 1.0)
    assert scenario.prefix_hit_share(ServiceKey("demo", "chat")) == 0.2
    assert scenario.prefix_hit_share(None) == 0
    counts = [len(service.traffic.begin().until(100.0)) for service in scenario.services]
    assert all(count > 20 for count in counts)


def test_services_differ_in_their_seeds(tmp_path: Path) -> None:
    one = {"namespace": "a", "service": "one", "traffic": {"rate": {"constant": 5}}}
    scenario = scenario_from({"services": [one, one | {"service": "two"}]}, folder=tmp_path)
    first, second = (service.traffic.begin().until(10.0) for service in scenario.services)
    assert first != second


def with_traffic(traffic: str) -> str:
    return f"services: [{{namespace: demo, service: chat, traffic: {traffic}}}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "scenario: write fields with values"),
        ("sevices: []", "scenario: unknown field 'sevices'"),
        ("tickSeconds: 0", "scenario.tickSeconds: write a number above 0, not 0"),
        ("services: 5", "scenario.services: write a list"),
        ("services: [{service: chat}]", r"services\[0\].namespace: is missing"),
        (with_traffic("{}"), r"services\[0\].traffic: write either rate or trace"),
        (with_traffic("{rate: {}}"), "traffic.rate: write constant, points or daily"),
        (with_traffic("{rate: {constant: many}}"), "rate.constant: write a number, not 'many'"),
        (with_traffic("{rate: {points: [[0, 1], 5]}}"), r"rate.points\[1\]: write a pair of numbers, not 5"),
        (with_traffic("{rate: {points: [[9, 1], [0, 1]]}}"), "rate.points: write them in order of time"),
        (with_traffic("{rate: {points: [[0, 1]], between: curve}}"), "rate.between: write linear or step"),
        (with_traffic("{rate: {daily: {mean: 1, peakToMean: 0.5}}}"), "daily.peakToMean: write 1 or more, not 0.5"),
        (with_traffic("{rate: {constant: 1}, cv: 0}"), "traffic.cv: write a number above 0"),
        (with_traffic("{rate: {constant: 1}, prompt: {men: 5}}"), "traffic.prompt: unknown field 'men'"),
        (with_traffic("{trace: {file: a.csv, repeat: yep}}"), "trace.repeat: write true or false, not 'yep'"),
        ("services: [", "is not YAML"),
    ],
)
def test_a_wrong_scenario_says_what_to_write(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=message):
        read_scenario(file)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: cannot be read"):
        read_scenario(tmp_path / "nowhere.yaml")
    scenario = scenario_from(yaml.safe_load(with_traffic("{trace: {file: gone.csv}}")), folder=tmp_path)
    with pytest.raises(ScenarioError, match=r"gone\.csv: cannot be read"):
        scenario.services[0].traffic.begin()


def test_faults_are_set_by_name_or_for_all_and_cleared() -> None:
    faults = Faults()
    faults.set({"dcgm": {"node": "gpu-1", "mode": "nan"}, "vllm": {"pod": "*", "mode": "hang"}})
    assert (faults.of_node("gpu-1"), faults.of_node("gpu-2")) == (DcgmFault.NAN, None)
    assert faults.of_pod("demo", "chat-0") is VllmFault.HANG
    faults.set({"vllm": {"pod": "*", "mode": "none"}})
    assert faults.of_pod("demo", "chat-0") is None
    faults.clear()
    assert faults.as_json() == {"dcgm": {}, "host": {}, "vllm": {}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'write "dcgm", "host", "vllm", "engine", "gpu" or "node", not nothing'),
        ({"gpu": {}}, r"not \['gpu'\]"),
        ({"dcgm": {"pod": "x", "mode": "nan"}}, '"dcgm" takes'),
        ({"vllm": {"pod": "x", "mode": "slow"}}, "write one of down, hang, nan, frozen, none"),
    ],
)
def test_a_wrong_fault_says_what_to_write(body: dict[str, object], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        Faults().set(body)
