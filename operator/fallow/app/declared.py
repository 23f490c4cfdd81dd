"""One InferenceService as a person asks for it, by NAMESPACE/NAME: read, and told a person's word in an annotation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fallow.adapters.cluster.client import KubernetesApi, PatchType
from fallow.adapters.cluster.connecting import connected
from fallow.api.inference_service import INFERENCE_SERVICE
from fallow.api.inference_service_status import InferenceServiceStatus, Proposal
from fallow.api.mapping import APPROVE_ANNOTATION, REJECT_ANNOTATION
from fallow.api.objects import API_VERSION
from fallow.domain.errors import WriteError

FIELD_MANAGER = "fallow-cli"
A = TypeVar("A")


class Refusal(Exception):
    """Why a person's wish cannot be met, and what to write instead; `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Access:
    """Which cluster: a kubeconfig and a context in it; None for the person's own."""

    kubeconfig: Path | None = None
    context: str | None = None


async def read(service: str, access: Access) -> dict[str, Any]:
    """The object as it is; raises Refusal."""
    return await _asked(service, access, None)


async def answer(service: str, name: str | None, access: Access, *, approve: bool) -> Proposal:
    """Say yes or no to the proposal that is made now, or to the one of that name; gives it. Raises Refusal."""
    body = await read(service, access)
    one = (None if approve else _under_way(service, body, name)) or _proposal(service, body, name)
    said, taken_back = (APPROVE_ANNOTATION, REJECT_ANNOTATION) if approve else (REJECT_ANNOTATION, APPROVE_ANNOTATION)
    await _asked(service, access, {"metadata": {"annotations": {said: one.id, taken_back: None}}})
    return one


def status_of(service: str, body: Mapping[str, Any]) -> InferenceServiceStatus:
    """Raises Refusal for a status of another version."""
    try:
        return InferenceServiceStatus.model_validate(body.get("status") or {})
    except ValueError as error:
        raise Refusal(f"the status of {service} is not of this version of Fallow: {error}") from error


def _proposal(service: str, body: Mapping[str, Any], name: str | None) -> Proposal:
    status = status_of(service, body)
    one = status.proposal
    if one is None:
        mode = f"policy {status.policy} is in mode {status.mode}" if status.policy else "no policy governs it"
        raise Refusal(f"nothing is proposed for {service}: {mode}; fallow explain {service} says why")
    if name not in {None, one.id}:
        raise Refusal(f"{name} is not proposed for {service} any more; {one.id} is: {one.what}")
    return one


def _under_way(service: str, body: Mapping[str, Any], name: str | None) -> Proposal | None:
    """The approved switch on its way, where it is named, or where nothing else is proposed."""
    status = status_of(service, body)
    switch = status.transition
    if switch is None or not switch.approval or switch.since is None:
        return None
    is_meant = name == switch.approval or (name is None and status.proposal is None)
    return Proposal(id=switch.approval, what=f"the switch to {switch.to}", since=switch.since) if is_meant else None


async def _asked(service: str, access: Access, patch: Mapping[str, Any] | None) -> dict[str, Any]:
    namespace, _, name = service.partition("/")
    if not namespace or not name or "/" in name:
        raise Refusal(f"{service!r} names no service: write NAMESPACE/NAME, such as llm/chat", code=2)
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/{INFERENCE_SERVICE.plural}/{name}"

    async def question(api: KubernetesApi) -> dict[str, Any] | None:
        return await api.get(path) if patch is None else await api.patch(path, patch, PatchType.MERGE, FIELD_MANAGER)

    found = await ask(access, question)
    if found is None:
        raise Refusal(f"there is no InferenceService {name} in {namespace}; kubectl get fis -A lists them")
    return found


async def ask(access: Access, question: Callable[[KubernetesApi], Awaitable[A]]) -> A:
    """The answer of the cluster to a question; raises Refusal where there is none."""
    try:
        client = await connected(access.kubeconfig, access.context)
        try:
            return await question(KubernetesApi(client))
        finally:
            await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped
    except ValueError as error:
        raise Refusal(str(error), code=2) from error
    except WriteError as error:
        raise Refusal(f"Kubernetes cannot be asked: {error}") from error
