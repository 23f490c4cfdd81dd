"""Brings everything up, tells the story and the summary, and keeps the logs of a run that failed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from rich.console import Console

from e2e.demo import summary
from e2e.demo.grid import Grid
from e2e.demo.meter import Meter
from e2e.demo.observe import Observer
from e2e.demo.screen import screen_for
from e2e.demo.story import NAMESPACE, Marks, Story
from e2e.harness import locations
from e2e.harness.cluster import Cluster
from e2e.harness.errors import HarnessError
from e2e.harness.stack import Stack, event_time

NODES, GPUS = 2, 4
PRODUCT = "NVIDIA-H100-80GB-HBM3"
SCRAPE_SECONDS = 2.0
# A story of five minutes needs quicker figures than a day does.
SETTINGS = {"cycle_interval": 2, "estimation_window": 20, "status_interval": 5, "ledger_interval": 5}
LOG_WIDTH = 120

INTRODUCTION = f"""\
GPUs and requests are simulated: {NODES} servers of {GPUS} H100, by a model calibrated on published measurements.
The Kubernetes API server, scheduler and controllers, Prometheus and Fallow are real.
Model loading takes 6 s here instead of 30 to 60 s, and the policy's times are shortened in the same measure."""
NEXT = """
What to try next:
  make demo KEEP=1       leave the cluster up and look around with kubectl
  docs/samples/          services, policies, zones and profiles to start from; energypolicy-recommend.yaml changes
                         nothing and says what it would do
  docs/how-to/demo.md    what you have just seen, step by step"""
STAYS_DIRTY = '{"spec":{"intensity":{"source":"Static","file":null,"static":{"gramsPerKWh":420}}}}'
LOOK_AROUND = (
    "kubectl get fis,epol,gz,mprof -A",
    "kubectl describe fis chat -n demo",
    "kubectl scale fis docs -n demo --replicas=1",
    f"kubectl patch gz home --type=merge -p '{STAYS_DIRTY}'",
)


def run() -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    console.print(INTRODUCTION, highlight=False)
    began = time.monotonic()
    with Cluster(scrape_seconds=SCRAPE_SECONDS) as cluster:
        try:
            tell(cluster, console, began)
        except Exception as error:
            kept = keep_logs(cluster.folder)
            if isinstance(error, HarnessError):
                raise HarnessError(f"{error}\nlogs of every program: {kept}") from error
            console.print(f"logs of every program: {kept}")
            raise


def tell(cluster: Cluster, console: Console, began: float) -> None:
    def took(stage: str) -> None:
        console.print(f"{stage} after {time.monotonic() - began:.1f} s", highlight=False)

    for stage, seconds in cluster.stages.items():
        console.print(f"{stage} after {seconds:.1f} s", highlight=False)
    cluster.add_gpu_nodes(NODES, GPUS, PRODUCT)
    took(f"{NODES} GPU servers Ready")
    grid = cluster.folder / "grid"
    grid.mkdir()
    settings = {**SETTINGS, "intensity_dir": grid}
    with Stack(cluster, operator_settings=settings) as stack, Meter(stack) as meter:
        took("Fallow running")
        story, marks = watch(stack, grid, console)
        took("story told")
        look(stack, console)
        summary.tell(stack, meter, marks, summary.Fleet(NODES, GPUS), console)
        took("summary done")
        console.print(NEXT, highlight=False)
        if os.environ.get("KEEP", "") not in {"", "0"}:
            story.go_on()
            keep(cluster, console)


def watch(stack: Stack, grid: Path, console: Console) -> tuple[Story, Marks]:
    screen = screen_for(console)
    try:
        story = Story(stack, screen, Observer(stack), Grid(grid / "grid.csv"))
        return story, story.tell()
    finally:
        screen.close()


def look(stack: Stack, console: Console) -> None:
    """What a user of kubectl is left with."""
    say(console, "\n$ kubectl get fis,epol,gz,mprof -n demo")
    say(console, stack.cluster.kubectl("get", "fis,epol,gz,mprof", "-n", NAMESPACE))
    say(console, "Events of chat:")
    for event in stack.events(NAMESPACE, "chat"):
        say(console, f"  {event_time(event)[11:19]} {event['reason']:<16} {event['message']}")
    say(console, "")


def say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def keep(cluster: Cluster, console: Console) -> None:
    say(
        console,
        f"\nThe cluster stays up until Ctrl-C, with the evening's load on chat.\nKUBECONFIG={cluster.kubeconfig}",
    )
    say(console, "It lives in a namespace of its own. Enter it from another terminal; KUBECONFIG is set there:")
    console.print("  .venv/bin/python -m e2e.harness join", highlight=False)
    for line in LOOK_AROUND:
        console.print(f"    {line}", highlight=False, markup=False)
    signal.pause()


def keep_logs(folder: Path) -> Path:
    """The run's folder is in memory and goes with it; its logs stay in the cache."""
    kept = locations.cache() / "logs" / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    kept.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        shutil.copy2(log, kept)
    return kept
