"""The frame around every kind: apiVersion, kind, metadata, and the description of a kind that the CRD needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fallow.api.conditions import Time
from fallow.api.formats import DnsSubdomain

GROUP = "fallow.dev"
VERSION = "v1alpha1"
API_VERSION: Literal["fallow.dev/v1alpha1"] = "fallow.dev/v1alpha1"

ApiVersion = Literal["fallow.dev/v1alpha1"]


class ObjectMeta(BaseModel):
    """The part of Kubernetes' own metadata that Fallow reads; the API server checks the rest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: DnsSubdomain
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = Field(default="", alias="resourceVersion")
    creation_timestamp: Time | None = Field(default=None, alias="creationTimestamp")
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; a wide one appears with -o wide only."""

    name: str
    path: str
    says: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the /scale subresource finds its numbers."""

    spec_replicas: str
    status_replicas: str
    selector: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind with everything that its CRD says beyond the schema."""

    model: type[BaseModel]
    plural: str
    singular: str
    short: str
    namespaced: bool
    columns: tuple[Column, ...]
    scale: Scale | None = None

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


AGE = Column("Age", ".metadata.creationTimestamp", "Time since the object was created.", "date")

RawObject = Mapping[str, Any]
