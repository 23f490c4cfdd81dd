"""Which pod a process belongs to: its control group names the pod's uid, the kubelet's log folders name the pod."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from fallow.domain.readings import PodRef

PROC = Path("/proc")
LOGS = Path("/var/log/pods")
# with systemd kubepods-burstable-pod1b9d6bcd_bbfd_4b2d_9b5d_ab8dfbbd4bed.slice, else kubepods/burstable/pod1b9d6bcd-...
_UID = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")


def pods_by_uid(logs: Path = LOGS) -> Mapping[str, PodRef]:
    """The pods of this node: the kubelet keeps a folder NAMESPACE_NAME_UID for each; empty where it is not mounted."""
    found: dict[str, PodRef] = {}
    if not logs.is_dir():
        return found
    for folder in logs.iterdir():
        parts = folder.name.split("_")
        if len(parts) == 3:
            namespace, name, uid = parts
            found[uid] = PodRef(namespace, name)
    return found


def pods_of(pids: Iterable[int], *, logs: Path = LOGS, proc: Path = PROC) -> Mapping[int, PodRef]:
    """The pod of each process that runs in one."""
    pods = pods_by_uid(logs)
    found = {pid: pod_of(pid, pods, proc) for pid in pids}
    return {pid: pod for pid, pod in found.items() if pod is not None}


def pod_of(pid: int, pods: Mapping[str, PodRef], proc: Path = PROC) -> PodRef | None:
    """None for a process outside any pod, or one that has ended."""
    try:
        groups = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    found = _UID.search(groups)
    return pods.get(found[1].replace("_", "-")) if found else None
