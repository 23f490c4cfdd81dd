"""Building the cluster's programs: once, again when something changed, and never half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.harness import build, locations
from e2e.harness.errors import HarnessError, MissingToolError
from e2e.harness.locations import REPOSITORY

# A Go that writes a line per build and a file that runs; FAIL in its folder makes it fail.
FAKE_GO = """#!/bin/sh
here=$(dirname "$0")
if [ "$1" = env ]; then cat "$here/version"; exit 0; fi
echo "$6" >> "$here/builds"
if [ -e "$here/FAIL" ]; then echo "undefined: everything"; printf half > "$3"; exit 1; fi
sleep 0.2
printf '#!/bin/sh\\n' > "$3"
chmod +x "$3"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the fake Go, an empty cache and module files of the test's own."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "go").write_text(FAKE_GO)
    (folder / "go").chmod(0o755)
    (folder / "version").write_text("go1.26.8\n")
    for module in {program.module for program in build.PROGRAMS}:
        (tmp_path / "modules" / module).mkdir(parents=True)
        for name in ("go.mod", "go.sum"):
            (tmp_path / "modules" / module / name).write_text("one\n")
    monkeypatch.setattr("e2e.harness.tools.SEARCH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(locations, "TOOLS", tmp_path / "modules")
    monkeypatch.setenv("FALLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return folder


def builds(tools: Path) -> list[str]:
    try:
        return (tools / "builds").read_text().split()
    except FileNotFoundError:
        return []


def test_every_program_is_built_once(tools: Path) -> None:
    paths = build.ensure(quiet=True)
    build.ensure(quiet=True)
    assert sorted(paths) == sorted(build.BY_NAME)
    assert all(os.access(path, os.X_OK) for path in paths.values())
    assert builds(tools) == [program.package for program in build.PROGRAMS]


def test_a_changed_module_rebuilds_its_programs_and_no_others(tools: Path) -> None:
    build.ensure(["helm", "kwok"], quiet=True)
    (locations.TOOLS / "kwok" / "go.sum").write_text("two\n")
    build.ensure(["helm", "kwok"], quiet=True)
    kwok, helm = (build.BY_NAME[name].package for name in ("kwok", "helm"))
    assert sorted(builds(tools)) == sorted([helm, kwok, kwok])


def test_another_go_rebuilds(tools: Path) -> None:
    build.ensure(["helm"], quiet=True)
    (tools / "version").write_text("go1.27.1\n")
    build.ensure(["helm"], quiet=True)
    assert len(builds(tools)) == 2


def test_a_failed_build_shows_its_log_and_leaves_no_program(tools: Path) -> None:
    (tools / "FAIL").touch()
    with pytest.raises(HarnessError, match="undefined: everything"):
        build.ensure(["helm"], quiet=True)
    assert not (locations.programs() / "helm").exists()
    (tools / "FAIL").unlink()
    assert os.access(build.ensure(["helm"], quiet=True)["helm"], os.X_OK)


def test_what_an_interrupted_build_left_is_cleared(tools: Path) -> None:
    locations.programs().mkdir(parents=True)
    leftover = locations.programs() / ".helm.4194305"
    leftover.write_text("half")
    build.ensure(["helm"], quiet=True)
    assert not leftover.exists()
    assert len(builds(tools)) == 1


def test_two_builders_at_once_build_once(tools: Path) -> None:
    script = (
        "from pathlib import Path; from e2e.harness import build, locations, tools;"
        f"tools.SEARCH={str(tools)!r} + ':/usr/bin:/bin'; locations.TOOLS = Path({str(locations.TOOLS)!r});"
        "build.ensure(['helm'], quiet=True)"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY) for _ in range(2)]
    assert [builder.wait(60) for builder in both] == [0, 0]
    assert len(builds(tools)) == 1


def test_the_programs_of_envtest_are_used_where_they_are(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = tmp_path / "assets" / "etcd"
    etcd.parent.mkdir()
    etcd.write_text("#!/bin/sh\n")
    etcd.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(etcd.parent))
    paths = build.ensure(["etcd", "kubectl"], quiet=True)
    assert paths["etcd"] == etcd
    assert builds(tools) == [build.BY_NAME["kubectl"].package]


@pytest.mark.parametrize("version", ["go1.25.9", "go1.4", "unknown"])
def test_an_old_go_is_refused_with_what_to_install(tools: Path, version: str) -> None:
    (tools / "version").write_text(f"{version}\n")
    with pytest.raises(MissingToolError, match=r"install Go 1\.26 or newer"):
        build.ensure(["helm"], quiet=True)


@pytest.mark.parametrize(
    ("missing", "command", "install"),
    [("go", "build", "install Go 1.26"), ("unshare", "exec -- true", "util-linux"), ("ip", "exec -- true", "iproute2")],
)
def test_a_missing_tool_is_one_line_and_code_2_before_anything_is_built(
    tools: Path, tmp_path: Path, missing: str, command: str, install: str
) -> None:
    present = tmp_path / "present"
    present.mkdir()
    for tool in {"unshare", "ip", "mount"} - {missing}:
        (present / tool).symlink_to("/bin/true")
    script = f"from e2e.harness import cli, tools; tools.SEARCH={str(present)!r}; cli.main()"
    outside = {name: value for name, value in os.environ.items() if name != "FALLOW_HARNESS_NAMESPACE"}
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split()],
        cwd=REPOSITORY,
        env=outside,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert install in done.stderr
    assert builds(tools) == []
