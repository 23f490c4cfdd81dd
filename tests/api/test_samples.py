"""The samples that users copy: each is read, and each becomes the domain values that its comments promise."""

from typing import Any

import pytest

from fallow.api import amounts, mapping, reading
from fallow.api.kinds import KINDS
from fallow.api.model import ApiModel
from fallow.domain.goals import BurnStep, Remedy
from fallow.domain.policies import HardwareRules, Mode, Objective, ShiftRules
from fallow.domain.units import Grams, GramsPerKWh, Instant, LitresPerKWh, Seconds, Watts
from fallow.domain.zones import IntensityKind
from tests.api.samples import sample, sample_names

READERS: dict[str, Any] = {
    "InferenceService": reading.inference_service,
    "EnergyPolicy": reading.energy_policy,
    "GridZone": reading.grid_zone,
    "ModelProfile": reading.model_profile,
}
MAPPERS: dict[str, Any] = {
    "InferenceService": lambda declared: mapping.service(declared, {}),
    "EnergyPolicy": mapping.policy,
    "GridZone": mapping.zone,
    "ModelProfile": mapping.profile,
}


def test_there_are_samples_of_every_kind() -> None:
    kinds = {sample(name)["kind"] for name in sample_names()}

    assert kinds == {kind.name for kind in KINDS}
    assert len(sample_names()) >= 8


@pytest.mark.parametrize("name", sample_names())
def test_sample_is_read_and_mapped(name: str) -> None:
    raw = sample(name)

    declared = READERS[raw["kind"]](raw)

    assert isinstance(declared, ApiModel)
    assert MAPPERS[raw["kind"]](declared) is not None


@pytest.mark.parametrize("name", sample_names())
def test_sample_survives_a_round_trip(name: str) -> None:
    raw = sample(name)
    read = READERS[raw["kind"]]

    again = read(read(raw).model_dump(mode="json", by_alias=True, exclude_none=True))

    assert again == read(raw)


def test_minimal_service_takes_the_documented_defaults() -> None:
    service = mapping.service(reading.inference_service(sample("inferenceservice-minimal")), {})

    assert (service.scaling.min_replicas, service.scaling.max_replicas) == (1, 1)
    assert service.served_name == service.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert service.engine.image.startswith("vllm/vllm-openai:v")
    assert service.engine.termination_grace == Seconds(60)
    assert service.reference.gpus == 1
    assert service.requested is None
    assert service.target is None


def test_chat_service_maps_units_and_variants() -> None:
    raw = sample("inferenceservice-chat")
    raw["metadata"] |= {
        "namespace": "llm",
        "uid": "u",
        "generation": 3,
        "creationTimestamp": "2026-03-01T00:00:00Z",
        "annotations": {"fallow.dev/wake": "now"},
    }

    service = mapping.service(reading.inference_service(raw), {"team": "a"})

    assert str(service.key) == "llm/chat"
    assert service.objectives.itl_p95 == Seconds(0.08)
    assert service.objectives.ttft_p95 == Seconds(2)
    assert [variant.name for variant in service.variants] == ["bf16", "fp8"]
    assert service.variants[1].model == service.model
    assert service.variants[1].args == ("--quantization", "fp8")
    assert service.engine.resources == {
        "requests": {"cpu": 8, "memory": "48Gi"},
        "limits": {"memory": "64Gi"},
    }
    assert service.scaling.wake is not None
    assert service.scaling.wake.selector == {"service": "chat"}
    assert service.wake_annotation == "now"
    assert service.created == Instant(1_772_323_200)
    assert service.namespace_labels == {"team": "a"}


def test_adopted_deployment_keeps_its_own_engine() -> None:
    service = mapping.service(reading.inference_service(sample("inferenceservice-adopted")), {})

    assert service.target == "vllm-summaries"
    assert service.engine.port == 8000
    assert service.template == {}


def test_large_service_passes_template_and_secrets_through() -> None:
    service = mapping.service(reading.inference_service(sample("inferenceservice-large")), {})

    assert service.engine.env == (
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": False}}},
    )
    assert service.template["spec"]["nodeSelector"] == {"node-pool": "gpu-large"}
    assert service.scaling.target_concurrency == 64


def test_training_is_shared_out_to_the_tokens_of_a_lifetime() -> None:
    """Llama 3.1 70B by its model card: 4.9 GWh and 2,040 t, here over 10 to 1,000 times 10^12 tokens."""
    overhead = mapping.service(reading.inference_service(sample("inferenceservice-large")), {}).overhead
    assert overhead is not None
    energy, carbon = overhead.energy_per_token, overhead.carbon_per_token
    assert energy is not None
    assert carbon is not None
    assert (energy.low.value, energy.best.value, energy.high.value) == pytest.approx((0.01764, 0.1764, 1.764))
    assert carbon.best.value == pytest.approx(2.04e9 / 1e14)


