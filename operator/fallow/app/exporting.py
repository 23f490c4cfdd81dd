"""`fallow profiles export`: what one cluster learned, as ModelProfile manifests for another. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fallow.api import reading
from fallow.api.model_profile import LearnedPoint, ModelProfile
from fallow.api.objects import API_VERSION
from fallow.app.declared import Refusal

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """A manifest, and what of the learned points it leaves out, in sentences."""

    manifest: dict[str, Any]
    left_out: tuple[str, ...] = ()


def exported(bodies: Sequence[JSON], names: Sequence[str], cluster: str, day: str) -> tuple[Exported, ...]:
    """Of the profiles that have learned points, or of the named ones. `cluster` and `day` say where and when in the
    references. Raises Refusal where there is nothing to export.
    """
    known = {str(body["metadata"]["name"]): body for body in bodies}
    if unknown := [name for name in names if name not in known]:
        have = f"there are {', '.join(sorted(known))}" if known else "there is none"
        raise Refusal(f"there is no ModelProfile {unknown[0]}; {have}")
    found = [_exported(name, known[name], cluster, day) for name in names or sorted(known)]
    learned = tuple(one for one in found if one is not None)
    if not learned:
        which = ", ".join(names) if names else "any ModelProfile"
        raise Refusal(
            f"nothing was learned of {which} yet: a point takes 20 minutes of a replica under load and a ModelProfile "
            "of its model, precision, gpuProduct and gpuCount; one with source: Learned needs no points"
        )
    return learned


def as_yaml(found: Sequence[Exported]) -> str:
    documents = [yaml.safe_dump(one.manifest, sort_keys=False, width=120, allow_unicode=True) for one in found]
    return "---\n".join(documents)


def as_json(found: Sequence[Exported]) -> str:
    """A List, as kubectl takes and gives it."""
    items = [one.manifest for one in found]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def _exported(name: str, body: JSON, cluster: str, day: str) -> Exported | None:
    try:
        profile = reading.model_profile(body)
    except reading.InvalidObject as error:
        raise Refusal(f"ModelProfile {name} is not of this version of Fallow: {error}") from error
    if not profile.status.points:
        return None
    spec = dict(body.get("spec") or {})
    declared = [{"source": profile.spec.source, **point} for point in spec.get("points") or ()]
    fixed = {point["concurrency"] for point in declared if point["source"] != "Learned"}
    taken, left_out = _points(profile, fixed, f"{cluster}, {day}")
    # what was carried here before makes room for what was learned here
    anew = {point["concurrency"] for point in taken}
    kept = [point for point in declared if point["concurrency"] not in anew]
    spec = {
        **spec,
        **_figures(profile),
        "source": "Learned",
        "points": sorted([*kept, *taken], key=lambda point: int(point["concurrency"])),
    }
    manifest = {"apiVersion": API_VERSION, "kind": "ModelProfile", "metadata": {"name": name}, "spec": spec}
    reading.model_profile({**manifest, "metadata": {"name": name, "uid": "-", "generation": 1}})
    return Exported(manifest, tuple(f"{name}: {words}" for words in left_out))


def _points(profile: ModelProfile, declared: set[int], where: str) -> tuple[list[dict[str, Any]], list[str]]:
    limit, taken, left_out = profile.spec.max_concurrency, [], []
    for point in profile.status.points:
        level = point.concurrency
        if level in declared:
            cost = f"{point.joules_per_token:g} J/token"
            left_out.append(f"at concurrency {level} the declared point stays, learned were {cost}")
        elif limit is not None and level > limit:
            left_out.append(f"concurrency {level} is above maxConcurrency {limit}")
        else:
            taken.append(_point(point, where))
    return taken, left_out


def _point(point: LearnedPoint, where: str) -> dict[str, Any]:
    low, high = point.low_joules_per_token, point.high_joules_per_token
    interval = "" if low is None or high is None else f", {low:g} to {high:g} J/token in 19 of 20 cases"
    shown = {
        "concurrency": point.concurrency,
        "tokensPerSecond": point.tokens_per_second,
        "watts": point.watts,
        "itlMillis": point.itl_millis,
        "source": "Learned",
        "basis": "Measured",
        "reference": f"Fallow in {where}: {point.samples} minutes of replicas up to "
        f"{point.last_seen:%Y-%m-%d %H:%M} UTC, idle moments included{interval}",
    }
    return {name: value for name, value in shown.items() if value is not None}


def _figures(profile: ModelProfile) -> dict[str, Any]:
    return dict(_measured(profile))


def _measured(profile: ModelProfile) -> Iterator[tuple[str, Any]]:
    """What was measured besides points; a loaded draw below the declared empty one would be refused."""
    status, spec = profile.status, profile.spec
    if status.context_watts is not None and (spec.idle_watts is None or spec.idle_watts <= status.context_watts):
        yield "contextWatts", status.context_watts
    if status.load is not None:
        yield "load", status.load.as_json()
