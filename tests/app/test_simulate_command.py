"""`fallow simulate` as a person uses it: the sample runs, wrong scenarios are refused with what to write instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fallow.app.cli import app
from fallow.app.simulation.scenario import ScenarioError
from fallow.app.simulation.traffic import replayed
from fallow.domain.readings import PodRef
from fallow.domain.windows import Served
from fallow.domain.workloads import ServiceKey
from tests.support.builders import BF16, FP8, service

SAMPLES = Path(__file__).parents[2] / "docs/samples/simulation"


def simulate(*words: str) -> Any:
    return CliRunner().invoke(app, ["simulate", *words])


def scenario(tmp_path: Path, **changes: Any) -> str:
    content = yaml.safe_load((SAMPLES / "week.yaml").read_text())
    content["manifests"] = [str(SAMPLES / name) for name in content["manifests"]]
    content.update(changes)
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_sample_runs_and_compares() -> None:
    result = simulate(str(SAMPLES / "week.yaml"), "--days", "0.02", "--compare", "hpa")

    assert result.exit_code == 0, result.output
    assert "fallow" in result.output
    assert "hpa" in result.output
    assert "schedule oracle" in result.output


def test_json_holds_every_controller_with_its_series_and_decisions(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("--days", "0.02", "--compare", "hpa", "-o", "json", "--html", str(page))
    result = simulate(str(SAMPLES / "week.yaml"), *words)
    told = json.loads(result.stdout)

    assert [one["controller"] for one in told["controllers"]] == ["fallow", "hpa"]
    own = told["controllers"][0]
    assert own["energy_kwh"] > 0
    assert {one["service"] for one in own["services"]} == {"llm/chat", "llm/digest"}
    assert own["series"]["services"]["llm/chat"]["watts"]
    assert told["bounds_kwh"]["reference"]["floor"] <= told["bounds_kwh"]["reference"]["schedule"]
    assert "http" not in page.read_text()
    assert "Chat and digests on 32 H100" in page.read_text()


def test_nodes_are_in_the_zones_that_the_scenario_says_and_objectives_go_by_these() -> None:
    result = simulate(str(SAMPLES / "two-zones.yaml"), "--days", "0.02", "--compare", "", "-o", "json")
    told = json.loads(result.stdout)["controllers"][0]

    begun = next(one for one in told["decisions_made"] if one["lever"] == "Hardware")
    assert "gCO2e/h on NVIDIA-H100-80GB-HBM3 in home and" in begun["message"]
    assert "gCO2e/h on NVIDIA-L4 in north" in begun["message"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"traffic": {"chat": {"week": "coding"}}}, "name a service as NAMESPACE/NAME"),
        ({"traffic": {"llm/chat": {"week": "gaming"}}}, "'gaming' is not known: write one of coding, conversation"),
        ({"traffic": {"llm/chat": {"week": "coding", "rate": 3}}}, "not 2 of them"),
        ({"traffic": {"llm/chat": {"rate": 3}}}, "say how long requests are"),
        ({"traffic": {"llm/chat": {"jobs": {"every": "6h", "requests": 9}}}}, "say how long requests are"),
        ({"traffic": {"llm/chat": {}}}, "write one of week, trace, servegen, rate, sporadic, jobs, not 0 of them"),
        ({"traffic": {"llm/nobody": {"week": "coding"}}}, "no manifest declares this InferenceService"),
        ({"traffic": {"llm/chat": {"trace": "none.csv"}}}, "cannot be read"),
        ({"nodes": [{"product": "NVIDIA-Z9", "count": 1}]}, "nodes.product: 'Z9' is no GPU that is known here"),
        ({"nodes": [{"product": "NVIDIA-L4", "count": 1}]}, "no nodes have 1 GPUs of NVIDIA-H100-80GB-HBM3; add some"),
        ({"nods": []}, "nods: Extra inputs are not permitted"),
        ({"manifests": ["none.yaml"]}, "none.yaml cannot be read"),
        (
            {"sleep": {"after": "1m"}},
            "sleep: no service with traffic has an engine that can: write spec.engine.sleepMode",
        ),
        ({"sleep": {"level": 3}}, "sleep.level: Input should be 1 or 2"),
        ({"faults": [{"at": "1h"}]}, "faults.0: write one of node: NUMBER or fullest, and crash, hang or xid: NAME"),
        ({"faults": [{"at": "1h", "node": 4}]}, "there is no node 4: write 0 to 3, or fullest"),
        ({"faults": [{"at": "1h", "crash": "llm/code"}]}, "'llm/code' has no traffic: write one of llm/chat"),
        ({"faults": [{"at": "1h", "xid": "llm/code"}]}, "faults.0.xid: 'llm/code' has no traffic"),
        ({"faults": [{"at": "1h", "xid": "llm/chat", "hang": "llm/chat"}]}, "faults.0: write one of node"),
    ],
)
def test_a_wrong_scenario_is_refused_with_what_to_write(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    result = simulate(scenario(tmp_path, **{"days": 0.1, **changes}))

    assert result.exit_code == 2
    assert says in result.output


def test_an_unknown_baseline_is_refused_with_those_that_are_known() -> None:
    result = simulate(str(SAMPLES / "week.yaml"), "--days", "0.02", "--compare", "magic")

    assert result.exit_code == 2
    assert "'magic' is not known" in result.output
    assert "strong:" in result.output


def test_a_recorded_trace_is_served_whole(tmp_path: Path) -> None:
    rows = "\n".join(f"{at},300,20" for at in range(0, 600, 2))
    (tmp_path / "trace.csv").write_text(f"arrival,prompt,output\n{rows}\n")
    path = scenario(tmp_path, traffic={"llm/chat": {"trace": "trace.csv"}}, days=599 / 86_400)
    told = json.loads(simulate(path, "--compare", "none", "-o", "json").stdout)

    assert told["controllers"][0]["requests"] == 300


def test_engines_sleep_by_themselves_where_the_scenario_says_so(tmp_path: Path) -> None:
    services = list(yaml.safe_load_all((SAMPLES / "services.yaml").read_text()))
    for one in services:
        one["spec"]["engine"] = {"sleepMode": True}
    (tmp_path / "services.yaml").write_text(yaml.safe_dump_all(services))
    jobs = {"jobs": {"every": "30m", "requests": 20}, "prompt": {"mean": 600}, "output": {"mean": 100}}
    path = scenario(
        tmp_path,
        manifests=["services.yaml"],
        sleep={"after": "2m", "level": 2},
        traffic={"llm/digest": jobs},
        days=0.06,
    )
    told = json.loads(simulate(path, "--cycle", "60", "--compare", "static-100", "-o", "json").stdout)

    assert told["inputs"]["sleep"] == "llm/digest at level 2 after 120 s without a request"
    assert told["controllers"][1]["wakes"] > 0


def test_faults_befall_every_controller_and_are_told(tmp_path: Path) -> None:
    faults = [
        {"at": "30m", "node": "fullest", "back": "10m"},
        {"at": "45m", "node": 3},
        {"at": "50m", "crash": "llm/chat", "replicas": 2},
        {"at": "55m", "hang": "llm/chat", "back": "5m"},
        {"at": "58m", "xid": "llm/chat"},
    ]
    path = scenario(tmp_path, faults=faults, days=1.2 / 24)
    told = json.loads(simulate(path, "--cycle", "60", "--compare", "static-70", "-o", "json").stdout)

    assert told["inputs"]["faults"] == (
        "after 0.5 h node with most pods is lost for 10 min; after 0.75 h node 3 is lost for good;"
        " after 0.8333 h 2 of llm/chat crash; after 0.9167 h 1 of llm/chat hang for 5 min;"
        " after 0.9667 h a GPU of llm/chat fails for good"
    )
    assert all(one["failed"] > 0 for one in told["controllers"])
    refused = simulate(path, "--parts", "2")
    assert refused.exit_code == 2
    assert "run them in one part" in refused.output


def test_batches_that_may_wait_are_served_by_their_deadline(tmp_path: Path) -> None:
    """The digests of the sample have five minutes, which is time to wake."""
    jobs = {"every": "1h", "requests": 300, "over": "30s"}
    lengths = {"prompt": {"mean": 600}, "output": {"mean": 150}}
    path = scenario(tmp_path, traffic={"llm/digest": {"jobs": jobs, **lengths}}, days=0.06, seed=3)
    own = json.loads(simulate(path, "--cycle", "30", "--compare", "none", "-o", "json").stdout)["controllers"][0]

    assert own["requests"] >= 300
    assert own["starts"] > 0
    assert own["services"][0]["ttft_p95_s"] > 10
    assert own["attainment"] > 0.9


def test_the_past_is_replayed_by_the_deployments_that_pods_are_named_after() -> None:
    past = {
        PodRef("llm", "chat-bf16-7d9f-x1"): {0: Served(3, 300, 30), 1: Served(1, 200, 10)},
        PodRef("llm", "chat-fp8-5c1a-x2"): {0: Served(2, 700, 20)},
        PodRef("lab", "notebook-0"): {0: Served(9, 9, 9)},
    }
    demand = replayed(past, [service(BF16, FP8, key=ServiceKey("llm", "chat"))], seed=1)
    load = demand.block(0, 120)

    assert demand.services == (ServiceKey("llm", "chat"),)
    assert load.arrivals.reshape(2, 60).sum(axis=1).tolist() == [5, 1]


def test_a_past_without_any_declared_service_is_refused() -> None:
    past = {PodRef("lab", "notebook-0"): {0: Served(9, 9, 9)}}

    with pytest.raises(ScenarioError, match="no pod belongs to a declared service; seen were lab/notebook-0"):
        replayed(past, [service(key=ServiceKey("llm", "chat"))], seed=1)


def test_a_prometheus_that_is_not_there_is_told() -> None:
    result = simulate(str(SAMPLES / "week.yaml"), "--from-prometheus", "http://127.0.0.1:9", "--last", "1h")

    assert result.exit_code == 2
    assert "--from-prometheus:" in result.output


def test_a_service_that_opens_at_one_is_ready_for_the_first_request_of_the_day(tmp_path: Path) -> None:
    """On the Monday that simulations begin with, in UTC."""
    rows = "\n".join(f"{3600 + second},300,50" for second in range(0, 600, 2))
    (tmp_path / "trace.csv").write_text(f"arrival,prompt,output\n0,300,50\n{rows}\n")
    found, words = {}, ("--cycle", "30", "--compare", "none", "-o", "json")
    for name, schedules in (("as it comes", []), ("opens", [{"window": "Mon 01:00-02:00 UTC", "minReplicas": 1}])):
        services = list(yaml.safe_load_all((SAMPLES / "services.yaml").read_text()))
        digest = next(one for one in services if one["metadata"]["name"] == "digest")
        digest["spec"]["scaling"]["schedules"] = schedules
        digest["spec"]["objectives"] = {"ttft": {"p95": "2s"}}
        (tmp_path / "services.yaml").write_text(yaml.safe_dump_all(services))
        manifests = [str(tmp_path / "services.yaml"), str(SAMPLES / "policy.yaml")]
        path = scenario(tmp_path, manifests=manifests, traffic={"llm/digest": {"trace": "trace.csv"}}, days=1.2 / 24)
        found[name] = json.loads(simulate(path, *words).stdout)["controllers"][0]

    assert found["as it comes"]["attainment"] < 0.95
    assert found["opens"]["attainment"] > 0.99
    (woken,) = [one for one in found["opens"]["decisions_made"] if one["reason"] == "Schedule"]
    assert 0.8 * 3600 < woken["at_seconds"] < 3600


def evening(tmp_path: Path, consolidation: Mapping[str, object], *, hours: int = 1) -> str:
    """Three services at their peak for ten minutes, and then at little of it for the rest."""
    content = yaml.safe_load((SAMPLES / "nights.yaml").read_text())
    rows = [f"{at},1000,200" for second in range(600) for at in [second] * 45]
    rows += [f"{second},1000,200" for second in range(600, hours * 3600)]
    (tmp_path / "trace.csv").write_text("arrival,prompt,output\n" + "\n".join(rows) + "\n")
    policies = list(yaml.safe_load_all((SAMPLES / "nights-policy.yaml").read_text()))
    policies[0]["spec"]["consolidation"] = consolidation
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump_all(policies))
    content["manifests"] = [str(SAMPLES / "nights-services.yaml"), "policy.yaml"]
    content["traffic"] = {f"llm/{name}": {"trace": "trace.csv"} for name in ("chat", "code", "search")}
    content["nodes"] = [{"product": "NVIDIA-H100-80GB-HBM3", "count": 8, "gpus": 4, "zone": "home"}]
    content["days"] = hours / 24
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "scenario.yaml")


ALONE = ("--cycle", "60", "--compare", "none", "-o", "json")


def test_with_consolidation_a_fleet_whose_pods_spread_has_fewer_nodes_on(tmp_path: Path) -> None:
    told = json.loads(simulate(evening(tmp_path, {"enabled": True}), *ALONE, "--levers").stdout)

    assert told["savings_by_lever"]["consolidation"]["fleet_kwh"] > 0


def test_replicas_that_stay_are_moved_off_nodes_and_no_request_is_lost(tmp_path: Path) -> None:
    stay = json.loads(simulate(evening(tmp_path, {"enabled": True}, hours=2), *ALONE).stdout)["controllers"][0]
    moves = {"enabled": True, "maxUnavailableNodes": "20%"}
    move = json.loads(simulate(evening(tmp_path, moves, hours=2), *ALONE).stdout)["controllers"][0]

    assert move["node_hours"] < 0.9 * stay["node_hours"]
    assert move["fleet_kwh"] < stay["fleet_kwh"]
    assert move["failed"] == 0
    assert move["attainment"] >= stay["attainment"] - 0.001
    told = [one["action"] for one in move["decisions_made"] if one["lever"] == "Nodes"]
    assert "MoveDone" in told


def test_prompts_and_answers_apart_take_less_where_answers_are_short(tmp_path: Path) -> None:
    """Each role is a service of its own, sized by its own objective."""
    content = yaml.safe_load((SAMPLES / "roles-coding.yaml").read_text())
    content["manifests"] = [str(SAMPLES / name) for name in content["manifests"]]
    steady = {"rate": 60, "prompt": {"mean": 2048}, "output": {"mean": 28}}
    content["traffic"] = {
        "llm/whole": steady,
        "llm/prefill": steady | {"output": {"mean": 1, "cv": 0}},
        "llm/decode": steady | {"cached": 0.99},
    }
    content["days"] = 2 / 24
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(content))
    told = json.loads(simulate(str(tmp_path / "scenario.yaml"), *ALONE).stdout)["controllers"][0]

    found = {one["service"]: one for one in told["services"]}
    assert (
        found["llm/prefill"]["energy_kwh"] + found["llm/decode"]["energy_kwh"] < 0.9 * found["llm/whole"]["energy_kwh"]
    )
    assert min(found["llm/prefill"]["attainment"], found["llm/decode"]["attainment"]) > 0.98