def test_enforcing_policy_maps_its_times_and_selectors() -> None:
    policy = mapping.policy(reading.energy_policy(sample("energypolicy-enforce")))

    assert policy.mode is Mode.ENFORCE
    assert policy.idle is not None
    assert (policy.idle.after, policy.idle.release) == (Seconds(600), True)
    assert policy.scaling.down_window == Seconds(300)
    assert policy.guards.max_step_per_minute == 2.0
    assert policy.precision is None
    assert policy.namespaces.matches({"fallow.dev/enforce": "true"})
    assert not policy.namespaces.matches({})
    assert policy.services.matches({})


def test_carbon_tiers_are_sorted_from_the_dirtiest() -> None:
    policy = mapping.policy(reading.energy_policy(sample("energypolicy-carbon-tiers")))

    assert policy.objective is Objective.CARBON
    assert policy.precision is not None
    assert [tier.above for tier in policy.precision.tiers] == [GramsPerKWh(350), GramsPerKWh(0)]
    assert policy.precision.tiers[0].allow == {"FP8"}


def test_below_every_threshold_all_precisions_are_allowed() -> None:
    raw = sample("energypolicy-carbon-tiers")
    raw["spec"]["precision"]["tiers"] = [{"above": 350, "allow": ["FP8"]}]

    policy = mapping.policy(reading.energy_policy(raw))

    assert policy.precision is not None
    assert policy.precision.tiers[-1].above == GramsPerKWh(0)
    assert {"BF16", "FP8", "INT4"} <= policy.precision.tiers[-1].allow


def test_a_shift_has_its_steps_as_shares_and_a_watch_of_five_minutes_unless_told_otherwise() -> None:
    raw = sample("energypolicy-complete")
    assert mapping.policy(reading.energy_policy(raw)).shift == ShiftRules((0.1, 0.5), Seconds(300))
    raw["spec"]["shift"] = {"steps": ["1%", "25%", "99%"]}
    assert mapping.policy(reading.energy_policy(raw)).shift == ShiftRules((0.01, 0.25, 0.99), Seconds(300))
    del raw["spec"]["shift"]
    assert mapping.policy(reading.energy_policy(raw)).shift is None


def test_hardware_is_matched_only_where_it_is_asked_for() -> None:
    raw = sample("energypolicy-complete")
    assert mapping.policy(reading.energy_policy(raw)).hardware == HardwareRules(0.1, frozenset({"FP8"}))
    raw["spec"]["hardware"] = {}
    assert mapping.policy(reading.energy_policy(raw)).hardware is None


def test_switched_off_precision_is_no_precision() -> None:
    raw = sample("energypolicy-carbon-tiers")
    raw["spec"]["precision"]["enabled"] = False

    assert mapping.policy(reading.energy_policy(raw)).precision is None


def test_ladder_without_release_rests_nothing() -> None:
    raw = sample("energypolicy-enforce")
    raw["spec"]["idle"]["ladder"] = ["Throttle", "Sleep"]

    policy = mapping.policy(reading.energy_policy(raw))

    assert policy.idle is not None
    assert not policy.idle.release


def test_static_zone_carries_its_bounds() -> None:
    zone = mapping.zone(reading.grid_zone(sample("gridzone-static")))

    assert zone.is_default
    assert zone.source.kind == "Static"
    assert zone.source.parameters == {"gramsPerKWh": 220, "low": 180, "high": 260, "factorType": "lifecycle"}
    assert (zone.pue.low, zone.pue.best, zone.pue.high) == (1.1, 1.15, 1.25)
    assert zone.water_at_source is not None
    assert zone.water_at_source.high == LitresPerKWh(3.0)
    assert (zone.price_per_kwh, zone.currency) == (0.19, "EUR")


def test_a_zone_has_prices_of_electricity_and_of_gpus_by_their_product() -> None:
    zone = mapping.zone(reading.grid_zone(sample("gridzone-prices")))

    assert (zone.price_per_kwh, zone.currency) == (0.25, "EUR")
    assert zone.price_per_gpu_hour == {"NVIDIA-H100-80GB-HBM3": 2.40, "NVIDIA-L4": 0.55}


def test_a_live_zone_has_its_fallbacks_its_marginal_signal_and_a_measured_pue() -> None:
    zone = mapping.zone(reading.grid_zone(sample("gridzone-electricity-maps")))

    assert zone.source.parameters == {"zone": "DE", "credential": "electricity-maps", "factorType": "lifecycle"}
    assert [(part.kind, part.signal) for part in zone.fallbacks] == [("Dataset", IntensityKind.AVERAGE)]
    assert zone.marginal is not None
    assert (zone.marginal.kind, zone.marginal.signal) == ("WattTime", IntensityKind.MARGINAL)
    assert zone.pue_query.startswith("sum(facility_power_watts")
    assert zone.market is not None
    assert zone.market.best == GramsPerKWh(32)


