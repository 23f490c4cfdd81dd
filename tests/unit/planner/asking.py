"""How the planner tests ask: one service's plan from a scene."""

from fallow.domain.estimates import ServiceEstimate
from fallow.domain.ledger import Ledger
from fallow.domain.plans import ServicePlan
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, conclude, estimate
from tests.support.builders import CHAT, Scene


def estimated(scene: Scene | Snapshot) -> ServiceEstimate:
    snapshot = scene.snapshot() if isinstance(scene, Scene) else scene
    return estimate(snapshot, Concluded()).services[CHAT]


def planned(scene: Scene | Snapshot, books: Ledger | None = None) -> ServicePlan:
    snapshot = scene.snapshot() if isinstance(scene, Scene) else scene
    plan = decide(snapshot, estimate(snapshot, conclude(books))).services[CHAT]
    assert plan.standing.reason is not Reason.PLAN_FAILED, plan.standing.message
    return plan
