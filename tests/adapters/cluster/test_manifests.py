"""What Fallow creates for a service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.cluster import manifests
from fallow.domain.tuning import Tuning
from fallow.domain.units import Seconds
from fallow.domain.workloads import Engine, Variant
from tests.support.builders import BF16, FP8, H100, service

LARGE = Variant(
    "fp8", "org/large-FP8", "FP8", gpus=4, products=(H100,), args=("--quantization", "fp8"), max_concurrency=64
)


def pod_spec(variant: Variant = BF16, **more: Any) -> dict[str, Any]:
    made = manifests.deployment(service(variant, **more), variant, 1)
    found: dict[str, Any] = made["spec"]["template"]["spec"]
    return found


def container(variant: Variant = BF16, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod_spec(variant, **more)["containers"][0]
    return found


def test_a_deployment_is_named_owned_and_labelled() -> None:
    made = manifests.deployment(service(BF16, FP8), FP8, 2)

    assert made["metadata"]["name"] == "chat-fp8"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-chat"
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "fallow"
    assert made["metadata"]["labels"]["fallow.dev/precision"] == "FP8"
    assert made["spec"]["replicas"] == 2


def test_the_selector_holds_only_what_never_changes() -> None:
    made = manifests.deployment(service(), BF16, 1)

    assert made["spec"]["selector"]["matchLabels"] == {"fallow.dev/service": "chat", "fallow.dev/variant": "bf16"}
    assert made["spec"]["selector"]["matchLabels"].items() <= made["spec"]["template"]["metadata"]["labels"].items()


def test_the_engine_gets_its_flags_with_the_variants_own_last() -> None:
    assert container(LARGE, served_name="chat")["args"] == [
        "--model",
        "org/large-FP8",
        "--served-model-name",
        "chat",
        "--port",
        "8000",
        "--tensor-parallel-size",
        "4",
        "--max-num-seqs",
        "64",
        "--shutdown-timeout",
        "45",
        "--quantization",
        "fp8",
    ]


@pytest.mark.parametrize("grace", [2, 10, 30, 60, 300])
def test_stopping_fits_into_the_grace_period(grace: int) -> None:
    engine = Engine(image="vllm", termination_grace=Seconds(grace))
    made = manifests.deployment(replace(service(), engine=engine), BF16, 1)["spec"]["template"]["spec"]
    running = made["containers"][0]
    pre_stop = running.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    shutdown = int(running["args"][running["args"].index("--shutdown-timeout") + 1])

    assert 0 < pre_stop + shutdown < made["terminationGracePeriodSeconds"] == grace


def test_gpus_are_limits_on_the_products_asked_for_behind_their_taint() -> None:
    made = pod_spec(LARGE)
    term = made["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]

    assert made["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert term["matchExpressions"] == [{"key": "nvidia.com/gpu.product", "operator": "In", "values": [H100]}]
    assert made["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_any_gpu_will_do_where_no_product_is_named() -> None:
    assert "affinity" not in pod_spec(BF16)


def test_resources_of_the_engine_stay_beside_the_gpus() -> None:
    engine = Engine(image="vllm", resources={"requests": {"cpu": 4}, "limits": {"memory": "64Gi"}})
    made = manifests.deployment(replace(service(), engine=engine), BF16, 1)["spec"]["template"]["spec"]["containers"][0]

    assert made["resources"] == {
        "requests": {"cpu": "4"},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": "1"},
    }


def test_a_variants_variable_replaces_the_engines() -> None:
    engine = Engine(image="vllm", env=({"name": "A", "value": "1"}, {"name": "B", "value": "2"}))
    variant = replace(BF16, env=({"name": "B", "value": "3"},))
    made = manifests.deployment(replace(service(variant), engine=engine), variant, 1)

    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "3"},
    ]


def test_engines_whose_clocks_fall_say_so_to_the_driver_and_to_us() -> None:
    plain, throttled = (
        manifests.deployment(service(), BF16, 1, Tuning(throttled=on))["spec"]["template"] for on in (False, True)
    )
    assert {"name": "CUDA_DISABLE_PERF_BOOST", "value": "1"} in throttled["spec"]["containers"][0]["env"]
    assert throttled["metadata"]["annotations"]["fallow.dev/idle-clocks"] == "fall"
    assert "env" not in plain["spec"]["containers"][0]
    assert "fallow.dev/idle-clocks" not in plain["metadata"]["annotations"]


@pytest.mark.parametrize(("declared", "given"), [(None, None), (64, "64"), (1024, "354")])
def test_the_tokens_of_a_step_are_limited_and_no_more_requests_are_let_in_than_there_are(
    declared: int | None, given: str | None
) -> None:
    variant = replace(BF16, max_concurrency=declared)
    made = manifests.deployment(service(variant), variant, 1, Tuning(step_tokens=354))["spec"]["template"]
    args = made["spec"]["containers"][0]["args"]
    flags = dict(zip(args[::2], args[1::2], strict=True))
    assert (flags["--max-num-batched-tokens"], flags.get("--max-num-seqs")) == ("354", given)
    assert made["metadata"]["annotations"]["fallow.dev/step-tokens"] == "354"


def test_what_the_owner_says_of_the_clocks_goes_before() -> None:
    own = {"name": "CUDA_DISABLE_PERF_BOOST", "value": "0"}
    variant = replace(BF16, env=(own,))
    made = manifests.deployment(service(variant), variant, 1, Tuning(throttled=True))
    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == [own]


def test_loading_a_model_has_half_an_hour() -> None:
    probe = container()["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800
    assert probe["httpGet"] == {"path": "/health", "port": "http"}


def test_prometheus_finds_the_metrics() -> None:
    made = manifests.deployment(service(), BF16, 1)["spec"]["template"]["metadata"]["annotations"]

    assert (made["prometheus.io/scrape"], made["prometheus.io/port"]) == ("true", "8000")


def test_a_rollout_never_takes_a_serving_replica_away() -> None:
    strategy = manifests.deployment(service(), BF16, 1)["spec"]["strategy"]

    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_the_overlay_comes_last() -> None:
    overlay = {"spec": {"priorityClassName": "serving", "containers": [{"name": "vllm", "image": "own:1"}]}}
    made = pod_spec(template=overlay)

    assert (made["priorityClassName"], made["containers"][0]["image"]) == ("serving", "own:1")


def test_the_overlay_cannot_break_the_selector() -> None:
    overlay = {"metadata": {"labels": {"fallow.dev/variant": "other", "team": "search"}}}
    made = manifests.deployment(service(template=overlay), BF16, 1)["spec"]["template"]["metadata"]["labels"]

    assert (made["fallow.dev/variant"], made["team"]) == ("bf16", "search")


def test_the_hash_is_the_same_for_the_same_spec_and_any_number_of_replicas() -> None:
    one, five = (manifests.deployment(service(), BF16, count) for count in (1, 5))

    assert manifests.spec_hash(one) == manifests.spec_hash(five) != ""


def test_the_hash_differs_for_another_image() -> None:
    other = replace(service(), engine=Engine(image="vllm:2"))

    assert manifests.spec_hash(manifests.deployment(other, BF16, 1)) != manifests.spec_hash(
        manifests.deployment(service(), BF16, 1)
    )


def test_the_service_reaches_all_variants() -> None:
    made = manifests.service_object(service(BF16, FP8))

    assert made["spec"]["selector"] == {"fallow.dev/service": "chat"}
    assert (made["spec"]["ports"][0]["port"], made["spec"]["ports"][0]["targetPort"]) == (80, 8000)


def test_the_disruption_budget_never_blocks_a_drain_for_ever() -> None:
    made = manifests.disruption_budget(service())

    assert made["spec"]["maxUnavailable"] == 1
    assert made["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
