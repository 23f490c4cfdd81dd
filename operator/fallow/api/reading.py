"""From what the API server holds to a checked object, or to a sentence that names object, field and fix.

The API server has refused most wrong objects already; what is left was written before a rule existed.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fallow.api.energy_policy import EnergyPolicy
from fallow.api.grid_zone import GridZone
from fallow.api.inference_service import InferenceService
from fallow.api.model_profile import ModelProfile
from fallow.domain.snapshots import Invalid

K = TypeVar("K", InferenceService, EnergyPolicy, GridZone, ModelProfile)

_SAYS = {
    "extra_forbidden": "is no field of this kind; remove it or correct its spelling",
    "missing": "is required; write it",
}


class InvalidObject(ValueError):
    """An object that cannot be read; `invalid` is what the cycle reports about it."""

    def __init__(self, invalid: Invalid) -> None:
        where = f"{invalid.namespace}/{invalid.name}" if invalid.namespace else invalid.name
        super().__init__(f"{invalid.kind} {where}: {invalid.message}")
        self.invalid = invalid


def inference_service(raw: Mapping[str, Any]) -> InferenceService:
    return parse(InferenceService, raw)


def energy_policy(raw: Mapping[str, Any]) -> EnergyPolicy:
    return parse(EnergyPolicy, raw)


def grid_zone(raw: Mapping[str, Any]) -> GridZone:
    return parse(GridZone, raw)


def model_profile(raw: Mapping[str, Any]) -> ModelProfile:
    return parse(ModelProfile, raw)


def parse(model: type[K], raw: Mapping[str, Any]) -> K:
    """The spec is read strictly, the status leniently: nothing in it may stop an object from being read."""
    try:
        declared = model.model_validate(
            {name: part for name, part in raw.items() if name != "status"}, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise InvalidObject(_invalid(model.__name__, raw, error)) from error
    try:
        status = type(declared.status).model_validate(raw.get("status") or {}, by_alias=True, by_name=False)
    except ValidationError:
        return declared
    return declared.model_copy(update={"status": status})


def _invalid(kind: str, raw: Mapping[str, Any], error: ValidationError) -> Invalid:
    metadata = raw.get("metadata") or {}
    return Invalid(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=metadata.get("name", ""),
        message="; ".join(_sentence(detail) for detail in error.errors(include_url=False)),
    )


def _sentence(detail: ErrorDetails) -> str:
    path = ""
    for part in detail["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in {"int", "str", "[key]"}:
            path += f".{part}" if path else str(part)
    path += detail.get("ctx", {}).get("at", "")
    says = _SAYS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    return f"{path}: {says}" if path else says
