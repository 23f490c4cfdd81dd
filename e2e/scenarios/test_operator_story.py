"""The operator's main job: replicas follow the load, idle services rest and wake, a dirty grid moves a variant.

All services run side by side, so that the quiet times of one pass while another is looked at.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import (
    API,
    DOWN_WINDOW,
    IDLE_AFTER,
    MODEL,
    OPERATOR,
    PRODUCT,
    SERVICE_LABEL,
    Scene,
    burst,
    policy,
    profile,
    quick_template,
    service,
    steady,
    variant,
    zone,
)
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]

ENFORCED, ADVISED, OBSERVED, THROTTLED = "story", "story-advised", "story-observed", "story-throttled"
PIECES = "story-pieces"
CLEAN, DIRTY = 80, 420
TIERS = [
    {"above": 350, "unit": "gCO2/kWh", "allow": ["FP8"]},
    {"above": 0, "unit": "gCO2/kWh", "allow": ["BF16", "FP8"]},
]
RESTS = {"minReplicas": 0, "maxReplicas": 2}
GROWS = {"minReplicas": 1, "maxReplicas": 4, "targetConcurrency": 8}
SHIELD = ("karpenter.sh/do-not-disrupt", "cluster-autoscaler.kubernetes.io/safe-to-evict")
SLEEPERS = ("by-request", "by-schedule", "by-annotation", "by-scale")
ALWAYS = {"window": "Mon-Sun 00:00-00:00 Europe/Berlin", "minReplicas": 2}
# Long enough for three looks at a working service, at a cycle and a scrape a second.
FIRST_WORK = burst(3, 8)
# In flight: about as many as arrive in a second; three or four replicas at a target of eight.
MUCH = steady(26)
# Long prompts, short answers, for a model of their own.
CODER = "meta-llama/Llama-3.1-8B-Instruct"
CODE = {
    "rate": {"constant": 9},
    "prompt": {"mean": 2048, "cv": 0.9, "most": 8000},
    "output": {"mean": 28, "cv": 0.9, "most": 200},
}


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2, "ledger_interval": 2, "estimation_window": 15}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=3) as scene:
        scene.namespace(ENFORCED, precision={"qualityFloor": 0.97, "tiers": TIERS, "hysteresis": 0.1})
        scene.namespace(ADVISED, "Recommend")
        scene.namespace(OBSERVED, "Observe")
        scene.namespace(THROTTLED, idle=climbing("Throttle"))
        scene.namespace(PIECES, scaling=stepping(limited=True))
        scene.put(
            zone("story", CLEAN),
            profile("story-bf16", "BF16", 0.20),
            profile("story-fp8", "FP8", 0.15),
            service(ENFORCED, "busy", scaling=GROWS),
            service(ENFORCED, "chat", precisions=("BF16", "FP8"), scaling={"maxReplicas": 3}, replicas=2),
            service(ENFORCED, "scaled", scaling={"maxReplicas": 3}, replicas=1),
            service(ADVISED, "quiet", scaling=RESTS),
            service(ADVISED, "crowded", scaling=GROWS),
            service(OBSERVED, "crowded", scaling=GROWS),
            service(THROTTLED, "warm", scaling={"minReplicas": 2, "maxReplicas": 3}),
            coder_profile(),
            service(
                PIECES,
                "coder",
                model={"name": CODER, "servedName": "coder"},
                scaling={"minReplicas": 1, "maxReplicas": 4},
                objectives={"ttft": {"p95": "1s"}, "itl": {"p95": "25ms"}},
            ),
            autoscaler("scaled"),
            existing_deployment("legacy", replicas=2),
            existing_deployment("shared", replicas=1),
            autoscaler("shared", reference("vllm-shared")),
        )
        wake = {"metric": "gateway_requests_waiting", "selector": {"namespace": ENFORCED, "service": "by-request"}}
        scene.put(
            *(service(ENFORCED, name, scaling=RESTS) for name in SLEEPERS[1:]),
            service(ENFORCED, SLEEPERS[0], scaling={**RESTS, "wake": wake}),
        )
        for name in SLEEPERS:
            stack.traffic(ENFORCED, name, FIRST_WORK)
        stack.traffic(ADVISED, "quiet", FIRST_WORK)
        for namespace in (ENFORCED, ADVISED, OBSERVED):
            stack.traffic(namespace, "busy" if namespace == ENFORCED else "crowded", MUCH)
        stack.traffic(PIECES, "coder", CODE)
        stack.traffic(ENFORCED, "chat", steady(3))
        stack.traffic(ENFORCED, "scaled", steady(3))
        stack.traffic(ENFORCED, "shared", steady(4))
        scene.until_running(ENFORCED, "legacy", 2)
        scene.put(adopting("legacy", RESTS), adopting("shared", {**GROWS, "targetConcurrency": 1}))
        yield scene


def climbing(*rungs: str) -> JSON:
    return {"after": f"{IDLE_AFTER}s", "ladder": list(rungs)}


def stepping(*, limited: bool) -> JSON:
    return {"upWindow": "2s", "downWindow": f"{DOWN_WINDOW}s", "limitSteps": limited}


def coder_profile() -> JSON:
    found = profile("story-coder", "BF16", 0.20)
    points = [(1, 143, 7.0, 300), (8, 1081, 7.4, 400), (64, 5333, 12.0, 600)]
    found["spec"] |= {
        "model": CODER,
        "prefillTokensPerSecond": 24_000,
        "points": [
            {"concurrency": batch, "tokensPerSecond": tokens, "itlMillis": gap, "watts": watts}
            for batch, tokens, gap, watts in points
        ],
    }
    return found


def adopting(name: str, scaling: JSON) -> JSON:
    adopted = service(ENFORCED, name, scaling=scaling, targetRef=reference(f"vllm-{name}"))
    del adopted["spec"]["template"]
    return adopted


def autoscaler(name: str, target: JSON | None = None) -> JSON:
    """It reads /scale; a source of CPU figures is not there, so it holds its bounds and changes nothing else."""
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    on_service = {"apiVersion": API, "kind": "InferenceService", "name": name}
    spec = {
        "scaleTargetRef": {part: text for part, text in (target or on_service).items() if part != "port"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": cpu}],
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": ENFORCED},
        "spec": spec,
    }


def told(scene: Scene, namespace: str, name: str, action: str) -> list[JSON]:
    return [decision for decision in scene.decisions(namespace, name) if decision["action"] == action]


def reasons(scene: Scene, namespace: str, name: str) -> set[tuple[str, str]]:
    return {(event.get("action", ""), event["reason"]) for event in scene.events(namespace, name)}


def test_replicas_follow_the_load_up_at_once_and_down_one_by_one(scene: Scene) -> None:
    scene.until(lambda: scene.replicas(ENFORCED, "busy") >= 3, "replicas to follow the load")
    up = scene.until(lambda: told(scene, ENFORCED, "busy", "ScaleUp"), "the decision in the status")
    assert all(decision["reason"] in {"Concurrency", "QueueGrowing", "TokenRate"} for decision in up)
    assert all("in flight" in decision["message"] for decision in up)
    assert ("ScaleUp", up[0]["reason"]) in reasons(scene, ENFORCED, "busy")
    scene.stack.traffic(ENFORCED, "busy", steady(1))
    scene.until_running(ENFORCED, "busy", 1)
    levels = scene.replicas_over_time(ENFORCED, "busy")
    peak = levels.index(max(levels))
    assert all(later > earlier for earlier, later in pairwise(levels[: peak + 1]))
    assert levels[peak:] == list(range(max(levels), 0, -1))
    down = scene.until(lambda: told(scene, ENFORCED, "busy", "ScaleDown"), "the decision in the status")
    assert {decision["reason"] for decision in down} == {"LoadFell"}
    assert ("ScaleDown", "LoadFell") in reasons(scene, ENFORCED, "busy")


def test_a_pod_is_shielded_while_it_loads_and_its_node_is_free_again_once_it_is_ready(scene: Scene) -> None:
    own = quick_template(load=6)
    own["metadata"]["annotations"][SHIELD[0]] = "2h"
    scaling = {"maxReplicas": 1}
    scene.put(service(ENFORCED, "slow", scaling=scaling, template=quick_template(load=6)))
    scene.put(service(ENFORCED, "slow-own", scaling=scaling, template=own))
    for name in ("slow", "slow-own"):
        scene.until_running(ENFORCED, name, 1)
        scene.until(lambda name=name: stages(scene, name)[-1][-1] == "over", f"the end of the shield of {name}")  # type: ignore[misc]
    both, one = " ".join(SHIELD), SHIELD[1]
    assert stages(scene, "slow") == [
        (False, None, None, None),
        (False, "true", "false", both),
        (True, "true", "false", both),
        (True, None, None, "over"),
    ]
    assert stages(scene, "slow-own") == [
        (False, "2h", None, None),
        (False, "2h", "false", one),
        (True, "2h", "false", one),
        (True, "2h", None, "over"),
    ]
    # one that is only observed is not touched
    assert stages(scene, "crowded", OBSERVED) == [(False, None, None, None), (True, None, None, None)]


def stages(scene: Scene, name: str, namespace: str = ENFORCED) -> list[tuple[bool, str | None, str | None, str | None]]:
    """Whether the service's only pod was ready, and what was written on it, each time that something of it changed."""
    bodies = [
        change.body
        for change in scene.pods.changes(namespace)
        if change.body is not None and change.body["metadata"]["labels"].get(SERVICE_LABEL) == name
    ]
    assert len({body["metadata"]["name"] for body in bodies}) == 1
    return [stage for stage, _ in groupby(stage_of(body) for body in bodies)]


