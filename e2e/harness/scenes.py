"""Scenes for end-to-end tests: services with short times in namespaces of their own, and what can be seen of them.

Times are shortened by policy alone; the operator knows no test mode.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from e2e.harness.errors import HarnessError
from e2e.harness.nodes import Shape
from e2e.harness.stack import OPERATOR_NAMESPACE, RELEASE, Stack
from e2e.harness.watching import Levels, Watch

JSON = dict[str, Any]
T = TypeVar("T")

API = "fallow.dev/v1alpha1"
MODEL = "Qwen/Qwen3-8B"
PRODUCT = "NVIDIA-H100-80GB-HBM3"
SERVICE_LABEL = "fallow.dev/service"
OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"

IDLE_AFTER, DOWN_WINDOW, DWELL, MAX_AGE = 10, 10, 3, 6
LIMIT = 90.0
LOG_LINES = 12

# A request takes about a second on an idle engine, so in-flight requests are about as many as arrive in a second.
LENGTHS: JSON = {"prompt": {"mean": 200, "cv": 0.3, "most": 800}, "output": {"mean": 120, "cv": 0.2, "most": 200}}


def steady(per_second: float) -> JSON:
    return {"rate": {"constant": per_second}, **LENGTHS}


def burst(per_second: float, seconds: float) -> JSON:
    """Traffic that ends by itself."""
    return {"rate": {"points": [[0, per_second], [seconds, 0]], "between": "step"}, **LENGTHS}


def policy(name: str, mode: str, **spec: object) -> JSON:
    """For the services of the namespace of the same name."""
    rules: JSON = {
        "mode": mode,
        "appliesTo": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
        "idle": {"after": f"{IDLE_AFTER}s", "ladder": ["Release"]},
        "scaling": {"upWindow": "2s", "downWindow": f"{DOWN_WINDOW}s"},
        "guards": {"dwell": f"{DWELL}s", "metricsMaxAge": f"{MAX_AGE}s", "maxStepPerMinute": "4x"},
    }
    return {"apiVersion": API, "kind": "EnergyPolicy", "metadata": {"name": name}, "spec": {**rules, **spec}}


def service(
    namespace: str, name: str, *, scaling: Mapping[str, Any], precisions: Sequence[str] = ("BF16",), **spec: object
) -> JSON:
    """Each variant is named after its precision; a replica takes one GPU and starts within two seconds."""
    return {
        "apiVersion": API,
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"name": MODEL, "servedName": name},
            "variants": [variant(precision) for precision in precisions],
            "scaling": dict(scaling),
            "template": quick_template(),
            **spec,
        },
    }


def variant(precision: str) -> JSON:
    args = {} if precision == "BF16" else {"args": ["--quantization", precision.lower()]}
    return {"name": precision.lower(), "precision": precision, "gpus": {"count": 1, "products": [PRODUCT]}, **args}


def quick_template(*, node: str = "", drain: float = 3, load: float = 1) -> JSON:
    """Pods that load in a second, or `load`, and take `drain` seconds to finish their requests; `node` pins them."""
    annotations = {
        "twin.fallow.dev/pull-seconds": "0.2",
        "twin.fallow.dev/load-seconds": f"{load:g}",
        "twin.fallow.dev/drain-seconds": f"{drain:g}",
    }
    pinned = {"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}} if node else {}
    return {"metadata": {"annotations": annotations}, **pinned}


def planted(
    namespace: str, name: str, behaviour: str, *, resource: str = "nvidia.com/gpu", node: str = "", **annotations: str
) -> JSON:
    """A GPU pod of somebody else that does what docs/twin.md says of `behaviour`; a vLLM among them can be scraped."""
    own = {"twin.fallow.dev/behaviour": behaviour}
    if behaviour in {"loaded", "half-filled"}:
        own |= {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}
    own |= {f"twin.fallow.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    quick = quick_template()["metadata"]["annotations"]
    container = {"name": "main", "image": "example.org/work:1", "resources": {"limits": {resource: "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": quick | own},
        "spec": {"containers": [container], **({"nodeName": node} if node else {})},
    }


def zone(name: str, grams: float) -> JSON:
    spec = {"default": True, "intensity": {"source": "Static", "static": {"gramsPerKWh": grams}}}
    return {"apiVersion": API, "kind": "GridZone", "metadata": {"name": name}, "spec": spec}


def profile(name: str, precision: str, joules_per_token: float) -> JSON:
    """Flat, so that a test needs no heavy load for a variant to pay."""
    level = {"tokensPerSecond": 1000, "itlMillis": 8, "watts": 1000 * joules_per_token}
    points = [{"concurrency": concurrency, **level} for concurrency in (1, 64)]
    spec = {
        "model": MODEL,
        "precision": precision,
        "gpuProduct": PRODUCT,
        "gpuCount": 1,
        "source": "Declared",
        "points": points,
    }
    return {"apiVersion": API, "kind": "ModelProfile", "metadata": {"name": name}, "spec": spec}


class Scene:
    """`with Scene(stack) as scene:`; services, pods and Deployments are watched from its beginning to its end."""

    def __init__(self, stack: Stack, *, nodes: int = 2, gpus: int = 8) -> None:
        self.stack = stack
        self.cluster = stack.cluster
        self._size = (nodes, gpus)
        self._made: list[tuple[str, str]] = []
        self._open = ExitStack()
        self.nodes: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            kubeconfig = self.cluster.kubeconfig
            self.services = opened.enter_context(Watch(kubeconfig, f"/apis/{API}/inferenceservices"))
            self.deployments = opened.enter_context(Watch(kubeconfig, "/apis/apps/v1/deployments"))
            self.pods = opened.enter_context(Watch(kubeconfig, "/api/v1/pods"))
            self.nodes = self.cluster.add_gpu_nodes(*self._size, PRODUCT)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            for sort, name in reversed(self._made):
                self.cluster.kubectl("delete", sort, name, "--ignore-not-found", "--wait=false")
            self.cluster.remove_nodes(self.nodes)

    def namespace(self, name: str, mode: str = "Enforce", **rules: object) -> str:
        """A namespace with a policy of its own."""
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self._made.append(("namespace", name))
        self.put(policy(name, mode, **rules))
        return name

    def add_node(self, gpus: int, *shapes: Shape) -> str:
        """One more node, of another kind than those the scene began with."""
        (name,) = self.cluster.add_gpu_nodes(1, gpus, PRODUCT, shapes=shapes)
        self.nodes.append(name)
        return name

    def put(self, *objects: JSON) -> None:
        """Applies them; what is not in a namespace is removed at the end."""
        self.cluster.apply(objects)
        for thing in objects:
            if "namespace" not in thing["metadata"]:
                self._made.append((thing["kind"].lower(), thing["metadata"]["name"]))

    def address_of(self, node: str) -> str:
        found = self.cluster.get("node", node)["status"]["addresses"]
        return next(str(entry["address"]) for entry in found if entry["type"] == "InternalIP")

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        self.cluster.kubectl("scale", f"fis/{name}", f"--replicas={replicas}", "--namespace", namespace)

    def status(self, namespace: str, name: str) -> JSON:
        found: JSON = (self.services.get(namespace, name) or {}).get("status", {})
        return found

    def serves(self, namespace: str, name: str, variant: str, replicas: int) -> bool:
        """Whether all its replicas are of this variant and so many are ready."""
        rows = self.status(namespace, name).get("activeVariants", [])
        return [(row["name"], row["readyReplicas"]) for row in rows] == [(variant, replicas)]

    def condition(self, namespace: str, name: str, kind: str) -> JSON:
        found = self.status(namespace, name).get("conditions", [])
        return next((condition for condition in found if condition["type"] == kind), {})

    def decisions(self, namespace: str, name: str) -> list[JSON]:
        """Every decision that the status ever showed, oldest first."""
        seen: dict[tuple[str, str, str], JSON] = {}
        for change in self.services.changes(namespace):
            if change.body is not None and change.key[1] == name:
                for told in reversed(change.body.get("status", {}).get("decision", [])):
                    seen.setdefault((told["at"], told["action"], told["reason"]), told)
        return sorted(seen.values(), key=lambda told: str(told["at"]))

    def events(self, namespace: str, name: str) -> list[JSON]:
        return self.stack.events(namespace, name)

    def replicas(self, namespace: str, name: str) -> int:
        """Asked for now, all variants together."""
        return _asked(self.deployments.all(namespace), name)

    def replicas_over_time(self, namespace: str, name: str, *, since: float = 0.0) -> list[int]:
        return Levels(self.deployments, lambda found: _asked(found, name)).over_time(namespace, since=since)

    def ready(self, namespace: str, name: str) -> int:
        return _ready(self.pods.all(namespace), name)

    def ready_over_time(self, namespace: str, name: str, *, since: float = 0.0) -> list[int]:
        return Levels(self.pods, lambda found: _ready(found, name)).over_time(namespace, since=since)

    def until(self, condition: Callable[[], T | None], what: str, limit: float = LIMIT) -> T:
        """The first answer that is not empty; a failure shows what every service said last."""
        try:
            return self.stack.wait_until(lambda: condition() or None, what, limit, poll=0.2)
        except HarnessError as error:
            raise HarnessError(f"{error}\n{self._described()}") from error

    def until_running(self, namespace: str, name: str, replicas: int, limit: float = LIMIT) -> None:
        """Until that many are asked for, and ready."""
        self.until(
            lambda: self.replicas(namespace, name) == replicas == self.ready(namespace, name),
            f"{replicas} replicas of {namespace}/{name}",
            limit,
        )

    def metric(self, name: str, **labels: str) -> float | None:
        """The sum of an operator metric over the series with these labels; None without any."""
        family = self.stack.operator_metrics().get(name)
        found = [s.value for s in family.samples if labels.items() <= s.labels.items()] if family else []
        return sum(found) if found else None

    def ask_prometheus(self, query: str) -> list[JSON]:
        """The vector of an instant query."""
        address = f"{self.cluster.prometheus_url}/api/v1/query?query={quote(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            found: list[JSON] = json.load(answer)["data"]["result"]
        return found

    def _described(self) -> str:
        lines = []
        for namespace in [name for sort, name in self._made if sort == "namespace"]:
            for name, body in sorted(self.services.all(namespace).items()):
                status = body.get("status", {})
                shown = {part: status.get(part) for part in ("readyReplicas", "desiredReplicas", "idle")}
                faults = [
                    (c["type"], c["reason"], c["message"])
                    for c in status.get("conditions", ())
                    if c["status"] != "True"
                ]
                told = [(d["at"], d["action"], d["message"]) for d in status.get("decision", ())[:2]]
                lines.append(f"{namespace}/{name}: {json.dumps({**shown, 'not true': faults, 'decisions': told})}")
        return "\n".join([*lines, *self.stack.operator_log().splitlines()[-LOG_LINES:]])


def _belongs(body: JSON, service_name: str) -> bool:
    """Fallow's own carry its label; what a scene lets Fallow adopt carries `app`."""
    labels = body["metadata"].get("labels", {})
    return service_name in {labels.get(SERVICE_LABEL), labels.get("app")}


def _asked(deployments: Mapping[str, JSON], service_name: str) -> int:
    owned = [body for body in deployments.values() if _belongs(body, service_name)]
    return sum(int(body["spec"].get("replicas", 1)) for body in owned)


def _ready(pods: Mapping[str, JSON], service_name: str) -> int:
    return sum(
        1
        for body in pods.values()
        if _belongs(body, service_name)
        and not body["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in body.get("status", {}).get("conditions", []))
    )
