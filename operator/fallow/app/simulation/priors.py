"""A ModelProfile from the twin's own table, for variants that nobody has profiled: what Fallow would have learned."""

from __future__ import annotations

from fallow.domain.profiles import Profile, ProfilePoint, ProfileSource
from fallow.domain.units import Seconds, Watts
from fallow.domain.workloads import Variant
from fallow.twin.calibration.predict import Query, predicted
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.table import EngineTable

BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0)


def profile_of(variant: Variant, product: str, table: EngineTable, query: Query) -> Profile:
    batches = [batch for batch in BATCHES if batch <= table.slots]
    points = tuple(
        ProfilePoint(
            concurrency=one.batch,
            tokens_per_second=one.tokens_per_second.best.value,
            watts=Watts(one.watts_per_gpu.best.value * variant.gpus),
            itl=Seconds(float(table.step[round(one.batch)])),
            source=ProfileSource.SHIPPED,
        )
        for one in predicted(shipped(), query, batches)
    )
    return Profile(
        name=f"{variant.name}-{product}".lower(),
        model=variant.model,
        precision=variant.precision,
        gpu_product=product,
        gpus=variant.gpus,
        points=points,
        idle_watts=Watts(table.bare),
        context_watts=Watts(table.context),
        max_concurrency=table.slots,
        prefill_rate=table.prefill_rate,
        prompt_seconds=table.piece,
    )
