"""From checked objects to the domain's values: units parsed, defaults that depend on other fields filled in."""

from collections.abc import Mapping
from typing import Any, get_args

from fallow.api import (
    amounts,
    baseline,
    energy_policy,
    engine,
    grid_zone,
    inference_service,
    model_profile,
    overhead,
    policy_goals,
    policy_levers,
    variants,
)
from fallow.api.conditions import instant
from fallow.api.durations import seconds
from fallow.api.engine import EnvVar
from fallow.api.grid_zone import Bounds, GridZone
from fallow.api.inference_service import InferenceService, Percentile
from fallow.api.intensity import Source
from fallow.api.model_profile import ModelProfile
from fallow.api.selectors import selector
from fallow.api.variants import Precision
from fallow.domain.counterfactual import BaselineKind, BaselineRule
from fallow.domain.figures import Figure
from fallow.domain.goals import Budget, BudgetPeriod, BurnStep, Measure, Remedy, Target
from fallow.domain.policies import (
    ClockRules,
    ConsolidationRules,
    GuardRules,
    HardwareRules,
    IdleRules,
    Mode,
    Objective,
    Policy,
    PowerRules,
    PrecisionRules,
    ScalingRules,
    ShiftRules,
    Tier,
)
from fallow.domain.profiles import Profile, ProfilePoint, ProfileSource
from fallow.domain.units import (
    GramsPerKWh,
    Instant,
    Joules,
    LitresPerKWh,
    Seconds,
    Watts,
    from_kilograms,
    from_kilowatt_hours,
)
from fallow.domain.weekly import weekly
from fallow.domain.workloads import Engine, Objectives, Overhead, Scaling, Schedule, Service, ServiceKey, Variant, Wake
from fallow.domain.zones import IntensitySource, Ratio, Zone

WAKE_ANNOTATION = "fallow.dev/wake"
APPROVE_ANNOTATION, REJECT_ANNOTATION = "fallow.dev/approve", "fallow.dev/reject"
# what a person says to Fallow beside the spec, which leaves metadata.generation as it is
ANNOTATIONS = (WAKE_ANNOTATION, APPROVE_ANNOTATION, REJECT_ANNOTATION)


def service(declared: InferenceService, namespace_labels: Mapping[str, str]) -> Service:
    """A service as declared; the labels of its namespace come from the Namespace object."""
    spec, metadata = declared.spec, declared.metadata
    return Service(
        key=ServiceKey(metadata.namespace, metadata.name),
        uid=metadata.uid,
        generation=metadata.generation,
        model=spec.model.name,
        served_name=spec.model.served_name or spec.model.name,
        variants=tuple(_variant(part, spec.model.name) for part in spec.variants),
        objectives=Objectives(
            ttft_p95=_percentile(spec.objectives.ttft),
            itl_p95=_percentile(spec.objectives.itl),
            attainment=spec.objectives.attainment,
        ),
        scaling=_scaling(spec.scaling),
        engine=_engine(spec.running_engine),
        created=instant(metadata.creation_timestamp) if metadata.creation_timestamp else Instant(0),
        target=spec.target_ref.name if spec.target_ref else None,
        requested=spec.replicas,
        paused=spec.paused,
        template=spec.template or {},
        labels=metadata.labels,
        namespace_labels=namespace_labels,
        wake_annotation=metadata.annotations.get(WAKE_ANNOTATION, ""),
        approved=metadata.annotations.get(APPROVE_ANNOTATION, ""),
        rejected=metadata.annotations.get(REJECT_ANNOTATION, ""),
        priority=spec.priority,
        overhead=_overhead(spec.overhead) if spec.overhead else None,
    )


def policy(declared: energy_policy.EnergyPolicy) -> Policy:
    spec = declared.spec
    return Policy(
        name=declared.metadata.name,
        mode=Mode(spec.mode),
        priority=spec.priority,
        objective=Objective(spec.objective),
        generation=declared.metadata.generation,
        namespaces=selector(spec.applies_to.namespace_selector),
        services=selector(spec.applies_to.service_selector),
        idle=IdleRules(
            after=seconds(spec.idle.after),
            release="Release" in spec.idle.ladder,
            throttle="Throttle" in spec.idle.ladder,
            wake_within=_optional_seconds(spec.idle.wake_within),
        ),
        scaling=ScalingRules(
            enabled=spec.scaling.enabled,
            up_window=seconds(spec.scaling.up_window),
            down_window=seconds(spec.scaling.down_window),
            headroom=spec.scaling.headroom,
            limits_steps=spec.scaling.limit_steps,
        ),
        precision=_precision(spec.precision),
        hardware=_hardware(spec.hardware),
        shift=_shift(spec.shift),
        power=_power(spec.power),
        clocks=ClockRules(spec.clocks.lowest) if spec.clocks and spec.clocks.follow else None,
        consolidation=_consolidation(spec.consolidation),
        guards=GuardRules(
            dwell=seconds(spec.guards.dwell),
            max_step_per_minute=amounts.factor(spec.guards.max_step_per_minute),
            metrics_max_age=seconds(spec.guards.metrics_max_age),
            objective_veto=spec.guards.objective_veto,
            most_at_once=spec.guards.max_concurrent_changes,
            most_a_day=spec.guards.max_reductions_per_day,
            startup_shield=spec.guards.startup_shield,
            gpus_short_after=seconds(spec.guards.gpus_short_after),
        ),
        time_zone=spec.time_zone,
        uid=declared.metadata.uid,
        targets=tuple(_target(declared.metadata.name, part) for part in spec.targets),
        budgets=tuple(_budget(declared.metadata.name, part) for part in spec.budgets),
        baseline=None if spec.baseline is None else _baseline(spec.baseline),
    )