def stage_of(pod: JSON) -> tuple[bool, str | None, str | None, str | None]:
    annotations = pod["metadata"].get("annotations", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    karpenter, autoscaler, mark = (annotations.get(key) for key in (*SHIELD, "fallow.dev/startup-shield"))
    return ready, karpenter, autoscaler, mark


@pytest.mark.parametrize("name", SLEEPERS)
def test_a_quiet_service_is_found_idle_by_three_signals_and_rests(scene: Scene, name: str) -> None:
    scene.until(lambda: scene.status(ENFORCED, name).get("idle", {}).get("resting"), "the service to rest")
    scene.until_running(ENFORCED, name, 0)
    seen = idle_parts(scene, name)
    # a look that a busy machine misses tells nothing for that moment, and brings no rest nearer
    known = [idle["state"] for idle in seen if idle["state"] not in {"Unknown", "Stale"}]
    states = [state for state, _ in groupby(known)]
    # without a replica it is idle before its first start too
    assert states[states.index("Active") :] == ["Active", "Standby", "Idle"]
    quiet = next(idle["evidence"] for idle in seen if idle["state"] == "Standby")
    assert "0 running, 0 waiting" in quiet["requests"]
    assert "GPU active" in quiet["gpuActivity"]
    assert "idle ceiling" in quiet["watts"]
    (decision,) = told(scene, ENFORCED, name, "Rest")
    assert decision["reason"] == "IdleLongEnough"
    assert decision["savesWatts"] > 0
    assert ("Rest", "IdleLongEnough") in reasons(scene, ENFORCED, name)
    scene.until(lambda: scene.condition(ENFORCED, name, "Ready")["reason"] == "Resting", "Ready to say that it rests")


def idle_parts(scene: Scene, name: str) -> list[JSON]:
    """What the status said about idleness, each version of it."""
    found = (change.body for change in scene.services.changes(ENFORCED) if change.key[1] == name)
    return [body["status"]["idle"] for body in found if body is not None and "idle" in body.get("status", {})]


def test_a_request_that_waits_wakes_a_resting_service(scene: Scene) -> None:
    name = "by-request"
    scene.until_running(ENFORCED, name, 0)
    answers: list[JSON] = []
    asked = threading.Thread(target=lambda: answers.append(scene.stack.complete(ENFORCED, name, "Is anybody there?")))
    asked.start()
    scene.until(lambda: told(scene, ENFORCED, name, "Wake"), "the wake")
    asked.join(60)
    assert answers
    assert answers[0]["usage"]["completion_tokens"] > 0
    assert told(scene, ENFORCED, name, "Wake")[0]["reason"] == "WakeWaiting"
    wake = scene.until(lambda: scene.status(ENFORCED, name).get("wake"), "the cost of the wake")
    scene.until(lambda: "tookSeconds" in scene.status(ENFORCED, name).get("wake", {}), f"the length of {wake}")


def test_a_resting_service_is_there_while_its_schedule_is_open_and_rests_after_that(scene: Scene) -> None:
    name = "by-schedule"
    scene.until_running(ENFORCED, name, 0)
    scheduled(scene, name, [ALWAYS])
    scene.until_running(ENFORCED, name, 2)
    (woken,) = told(scene, ENFORCED, name, "Wake")
    assert (woken["reason"], ALWAYS["window"] in woken["message"]) == ("Schedule", True)
    scene.until(lambda: scene.status(ENFORCED, name)["idle"]["state"] == "Idle", "nobody to come")
    why = f"the schedule {ALWAYS['window']} keeps 2 replicas"
    scene.until(lambda: why in shell(scene, "explain", ENFORCED, name), "the reason why it stays")
    scheduled(scene, name, [])
    scene.until_running(ENFORCED, name, 0)


def scheduled(scene: Scene, name: str, schedules: list[JSON]) -> None:
    change = json.dumps({"spec": {"scaling": {"schedules": schedules}}})
    scene.cluster.kubectl("patch", f"fis/{name}", "--type=merge", "-p", change, "-n", ENFORCED)


def test_the_annotation_and_kubectl_scale_wake_resting_services(scene: Scene) -> None:
    for name in SLEEPERS[2:]:
        scene.until_running(ENFORCED, name, 0)
    scene.cluster.kubectl("annotate", "fis/by-annotation", "fallow.dev/wake=please", "-n", ENFORCED)
    scene.scale(ENFORCED, "by-scale", 2)
    scene.until_running(ENFORCED, "by-annotation", 1)
    scene.until_running(ENFORCED, "by-scale", 2)
    # the request binds until the service has been idle again, and is then taken out of the spec
    for name in SLEEPERS[2:]:
        scene.until(lambda name=name: len(told(scene, ENFORCED, name, "Rest")) == 2, f"the second rest of {name}")  # type: ignore[misc]
        scene.until_running(ENFORCED, name, 0)
    scene.until(lambda: "replicas" not in spec_of(scene, "by-scale"), "the obeyed request to be removed")
    assert [decision["reason"] for decision in told(scene, ENFORCED, "by-annotation", "Wake")] == ["WakeAnnotation"]
    assert [decision["reason"] for decision in told(scene, ENFORCED, "by-scale", "Wake")] == ["WakeScale"]


def spec_of(scene: Scene, name: str) -> JSON:
    spec: JSON = (scene.services.get(ENFORCED, name) or {})["spec"]
    return spec


def test_a_dirty_grid_moves_the_service_to_fp8_and_a_clean_one_back(scene: Scene) -> None:
    def serves(name: str) -> bool:
        return scene.serves(ENFORCED, "chat", name, 2)

    scene.until(lambda: serves("bf16"), "two replicas in BF16")
    began = scene.pods.changes(ENFORCED)[-1].at
    grid(scene, DIRTY)
    scene.until(lambda: serves("fp8"), "the switch to FP8")
    grid(scene, CLEAN)
    scene.until(lambda: serves("bf16"), "the switch back to BF16")
    # make before break: at no moment fewer ready pods than before
    assert min(scene.ready_over_time(ENFORCED, "chat", since=began)) == 2
    switches = [decision["reason"] for decision in told(scene, ENFORCED, "chat", "Switch")]
    assert switches == ["CarbonTier", "TierEnded"]
    assert {("Switch", "CarbonTier"), ("Switch", "TierEnded")} <= reasons(scene, ENFORCED, "chat")
    services = scene.stack.twin_state()["services"]
    truth = next(one for one in services if (one["namespace"], one["service"]) == (ENFORCED, "chat"))
    assert truth["failed"] == 0
    assert truth["done"] > 0


def grid(scene: Scene, grams: float) -> None:
    patch = {"spec": {"intensity": {"static": {"gramsPerKWh": grams}}}}
    scene.cluster.kubectl("patch", "gridzone", "story", "--type=merge", "-p", json.dumps(patch))


def test_idle_engines_let_their_clocks_fall_and_none_is_missing_meanwhile(scene: Scene) -> None:
    # its first engines came as the policy wants them
    scene.until(lambda: engines(scene) == [True, True], "two engines whose clocks fall")
    scene.until(lambda: 0 < idle_watts(scene) < 76, "the draw of empty GPUs")
    climb(scene, "Release")
    scene.until(lambda: told(scene, THROTTLED, "warm", "Unthrottle"), "the clocks to stay up")
    scene.until(lambda: engines(scene) == [False, False], "two engines whose clocks stay up")
    scene.until(lambda: idle_watts(scene) > 115, "the draw of loaded GPUs")
    climb(scene, "Throttle")
    (decision,) = scene.until(lambda: told(scene, THROTTLED, "warm", "Throttle"), "the clocks to fall")
    assert (decision["lever"], decision["reason"]) == ("Throttle", "IdleClocks")
    # 122 W loaded against 72 W empty, on each of two GPUs
    assert decision["savesWatts"] == pytest.approx(99.6)
    scene.until(lambda: engines(scene) == [True, True], "two engines whose clocks fall")
    scene.until(lambda: 0 < idle_watts(scene) < 76, "the draw of empty GPUs")
    assert never_fewer(scene)
    answer = scene.stack.complete(THROTTLED, "warm", "Are you there?")
    assert answer["usage"]["completion_tokens"] > 0


def climb(scene: Scene, rung: str) -> None:
    rungs = {"spec": {"idle": climbing(rung)}}
    scene.cluster.kubectl("patch", "energypolicy", THROTTLED, "--type=merge", "-p", json.dumps(rungs))


def never_fewer(scene: Scene) -> bool:
    """Than the two that it began with."""
    levels = scene.ready_over_time(THROTTLED, "warm")
    return min(levels[levels.index(2) :]) == 2


def engines(scene: Scene) -> list[bool]:
    """Of those that stay, ready or not: whether their environment lets the clocks fall."""
    bodies = [body for body in scene.pods.all(THROTTLED).values() if not body["metadata"].get("deletionTimestamp")]
    found = [body["spec"]["containers"][0].get("env", []) for body in bodies]
    return [{"name": "CUDA_DISABLE_PERF_BOOST", "value": "1"} in env for env in found]


def idle_watts(scene: Scene) -> float:
    """The highest of its GPUs, 0 where none is known."""
    rows = scene.ask_prometheus(f'max(DCGM_FI_DEV_POWER_USAGE{{namespace="{THROTTLED}"}})')
    return float(rows[0]["value"][1]) if rows else 0.0


def test_engines_take_prompts_in_pieces_where_these_hold_answers_up_and_as_before_when_that_ends(scene: Scene) -> None:
    decision = scene.until(lambda: told(scene, PIECES, "coder", "LimitSteps"), "steps with fewer tokens")[0]
    assert (decision["lever"], decision["reason"]) == ("StepTokens", "StepTokens")
    scene.until(lambda: set(step_tokens(scene)) != {None} and None not in step_tokens(scene), "engines that work so")
    (tokens,) = set(step_tokens(scene))
    assert tokens is not None
    assert 250 < int(tokens) < 450
    scene.cluster.kubectl(
        "patch",
        "energypolicy",
        PIECES,
        "--type=merge",
        "-p",
        json.dumps({"spec": {"scaling": stepping(limited=False)}}),
    )
    scene.until(lambda: told(scene, PIECES, "coder", "FreeSteps"), "steps as vLLM has them")
    scene.until(lambda: set(step_tokens(scene)) == {None}, "engines that work so")
    truth = next(one for one in scene.stack.twin_state()["services"] if one["service"] == "coder")
    assert truth["failed"] == 0
    assert truth["done"] > 0


def step_tokens(scene: Scene) -> list[str | None]:
    """Of those that stay, ready or not: the tokens that their arguments allow in a step."""
    bodies = [body for body in scene.pods.all(PIECES).values() if not body["metadata"].get("deletionTimestamp")]
    flags = [dict(pairwise(body["spec"]["containers"][0]["args"])) for body in bodies]
    return [one.get("--max-num-batched-tokens") for one in flags]


def test_recommend_proposes_and_changes_nothing(scene: Scene) -> None:
    rest = scene.until(lambda: told(scene, ADVISED, "quiet", "Rest"), "the proposal to rest")
    grow = scene.until(lambda: told(scene, ADVISED, "crowded", "ScaleUp"), "the proposal to grow")
    assert all(decision["proposal"] and decision["policy"] == ADVISED for decision in [*rest, *grow])
    scene.until(lambda: would_run(scene, "quiet") and would_run(scene, "crowded"), "the proposals as Events")
    assert scene.replicas_over_time(ADVISED, "quiet") == [0, 1]
    assert scene.replicas_over_time(ADVISED, "crowded") == [0, 1]
    assert scene.status(ADVISED, "quiet")["idle"]["resting"] is False
    text = shell(scene, "explain", ADVISED, "quiet")
    assert len(text.splitlines()) < 20
    assert f"policy {ADVISED} (Recommend)" in text
    assert "IdleLongEnough (Rest): quiet for" in text
    assert "proposed      Rest to bf16 0, now bf16 1" in text


def test_what_is_approved_happens_once_and_what_is_rejected_does_not(scene: Scene) -> None:
    scene.until(lambda: told(scene, ADVISED, "crowded", "ScaleUp"), "the proposal to grow")
    assert shell(scene, "reject", ADVISED, "crowded").startswith("rejected ")
    scene.until(lambda: "rejected" in shell(scene, "explain", ADVISED, "crowded"), "the rejection to be told")
    scene.until(lambda: told(scene, ADVISED, "quiet", "Rest"), "the proposal to rest")
    assert ": Rest to bf16 0, saves " in shell(scene, "approve", ADVISED, "quiet")
    scene.until(lambda: scene.status(ADVISED, "quiet")["idle"]["resting"], "the approved rest")
    newest = scene.decisions(ADVISED, "quiet")[-1]
    assert newest["message"].startswith("approved (")
    assert not newest.get("proposal")
    scene.until(lambda: scene.replicas_over_time(ADVISED, "quiet")[-1] == 0, "zero replicas")
    assert scene.replicas_over_time(ADVISED, "crowded") == [0, 1]


def shell(scene: Scene, command: str, namespace: str, name: str) -> str:
    """As a person says it."""
    program = Path(sys.executable).with_name("fallow")
    whole = [str(program), command, f"{namespace}/{name}", "--kubeconfig", str(scene.cluster.kubeconfig)]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def would_run(scene: Scene, name: str) -> bool:
    return any("would run" in event.get("message", "") for event in scene.events(ADVISED, name))


def test_it_is_told_by_what_the_work_of_engines_is_bound(scene: Scene) -> None:
    scene.until(lambda: "\nwork " in shell(scene, "explain", OBSERVED, "crowded"), "the line on its work")
    work = scene.status(OBSERVED, "crowded")["work"]
    labels = {"namespace": OBSERVED, "service": "crowded", "variant": work["variant"], "bound": "best"}
    ridge = scene.metric("fallow_service_ridge_flops_per_byte", **labels)
    assert ridge is not None
    assert work["ridgeFlopsPerByte"]["best"] == pytest.approx(ridge, rel=0.01)
    assert scene.metric("fallow_service_flops_per_byte", **labels)


def test_observe_reports_and_neither_changes_nor_proposes(scene: Scene) -> None:
    def energy() -> float:
        total = scene.status(OBSERVED, "crowded").get("footprint", {}).get("total", {})
        return float(total.get("energyWh", {}).get("best", 0.0))

    # by now the same load has made the enforced one grow and the advised one ask for it
    scene.until(lambda: told(scene, ADVISED, "crowded", "ScaleUp"), "the proposal under Recommend")
    scene.until(lambda: energy() > 0, "its energy")
    assert scene.replicas_over_time(OBSERVED, "crowded") == [0, 1]
    assert {decision["action"] for decision in scene.decisions(OBSERVED, "crowded")} <= {"Start"}
    assert scene.status(OBSERVED, "crowded")["mode"] == "Observe"
    assert scene.status(OBSERVED, "crowded")["idle"]["state"] == "Active"


def test_an_adopted_deployment_changes_in_its_number_of_replicas_alone(scene: Scene) -> None:
    versions = [change.body for change in scene.deployments.changes(ENFORCED) if change.key[1] == "vllm-legacy"]
    before = next(body for body in versions if body is not None and body["status"].get("readyReplicas") == 2)
    scene.until(lambda: scene.status(ENFORCED, "legacy").get("idle", {}).get("resting"), "the adopted one to rest")
    scene.until_running(ENFORCED, "legacy", 0)
    scene.cluster.kubectl("annotate", "fis/legacy", "fallow.dev/wake=now", "-n", ENFORCED)
    scene.until_running(ENFORCED, "legacy", 1)
    after = scene.deployments.get(ENFORCED, "vllm-legacy")
    assert after is not None
    assert without_replicas(after) == without_replicas(before)
    for part in ("labels", "annotations", "ownerReferences"):
        assert after["metadata"].get(part) == before["metadata"].get(part)
    assert owners_of_fields(after) == owners_of_fields(before)
    writes = [
        (event.verb, event.subresource)
        for event in scene.cluster.audit_events()
        if event.user == OPERATOR and event.is_write and event.name == "vllm-legacy"
    ]
    assert set(writes) == {("patch", "scale")}


def reference(name: str) -> JSON:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "port": 8000}


