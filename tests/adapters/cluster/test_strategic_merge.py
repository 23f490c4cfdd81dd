"""A pod template overlay lands where a person expects it."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.adapters.cluster.strategic_merge import merge

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm:1",
                "args": ["--port", "8000"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"name": "http", "containerPort": 8000}],
                "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
            }
        ],
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    },
}


def container(overlay: dict[str, Any]) -> dict[str, Any]:
    merged = merge(BASE, {"spec": {"containers": [{"name": "vllm", **overlay}]}})
    found: dict[str, Any] = merged["spec"]["containers"][0]
    return found


def test_maps_merge() -> None:
    assert merge(BASE, {"metadata": {"labels": {"b": "2"}}})["metadata"]["labels"] == {"a": "1", "b": "2"}


def test_the_base_is_left_alone() -> None:
    before = repr(BASE)
    merge(BASE, {"spec": {"containers": [{"name": "vllm", "image": "vllm:2", "env": [{"name": "A", "value": "9"}]}]}})

    assert repr(BASE) == before


def test_a_container_of_the_same_name_is_overlaid() -> None:
    merged = container({"image": "vllm:2"})

    assert (merged["image"], merged["args"]) == ("vllm:2", ["--port", "8000"])


def test_another_container_is_added_after_ours() -> None:
    merged = merge(BASE, {"spec": {"containers": [{"name": "proxy", "image": "envoy"}]}})

    assert [part["name"] for part in merged["spec"]["containers"]] == ["vllm", "proxy"]


def test_variables_merge_by_name() -> None:
    merged = container({"env": [{"name": "B", "value": "9"}, {"name": "C", "value": "3"}]})

    assert [(part["name"], part["value"]) for part in merged["env"]] == [("A", "1"), ("B", "9"), ("C", "3")]


def test_mounts_merge_by_path_and_ports_by_number() -> None:
    merged = container(
        {
            "volumeMounts": [{"name": "big", "mountPath": "/dev/shm"}],
            "ports": [{"name": "rpc", "containerPort": 9000}],
        }
    )

    assert merged["volumeMounts"] == [{"name": "big", "mountPath": "/dev/shm"}]
    assert [part["containerPort"] for part in merged["ports"]] == [8000, 9000]


def test_plain_lists_are_replaced() -> None:
    assert container({"args": ["--model", "x"]})["args"] == ["--model", "x"]


def test_another_source_takes_the_place_of_a_volumes_own() -> None:
    merged = merge(BASE, {"spec": {"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "hf"}}]}})

    assert merged["spec"]["volumes"] == [{"name": "cache", "persistentVolumeClaim": {"claimName": "hf"}}]


def test_tolerations_are_added() -> None:
    merged = merge(BASE, {"spec": {"tolerations": [{"key": "spot", "operator": "Exists"}]}})

    assert [part["key"] for part in merged["spec"]["tolerations"]] == ["nvidia.com/gpu", "spot"]


def test_null_removes_a_field() -> None:
    assert "image" not in container({"image": None})


def test_a_delete_directive_removes_an_entry() -> None:
    merged = container({"env": [{"name": "A", "$patch": "delete"}]})

    assert [part["name"] for part in merged["env"]] == ["B"]


def test_a_replace_directive_replaces_a_list_and_a_map() -> None:
    listed = container({"env": [{"$patch": "replace"}, {"name": "C", "value": "3"}]})
    mapped = merge(BASE, {"metadata": {"labels": {"b": "2", "$patch": "replace"}}})

    assert listed["env"] == [{"name": "C", "value": "3"}]
    assert mapped["metadata"]["labels"] == {"b": "2"}


def test_an_entry_without_its_key_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="every entry of env needs name"):
        container({"env": [{"value": "1"}]})