def test_zone_without_figures_takes_the_documented_ones() -> None:
    zone = mapping.zone(reading.grid_zone(sample("gridzone-dataset")))

    assert (zone.pue.low, zone.pue.best, zone.pue.high) == (1.08, 1.2, 1.58)
    assert (zone.host_per_gpu.low, zone.host_per_gpu.high) == (Watts(75), Watts(290))
    assert zone.water_at_source is None
    assert zone.nodes.matches({"topology.kubernetes.io/region": "eu-central-1"})


def test_a_figure_of_ones_own_without_bounds_counts_as_exact() -> None:
    raw = sample("gridzone-dataset")
    raw["spec"]["pue"] = 1.05

    zone = mapping.zone(reading.grid_zone(raw))

    assert (zone.pue.low, zone.pue.best, zone.pue.high) == (1.05, 1.05, 1.05)


def test_profile_gives_joules_per_token_by_concurrency() -> None:
    bf16 = mapping.profile(reading.model_profile(sample("modelprofile-llama-3.1-8b-bf16-h100")))
    fp8 = mapping.profile(reading.model_profile(sample("modelprofile-llama-3.1-8b-fp8-h100")))

    small = [profile.joules_per_token(8) for profile in (bf16, fp8)]
    large = [profile.joules_per_token(256) for profile in (bf16, fp8)]

    assert small[0] == pytest.approx(0.455, rel=0.01)
    assert small[1] is not None
    assert large[1] is not None
    assert small[1] > (small[0] or 0), "FP8 takes more energy at small batches"
    assert large[1] < (large[0] or 0), "and less at large ones"


def test_what_was_learned_sizes_nothing_wherever_it_was_learned() -> None:
    raw = sample("modelprofile-llama-3.1-8b-bf16-h100")
    seen = {"joulesPerToken": 0.5, "samples": 9, "lastSeen": "2026-03-01T00:00:00Z"}
    raw["status"] = {
        "points": [
            {"concurrency": 4, "tokensPerSecond": 500, "watts": 250, **seen},
            {"concurrency": 8, "tokensPerSecond": 999, "watts": 999, **seen},
        ]
    }

    raw["spec"]["points"].append({"concurrency": 5, "tokensPerSecond": 400, "watts": 300, "source": "Learned"})

    profile = mapping.profile(reading.model_profile(raw))

    assert [point.concurrency for point in profile.points[:2]] == [8, 16]
    assert profile.points[0].watts == Watts(486)
    assert [(point.concurrency, point.watts) for point in profile.carried] == [(5, Watts(300))]


def test_amounts_of_a_complete_policy_have_units() -> None:
    spec = reading.energy_policy(sample("energypolicy-complete")).spec

    assert spec.power is not None
    assert spec.power.cap_watts is not None
    assert amounts.watts(spec.power.cap_watts) == Watts(120_000)
    assert spec.budgets[0].carbon is not None
    assert amounts.grams(spec.budgets[0].carbon) == Grams(900_000)


def test_what_is_done_as_a_budget_is_used_up_is_in_the_order_of_its_shares() -> None:
    raw = sample("energypolicy-complete")
    raw["spec"]["budgets"][0]["onBurn"].reverse()
    policy = mapping.policy(reading.energy_policy(raw))

    assert policy.budgets[0].on_burn == (BurnStep(0.8, (Remedy.PRECISION,)), BurnStep(1.0, (Remedy.CAP_REPLICAS,)))


@pytest.mark.parametrize(
    ("declared", "joules"),
    [
        ({"kind": "ReferenceAutoscaler"}, None),
        ({"kind": "JoulesPerToken", "joulesPerToken": 0.45}, (0.45, 0.45, 0.45)),
        ({"kind": "JoulesPerToken", "joulesPerToken": 0.45, "bounds": {"low": 0.4, "high": 0.6}}, (0.4, 0.45, 0.6)),
    ],
    ids=["autoscaler", "exact", "with bounds"],
)
def test_a_baseline_is_read_with_its_bounds(declared: dict[str, object], joules: tuple[float, ...] | None) -> None:
    raw = sample("energypolicy-enforce")
    raw["spec"]["baseline"] = declared

    rule = mapping.policy(reading.energy_policy(raw)).baseline

    assert rule is not None
    assert rule.kind == declared["kind"]
    figure = rule.joules_per_token
    assert (None if figure is None else (figure.low.value, figure.best.value, figure.high.value)) == joules


def test_a_policy_s_days_end_in_its_time_zone_and_else_in_utc() -> None:
    assert mapping.policy(reading.energy_policy(sample("energypolicy-complete"))).time_zone == "Europe/Berlin"
    assert mapping.policy(reading.energy_policy(sample("energypolicy-enforce"))).time_zone == "UTC"


def test_a_policy_names_no_baseline_unless_it_declares_one() -> None:
    assert mapping.policy(reading.energy_policy(sample("energypolicy-enforce"))).baseline is None
    fixed = mapping.policy(reading.energy_policy(sample("energypolicy-complete"))).baseline
    assert fixed is not None
    assert fixed.replicas == 4
