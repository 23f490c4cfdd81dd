"""From what somebody typed, a preset or an assumption to the values of the formula, each with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fallow.adapters.carbon.dataset import YEARLY_BOUNDS, water_at_source, yearly_means
from fallow.app.query import quantities
from fallow.app.query.quantities import Amount, Measure, UnreadableError, amount, choice
from fallow.domain.figures import Figure
from fallow.domain.zones import Ratio
from fallow.footprint.presets import CLASSES, MACHINES, PROVIDERS, SOURCE

GIVEN = "given"

MEASURES: dict[str, Measure] = {
    "latency": quantities.TIME,
    "ttft": quantities.WAIT,
    "tps": quantities.RATE,
    "output-tokens": quantities.TOKENS,
    "energy": quantities.ENERGY,
    "gpu-power": quantities.POWER,
    "gpu-utilization": quantities.SHARE,
    "host-power": quantities.POWER,
    "host-utilization": quantities.SHARE,
    "pue": quantities.PUE,
    "wue-site": quantities.WATER,
    "wue-source": quantities.WATER,
    "intensity": quantities.INTENSITY,
    "embodied": quantities.MASS,
    "held": quantities.HELD,
    "life": quantities.LIFE,
    "share": quantities.RESERVED,
}
QUANTILES: dict[str, Measure] = {"ttft-quantiles": quantities.WAIT, "tps-quantiles": quantities.RATE}
WORDS = ("provider", "hardware", "hardware-class", "zone")
OPTIONS = (*MEASURES, *QUANTILES, *WORDS, "per", "best")

EXAMPLE = "fallow estimate --provider azure --hardware-class large --ttft 0.45s --tps 80 --output-tokens 300"
_OTHER_WAYS = {"latency": " (or --ttft, --tps and --output-tokens)"}
_PRESETS = (
    ({"gpu-power", "host-power"}, "--hardware or --provider gives both powers"),
    ({"gpu-utilization", "host-utilization"}, "--hardware-class gives both utilizations"),
    ({"pue", "wue-site", "wue-source", "intensity"}, "--provider gives pue, wue-site, wue-source and intensity"),
)


# a value in the base unit of its option, and where it comes from
Preset = tuple[Amount, str]


@dataclass(frozen=True, slots=True)
class Input:
    """A value that went into a figure, in its base unit or as a word, and where it came from."""

    value: Amount | tuple[float, ...] | str
    unit: str
    source: str


class Unusable(UnreadableError):
    """An input that cannot be used, by the name of its option."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(text)
        self.option = option


class Incomplete(UnreadableError):
    """Inputs are missing; the text names all of them."""