def without_replicas(body: JSON) -> JSON:
    return {name: part for name, part in body["spec"].items() if name != "replicas"}


def owners_of_fields(body: JSON) -> dict[str, JSON]:
    """What each field manager set, but for the replicas and the status."""
    owners: dict[str, JSON] = {}
    for entry in copy.deepcopy(body["metadata"]["managedFields"]):
        entry["fieldsV1"].get("f:spec", {}).pop("f:replicas", None)
        if entry.get("subresource") != "status" and any(entry["fieldsV1"].values()):
            owners[entry["manager"]] = entry["fieldsV1"]
    return owners


def existing_deployment(name: str, *, replicas: int) -> JSON:
    """A vLLM server as somebody else deploys it, with the annotations that Prometheus and the simulation look for."""
    container = {
        "name": "server",
        "image": "vllm/vllm-openai",
        "args": ["--model", MODEL, "--served-model-name", name],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    annotations = {
        **quick_template()["metadata"]["annotations"],
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8000",
        "twin.fallow.dev/engine": "vllm",
        "twin.fallow.dev/service": name,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"vllm-{name}", "namespace": ENFORCED, "labels": {"app": name, "team": "search"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {
                    "containers": [container],
                    "nodeSelector": {"nvidia.com/gpu.product": PRODUCT},
                },
            },
        },
    }


