"""The only place that knows kopf: watch events fill the mirror, a background task runs the cycles."""

import asyncio
from collections.abc import Mapping
from typing import Any

import kopf

from fallow.app.wiring import Operator

GROUP = "fallow.dev"
VERSION = "v1alpha1"
# group, version, plural: the kinds that the cycle looks at
WATCHED: tuple[tuple[str, str, str], ...] = (
    (GROUP, VERSION, "inferenceservices"),
    (GROUP, VERSION, "energypolicies"),
    (GROUP, VERSION, "gridzones"),
    (GROUP, VERSION, "modelprofiles"),
    ("apps", "v1", "deployments"),
    ("", "v1", "pods"),
    ("", "v1", "nodes"),
    ("", "v1", "namespaces"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
)
# Declared objects whose new generation or annotation is worth a cycle of its own.
DECLARED = ("inferenceservices", "energypolicies", "gridzones", "modelprofiles")
STALLED_CYCLES = 10


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """Handlers that are a few lines each and share nothing but the operator."""
    handlers = kopf.OperatorRegistry()
    _lifecycle(handlers, operator)
    for group, version, plural in WATCHED:
        _watch(handlers, operator, group, version, plural)
    return handlers


def settings() -> kopf.OperatorSettings:
    """No annotations, finalizers, peering objects or log Events: kopf only watches. Dead connections end by time."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 330
    chosen.watching.connect_timeout = 30
    chosen.networking.request_timeout = 60
    chosen.networking.connect_timeout = 10
    chosen.process.ultimate_exiting_timeout = 20
    return chosen


def _lifecycle(handlers: kopf.OperatorRegistry, operator: Operator) -> None:
    running: list[asyncio.Task[None]] = []

    @kopf.on.login(registry=handlers)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=handlers)
    async def start(**_: Any) -> None:
        running.append(asyncio.create_task(operator.scaled_objects.run(), name="scaledobjects"))
        running.append(asyncio.create_task(operator.loop.run(), name="cycles"))
        running.append(asyncio.create_task(operator.loop.lead(), name="leadership"))
        if operator.settings.pulse_interval:
            running.append(asyncio.create_task(operator.pulse.run(), name="pulse"))

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await operator.close()

    @kopf.on.probe(registry=handlers, id="cycle", errors=kopf.ErrorsMode.PERMANENT, retries=1)
    def alive(**_: Any) -> str:
        age = operator.loop.age
        if age is not None and age > STALLED_CYCLES * operator.settings.cycle_interval + 120:
            raise kopf.PermanentError(f"no cycle has ended well for {age:.0f} s")
        if age is None:
            return "waiting for the first cycle" if operator.loop.leads else "standing by"
        return f"last cycle {age:.0f} s ago"


def _watch(handlers: kopf.OperatorRegistry, operator: Operator, group: str, version: str, plural: str) -> None:
    """The index function sees every object before any event is handled, so the first event means: all listed."""

    @kopf.index(group, version, plural, registry=handlers, id=f"see-{plural}")
    async def see(body: kopf.Body, **_: Any) -> None:
        operator.mirror.put(plural, dict(body))

    @kopf.on.event(group, version, plural, registry=handlers, id=f"note-{plural}")
    async def note(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        if event["type"] == "DELETED":
            operator.mirror.drop(plural, dict(body))
        await operator.scaled_objects.looked.wait()
        operator.loop.synced.set()
        if plural in DECLARED and operator.declared_anew(plural, body):
            operator.loop.poke()
