"""`python -m bench.published`: savings that others report, beside what this twin makes of the same levers."""

from __future__ import annotations

import argparse

from bench.published import dynamollm, node_off


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.published", description=__doc__)
    parser.add_argument("--days", type=float, default=7.0, help="of Azure's weeks, for nodes that are powered off")
    given = parser.parse_args()
    print("DynamoLLM, by load and by one lever alone:\n")
    print("\n".join(dynamollm.rows()), flush=True)
    print("\nReplicas and their nodes off by load, against all on:\n")
    print("\n".join(node_off.rows(given.days)))


if __name__ == "__main__":
    main()
