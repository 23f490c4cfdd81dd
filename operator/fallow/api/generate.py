"""`python -m fallow.api.generate crds docs`: writes the CRDs (also for the chart) and the reference page."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from fallow.api.crds import crd_yaml
from fallow.api.kinds import KINDS
from fallow.api.reference import reference_page

CRD_FOLDERS = (Path("crds"), Path("charts/fallow/crds"))
REFERENCE = Path("docs/reference/kinds.md")


def crd_files() -> dict[Path, str]:
    """The text of every CRD file, by its path from the root of the repository."""
    return {
        folder / f"{kind.plural}.yaml": text for kind in KINDS for text in [crd_yaml(kind)] for folder in CRD_FOLDERS
    }


def docs_files() -> dict[Path, str]:
    return {REFERENCE: reference_page(KINDS)}


def write(files: Mapping[Path, str], root: Path) -> None:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m fallow.api.generate", description=__doc__)
    parser.add_argument("what", nargs="+", choices=("crds", "docs"), help="what to write")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository (default: this folder)")
    chosen = parser.parse_args(arguments)
    if not (chosen.root / "operator" / "fallow").is_dir():
        parser.error(f"{chosen.root.absolute()} is not the root of the repository; go there or give --root")
    for name, files in (("crds", crd_files), ("docs", docs_files)):
        if name in chosen.what:
            write(files(), chosen.root)


if __name__ == "__main__":
    main()
