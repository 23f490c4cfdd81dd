"""Small simulated fleets for tests: one model on H100 nodes, demands that are written down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import Gpu
from fallow.twin.simulation.demand import Array, Load, Spread
from fallow.twin.simulation.grid import constant
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import NodeKind, PowerOff, ServiceSetup, Setup, Sleep, Start, VariantSetup
from fallow.twin.simulation.table import EngineTable, table_of

H100 = "NVIDIA-H100-80GB-HBM3"
CHAT = ServiceKey("llm", "chat")
TABLE: EngineTable = table_of(law_for(Gpu.H100, "8b", Precision.BF16, 1))
GRID = {"home": constant(400.0)}
TOLD = Run("test", 0, Instant(1_800_000_000.0))


class Written:
    """Arrivals as written: a row for each service; all requests are alike."""

    def __init__(
        self,
        arrivals: Sequence[Sequence[float]] | Array,
        *,
        prompt: float = 500.0,
        output: float = 100.0,
        cv: float = 0.5,
    ) -> None:
        self._arrivals = np.array(arrivals, dtype=np.float64)
        self._prompt, self._output = prompt, output
        count = len(self._arrivals)
        self.services = tuple(ServiceKey("llm", f"s{index}") if index else CHAT for index in range(count))
        self.seconds = self._arrivals.shape[1]
        self.spread = Spread(np.full(count, cv), np.full(count, cv), np.zeros(count))

    def block(self, start: int, stop: int) -> Load:
        arrivals = self._arrivals[:, start:stop]
        return Load(start, arrivals, np.full(arrivals.shape, self._prompt), np.full(arrivals.shape, self._output))


def poisson(rate: float, seconds: int, *, seed: int = 0, services: int = 1) -> Array:
    return np.random.default_rng(seed).poisson(rate, (services, seconds)).astype(np.float64)


def setup(
    *,
    replicas: int = 1,
    nodes: int = 2,
    minimum: int = 1,
    maximum: int = 8,
    services: int = 1,
    power_off: PowerOff | None = None,
    start: Start | None = None,
    grace: float = 60.0,
    sleep: Sleep | None = None,
    copies: int = 1,
) -> Setup:
    """Each node offers 8 GPUs, or 8 copies of fewer."""
    variant = VariantSetup("bf16", 1, {H100: TABLE}, start or Start(pull=20, load=40, compile_=10, sigma=0.0))
    keys = [ServiceKey("llm", f"s{index}") if index else CHAT for index in range(services)]
    return Setup(
        nodes=(NodeKind(H100, "NVIDIA H100 80GB HBM3", 71.8, 8, nodes, "home", copies=copies),),
        services=tuple(
            ServiceSetup(key, (variant,), 1.0, 0.05, minimum, maximum, replicas, grace, sleep) for key in keys
        ),
        power_off=power_off,
    )


def simulation(demand: Written, of: Setup | None = None) -> Simulation:
    return Simulation(of or setup(services=len(demand.services)), demand, GRID, TOLD)
