"""`fallow explain`: why a service runs what it runs, in under twenty lines, whatever its status says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fallow.app.cli import app
from fallow.app.explaining import explained
from tests.support.kubeconfig import kubeconfig_for

AT = "2026-11-28T14:02:00Z"
PATH = "/apis/fallow.dev/v1alpha1/namespaces/llm/inferenceservices/chat"


def condition(kind: str, status: str, message: str = "", reason: str = "AsAsked") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": AT}


def decision(number: int = 0, **changes: Any) -> dict[str, Any]:
    told = {"at": AT, "action": "ScaleUp", "reason": "Arrivals", "lever": "Replicas", "message": f"change {number}"}
    return {**told, **changes}


STATUS: dict[str, Any] = {
    "observedGeneration": 4,
    "readyReplicas": 2,
    "desiredReplicas": 3,
    "variant": "bf16",
    "policy": "green",
    "mode": "Enforce",
    "standing": {
        "reason": "Dwell",
        "lever": "Replicas",
        "message": "2 replicas would do for the last window; last change 90 s ago, dwell is 300 s",
        "vetoes": [{"guard": "dwell", "reason": "Dwell", "message": "last change 90 s ago, dwell is 300 s"}],
        "silences": ["it never rests: scaling.minReplicas is 1; 0 lets it"],
    },
    "conditions": [
        condition("Ready", "True", "2 replicas are ready"),
        condition("Converged", "False", "bf16 2 of 3 ready", "Starting"),
        condition("ObjectivesMet", "True", "TTFT p95 is 312 ms", "AllMet"),
    ],
    "idle": {
        "state": "Active",
        "evidence": {
            "requests": "9 running, 0 waiting",
            "gpuActivity": "GPU active 71% of the time",
            "watts": "912 W, idle up to 420 W",
            "missing": ["StaleSeries: power of GPU-1"],
        },
    },
    "summary": {"replicas": "2/3", "watts": "912 W", "joulesPerToken": "0.31", "carbonToday": "1.2 kg"},
    "decision": [decision(2), decision(1)],
}
SPEC = {"objectives": {"ttft": "1s", "itl": "25ms", "attainment": 0.99}}


def service(status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "llm", "name": "chat", "generation": 4},
        "spec": SPEC if spec is None else spec,
        "status": STATUS if status is None else status,
    }


def test_it_says_what_runs_why_and_what_it_costs() -> None:
    assert explained(service()).splitlines() == [
        "llm/chat      2 of 3 replicas ready, bf16 serves; policy green (Enforce)",
        "why           Dwell (Replicas): 2 replicas would do for the last window; last change 90 s ago, dwell is 300 s",
        "held back     dwell: last change 90 s ago, dwell is 300 s",
        "never         it never rests: scaling.minReplicas is 1; 0 lets it",
        "objectives    TTFT p95 1s, ITL p95 25ms, 0.99 of the requests: TTFT p95 is 312 ms (AllMet)",
        "load          Active: 9 running, 0 waiting; GPU active 71% of the time; 912 W, idle up to 420 W",
        "not seen      StaleSeries: power of GPU-1",
        "costs         912 W now, 0.31 J per token, 1.2 kg CO2e today",
        "28 Nov 14:02  ScaleUp (Replicas, Arrivals): change 2",
        "28 Nov 14:02  ScaleUp (Replicas, Arrivals): change 1",
        "but           Converged is False: bf16 2 of 3 ready (Starting)",
    ]


def test_a_line_says_why_the_node_of_its_replicas_is_not_emptied() -> None:
    told = "gpu-7 is not emptied: llm/chat was changed within guards.dwell"
    lines = explained(service({**STATUS, "standing": {**STATUS["standing"], "keptNode": told}})).splitlines()
    assert lines[3:5] == [f"node          {told}", "never         it never rests: scaling.minReplicas is 1; 0 lets it"]


WORK: dict[str, Any] = {
    "variant": "bf16",
    "regime": "MemoryBound",
    "flopsPerByte": {"low": 27.2, "best": 34.1, "high": 68.1},
    "ridgeFlopsPerByte": {"low": 148, "best": 295, "high": 354},
}


def test_a_line_says_by_what_the_work_is_bound() -> None:
    assert (
        "work          bf16 is memory-bound: 34.1 (27.2 to 68.1) FLOP a byte, "
        "the ridge of its GPU is at 295 (148 to 354); estimated by vLLM"
    ) in explained(service({**STATUS, "work": WORK})).splitlines()


PROPOSAL: dict[str, Any] = {
    "id": "3f9a01c2",
    "what": "ScaleDown to bf16 2",
    "since": AT,
    "stands": True,
    "now": "bf16 3",
    "message": "the last 300 s needed 2 of 3 replicas",
    "risk": "load above what 2 replicas carry waits for a start",
    "savesWatts": 118.4,
    "savesGramsPerHour": 41.2,
    "savesMoneyPerHour": 0.0426,
    "currency": "EUR",
}


def test_a_proposal_says_what_it_saves_risks_and_what_lets_it_happen() -> None:
    lines = explained(service({**STATUS, "mode": "Recommend", "proposal": PROPOSAL})).splitlines()
    assert (
        "proposed      ScaleDown to bf16 2, now bf16 3, saves 118 W, 41.2 g CO2e an hour, 0.0426 EUR an hour;"
        " fallow approve or reject, or mode Enforce in the policy"
    ) in lines
    assert "risk          load above what 2 replicas carry waits for a start" in lines


def test_what_a_proposal_takes_more_of_is_said_to_cost() -> None:
    text = explained(service({**STATUS, "mode": "Recommend", "proposal": {**PROPOSAL, "savesWatts": -90.2}}))
    assert "saves 41.2 g CO2e an hour, 0.0426 EUR an hour, costs 90 W; fallow approve" in text


def test_a_proposal_of_before_is_none_now() -> None:
    assert "proposed" not in explained(service({**STATUS, "proposal": {**PROPOSAL, "stands": False}}))


def test_a_rejected_proposal_says_what_takes_that_back() -> None:
    text = explained(service({**STATUS, "proposal": {**PROPOSAL, "rejected": True}}))
    assert "rejected      ScaleDown to bf16 2 (3f9a01c2); fallow approve takes that back" in text


def test_while_a_step_is_watched_it_says_what_was_seen_of_the_new_variant() -> None:
    seen = "fp8 is watched with 1 of 10 replicas for 300 s: 80 requests; 0 of 80 failed, 0 of 810 as bf16"
    standing = {"reason": "Watched", "lever": "Precision", "message": seen}
    lines = explained(
        service({**STATUS, "transition": {"from": "bf16", "to": "fp8", "replicas": 10}, "standing": standing})
    ).splitlines()
    assert lines[0] == "llm/chat      2 of 3 replicas ready, bf16 serves, fp8 comes by steps; policy green (Enforce)"
    assert lines[1] == f"why           Watched (Precision): {seen}"


@pytest.mark.parametrize(
    ("status", "spec", "words"),
    [
        ({}, SPEC, "llm/chat has no status yet"),
        ({**STATUS, "observedGeneration": 3}, SPEC, "outdated      the spec changed since: generation 4, decided on 3"),
        (STATUS, {}, "objectives    none declared in spec.objectives: latency keeps no replica"),
        ({"idle": {"resting": True}}, SPEC, "rests, 0 of 0 replicas ready; no policy: Fallow only watches"),
        ({"idle": {}}, SPEC, "load          Unknown: nothing was seen"),
        ({"summary": {}}, SPEC, "costs         not known yet"),
    ],
    ids=["nobody looked", "a newer spec", "no objectives", "at rest, no policy", "nothing seen", "no figures"],
)
def test_what_is_not_there_is_said(status: dict[str, Any], spec: dict[str, Any], words: str) -> None:
    assert words in explained(service(status, spec))


@given(
    vetoes=st.integers(0, 8),
    silences=st.integers(0, 5),
    decisions=st.integers(0, 5),
    conditions=st.integers(0, 16),
    missing=st.integers(0, 16),
    proposal=st.booleans(),
    limited=st.booleans(),
    kept=st.booleans(),
)
def test_it_is_never_twenty_lines_long(
    *,
    vetoes: int,
    silences: int,
    decisions: int,
    conditions: int,
    missing: int,
    proposal: bool,
    limited: bool,
    kept: bool,
) -> None:
    standing = {
        **STATUS["standing"],
        "vetoes": STATUS["standing"]["vetoes"] * vetoes,
        "silences": ["x"] * silences,
        "keptNode": "a node" if kept else "",
    }
    status = {
        **STATUS,
        "observedGeneration": 3,
        "standing": standing,
        "decision": [decision(number) for number in range(decisions)],
        "proposal": PROPOSAL if proposal else None,
        "powerLimitWatts": 500 if limited else None,
        "clockShare": 0.8 if limited else None,
        "work": WORK if limited else None,
        "conditions": [condition(f"Kind{number}", "False") for number in range(conditions)],
        "idle": {**STATUS["idle"], "evidence": {"missing": ["no series"] * missing}},
    }
    lines = explained(service(status)).splitlines()
    assert len(lines) < 20
    assert sum(line.startswith("never") for line in lines) >= min(silences, 3 - 3 * limited) - kept


class Answers(BaseHTTPRequestHandler):
    found: dict[str, Any]
    patched: list[tuple[str, dict[str, Any]]]

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.patched.append((str(self.headers["Content-Type"]), body))
        self.do_GET()

    def do_GET(self) -> None:
        self.path = self.path.split("?")[0]
        body = json.dumps(self.found if self.path == PATH else {"kind": "Status", "code": 404}).encode()
        self.send_response(200 if self.path == PATH else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    Answers.found, Answers.patched = service(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield kubeconfig_for(tmp_path, server.server_port)
    server.shutdown()
    server.server_close()
    thread.join()


def asked(*arguments: str, command: str = "explain") -> tuple[int, str]:
    result = CliRunner().invoke(app, [command, *arguments])
    return result.exit_code, result.output


def test_the_command_asks_the_api_server(kubeconfig: Path) -> None:
    code, text = asked("llm/chat", "--kubeconfig", str(kubeconfig))
    assert (code, text) == (0, explained(service()))
    code, text = asked("llm/chat", "--kubeconfig", str(kubeconfig), "-o", "json")
    assert (code, json.loads(text)) == (0, STATUS)


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["chat"], 2, "write NAMESPACE/NAME, such as llm/chat"),
        (["llm/chat", "--kubeconfig", "/nowhere"], 2, "no cluster to ask"),
    ],
    ids=["no namespace", "no kubeconfig"],
)
def test_wrong_input_says_what_to_write(arguments: list[str], expected: int, words: str) -> None:
    code, text = asked(*arguments)
    assert code == expected
    assert words in text


def test_a_service_that_is_not_there_is_named(kubeconfig: Path) -> None:
    code, text = asked("llm/code", "--kubeconfig", str(kubeconfig))
    assert code == 1
    assert "there is no InferenceService code in llm" in text


def test_a_status_of_another_version_is_no_riddle(kubeconfig: Path) -> None:
    Answers.found = service({"readyReplicas": "many"})
    code, text = asked("llm/chat", "--kubeconfig", str(kubeconfig))
    assert code == 1
    assert "not of this version" in text


def proposing(**changes: Any) -> None:
    Answers.found = service({**STATUS, "mode": "Recommend", "proposal": {**PROPOSAL, **changes}})


@pytest.mark.parametrize(
    ("command", "said", "taken_back"),
    [("approve", "fallow.dev/approve", "fallow.dev/reject"), ("reject", "fallow.dev/reject", "fallow.dev/approve")],
)
@pytest.mark.parametrize("name", [[], ["3f9a01c2"]], ids=["the present one", "by name"])
def test_a_word_is_an_annotation(kubeconfig: Path, command: str, said: str, taken_back: str, name: list[str]) -> None:
    proposing()
    code, text = asked("llm/chat", *name, "--kubeconfig", str(kubeconfig), command=command)
    assert (code, text.splitlines()[0].split(",")[0]) == (
        0,
        f"{'approved' if command == 'approve' else 'rejected'} 3f9a01c2 for llm/chat: ScaleDown to bf16 2",
    )
    kind, patch = Answers.patched[0]
    assert kind == "application/merge-patch+json"
    assert patch == {"metadata": {"annotations": {said: "3f9a01c2", taken_back: None}}}


def test_an_approval_says_when_it_will_not_happen_at_once(kubeconfig: Path) -> None:
    proposing(stands=False)
    _, text = asked("llm/chat", "--kubeconfig", str(kubeconfig), command="approve")
    assert "it is not proposed just now; it happens when it is again" in text


def test_a_proposal_that_is_not_made_any_more_cannot_be_approved(kubeconfig: Path) -> None:
    proposing()
    code, text = asked("llm/chat", "11111111", "--kubeconfig", str(kubeconfig), command="approve")
    assert code == 1
    assert "11111111 is not proposed for llm/chat any more; 3f9a01c2 is: ScaleDown to bf16 2" in text
    assert Answers.patched == []


UNDER_WAY = {"from": "bf16", "to": "fp8", "since": AT, "approval": "5b2c77e0"}


@pytest.mark.parametrize(("more", "name"), [({}, []), ({"proposal": PROPOSAL}, ["5b2c77e0"])], ids=["alone", "by name"])
def test_an_approved_switch_on_its_way_is_told_and_may_be_rejected(
    kubeconfig: Path, more: dict[str, Any], name: list[str]
) -> None:
    Answers.found = service({**STATUS, **more, "mode": "Recommend", "transition": UNDER_WAY})
    _, text = asked("llm/chat", "--kubeconfig", str(kubeconfig))
    assert "fp8 is being made ready (approved: 5b2c77e0)" in text
    code, text = asked("llm/chat", *name, "--kubeconfig", str(kubeconfig), command="reject")
    assert (code, text) == (0, "rejected 5b2c77e0 for llm/chat: the switch to fp8\n")
    assert Answers.patched[0][1]["metadata"]["annotations"]["fallow.dev/reject"] == "5b2c77e0"


def test_where_nothing_is_proposed_it_is_said_why_none_may_be(kubeconfig: Path) -> None:
    code, text = asked("llm/chat", "--kubeconfig", str(kubeconfig), command="approve")
    assert code == 1
    assert "nothing is proposed for llm/chat: policy green is in mode Enforce" in text
