"""What every API model shares: camelCase names, strictness, and rules that hold in two languages.

A Rule is written once, as CEL for the API server and as a predicate for Python, so that both refuse the same objects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition across the fields of one object; `says` names the field and what to write."""

    cel: str
    holds: Callable[[Any], bool]
    says: str
    at: str = ""

    def as_validation(self) -> JsonDict:
        return validation(self.cel, self.says, self.at)


def share_rule(name: str, *, most: float, such_as: float) -> Rule:
    """A number from 0 up to a share, as a CEL rule: the API server prints a schema's limit of 0.9 as 0."""
    return Rule(
        f"self.{name} <= {most}",
        lambda one: getattr(one, name) <= most,
        f"{name} must be a share from 0 to {most}, such as {such_as}",
        f".{name}",
    )


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """A condition on what an update may change. Only the API server knows the old object, so there is no predicate."""

    cel: str
    says: str
    at: str = ""

    def as_validation(self) -> JsonDict:
        return validation(self.cel, self.says, self.at)


def validation(cel: str, says: str, at: str) -> JsonDict:
    entry: JsonDict = {"rule": cel, "message": says}
    if at:
        entry["fieldPath"] = at
    return entry


def _write_rules(schema: JsonDict, model: type[BaseModel]) -> None:
    if issubclass(model, ApiModel):
        found = [
            *(rule.as_validation() for rule in model.rules),
            *(rule.as_validation() for rule in model.change_rules),
        ]
        if found:
            schema["x-kubernetes-validations"] = [*found]


class ApiModel(BaseModel):
    """A part of a spec: every field known, every value as declared, nothing changed after reading."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        json_schema_extra=_write_rules,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    change_rules: ClassVar[tuple[ChangeRule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.rules:
            if not rule.holds(self):
                raise PydanticCustomError("rule", "{says}", {"says": rule.says, "at": rule.at})
        return self


class StatusModel(ApiModel):
    """A part of a status: read leniently, because an earlier version of Fallow may have written it."""

    model_config = ConfigDict(extra="ignore", strict=False)

    def as_json(self) -> dict[str, Any]:
        """The form that is written to the API server: camelCase, without what is not known."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return dumped
