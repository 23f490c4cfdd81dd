"""What the API server refuses, the operator refuses too, and it names the same field."""

import pytest

from fallow.api import reading
from fallow.api.reading import InvalidObject
from fallow.domain.snapshots import Invalid
from tests.api.samples import WrongObject, merged, sample, wrong_objects
from tests.api.test_samples import READERS

WRONG = wrong_objects()


def test_there_are_enough_wrong_objects_with_names_of_their_own() -> None:
    assert len({wrong.name for wrong in WRONG}) == len(WRONG) >= 40


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_wrong_object_is_refused_with_the_name_of_its_field(wrong: WrongObject) -> None:
    raw = wrong.build()

    with pytest.raises(InvalidObject) as refused:
        READERS[raw["kind"]](raw)

    message = refused.value.invalid.message
    assert wrong.field in message
    assert refused.value.invalid.name == raw["metadata"]["name"]
    assert "Value error" not in message


def test_refusal_names_object_field_and_fix() -> None:
    raw = merged(sample("inferenceservice-chat"), {"metadata": {"namespace": "llm"}, "spec": {"replicas": 9}})

    with pytest.raises(InvalidObject) as refused:
        reading.inference_service(raw)

    assert refused.value.invalid == Invalid(
        "InferenceService",
        "llm",
        "chat",
        "spec.replicas: replicas must be at most scaling.maxReplicas (default 1); ask for fewer or raise maxReplicas",
    )
    assert str(refused.value).startswith("InferenceService llm/chat: spec.replicas: ")


def test_several_faults_are_told_together() -> None:
    raw = merged(sample("energypolicy-enforce"), {"spec": {"mode": "enforce", "idle": {"after": "10"}}})

    with pytest.raises(InvalidObject) as refused:
        reading.energy_policy(raw)

    assert "spec.mode" in str(refused.value)
    assert "spec.idle.after" in str(refused.value)


def test_names_in_python_spelling_are_unknown_fields() -> None:
    raw = merged(sample("inferenceservice-minimal"), {"spec": {"scaling": {"min_replicas": 1}}})

    with pytest.raises(InvalidObject, match="min_replicas: is no field of this kind"):
        reading.inference_service(raw)


@pytest.mark.parametrize("status", [{"replicas": "many"}, {"idle": {"state": "Sleepy"}}, None], ids=str)
def test_a_strange_status_never_stops_an_object_from_being_read(status: object) -> None:
    raw = {**sample("inferenceservice-minimal"), "status": status}

    declared = reading.inference_service(raw)

    assert declared.status.replicas == 0
    assert declared.status.idle.state == "Unknown"


def test_fields_that_a_status_had_in_another_version_are_passed_over() -> None:
    raw = {**sample("inferenceservice-minimal"), "status": {"variant": "bf16", "formerly": 1}}

    assert reading.inference_service(raw).status.variant == "bf16"
