"""Autoscalers of others that own the replicas of a Deployment: their bounds, and who declared them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AutoscalerKind(StrEnum):
    HPA = "HorizontalPodAutoscaler"
    SCALED_OBJECT = "ScaledObject"


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """An HPA, or a KEDA ScaledObject with the HPA that it makes.

    `declared` is the minimum of its owner where Fallow set another one; `overruled`: somebody put it back since.
    `maker` names the controller that made it and would undo a change; `paused`: it does nothing for now; `seen` is
    False where only the HPA of a ScaledObject is known.
    """

    kind: AutoscalerKind
    namespace: str
    name: str
    minimum: int
    maximum: int
    declared: int | None = None
    overruled: bool = False
    maker: str = ""
    paused: bool = False
    seen: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def owners(self) -> int:
        """The minimum that its owner wants."""
        return self.minimum if self.declared is None else self.declared

    @property
    def rests(self) -> bool:
        """Whether it takes its Deployment to zero and wakes it: KEDA does, and an HPA whose own minimum is 0."""
        return self.kind is AutoscalerKind.SCALED_OBJECT or self.owners == 0
