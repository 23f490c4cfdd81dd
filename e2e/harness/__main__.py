"""Entry point of `python -m e2e.harness`."""

from e2e.harness.cli import main

main()