def _power(declared: policy_levers.PowerPolicy | None) -> PowerRules | None:
    if declared is None or declared.cap_watts is None:
        return None
    on_bind = tuple(Remedy(remedy) for remedy in declared.on_bind)
    return PowerRules(amounts.watts(declared.cap_watts), declared.per_gpu.min, on_bind)


def _consolidation(declared: policy_levers.Consolidation | None) -> ConsolidationRules | None:
    if declared is None or not declared.enabled:
        return None
    return ConsolidationRules(
        tuple(weekly(window) for window in declared.windows), amounts.node_share(declared.max_unavailable_nodes)
    )


def _baseline(declared: baseline.Baseline) -> BaselineRule:
    joules, bounds = declared.joules_per_token, declared.bounds
    return BaselineRule(
        kind=BaselineKind(declared.kind),
        replicas=declared.replicas,
        joules_per_token=None if joules is None else Figure(*(Joules(value) for value in _bounded(joules, bounds))),
        note=declared.note,
    )


def zone(declared: GridZone) -> Zone:
    spec = declared.spec
    bounds = spec.bounds or grid_zone.FactorBounds()
    pue = _bounded(spec.pue, bounds.pue, grid_zone.PUE, Bounds(low=grid_zone.PUE_LOW, high=grid_zone.PUE_HIGH))
    on_site = _bounded(
        spec.wue_site,
        bounds.wue_site,
        grid_zone.WUE_SITE,
        Bounds(low=grid_zone.WUE_SITE_LOW, high=grid_zone.WUE_SITE_HIGH),
    )
    host = _bounded(
        spec.host_watts_per_gpu,
        bounds.host_watts_per_gpu,
        grid_zone.HOST_WATTS,
        Bounds(low=grid_zone.HOST_WATTS_LOW, high=grid_zone.HOST_WATTS_HIGH),
    )
    at_source = None if spec.wue_source is None else _bounded(spec.wue_source, bounds.wue_source)
    return Zone(
        name=declared.metadata.name,
        source=_source(spec.intensity, spec.factor_type),
        generation=declared.metadata.generation,
        nodes=selector(spec.node_selector),
        is_default=spec.default,
        pue=Ratio(*pue),
        water_on_site=Figure(*(LitresPerKWh(value) for value in on_site)),
        water_at_source=None if at_source is None else Figure(*(LitresPerKWh(value) for value in at_source)),
        host_per_gpu=Figure(*(Watts(value) for value in host)),
        price_per_kwh=spec.price.per_kwh if spec.price else None,
        currency=spec.price.currency if spec.price else "",
        price_per_gpu_hour=spec.price.per_gpu_hour if spec.price else {},
        fallbacks=tuple(_source(fallback, spec.factor_type) for fallback in spec.intensity.fallbacks),
        marginal=_source(spec.marginal, "direct") if spec.marginal else None,
        pue_query=spec.pue_from.query if spec.pue_from else "",
        market=Figure.exact(GramsPerKWh(spec.market_intensity.grams_per_kwh)) if spec.market_intensity else None,
    )


def profile(declared: ModelProfile) -> Profile:
    """As declared. Learned points of the spec came from elsewhere; those of the status are shown and not read back."""
    spec = declared.spec
    points = sorted((_point(point, spec.source) for point in spec.points), key=lambda point: point.concurrency)
    return Profile(
        name=declared.metadata.name,
        model=spec.model,
        precision=spec.precision,
        gpu_product=spec.gpu_product,
        gpus=spec.gpu_count,
        points=tuple(point for point in points if point.source is not ProfileSource.LEARNED),
        carried=tuple(point for point in points if point.source is ProfileSource.LEARNED),
        load_seconds=Seconds(spec.load.seconds) if spec.load else None,
        load_energy=Joules(spec.load.joules) if spec.load and spec.load.joules is not None else None,
        idle_watts=None if spec.idle_watts is None else Watts(spec.idle_watts),
        context_watts=None if spec.context_watts is None else Watts(spec.context_watts),
        max_concurrency=spec.max_concurrency,
        prefill_rate=spec.prefill_tokens_per_second,
    )


def _variant(declared: variants.Variant, model: str) -> Variant:
    return Variant(
        name=declared.name,
        model=declared.model or model,
        precision=declared.precision,
        quality=declared.quality,
        gpus=declared.gpus.count,
        products=tuple(declared.gpus.products),
        args=tuple(declared.args),
        env=_env(declared.env),
        max_concurrency=declared.max_concurrency,
    )


