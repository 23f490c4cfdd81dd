"""What the README tells people to apply can be applied."""

import re

import pytest
import yaml

from fallow.api import reading
from tests.api.samples import ROOT

READERS = {
    "InferenceService": reading.inference_service,
    "EnergyPolicy": reading.energy_policy,
    "GridZone": reading.grid_zone,
}


def manifests() -> list[dict[str, object]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda manifest: str(manifest["kind"]))
def test_a_manifest_of_the_readme_is_accepted(manifest: dict[str, object]) -> None:
    READERS[str(manifest["kind"])](manifest)


def test_the_readme_shows_every_kind_that_a_first_user_needs() -> None:
    assert {manifest["kind"] for manifest in manifests()} == set(READERS)
