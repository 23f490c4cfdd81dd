"""The file of `fallow simulate`: nodes, the manifests people apply, traffic and grid; read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from fallow.api.durations import PositiveDuration
from fallow.twin.demand.weeks import SHAPES


class ScenarioError(ValueError):
    """The message names the file and the field, and says what to write."""


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


# Of one GPU. A choice: more do not serve.
MOST_COPIES = 48
KINDS = ("week", "trace", "servegen", "rate", "sporadic", "jobs")


class Nodes(_Part):
    """Nodes alike; `product` as the label nvidia.com/gpu.product. `gpus` are what each offers: instances where the
    product names a MIG profile; without it those of eight GPUs. `copies` of each GPU are handed out where they are used
    in turns, as `replicas` of the device plugin's sharing.timeSlicing.
    """

    product: str
    count: int = Field(ge=1)
    gpus: int | None = Field(default=None, ge=1)
    copies: int = Field(default=1, ge=1, le=MOST_COPIES)
    zone: str = ""

    @model_validator(mode="after")
    def _in_turns_or_in_instances(self) -> Self:
        board, mig, _ = self.product.partition("-MIG-")
        if mig and self.copies > 1:
            raise ValueError(
                f"copies of MIG instances are not simulated: write product: {board} with copies, or {self.product}"
                " without"
            )
        return self


class PowerOffRule(_Part):
    """Empty nodes are powered off after a while, as cluster-autoscaler or Karpenter do."""

    after: PositiveDuration = "10m"
    boot: PositiveDuration = "4m"


class SleepRule(_Part):
    """Engines that sleep by themselves, of services with spec.engine.sleepMode."""

    after: PositiveDuration = "10m"
    level: Literal[1, 2] = 1


class Starting(_Part):
    """Of a pod; without it by the model's size."""

    pull: PositiveDuration = "30s"
    load: PositiveDuration | None = None
    compile_: PositiveDuration = Field(default="10s", alias="compile")
    sigma: float = Field(default=0.3, ge=0, le=1)


class Tokens(_Part):
    """Lengths of single requests."""

    mean: float = Field(ge=1)
    cv: float = Field(default=1.0, ge=0)


class SporadicRate(_Part):
    """Busy at `rate` requests per second for a while, silent for longer."""

    rate: float = Field(gt=0)
    busy: PositiveDuration = "20m"
    quiet: PositiveDuration = "4h"


class JobsRate(_Part):
    """Batches of requests, one `every` so often in the mean, each handed in `over` a while."""

    every: PositiveDuration
    requests: float = Field(ge=1)
    over: PositiveDuration = "1m"


class Traffic(_Part):
    """One of `week`, `trace`, `rate`, `sporadic`, `jobs`, `servegen`."""

    week: str | None = None
    trace: str | None = None
    servegen: str | None = None
    rate: float | None = Field(default=None, gt=0)
    sporadic: SporadicRate | None = None
    jobs: JobsRate | None = None
    scale: float = Field(default=1.0, gt=0)
    stretch: float = Field(default=1.0, gt=0)
    shift: PositiveDuration | None = None
    prompt: Tokens | None = None
    output: Tokens | None = None
    cached: float = Field(default=0.0, ge=0, lt=1)

    def kinds(self) -> list[str]:
        return [name for name in KINDS if getattr(self, name) is not None]


class GridFile(_Part):
    """Hourly gCO2e/kWh from a CSV: the column of that name, from its `from`-th row on."""

    file: str | None = None
    column: str | None = None
    start: int = Field(default=0, ge=0, alias="from")
    grams: float | None = Field(default=None, ge=0)


class FaultRule(_Part):
    """A node that is lost (`node`: its number, or fullest); engines that `crash` or `hang`; a GPU that fails (`xid`).
    For good, or until it is `back`.
    """

    at: PositiveDuration
    node: int | Literal["fullest"] | None = None
    back: PositiveDuration | None = None
    crash: str | None = None
    hang: str | None = None
    xid: str | None = None
    replicas: int = Field(default=1, ge=1)


class Scenario(_Part):
    """Everything of a run; `manifests` and other files are looked up from the file's folder."""

    title: str = ""
    manifests: tuple[str, ...]
    nodes: tuple[Nodes, ...] = Field(min_length=1)
    power_off: PowerOffRule | None = None
    scheduler: Literal["Pack", "Spread"] = "Pack"
    sleep: SleepRule | None = None
    start: Starting = Starting()
    days: float = Field(default=7.0, gt=0, le=400)
    began: str = "2026-11-02T00:00:00+00:00"
    seed: int = Field(default=1, ge=0)
    traffic: Mapping[str, Traffic] = Field(default_factory=dict)
    grid: Mapping[str, GridFile] = Field(default_factory=dict)
    faults: tuple[FaultRule, ...] = ()


def read_scenario(path: Path) -> Scenario:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}: is not YAML ({error})") from error
    try:
        found = Scenario.model_validate(content)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
            for detail in error.errors(include_url=False)
        )
        raise ScenarioError(f"{path}: {said}") from error
    for name, one in found.traffic.items():
        _check(path, name, one)
    return found


def _check(path: Path, name: str, one: Traffic) -> None:
    where = f"{path}: traffic.{name}"
    if name.count("/") != 1:
        raise ScenarioError(f"{where}: name a service as NAMESPACE/NAME")
    kinds = one.kinds()
    if len(kinds) != 1:
        raise ScenarioError(f"{where}: write one of {', '.join(KINDS)}, not {len(kinds)} of them")
    if one.week is not None and one.week not in SHAPES:
        raise ScenarioError(f"{where}.week: {one.week!r} is not known: write one of {', '.join(SHAPES)}")
    if kinds[0] in {"rate", "sporadic", "jobs"} and (one.prompt is None or one.output is None):
        raise ScenarioError(f"{where}: say how long requests are: prompt: {{mean: 600}}, output: {{mean: 200}}")