def _scaling(declared: inference_service.Scaling) -> Scaling:
    wake = declared.wake
    return Scaling(
        min_replicas=declared.min_replicas,
        max_replicas=declared.max_replicas,
        target_concurrency=declared.target_concurrency,
        wake=Wake(wake.metric, wake.selector) if wake else None,
        schedules=tuple(Schedule(weekly(one.window), one.min_replicas) for one in declared.schedules),
    )


def _engine(declared: engine.Engine) -> Engine:
    return Engine(
        image=declared.image,
        port=declared.port,
        resources=declared.resources.model_dump(by_alias=True),
        env=_env(declared.env),
        sleep_mode=declared.sleep_mode,
        termination_grace=seconds(declared.termination_grace),
        shared_memory=declared.shared_memory,
    )


def _overhead(declared: overhead.Overhead) -> Overhead:
    """Of what is declared: a stage without energy or without emissions adds nothing to that sum."""
    stages = [stage for stage in (declared.training, declared.tuning) if stage is not None]
    energies = [stage.energy_kwh for stage in stages if stage.energy_kwh is not None]
    emitted = [stage.carbon_kg for stage in stages if stage.carbon_kg is not None]
    likely = declared.lifetime_tokens
    return Overhead(
        lifetime_tokens=(declared.bounds.low, likely, declared.bounds.high)
        if declared.bounds
        else (likely, likely, likely),
        energy=from_kilowatt_hours(sum(energies)) if energies else None,
        carbon=from_kilograms(sum(emitted)) if emitted else None,
    )


def _env(declared: list[EnvVar]) -> tuple[Mapping[str, Any], ...]:
    return tuple(variable.model_dump(by_alias=True, exclude_none=True) for variable in declared)


def _target(policy: str, declared: policy_goals.Target) -> Target:
    return Target(policy, Measure(declared.metric), declared.reduce, declared.from_, declared.by)


def _budget(policy: str, declared: policy_goals.Budget) -> Budget:
    return Budget(
        policy,
        BudgetPeriod(declared.period),
        carbon=amounts.grams(declared.carbon) if declared.carbon else None,
        energy=amounts.joules(declared.energy) if declared.energy else None,
        on_burn=tuple(
            BurnStep(step.at, tuple(Remedy(remedy) for remedy in step.do))
            for step in sorted(declared.on_burn, key=lambda step: step.at)
        ),
    )


def _precision(declared: policy_levers.PrecisionPolicy | None) -> PrecisionRules | None:
    if declared is None or not declared.enabled:
        return None
    tiers = [Tier(GramsPerKWh(tier.above), frozenset(tier.allow)) for tier in declared.tiers]
    if all(tier.above.value > 0 for tier in tiers):
        # below every threshold anything is allowed, so that the reference serves again
        tiers.append(Tier(GramsPerKWh(0), frozenset(get_args(Precision))))
    return PrecisionRules(
        tiers=tuple(sorted(tiers, key=lambda tier: -tier.above.value)),
        quality_floor=declared.quality_floor,
        require_measured_advantage=declared.require_measured_advantage,
        hysteresis=declared.hysteresis,
    )


def _hardware(declared: policy_levers.HardwarePolicy | None) -> HardwareRules | None:
    if declared is None or not declared.match:
        return None
    return HardwareRules(declared.hysteresis, frozenset(declared.precisions))


def _shift(declared: policy_levers.ShiftPolicy | None) -> ShiftRules | None:
    if declared is None:
        return None
    return ShiftRules(tuple(amounts.share(step) for step in declared.steps), seconds(declared.watch))


def _source(declared: Source, factor_type: str) -> IntensitySource:
    """The adapter's name and the member's fields as written, with the type of factor beside them."""
    fields = declared.member.model_dump(by_alias=True, exclude_none=True)
    return IntensitySource(declared.source, {**fields, "factorType": factor_type})


def _point(declared: model_profile.Point, source: model_profile.Source) -> ProfilePoint:
    return ProfilePoint(
        concurrency=declared.concurrency,
        tokens_per_second=declared.tokens_per_second,
        watts=Watts(declared.watts),
        itl=_millis(declared.itl_millis),
        source=ProfileSource(declared.source or source),
    )


def _bounded(
    value: float, declared: Bounds | None, default: float | None = None, around_default: Bounds | None = None
) -> tuple[float, float, float]:
    """Declared bounds; else the usual ones around the default value; else the value counts as exact."""
    bounds = declared or (around_default if value == default else None)
    return (value, value, value) if bounds is None else (bounds.low, value, bounds.high)


def _percentile(declared: Percentile | None) -> Seconds | None:
    return None if declared is None else seconds(declared.p95)


def _optional_seconds(duration: str | None) -> Seconds | None:
    return None if duration is None else seconds(duration)


def _millis(value: float | None) -> Seconds | None:
    return None if value is None else Seconds(value / 1e3)
