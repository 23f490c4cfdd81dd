"""`python -m e2e.harness`: build the programs, run a command beside a cluster, or keep a cluster up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Annotated

import typer

from e2e.harness import build, kind, namespace
from e2e.harness.errors import HarnessError, MissingToolError

app = typer.Typer(
    help="The test cluster: a real control plane, simulated GPU nodes and a real Prometheus.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

MISSING_TOOL = 2
FAILED = 1

# Everything after -- is the command, its options included.
PASSED = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command("build")
def build_programs() -> None:
    """Build every program of the cluster, where missing or out of date."""
    began = time.monotonic()
    for name, path in build.ensure().items():
        print(f"{name:24} {path}")
    print(f"ready after {time.monotonic() - began:.1f} s")


@app.command("exec", context_settings=PASSED)
def execute(context: typer.Context) -> None:
    """Build, enter a namespace of the run's own, and run COMMAND there: exec -- COMMAND..."""
    command = wanted_command(context)
    if namespace.inside():
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    raise typer.Exit(build_and_run_inside(command))


@app.command("join", context_settings=PASSED)
def join(context: typer.Context) -> None:
    """Run COMMAND (a shell by default) beside the cluster that is up now: join -- kubectl get pods"""
    raise typer.Exit(namespace.join(context.args or [os.environ.get("SHELL", "/bin/sh")]))


@app.command("up")
def up(
    nodes: Annotated[int, typer.Option(help="simulated GPU servers")] = 2,
    gpus: Annotated[int, typer.Option(help="GPUs in each")] = 8,
    product: Annotated[str, typer.Option(help="their nvidia.com/gpu.product")] = "NVIDIA-H100-80GB-HBM3",
) -> None:
    """Bring a cluster up, print its KUBECONFIG, and stay until Ctrl-C."""
    if not kind.is_wanted() and not namespace.inside():
        again = ["up", f"--nodes={nodes}", f"--gpus={gpus}", f"--product={product}"]
        raise typer.Exit(build_and_run_inside([sys.executable, "-m", "e2e.harness", *again]))
    stay_up(nodes, gpus, product)


def build_and_run_inside(command: list[str]) -> int:
    # A machine that forbids namespaces says so now, not after minutes of building.
    unshare = namespace.unshare_command()
    build.ensure()
    return namespace.run_inside(command, unshare)


def stay_up(nodes: int, gpus: int, product: str) -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    if kind.is_wanted():
        with kind.KindCluster() as real:
            print(f"KUBECONFIG={real.kubeconfig}", flush=True)
            stopped.wait()
        return
    from e2e.harness.cluster import Cluster

    with Cluster() as cluster:
        cluster.add_gpu_nodes(nodes, gpus, product)
        for stage, seconds in cluster.stages.items():
            print(f"{stage} after {seconds:.1f} s")
        print(f"{nodes} nodes with {gpus} {product} each (simulated)")
        print(f"KUBECONFIG={cluster.kubeconfig}")
        print(f"PROMETHEUS={cluster.prometheus_url}")
        print(
            "both answer only inside; from another terminal: .venv/bin/python -m e2e.harness join -- kubectl get nodes"
        )
        print("Ctrl-C ends it", flush=True)
        stopped.wait()


def wanted_command(context: typer.Context) -> list[str]:
    if not context.args:
        raise typer.BadParameter("say what to run after --, such as: exec -- kubectl version --client")
    return list(context.args)


def main() -> None:
    # A cancelled job is asked to stop this way; leaving in order ends a build's compilers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except MissingToolError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING_TOOL)
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