def test_an_autoscaler_reads_replicas_and_selector_through_scale(scene: Scene) -> None:
    scene.until_running(ENFORCED, "scaled", 1)
    scene.until(lambda: scene.status(ENFORCED, "scaled").get("replicas") == 1, "the replicas in the status")
    shown = scene.cluster.get("fis", "scaled", "--subresource=scale", "-n", ENFORCED)
    assert shown["spec"]["replicas"] == 1
    assert shown["status"] == {"replicas": 1, "selector": "fallow.dev/service=scaled"}

    def judged() -> dict[str, JSON] | None:
        status = scene.cluster.get("hpa", "scaled", "-n", ENFORCED).get("status", {})
        found = {condition["type"]: condition for condition in status.get("conditions", [])}
        return found if status.get("currentReplicas") == 1 and "AbleToScale" in found else None

    conditions = scene.until(judged, "the autoscaler to look")
    assert conditions["AbleToScale"]["status"] == "True"
    # it got as far as asking for CPU figures, so the selector that it was given is a good one
    assert conditions["ScalingActive"]["reason"] == "FailedGetResourceMetric"
    scene.scale(ENFORCED, "scaled", 2)
    scene.until_running(ENFORCED, "scaled", 2)


def test_beside_an_autoscaler_its_minimum_follows_the_load_and_no_replicas_are_written(scene: Scene) -> None:
    def minimum() -> int:
        return int(scene.cluster.get("hpa", "shared", "-n", ENFORCED)["spec"]["minReplicas"])

    scene.until(lambda: minimum() == 3, "the minimum to follow the load")
    scene.until_running(ENFORCED, "shared", 3)
    kept = scene.cluster.get("hpa", "shared", "-n", ENFORCED)["metadata"]["annotations"]
    assert kept["fallow.dev/declared-minimum"] == "1"
    first = scene.until(lambda: told(scene, ENFORCED, "shared", "ScaleUp"), "the decision in the status")[0]
    assert first["message"].startswith("minimum of HorizontalPodAutoscaler shared: 1 -> ")
    writers = {e.user for e in scene.cluster.audit_events() if e.is_write and e.name == "vllm-shared"}
    assert OPERATOR not in writers


def test_a_service_without_a_policy_stays_as_it_was_declared(scene: Scene) -> None:
    name = "story-unruled"
    scene.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    scene.put(service(name, "chat", scaling=RESTS, variants=[variant("BF16")]))
    scene.until_running(name, "chat", 1)
    assert scene.condition(name, "chat", "PolicyApplied")["reason"] == "NoPolicy"
    scene.put(policy(name, "Observe"))
    scene.until(lambda: scene.condition(name, "chat", "PolicyApplied").get("status") == "True", "the policy to apply")