@dataclass(slots=True)
class Inputs:
    """Reads the inputs of one query and remembers what was used, assumed and missing."""

    texts: Mapping[str, str]
    used: dict[str, Input] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    _presets: dict[str, Preset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._provider()
        self._zone()
        self._machine()

    def given(self, *names: str) -> list[str]:
        return [name for name in names if name in self.texts]

    def amount(self, name: str, fallback: Preset | None = None) -> Amount:
        """As given, else from a preset, else the fallback; one that is missing stands for 1 until `check`."""
        measure = MEASURES[name]
        if name in self.texts:
            value, source = self.read(name, measure), GIVEN
        elif found := self._presets.get(name, fallback):
            value, source = found
        else:
            self.missing.append(name)
            return Amount(1, 1, 1)
        self.used[name] = Input(value, measure.base, source)
        return value

    def read(self, name: str, measure: Measure) -> Amount:
        try:
            return amount(self.texts[name], measure)
        except UnreadableError as error:
            raise Unusable(name, str(error)) from error

    def five(self, name: str) -> tuple[float, ...]:
        if name not in self.texts:
            self.missing.append(name)
            return (1.0,) * 5
        try:
            values, raised = quantities.five(self.texts[name], QUANTILES[name])
        except UnreadableError as error:
            raise Unusable(name, str(error)) from error
        if raised:
            self.notes.append(
                f"{name} fall from one percentile to the next; the lower one was raised to its predecessor."
            )
        self.used[name] = Input(values, QUANTILES[name].base, GIVEN)
        return values

    def one(self, name: str, measure: Measure) -> float:
        """A single number of an option that is there."""
        try:
            value = quantities.one(self.texts[name], measure)
        except UnreadableError as error:
            raise Unusable(name, str(error)) from error
        self.used[name] = Input(Amount(value, value, value), measure.base, GIVEN)
        return value

    def apart(self, names: tuple[str, ...], others: tuple[str, ...]) -> None:
        """Two ways to say one thing cannot both be given."""
        if (one := self.given(*names)) and (other := self.given(*others)):
            raise Unusable(one[0], f"cannot be given together with --{other[0]}; leave one of them out")

    def check(self) -> None:
        """Raises Incomplete naming every input that is still needed."""
        if not self.missing:
            return
        wanted = ", ".join(f"--{name}{_OTHER_WAYS.get(name, '')}" for name in self.missing)
        ways = [way for names, way in _PRESETS if names & set(self.missing)]
        hints = f" ({'; '.join(ways)})" if ways else ""
        raise Incomplete(f"still needed: {wanted}{hints}. For example: {EXAMPLE}")

    def _provider(self) -> None:
        if "provider" not in self.texts:
            return
        name = self._word("provider", PROVIDERS)
        provider = PROVIDERS[name]
        site, source = provider.site, f"{name}, {SOURCE}"
        self._presets["pue"] = _ratio(site.pue), source
        for option, figure in (
            ("wue-site", site.wue_site),
            ("wue-source", site.wue_source),
            ("intensity", site.intensity),
        ):
            self._presets[option] = _plain(figure), source

    def _zone(self) -> None:
        if "zone" not in self.texts:
            return
        zone = self.texts["zone"].strip().upper()
        mean = yearly_means().get(zone)
        if mean is None:
            country = zone.split("-", maxsplit=1)[0]
            known = sorted(yearly_means())
            near = [code for code in known if code.startswith(country[:1])] or known
            raise Unusable("zone", f"{self.texts['zone']!r} is not in the dataset; near it are {', '.join(near[:12])}")
        self.used["zone"] = Input(zone, "", GIVEN)
        source = f"dataset, {mean.source} {zone}, mean of {mean.year}"
        self._presets["intensity"] = _plain(Figure.around(mean.grams, YEARLY_BOUNDS), stated=True), source
        water = water_at_source(zone)
        if water is not None:
            self._presets["wue-source"] = _plain(water, stated=True), f"dataset, EcoLogits {zone}"

    def _machine(self) -> None:
        if "hardware" in self.texts:
            name = self._word("hardware", MACHINES)
            source = f"{name}, {SOURCE}"
        elif "provider" in self.texts:
            provider = self._word("provider", PROVIDERS)
            name = PROVIDERS[provider].machine
            source = f"{name}, assumed for {provider}, {SOURCE}"
        else:
            return
        machine = MACHINES[name]
        for option, power in (("gpu-power", machine.gpu_power), ("host-power", machine.host_power)):
            self._presets[option] = Amount(power.value, power.value, power.value), source
        if "hardware-class" not in self.texts:
            return
        size = self._word("hardware-class", dict.fromkeys(CLASSES))
        if size not in machine.shares:
            raise Unusable(
                "hardware-class",
                f"{size} is not known on {name}, only {', '.join(machine.shares)};"
                " give --gpu-utilization and --host-utilization instead",
            )
        gpus, host = machine.shares[size]
        self._presets["gpu-utilization"] = _ratio(gpus), f"{size} model on {source}"
        self._presets["host-utilization"] = _ratio(host), f"{size} model on {source}"

    def _word(self, name: str, known: Mapping[str, object]) -> str:
        try:
            word = choice(self.texts[name], known)
        except UnreadableError as error:
            raise Unusable(name, str(error)) from error
        self.used[name] = Input(word, "", GIVEN)
        return word


def _ratio(ratio: Ratio) -> Amount:
    return Amount(ratio.low, ratio.best, ratio.high)


def _plain(figure: Figure[Any], *, stated: bool = False) -> Amount:
    return Amount(figure.low.value, figure.best.value, figure.high.value, stated)
