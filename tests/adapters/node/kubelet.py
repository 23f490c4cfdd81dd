"""A kubelet's PodResources API on a Unix socket, as far as the agent asks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from fallow.adapters.node.podresources import METHOD, messages


def answer(*pods: tuple[str, str, str, str, Sequence[str]]) -> Any:
    """Each pod as (namespace, name, container, resource, device ids)."""
    response = messages()["ListPodResourcesResponse"]()
    for namespace, name, container, resource, ids in pods:
        pod = response.pod_resources.add(namespace=namespace, name=name)
        held = pod.containers.add(name=container)
        held.devices.add(resource_name=resource, device_ids=ids)
    return response


class _Lister(grpc.GenericRpcHandler):
    def __init__(self, response: Any) -> None:
        self._response = response

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, _context: self._response,
            request_deserializer=lambda raw: raw,
            response_serializer=lambda message: message.SerializeToString(),
        )


@contextmanager
def kubelet(socket: Path, response: Any) -> Iterator[None]:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Lister(response)])
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(grace=None).wait()
