"""The four kinds of fallow.dev/v1alpha1, in the order in which people meet them."""

from fallow.api.energy_policy import ENERGY_POLICY
from fallow.api.grid_zone import GRID_ZONE
from fallow.api.inference_service import INFERENCE_SERVICE
from fallow.api.model_profile import MODEL_PROFILE
from fallow.api.objects import Kind

KINDS: tuple[Kind, ...] = (INFERENCE_SERVICE, ENERGY_POLICY, GRID_ZONE, MODEL_PROFILE)


def kind_named(name: str) -> Kind:
    """The kind with this name; KeyError names the kinds there are."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise KeyError(f"{name!r} is no kind of fallow.dev; there are {', '.join(kind.name for kind in KINDS)}")
