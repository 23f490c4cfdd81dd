"""Nodes are emptied by replacing the replicas on them first elsewhere; never where anything speaks against it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.calendars import day_of
from fallow.domain.plans import Cordon, Kept, Plan
from fallow.domain.policies import (
    ConsolidationRules,
    GuardRules,
    Mode,
    NodeAllowance,
    Operator,
    PowerRules,
    Requirement,
    Selector,
)
from fallow.domain.readings import Readings
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.weekly import weekly
from fallow.domain.workloads import Objectives, ServiceKey, ServiceMemory
from fallow.planner.decide import decide
from fallow.planner.emptying import PINNED, TOLD
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.removal import idle_watts
from tests.support.builders import (
    BF16,
    CHAT,
    CYCLE,
    H100,
    L4,
    NOW,
    Running,
    Scene,
    node,
    pod,
    policy,
    profile,
    readings,
    scaler,
    service,
    watched,
    workload,
    zone,
)

ONE = ConsolidationRules(at_once=NodeAllowance(number=1))
MOVES = policy(consolidation=ONE)
EVER = Instant(NOW - 86_400)


def cluster(*nodes: str, more: Mapping[str, Any] | None = None, **scene: Any) -> Snapshot:
    """A service with a ready replica on each of these nodes, that carry half of their load; nodes have four GPUs."""
    told: dict[str, Any] = {
        "policy": MOVES,
        "service": service(),
        "memory": ServiceMemory(serving="bf16", changed_at=EVER),
    } | scene
    names = sorted({*nodes, *(more or {})})
    count = len(nodes)
    snapshot = Scene(
        variants={"bf16": Running(count, running=9.0 * count)},
        nodes=tuple(replace(node(name, gpus=4), **(more or {}).get(name, {})) for name in names),
        **told,
    ).snapshot()
    pods = [replace(one, node=place) for one, place in zip(snapshot.cluster.pods.values(), nodes, strict=True)]
    return replace(snapshot, cluster=replace(snapshot.cluster, pods={one.ref: one for one in pods}))


def having(snapshot: Snapshot, *pods: Pod) -> Snapshot:
    both = {**snapshot.cluster.pods, **{one.ref: one for one in pods}}
    return replace(snapshot, cluster=replace(snapshot.cluster, pods=both))


def elsewhere(snapshot: Snapshot, name: str) -> Snapshot:
    """With that node in a zone of its own."""
    labelled = replace(snapshot.cluster.nodes[name], labels={"zone": "south"})
    own = Selector((Requirement("zone", Operator.IN, ("south",)),))
    south = replace(zone(), zone=replace(zone().zone, name="south", is_default=False, nodes=own))
    cluster = replace(snapshot.cluster, nodes={**snapshot.cluster.nodes, name: labelled})
    return replace(snapshot, cluster=cluster, zones={**snapshot.zones, "south": south})


def foreign(**more: Any) -> Pod:
    return replace(pod("x", **more), service=None, variant=None)


def planned(snapshot: Snapshot) -> Plan:
    return decide(snapshot, estimate(snapshot, Concluded()))


def cordoned(snapshot: Snapshot) -> list[tuple[str, Cordon]]:
    return [(one.node, one.to) for one in planned(snapshot).nodes]


TRIED = {"kept_since": Instant(NOW - 3600)}
TWO = ("a", "a", "a", "b")
SINCE = Instant(NOW - 300)
REDUCED = ServiceMemory(serving="bf16", changed_at=EVER, reductions=1, reduced_on=day_of(NOW, ZoneInfo("UTC")))


def test_the_emptiest_node_is_emptied_and_it_is_told_what_for() -> None:
    (change,) = planned(cluster(*TWO[:2], "b")).nodes
    assert (change.node, change.to, change.policy) == ("b", Cordon.EMPTY, "green")
    assert change.message == (
        "1 of its 4 GPUs are in use, and others have room for them: 1 of llm/chat move; "
        "it draws 887 W without them and moving takes 36 kJ"
    )


def test_a_node_with_a_pod_that_its_owner_pins_is_passed_over() -> None:
    snapshot = cluster("a", "a", "b")
    alone = next(one for one in snapshot.cluster.pods.values() if one.node == "b")
    assert cordoned(having(snapshot, replace(alone, pinned=True))) == [("a", Cordon.EMPTY)]


def test_an_empty_node_that_is_not_to_be_removed_holds_up_no_other() -> None:
    assert cordoned(cluster("a", "a", "b", more={"c": {"pinned": True}})) == [("b", Cordon.EMPTY)]


def test_a_machine_is_worth_its_bare_gpus_and_its_host() -> None:
    assert idle_watts(cluster("a"), node("a", gpus=4)).value == pytest.approx(4 * (71.8 + 150))


def test_a_machine_of_instances_is_worth_its_boards_and_its_host() -> None:
    parts = replace(node("a", f"{H100}-MIG-3g.40gb", gpus=4), instances=8)
    assert idle_watts(cluster("a"), parts).value == pytest.approx(4 * (71.8 + 150))


NO_ROOM = "there is no room for its replicas, and one more, on other nodes of NVIDIA-H100-80GB-HBM3 in its zone that"


@pytest.mark.parametrize(
    ("snapshot", "why"),
    [
        (cluster("a", "a", "b", policy=policy()), None),
        (cluster("a", "a", "b", policy=policy(consolidation=ConsolidationRules())), None),
        (
            cluster("a", "a", "b", policy=policy(Mode.RECOMMEND, consolidation=ONE)),
            "no node is emptied: the policy's mode is Recommend",
        ),
        (
            cluster("a", "a", "b", policy=policy(consolidation=replace(ONE, windows=(weekly("Mon 00:00-00:01 UTC"),)))),
            "no node is emptied: none of consolidation.windows is open",
        ),
        (
            cluster("a", "a", "b", policy=replace(MOVES, power=PowerRules(Watts(9000)))),
            "llm/bf16-2 is under a power cap",
        ),
        (cluster("a", "a", "b", service=service(minimum=2)), "llm/chat keeps two nodes"),
        (cluster("a", "a", "b", service=service(maximum=3)), "llm/chat would have more than its scaling.maxReplicas"),
        (cluster("a", "a", "b", service=replace(service(), paused=True)), "llm/bf16-2 is of a service that is paused"),
        (
            cluster("a", "a", "b", memory=ServiceMemory(serving="bf16", changed_at=Instant(NOW - 60))),
            "llm/chat was changed within guards.dwell",
        ),
        (
            cluster("a", "a", "b", history=watched(27.0, 3, seconds=120, desired=3)),
            "the load of llm/chat was not watched for all of scaling.downWindow yet",
        ),
        (
            cluster("a", "a", "b", scalers={"bf16": (scaler(),)}),
            "llm/bf16-2 is of replicas that HorizontalPodAutoscaler load sets",
        ),
        (
            cluster("a", "a", "b", readings=readings({"bf16": Running(3, running=27)}, at=Instant(NOW - 300))),
            "signals of llm/chat are missing, as its MetricsFresh says",
        ),
        (cluster(*TWO), NO_ROOM),
        (cluster("a", "a", "b", more={"c": {}}), "c, of the same GPU type, is empty already and goes first"),
        (cluster("a", "a", "b", more={"a": {"cordoned": True}}), NO_ROOM),
        (cluster("a", "a", "b", more={"a": {"gpu_product": L4}}), NO_ROOM),
        (cluster("a", "a", "b", more={"a": TRIED}), "a, of the same GPU type, was given up within the last hour"),
        (
            having(cluster("a", "a", "b"), foreign(node="b")),
            "b is not emptied: llm/x is of no service that Fallow knows",
        ),
        (
            having(cluster("a", "a", "b"), foreign(node="", scheduled=False, ready=False)),
            "llm/x waits for a GPU",
        ),
        (
            cluster("a", "a", "b", service=replace(service(), template={"spec": {"nodeSelector": {"rack": "b"}}})),
            NO_ROOM,
        ),
        (elsewhere(cluster("a", "a", "b"), "b"), NO_ROOM),
        (
            having(cluster("a", "a", "b"), pod("bf16-9", node="b", deleting=True)),
            "pods that are being deleted still hold GPUs",
        ),
        (
            having(
                cluster("a", "a", "b"), pod("bf16-9", node="b", ready=False, created=Instant(NOW - 60), started=None)
            ),
            "llm/bf16-9 is not ready",
        ),
    ],
    ids=[
        "without consolidation",
        "where no node may be emptied so",
        "in mode Recommend",
        "outside of the windows",
        "under a power cap",
        "where two nodes would become one",
        "at maxReplicas",
        "of a service that is paused",
        "just after a change",
        "before a whole window was watched",
        "where an HPA sets the replicas",
        "with stale readings",
        "with no room for one more than those that move",
        "while another one is empty",
        "where the others are cordoned",
        "where the others have other GPUs",
        "an hour after another was given up",
        "with somebody else's pod on it",
        "while somebody waits for a GPU",
        "where its replicas may not run on the others",
        "where the others are in another zone",
        "while a pod on it goes",
        "while a pod on it starts",
    ],
)
def test_no_node_is_emptied_and_it_is_told_why(snapshot: Snapshot, why: str | None) -> None:
    plan = planned(snapshot)
    assert plan.nodes == ()
    if why is None:
        assert plan.kept == Kept()
    else:
        assert any(why in line for line in plan.kept.policies["green"])


OTHER = ServiceKey("llm", "other")


def with_another_that_starts(snapshot: Snapshot) -> Snapshot:
    other = pod("other-0", key=OTHER, node="c", gpus=0, ready=False, started=Instant(NOW - 60))
    services = {**snapshot.cluster.services, OTHER: service(key=OTHER)}
    cluster = replace(having(snapshot, other).cluster, services=services)
    return replace(snapshot, cluster=replace(cluster, workloads=(*cluster.workloads, workload(key=OTHER))))


@pytest.mark.parametrize(
    ("snapshot", "why"),
    [
        (
            cluster("a", "a", "b", service=service(objectives=Objectives(ttft_p95=Seconds(1)))),
            "b is not emptied: llm/chat misses its latency objectives, or they cannot be measured",
        ),
        (
            cluster("a", "a", "b", policy=replace(MOVES, guards=GuardRules(most_a_day=1)), memory=REDUCED),
            "b is not emptied: llm/chat was reduced guards.maxReductionsPerDay times today",
        ),
        (
            with_another_that_starts(cluster("a", "a", "b", policy=replace(MOVES, guards=GuardRules(most_at_once=1)))),
            "b is not emptied: as many other services change as guards.maxConcurrentChanges allows beside llm/chat",
        ),
        (
            cluster("a", "a", "b", more={"c": {"cordoned": True, "emptying": SINCE}}),
            "b is not emptied: c is being emptied, and consolidation.maxUnavailableNodes lets no other",
        ),
        (
            cluster("a", "a", "b", more={"b": {"in_turns": True}}),
            "b is not emptied: its GPUs are used in turns or in parts",
        ),
        (cluster("a", "a", "b", more={"b": {"ready": False}}), "b is not emptied: it is not ready"),
        (cluster(*TWO, more={"b": {"pinned": True}}), f"b is not emptied: {PINNED}"),
        (cluster("a", "a", "b", more={"b": {"cordoned": True}}), "b is not emptied: somebody else cordoned it"),
    ],
    ids=[
        "objectives",
        "reductions of the day",
        "others change",
        "another is emptied",
        "shares",
        "not ready",
        "to be kept",
        "cordoned",
    ],
)
def test_what_speaks_against_it_is_told_of_the_node(snapshot: Snapshot, why: str) -> None:
    plan = planned(snapshot)
    assert plan.nodes == ()
    assert why in plan.kept.policies["green"]


def test_of_a_service_whose_policy_moves_nothing_no_node_is_told() -> None:
    snapshot = cluster("a", "a", "b", policy=replace(MOVES, services=Selector((Requirement("app", Operator.EXISTS),))))
    services = {CHAT: replace(service(), labels={"app": "chat"}), OTHER: service(key=OTHER)}
    both = having(snapshot, pod("other-0", key=OTHER, node="b"))
    plan = planned(replace(both, cluster=replace(both.cluster, services=services)))
    assert plan.kept.services.keys() == {CHAT}
    assert "b is not emptied: llm/other-0 is under no policy that moves replicas now" in plan.kept.policies["green"]


def test_nothing_is_told_where_one_is_emptied_or_nobody_listens() -> None:
    assert planned(cluster("a", "a", "b")).kept == Kept()
    still = cluster(*TWO)
    assert planned(still).kept != Kept()
    assert decide(still, estimate(still, Concluded()), told=False).kept == Kept()


UNPAID = "what it draws without them, 887 W, does not pay for moving its replicas in"


@given(seconds=st.integers(0, 299), left=st.integers(1, 10), cached=st.integers(0, 10**6))
def test_what_is_told_holds_no_figure_that_changes_by_itself(seconds: int, left: int, cached: int) -> None:
    """Nor does it fall silent: a status that says the same is not written again."""
    changed = ServiceMemory(serving="bf16", changed_at=Instant(NOW - seconds))
    assert planned(cluster("a", "a", "b", memory=changed)).kept.policies == {
        "green": ("b is not emptied: llm/chat was changed within guards.dwell",)
    }
    known, told = profile(BF16, (1, 100, 200), (64, 3000, 600), prefill_rate=20_000.0), {"bf16": Running(3, running=27)}
    closing = replace(ONE, windows=(weekly(f"Fri 07:00-08:{left:02} UTC"),))
    snapshot = cluster(
        "a",
        "a",
        "b",
        policy=policy(consolidation=closing),
        profiles=(known,),
        readings=_cached(readings(told), float(cached)),
        previous=_cached(readings(told, at=Instant(NOW - CYCLE)), 0.0),
    )
    (line,) = planned(snapshot).kept.policies["green"]
    assert line == f"b is not emptied: {UNPAID} what is left of the window"


@given(here=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=2, max_size=12))
def test_few_sentences_tell_it_and_of_each_service_one_of_a_node_of_its_own(
    here: list[tuple[int, bool, bool]],
) -> None:
    """Nodes with so many replicas each; a foreign pod on it, or a pin."""
    names = [f"n{number}" for number in range(len(here))]
    places = [name for name, (count, _, _) in zip(names, here, strict=True) for _ in range(count)]
    snapshot = cluster(*places, "last", more={name: {} for name in names}, service=service(maximum=50))
    others = [foreign(node=name) for name, (_, strange, _) in zip(names, here, strict=True) if strange]
    others = [replace(one, ref=one.ref._replace(name=f"x-{one.node}")) for one in others]
    pins = {name for name, (_, _, pin) in zip(names, here, strict=True) if pin}
    pinned = [replace(one, pinned=one.node in pins) for one in snapshot.cluster.pods.values()]
    plan = planned(having(snapshot, *pinned, *others))
    told = plan.kept.policies.get("green", ())
    assert bool(told) is not bool(plan.nodes)
    assert len(told) == len({line.split(": ", 1)[1] for line in told}) <= TOLD
    assert all(line.split(" ", 1)[0] in {*places, "last"} for line in (*told, *plan.kept.services.values()))


def test_a_node_is_not_emptied_for_the_last_minutes_of_a_window() -> None:
    """What it saves until the window ends must pay for the move: ten minutes pass until it is removed."""
    ends = {"11 minutes": [], "30 minutes": [("b", Cordon.EMPTY)]}
    # NOW is a Friday, 08:00 UTC
    closing = {"11 minutes": "Fri 07:00-08:10 UTC", "30 minutes": "Fri 07:00-08:30 UTC"}
    for name, window in closing.items():
        rules = replace(ONE, windows=(weekly(window),))
        assert cordoned(cluster("a", "a", "b", policy=policy(consolidation=rules))) == ends[name]


def test_a_share_of_nodes_is_rounded_up() -> None:
    assert [NodeAllowance(share=0.1).of(count) for count in (1, 10, 11, 20)] == [1, 1, 2, 2]
    assert [NodeAllowance(number=2).of(count) for count in (1, 10)] == [2, 2]
    assert not NodeAllowance().is_any


GOING = {"cordoned": True, "emptying": SINCE}
MOVING = ServiceMemory(serving="bf16", changed_at=EVER, moving=1)


def test_another_node_waits_until_there_may_be_one_more_and_its_services_are_done() -> None:
    nodes = ("a", "a", "b", "c")
    assert cordoned(cluster(*nodes, more={"b": GOING})) == []
    two = policy(consolidation=ConsolidationRules(at_once=NodeAllowance(number=2)))
    assert cordoned(cluster(*nodes, more={"b": GOING}, policy=two, memory=MOVING)) == []
    assert cordoned(cluster("a", "a", "c", more={"b": GOING}, policy=two)) == [("c", Cordon.EMPTY)]


@pytest.mark.parametrize(
    ("snapshot", "to"),
    [
        (cluster("a", "b", more={"b": GOING}), None),
        (cluster("a", "b", more={"b": {"emptying": SINCE}}), Cordon.KEEP),
        (cluster("a", "b", more={"b": GOING}, policy=policy()), Cordon.FREE),
        (cluster("a", "b", more={"b": GOING | {"emptying": Instant(NOW - 1900)}}), Cordon.KEEP),
        (cluster("a", "b", more={"b": GOING}, service=replace(service(), paused=True)), Cordon.KEEP),
        (having(cluster("a", "b", more={"b": GOING}), foreign(node="b")), Cordon.KEEP),
        (cluster("a", "a", more={"b": GOING}), None),
        (cluster("a", "a", more={"b": GOING | {"emptying": Instant(NOW - 3700)}}), Cordon.FREE),
        (
            having(
                cluster("a", "a", more={"b": GOING}),
                foreign(node="", scheduled=False, ready=False),
            ),
            Cordon.FREE,
        ),
    ],
    ids=[
        "while its replicas move",
        "somebody let it take pods again",
        "no policy moves replicas any more",
        "its replicas do not move",
        "its service is paused",
        "somebody else's pod came",
        "it waits to be removed",
        "nobody removed it",
        "somebody waits for its GPUs",
    ],
)
def test_a_node_takes_pods_again(snapshot: Snapshot, to: Cordon | None) -> None:
    assert cordoned(snapshot) == ([] if to is None else [("b", to)])


def test_a_replica_that_finds_no_room_elsewhere_ends_it() -> None:
    new = pod("bf16-9", node="", scheduled=False, ready=False, started=None)
    for age, to in ((60, []), (180, [("b", Cordon.KEEP)])):
        snapshot = cluster("a", "b", more={"b": GOING}, memory=MOVING)
        assert cordoned(having(snapshot, replace(new, created=Instant(NOW - age)))) == to


def test_a_cache_that_is_hit_makes_a_move_dearer() -> None:
    """600 s of what its prompts take: 2,000 cached tokens a second at 20,000 a second and 600 W."""
    known = profile(BF16, (1, 100, 200), (64, 3000, 600), prefill_rate=20_000.0)
    told = {"bf16": Running(3, running=27)}
    hits = {at: _cached(readings(told, at=at), tokens) for at, tokens in ((NOW, 30_000.0), (Instant(NOW - CYCLE), 0.0))}
    cold = cluster("a", "a", "b", profiles=(known,))
    warm = cluster("a", "a", "b", profiles=(known,), readings=hits[NOW], previous=hits[Instant(NOW - CYCLE)])
    takes = [re.search(r"takes (\d+) kJ", planned(one).nodes[0].message) for one in (cold, warm)]
    assert [int(found[1]) for found in takes if found] == [36, 36 + 36]


def _cached(seen: Readings, tokens: float) -> Readings:
    return replace(seen, engines={ref: replace(one, cached_prompt_tokens=tokens) for ref, one in seen.engines.items()})
