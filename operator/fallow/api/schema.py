"""From pydantic's JSON schema to the structural OpenAPI v3 schema that a CustomResourceDefinition takes.

References are inlined, null alternatives dropped (an optional field is simply absent), and what the API server
forbids or needs for estimating the cost of CEL rules is removed or checked.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = {"title", "discriminator", "$defs", "propertyNames"}
_FRAME = ("apiVersion", "kind")


class SchemaError(ValueError):
    """A model that no structural schema can express; the message names the field."""


def object_schema(model: type[BaseModel]) -> Schema:
    """The schema of a whole object: Kubernetes owns apiVersion, kind and metadata."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    del raw["properties"]["metadata"]
    schema = _node(raw, raw.get("$defs", {}), model.__name__)
    properties: Schema = schema["properties"]
    for name in _FRAME:
        properties[name] = {"type": "string", "description": properties[name]["description"]}
    schema["properties"] = {
        "apiVersion": properties["apiVersion"],
        "kind": properties["kind"],
        "metadata": {"type": "object"},
        "spec": properties["spec"],
        "status": properties["status"],
    }
    for name in ("spec", "status"):
        properties[name].pop("default", None)
    if not properties["spec"].get("required"):
        # an object without any spec then still gets the defaults of its fields
        properties["spec"]["default"] = {}
    schema["required"] = [name for name in schema.get("required", []) if name == "spec"]
    if not schema["required"]:
        del schema["required"]
    return schema


def _node(raw: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> Schema:
    node = _resolved(raw, definitions, where)
    if "x-kubernetes-int-or-string" in node:
        return _ordered(node)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if "exclusiveMinimum" in node:
        node["minimum"], node["exclusiveMinimum"] = node["exclusiveMinimum"], True
    if node.get("default", ...) is None:
        del node["default"]
    _complete(node, definitions, where)
    return _ordered(node)


def _complete(node: Schema, definitions: Mapping[str, Any], where: str) -> None:
    match node.get("type"):
        case "object":
            _complete_object(node, definitions, where)
        case "array":
            node["items"] = _node(node["items"], definitions, f"{where}[]")
            node.setdefault("x-kubernetes-list-type", "atomic")
            _need(node, "maxItems", where)
        case "string":
            if "enum" not in node and node.get("format") != "date-time":
                _need(node, "maxLength", where)
        case "integer":
            node["format"] = "int64"
        case "number" | "boolean":
            pass
        case other:
            raise SchemaError(f"{where} has type {other!r}; give it one JSON type")


def _complete_object(node: Schema, definitions: Mapping[str, Any], where: str) -> None:
    if node.get("additionalProperties") in (False, True):
        del node["additionalProperties"]
    if "additionalProperties" in node:
        node["additionalProperties"] = _node(node["additionalProperties"], definitions, f"{where}[*]")
        _need(node, "maxProperties", where)
    elif "properties" in node:
        node["properties"] = {
            name: _node(part, definitions, f"{where}.{name}") for name, part in node["properties"].items()
        }
        if isinstance(node.get("default"), dict):
            node["default"] = _known(node["default"])
    elif not node.get("x-kubernetes-preserve-unknown-fields"):
        raise SchemaError(f"{where} is an object without fields; name them or mark it as free-form")


def _resolved(raw: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> Schema:
    """The node with references, single allOf and null alternatives replaced by what they stand for."""
    node = {name: part for name, part in raw.items() if name not in _DROPPED}
    for wrapper in ("allOf", "anyOf", "oneOf"):
        if wrapper in node:
            kept = [part for part in node.pop(wrapper) if part.get("type") != "null"]
            if len(kept) != 1:
                raise SchemaError(f"{where} may be of several types; a structural schema allows one")
            node = _resolved(kept[0], definitions, where) | node
    if "$ref" in node:
        target = definitions[node.pop("$ref").removeprefix("#/$defs/")]
        node = _resolved(target, definitions, where) | node
    return node


def _known(default: Any) -> Any:
    """A default without its nulls. It stays whole, since the API server checks CEL rules on it before filling it in."""
    if isinstance(default, dict):
        return {name: _known(part) for name, part in default.items() if part is not None}
    return default


def _need(node: Schema, limit: str, where: str) -> None:
    if limit not in node:
        raise SchemaError(f"{where} needs {limit}; without it the API server cannot bound the cost of CEL rules")


_ORDER = ("description", "type", "format", "default", "enum")


def _ordered(node: Schema) -> Schema:
    """Keys in one order, so that the same model always gives the same file."""
    return dict(sorted(node.items(), key=lambda item: (_ORDER.index(item[0]) if item[0] in _ORDER else 9, item[0])))
