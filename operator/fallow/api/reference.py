"""The reference page of the kinds: fields with type, default, meaning and rules, from the schema of the CRDs."""

import json
from collections.abc import Iterator
from typing import Any

from fallow.api.objects import API_VERSION, Kind
from fallow.api.schema import Schema, object_schema

_INTRODUCTION = f"""# The kinds of {API_VERSION}

<!-- Generated from the pydantic models in operator/fallow/api by `make docs`; change those instead. -->

Every kind is in the category `fallow`: `kubectl get fallow -A` lists them all. `kubectl explain` shows the same
texts as this page. A wrong object is refused by the API server; the messages under *Rules* are what it answers.
Samples are in `docs/samples/`.

Durations are written like `250ms`, `90s`, `10m`, `1h30m`. An optional field that is absent has the meaning given in
its row.
In a status, what is not known is absent, never zero; a figure with bounds is `{{low, best, high}}`.
"""


def reference_page(kinds: tuple[Kind, ...]) -> str:
    return "\n".join([_INTRODUCTION, *(line for kind in kinds for line in _kind_section(kind))])


def _kind_section(kind: Kind) -> Iterator[str]:
    schema = object_schema(kind.model)
    yield f"## {kind.name}"
    yield ""
    yield schema["description"]
    yield ""
    scope = "namespaced" if kind.namespaced else "cluster-wide"
    scale = ", scales by `kubectl scale`" if kind.scale else ""
    yield f"Short name `{kind.short}`, plural `{kind.plural}`, {scope}{scale}."
    yield ""
    yield "| column of `kubectl get` | shows |"
    yield "|---|---|"
    for column in kind.columns:
        name = f"{column.name} (with `-o wide`)" if column.wide else column.name
        yield f"| {name} | {column.says} |"
    yield ""
    for rule in _messages(schema):
        yield f"Rule: {rule}."
        yield ""
    for part in ("spec", "status"):
        yield f"### {kind.name}.{part}"
        yield ""
        yield schema["properties"][part]["description"]
        yield ""
        yield "| field | type | default | meaning |"
        yield "|---|---|---|---|"
        rules: list[tuple[str, str]] = [("", rule) for rule in _messages(schema["properties"][part])]
        for path, node, required in _fields(schema["properties"][part], ""):
            default = "required" if required else _default(node)
            yield f"| `{path}` | {_type(node)} | {default} | {_cell(node['description'])} |"
            rules += [(path, rule) for rule in (*_messages(node), *_messages(node.get("items", {})))]
        yield ""
        if rules:
            yield "Rules:"
            yield ""
            for path, rule in rules:
                yield f"- `{path}` {rule}" if path else f"- {rule}"
            yield ""


def _fields(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below a schema, parents first, lists written as name[]."""
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, node, name in schema.get("required", [])
        if node.get("type") == "array":
            yield from _fields(node["items"], f"{path}[].")
        else:
            yield from _fields(node, f"{path}.")


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "integer or text"
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return "object, any fields"
    match node["type"]:
        case "array":
            return f"list of {_type(node['items'])}{_range(node, 'Items')}"
        case "object" if "additionalProperties" in node:
            return f"map of {_type(node['additionalProperties'])}"
        case "string" if "enum" in node:
            return " \\| ".join(f"`{value}`" for value in node["enum"])
        case "string":
            return "time" if node.get("format") == "date-time" else "text"
        case other:
            return f"{other}{_range(node, 'imum')}"


def _range(node: Schema, suffix: str) -> str:
    low, high = node.get(f"min{suffix}"), node.get(f"max{suffix}")
    if low is None and high is None:
        return ""
    if low is None:
        return f", at most {high:g}"
    above = "above" if node.get("exclusiveMinimum") else "at least"
    return f", {above} {low:g}" if high is None else f", {above} {low:g} and at most {high:g}"


def _default(node: Schema) -> str:
    default: Any = node.get("default")
    if default is None or default in ([], "") or isinstance(default, dict):
        # an object's default is that of its fields, which have rows of their own
        return ""
    return f"`{json.dumps(default)}`" if isinstance(default, bool | list) else f"`{default}`"


def _messages(node: Schema) -> list[str]:
    return [_plain(rule["message"]) for rule in node.get("x-kubernetes-validations", [])]


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Markdown would take <name> for a tag and drop it."""
    return text.replace("<", "&lt;")
