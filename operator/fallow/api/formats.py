"""Formats of single values and of collections: checked alike by pydantic and, through CEL, by the API server.

A format says in its own words what to write; a bare schema pattern would answer with a regular expression.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Format:
    """A pattern that Python and RE2 read alike, and the sentence that a person gets when the value does not fit."""

    pattern: str
    says: str
    also: str = ""

    def fits(self, value: str) -> bool:
        return bool(re.search(self.pattern, value)) and (not self.also or bool(re.search(self.also, value)))

    def check(self, value: str) -> str:
        if not self.fits(value):
            raise ValueError(self.says)
        return value

    def cel(self, subject: str = "self") -> str:
        first = f"{subject}.matches(r'{self.pattern}')"
        return f"{first} && {subject}.matches(r'{self.also}')" if self.also else first

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        found["x-kubernetes-validations"] = [{"rule": self.cel(), "message": self.says}]
        return found


@dataclass(frozen=True, slots=True)
class NumberOrText:
    """A value that people write as 4 or as "500m"; the text form has a format of its own."""

    text: Format
    minimum: int = 0

    def check(self, value: int | str) -> int | str:
        fits = self.text.fits(value) if isinstance(value, str) else value >= self.minimum
        if not fits:
            raise ValueError(self.text.says)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        rule = f"type(self) == string ? {self.text.cel('string(self)')} : int(self) >= {self.minimum}"
        return {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "x-kubernetes-validations": [{"rule": rule, "message": self.text.says}],
        }


@dataclass(frozen=True, slots=True)
class Keyed:
    """A list whose entries are told apart by one field, so that two writers can own different entries."""

    key: str
    attribute: str = ""

    def check(self, entries: list[Any]) -> list[Any]:
        keys = [getattr(entry, self.attribute or self.key) for entry in entries]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"Duplicate value: {self.key} {key} is written twice; give each entry its own")
        return entries

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        found["x-kubernetes-list-type"] = "map"
        found["x-kubernetes-list-map-keys"] = [self.key]
        return found


@dataclass(frozen=True, slots=True)
class Distinct:
    """A list of plain values of which none comes twice."""

    def check(self, entries: list[Any]) -> list[Any]:
        for entry in entries:
            if entries.count(entry) > 1:
                raise ValueError(f"Duplicate value: {entry} is written twice; write it once")
        return entries

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        found["x-kubernetes-list-type"] = "set"
        return found


@dataclass(frozen=True, slots=True)
class FreeForm:
    """An object whose fields belong to another schema (a pod template) and are kept as they are."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


DNS_LABEL = Format(
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "must be lower-case letters, digits and '-', such as fp8 or chat-large, starting and ending with a letter or digit",
)
DNS_SUBDOMAIN = Format(
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.', such as chat-large",
)
MODEL_NAME = Format(
    r"^[A-Za-z0-9/]([A-Za-z0-9._/:-]*[A-Za-z0-9._-])?$",
    "must be a model such as meta-llama/Llama-3.1-8B-Instruct or a path such as /models/chat, without spaces",
)
SERVED_NAME = Format(
    r"^[A-Za-z0-9]([A-Za-z0-9._/:-]*[A-Za-z0-9._-])?$",
    "must be the name that clients send as model, such as chat, without spaces",
)
LABEL_VALUE = Format(
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    "must be a label value: at most 63 letters, digits, '-', '_' and '.'",
)
GPU_PRODUCT = Format(
    r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    "must be the value of the node label nvidia.com/gpu.product, such as NVIDIA-H100-80GB-HBM3, with '-' for spaces",
)
METRIC_NAME = Format(
    r"^[a-zA-Z_:][a-zA-Z0-9_:]*$",
    "must be the name of a Prometheus metric, such as gateway_requests_waiting, without labels or functions",
)
ENV_NAME = Format(
    r"^[A-Za-z_][A-Za-z0-9_]*$",
    "must be an environment variable's name, such as VLLM_LOGGING_LEVEL",
)

DnsLabel = Annotated[str, Field(min_length=1, max_length=63), DNS_LABEL]
DnsSubdomain = Annotated[str, Field(min_length=1, max_length=253), DNS_SUBDOMAIN]
ModelName = Annotated[str, Field(min_length=1, max_length=256), MODEL_NAME]
ServedName = Annotated[str, Field(min_length=1, max_length=128), SERVED_NAME]
LabelValue = Annotated[str, Field(max_length=63), LABEL_VALUE]
GpuProduct = Annotated[str, Field(min_length=1, max_length=63), GPU_PRODUCT]
MetricName = Annotated[str, Field(min_length=1, max_length=200), METRIC_NAME]
EnvName = Annotated[str, Field(min_length=1, max_length=128), ENV_NAME]
Word = Annotated[str, Field(max_length=64)]
Line = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=1024)]
FreeObject = Annotated[dict[str, Any], FreeForm()]
