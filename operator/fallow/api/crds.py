"""CustomResourceDefinitions as YAML text: the schema of a kind with its names, columns and subresources."""

from typing import Any

import yaml

from fallow.api.objects import GROUP, VERSION, Column, Kind
from fallow.api.schema import object_schema

_HEADER = "# Generated from the pydantic models in operator/fallow/api by `make crds`; change those instead.\n"


def crd(kind: Kind) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale is not None:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas,
            "statusReplicasPath": kind.scale.status_replicas,
            "labelSelectorPath": kind.scale.selector,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": kind.crd_name,
            "labels": {"app.kubernetes.io/name": "fallow", "app.kubernetes.io/part-of": "fallow"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": ["fallow"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": object_schema(kind.model)},
                }
            ],
        },
    }


def crd_yaml(kind: Kind) -> str:
    body: str = yaml.dump(crd(kind), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return _HEADER + body


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.says,
    }
    if column.wide:
        entry["priority"] = 1
    return entry


class _Plain(yaml.SafeDumper):
    """YAML without anchors: kubectl reads them, people do not."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True
