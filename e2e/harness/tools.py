"""Checks that this machine has what the harness cannot build itself, and says what to install if not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from e2e.harness.errors import MissingToolError

OLDEST_GO = (1, 26)

INSTALL = {
    "go": "install Go 1.26 or newer (it builds Kubernetes, KWOK, helm and Prometheus)",
    "unshare": "install util-linux (Debian, Ubuntu: apt install util-linux)",
    "nsenter": "install util-linux (Debian, Ubuntu: apt install util-linux)",
    "mount": "install mount (Debian, Ubuntu: apt install mount)",
    "ip": "install iproute2 (Debian, Ubuntu: apt install iproute2; Fedora: dnf install iproute)",
    "kind": "install kind, or unset FALLOW_CLUSTER to run without Docker",
    "docker": "install and start Docker, or unset FALLOW_CLUSTER to run without it",
}

# sbin is missing from an ordinary user's PATH on Debian, and that is where ip lives.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find(tool: str) -> str:
    """The full path of a tool; raises MissingToolError with one line on what to install."""
    found = shutil.which(tool, path=SEARCH)
    if found is None:
        raise MissingToolError(f"{tool} is missing: {INSTALL[tool]}")
    return found


def go_version(go: str) -> str:
    """The version of the Go on this machine, such as go1.26.8, refused when it is too old."""
    # GOTOOLCHAIN=local: ask the installed Go, not one it would download.
    answer = subprocess.run(
        [go, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    version = answer.stdout.strip()
    parts = re.match(r"go(\d+)\.(\d+)", version)
    if parts is None:
        raise MissingToolError(f"go does not tell its version ({answer.stderr.strip()}): {INSTALL['go']}")
    if (int(parts[1]), int(parts[2])) < OLDEST_GO:
        raise MissingToolError(f"{version} is too old: {INSTALL['go']}")
    return version
