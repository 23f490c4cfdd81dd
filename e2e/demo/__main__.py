"""`python -m e2e.demo`: enters a namespace of its own if need be, tells the story, leaves nothing behind."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from e2e.harness import build, namespace
from e2e.harness.errors import HarnessError, MissingToolError

FAILED, MISSING_TOOL, INTERRUPTED = 1, 2, 130


def main() -> int:
    try:
        if not namespace.inside():
            build.ensure()
            return namespace.run_inside([sys.executable, "-m", "e2e.demo"])
        from e2e.demo.run import run

        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        run()
    except KeyboardInterrupt:
        print("\nstopped; the cluster and everything in it is gone")
        return INTERRUPTED
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return MISSING_TOOL
    except HarnessError as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return FAILED
    return 0


def interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
