"""Walks over the generated schemas, shared by the tests of their shape and of their texts."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from fallow.api.crds import crd
from fallow.api.objects import Kind

Schema = dict[str, Any]


@cache
def openapi(kind: Kind) -> Schema:
    schema: Schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node of a schema with its path, list items as [] and map values as [*]."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}[*]")


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every named field, which is what `kubectl explain` lists."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from fields(part.get("items", part), f"{path}.{name}")
