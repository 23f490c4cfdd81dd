"""Who holds which device, as the node's kubelet knows it: its PodResources API (v1) on a Unix socket.

Only the fields that are read are declared here; protobuf skips the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from fallow.domain.readings import PodRef

METHOD = "/v1.PodResourcesLister/List"
SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
RESOURCES = "nvidia.com/"
# a node with 110 pods answers with some 100 kB
MAX_BYTES = 16 * 1024 * 1024

_FIELD = descriptor_pb2.FieldDescriptorProto
# message -> (field, number, type of the message in it or None for text, repeated)
_MESSAGES: dict[str, tuple[tuple[str, int, str | None, bool], ...]] = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", 1, "PodResources", True),),
    "PodResources": (
        ("name", 1, None, False),
        ("namespace", 2, None, False),
        ("containers", 3, "ContainerResources", True),
    ),
    "ContainerResources": (("name", 1, None, False), ("devices", 2, "ContainerDevices", True)),
    "ContainerDevices": (("resource_name", 1, None, False), ("device_ids", 2, None, True)),
}


@dataclass(frozen=True, slots=True)
class Held:
    """A device that a container holds: a GPU's or a MIG instance's UUID; copies of one GPU have the same."""

    device: str
    pod: PodRef
    container: str


class KubeletUnavailable(Exception):
    """The kubelet did not answer; the message says what to mount or to wait for."""


def messages() -> dict[str, type[Any]]:
    """The message classes of `kubelet/pkg/apis/podresources/v1/api.proto`."""
    proto = descriptor_pb2.FileDescriptorProto(name="podresources.proto", package="v1", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = proto.message_type.add(name=name)
        for field, number, inner, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                type=_FIELD.TYPE_MESSAGE if inner else _FIELD.TYPE_STRING,
                type_name=f".v1.{inner}" if inner else None,
                label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in _MESSAGES}


class PodResources:
    """Asks the kubelet; each question has a time limit, in seconds."""

    def __init__(self, socket: Path = SOCKET, *, timeout: float = 5.0) -> None:
        self._socket = socket
        self._timeout = timeout
        known = messages()
        self._request = known["ListPodResourcesRequest"]()
        self._channel = grpc.insecure_channel(
            f"unix://{socket}", options=[("grpc.max_receive_message_length", MAX_BYTES)]
        )
        self._list: Any = self._channel.unary_unary(
            METHOD,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=known["ListPodResourcesResponse"].FromString,
        )

    def held(self) -> tuple[Held, ...]:
        """Every NVIDIA device that a container on this node holds; raises KubeletUnavailable."""
        try:
            answer = self._list(self._request, timeout=self._timeout)
        except grpc.RpcError as error:
            said = error.details() if isinstance(error, grpc.Call) else str(error)
            raise KubeletUnavailable(
                f"the kubelet's PodResources API at {self._socket} does not answer ({said}); is the folder mounted?"
            ) from error
        return tuple(_held(answer))

    def close(self) -> None:
        self._channel.close()


def _held(answer: Any) -> Iterator[Held]:
    for pod in answer.pod_resources:
        for container in pod.containers:
            for devices in container.devices:
                if devices.resource_name.startswith(RESOURCES):
                    for name in devices.device_ids:
                        # the device plugin names copies of a shared GPU UUID::0, UUID::1, ...
                        yield Held(name.split("::")[0], PodRef(pod.namespace, pod.name), container.name)
