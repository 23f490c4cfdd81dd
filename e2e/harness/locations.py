"""Where the harness keeps things: the repository, its cache and the state of a run."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / "e2e" / "tools"
STAGES = Path(__file__).with_name("stages.yaml")


def cache() -> Path:
    """FALLOW_CACHE, or .cache in the repository."""
    chosen = os.environ.get("FALLOW_CACHE", "")
    return Path(chosen).expanduser().resolve() if chosen else REPOSITORY / ".cache"


def programs() -> Path:
    return cache() / "bin"


def state() -> Path:
    """An empty folder on disk; inside a run's namespace a memory file system that vanishes with it."""
    return cache() / "state"


def runs() -> Path:
    """One file per live run, so that a second terminal can join it."""
    return cache() / "runs"
