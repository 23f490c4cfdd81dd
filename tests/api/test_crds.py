"""The generated CRDs: equal to the committed files, structural, bounded, and with a text for every field."""

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from fallow.api.crds import crd
from fallow.api.generate import CRD_FOLDERS, REFERENCE, crd_files, docs_files, main
from fallow.api.kinds import KINDS, kind_named
from fallow.api.model import ApiModel, Rule
from fallow.api.objects import Kind
from fallow.api.schema import SchemaError, object_schema
from tests.api.samples import ROOT
from tests.api.schemas import fields, nodes, openapi

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
FORBIDDEN = {"$ref", "$defs", "allOf", "anyOf", "oneOf", "not", "const", "title", "uniqueItems", "discriminator"}
ALLOWED_TYPES = {"object", "array", "string", "integer", "number", "boolean"}


PATHS = [*(folder / f"{kind.plural}.yaml" for kind in KINDS for folder in CRD_FOLDERS), REFERENCE]


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return {**crd_files(), **docs_files()}


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_committed_file_equals_the_generated_one(path: Path, generated: dict[Path, str]) -> None:
    committed = (ROOT / path).read_text(encoding="utf-8")
    assert committed == generated[path], f"{path} is out of date: run `make crds docs`"


def test_generator_writes_the_same_files_into_another_folder(tmp_path: Path, generated: dict[Path, str]) -> None:
    (tmp_path / "operator" / "fallow").mkdir(parents=True)

    main(["crds", "docs", "--root", str(tmp_path)])

    written = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.*")}
    assert written == generated
    assert set(generated) == set(PATHS)


def test_generator_refuses_a_folder_that_is_not_the_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["crds", "--root", str(tmp_path)])

    assert "is not the root of the repository; go there or give --root" in capsys.readouterr().err


@every_kind
def test_every_field_says_what_it_is(kind: Kind) -> None:
    silent = [path for path, node in fields(openapi(kind)) if path != ".metadata" and not node.get("description")]

    assert silent == []


@every_kind
def test_descriptions_are_sentences(kind: Kind) -> None:
    odd = [
        (path, node["description"])
        for path, node in fields(openapi(kind))
        if "description" in node and not re.fullmatch(r"[A-Za-z0-9].*\.", node["description"], re.DOTALL)
    ]

    assert odd == []


@every_kind
def test_schema_is_structural(kind: Kind) -> None:
    for path, node in nodes(openapi(kind)):
        assert not FORBIDDEN & node.keys(), path
        assert node.get("additionalProperties") not in (True, False), path
        assert node.get("type") in ALLOWED_TYPES or node.get("x-kubernetes-int-or-string"), path


@every_kind
def test_every_list_map_and_text_has_a_limit(kind: Kind) -> None:
    """Without limits the API server refuses CEL rules for their estimated cost."""
    unbounded = [
        path
        for path, node in nodes(openapi(kind))
        if (node.get("type") == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
        or (
            node.get("type") == "string"
            and not {"maxLength", "enum"} & node.keys()
            and node.get("format") != "date-time"
            and path not in {".apiVersion", ".kind"}
        )
    ]

    assert unbounded == []


@every_kind
def test_every_rule_has_a_message_of_its_own(kind: Kind) -> None:
    for path, node in nodes(openapi(kind)):
        for rule in node.get("x-kubernetes-validations", []):
            assert len(rule["message"]) > 20, path
            assert rule["message"] != rule["rule"], path
            assert "\n" not in rule["message"], path


@every_kind
def test_kind_is_in_the_category_and_has_columns_and_status(kind: Kind) -> None:
    definition = crd(kind)["spec"]
    version = definition["versions"][0]

    assert definition["names"]["categories"] == ["fallow"]
    assert definition["names"]["shortNames"] == [kind.short]
    assert version["subresources"]["status"] == {}
    assert "Age" in [column["name"] for column in version["additionalPrinterColumns"]]


@every_kind
def test_every_column_reads_a_field_that_exists(kind: Kind) -> None:
    known = {path for path, _ in fields(openapi(kind))} | {".metadata.creationTimestamp"}

    for column in kind.columns:
        plain = re.sub(r"\[\?\(.*\)\]", "", column.path)
        assert plain in known, column.path


def test_scale_reads_fields_that_exist() -> None:
    service = kind_named("InferenceService")
    known = dict(fields(openapi(service)))

    assert service.scale is not None
    assert known[service.scale.spec_replicas]["type"] == "integer"
    assert known[service.scale.status_replicas]["type"] == "integer"
    assert known[service.scale.selector]["type"] == "string"


@every_kind
def test_conditions_are_a_list_by_type(kind: Kind) -> None:
    conditions = openapi(kind)["properties"]["status"]["properties"]["conditions"]

    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "observedGeneration" in conditions["items"]["properties"]


@every_kind
def test_a_field_is_required_or_has_a_default_or_says_what_its_absence_means(kind: Kind) -> None:
    unclear = [
        f"{path}.{name}"
        for path, node in nodes(openapi(kind)["properties"]["spec"], "spec")
        for name, part in node.get("properties", {}).items()
        if name not in node.get("required", []) and "default" not in part and "Absent: " not in part["description"]
    ]

    assert unclear == []


def test_unknown_kind_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="there are InferenceService, EnergyPolicy, GridZone, ModelProfile"):
        kind_named("InferenceServer")


def test_crd_text_is_yaml_without_anchors(generated: dict[Path, str]) -> None:
    for text in {generated[path] for path in PATHS if path != REFERENCE}:
        assert yaml.load(text, yaml.CSafeLoader)["kind"] == "CustomResourceDefinition"
        assert not re.search(r": [&*]id\d+", text)


class _Unbounded(ApiModel):
    text: str = Field(description="No limit.")


class _TwoTypes(ApiModel):
    either: int | bool = Field(description="Two types.")


class _Shapeless(ApiModel):
    anything: dict[str, Any] = Field(description="No fields.")


class _ManyLists(ApiModel):
    entries: list[Annotated[str, Field(max_length=3)]] = Field(description="No limit.")


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (_Unbounded, r"\.text needs maxLength"),
        (_TwoTypes, r"\.either may be of several types"),
        (_Shapeless, r"\.anything is an object without fields"),
        (_ManyLists, r"\.entries needs maxItems"),
    ],
)
def test_what_no_structural_schema_can_express_is_named(part: type[ApiModel], says: str) -> None:
    class Whole(ApiModel):
        api_version: Annotated[str, Field(max_length=9)] = Field(description="x")
        kind: Annotated[str, Field(max_length=9)] = Field(description="x")
        metadata: Annotated[str, Field(max_length=9)] = Field(description="x")
        spec: part = Field(description="x")  # type: ignore[valid-type]  # the parameter is the field's type

    with pytest.raises(SchemaError, match=says):
        object_schema(Whole)


def test_rule_becomes_a_validation_at_its_field() -> None:
    rule = Rule("self.a <= self.b", lambda _: True, "b must be at least a", ".b")

    assert rule.as_validation() == {
        "rule": "self.a <= self.b",
        "message": "b must be at least a",
        "fieldPath": ".b",
    }
