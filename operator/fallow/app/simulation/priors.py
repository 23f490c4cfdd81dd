"""A ModelProfile from the twin's own table, for variants that nobody has profiled: what Fallow would have learned."""

from __future__ import annotations

from fallow.domain.profiles import Profile, ProfilePoint, ProfileSource
from fallow.domain.units import Seconds, Watts
from fallow.domain.workloads import Variant
from fallow.twin.simulation.table import EngineTable

BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)


def profile_of(variant: Variant, product: str, table: EngineTable) -> Profile:
    """Of decoding alone: what prompts take follows from their rate."""
    steps = {batch: float(table.step[batch]) for batch in BATCHES if batch <= table.slots}
    points = tuple(
        ProfilePoint(
            concurrency=float(batch),
            tokens_per_second=batch / step,
            watts=Watts(float(table.watts[batch])),
            itl=Seconds(step),
            source=ProfileSource.SHIPPED,
        )
        for batch, step in steps.items()
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
