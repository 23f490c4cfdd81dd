"""`fallow profiles export`: what was learned leaves a cluster as manifests that another one accepts and uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fallow.api import mapping, reading
from fallow.app.cli import app
from fallow.domain.profiles import ProfileSource
from fallow.domain.units import Seconds, Watts
from tests.adapters.cluster import raw
from tests.support.kubeconfig import kubeconfig_for

PATH = "/apis/fallow.dev/v1alpha1/modelprofiles"


def learned(concurrency: int, cost: float = 0.5) -> dict[str, Any]:
    return {
        "concurrency": concurrency,
        "tokensPerSecond": 300.0,
        "watts": 300.0 * cost,
        "joulesPerToken": cost,
        "lowJoulesPerToken": 0.9 * cost,
        "highJoulesPerToken": 1.1 * cost,
        "samples": 140,
        "lastSeen": "2026-11-28T10:02:00Z",
    }


def profile(name: str = "bf16-h100", *points: dict[str, Any], **spec: Any) -> dict[str, Any]:
    status = {"points": list(points), "contextWatts": 121.0, "load": {"seconds": 75.0, "joules": 20000.0}}
    return {**raw.model_profile(name, **spec), "status": status}


class Answers(BaseHTTPRequestHandler):
    found: list[dict[str, Any]]

    def do_GET(self) -> None:
        there = self.path.split("?")[0] == PATH
        body = json.dumps({"items": self.found, "metadata": {}} if there else {"kind": "Status", "code": 404}).encode()
        self.send_response(200 if there else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    Answers.found = [profile("bf16-h100", learned(6), learned(32)), profile("fp8-h100", learned(6), precision="FP8")]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield kubeconfig_for(tmp_path, server.server_port)
    server.shutdown()
    server.server_close()
    thread.join()


def asked(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["profiles", "export", *arguments])
    return result.exit_code, result.stdout, result.stderr


def exported(kubeconfig: Path, *arguments: str) -> list[dict[str, Any]]:
    code, text, error = asked("--kubeconfig", str(kubeconfig), *arguments)
    assert code == 0, error
    return list(yaml.safe_load_all(text))


def test_another_cluster_accepts_the_manifests_and_prices_by_them(kubeconfig: Path) -> None:
    manifests = exported(kubeconfig)
    assert [one["metadata"] for one in manifests] == [{"name": "bf16-h100"}, {"name": "fp8-h100"}]
    for one in manifests:
        assert one["spec"]["source"] == "Learned"
        known = mapping.profile(reading.model_profile(one))
        assert [point.concurrency for point in known.carried] == [6]
        assert known.carried[0].joules_per_token == pytest.approx(0.5)
        assert known.carried[0].source is ProfileSource.LEARNED
        assert (known.context_watts, known.load_seconds) == (Watts(121), Seconds(75))


def test_declared_points_stay_and_go_on_sizing(kubeconfig: Path) -> None:
    (one,) = exported(kubeconfig, "bf16-h100")
    before = mapping.profile(reading.model_profile(Answers.found[0]))
    assert mapping.profile(reading.model_profile(one)).points == before.points
    _, _, error = asked("--kubeconfig", str(kubeconfig), "bf16-h100")
    assert error == ("left out of bf16-h100: at concurrency 32 the declared point stays, learned were 0.5 J/token\n")


def test_each_learned_point_says_where_when_and_how_sure(kubeconfig: Path) -> None:
    (one,) = exported(kubeconfig, "fp8-h100", "--cluster", "berlin")
    point = next(part for part in one["spec"]["points"] if part["source"] == "Learned")
    assert point["reference"].startswith("Fallow in berlin, 20")
    assert point["reference"].endswith(
        ": 140 minutes of replicas up to 2026-11-28 10:02 UTC, idle moments included, "
        "0.45 to 0.55 J/token in 19 of 20 cases"
    )


def test_without_a_name_the_cluster_is_called_as_its_context_is(kubeconfig: Path) -> None:
    (one,) = exported(kubeconfig, "fp8-h100")
    assert "Fallow in test, " in one["spec"]["points"][0]["reference"]


def test_what_was_carried_here_makes_room_for_what_was_learned_here(kubeconfig: Path) -> None:
    carried = [{"concurrency": level, "tokensPerSecond": 100, "watts": 90, "source": "Learned"} for level in (6, 12)]
    Answers.found = [profile("bf16-h100", learned(6), points=carried, source="Learned")]
    (one,) = exported(kubeconfig)
    assert [(part["concurrency"], part["watts"]) for part in one["spec"]["points"]] == [(6, 150.0), (12, 90)]


def test_a_loaded_draw_below_the_declared_empty_one_is_left_out(kubeconfig: Path) -> None:
    Answers.found = [profile("bf16-h100", learned(6), idleWatts=130, contextWatts=140)]
    (one,) = exported(kubeconfig)
    assert one["spec"]["contextWatts"] == 140


def test_json_is_a_list_as_kubectl_takes_it(kubeconfig: Path) -> None:
    code, text, _ = asked("--kubeconfig", str(kubeconfig), "-o", "json")
    found = json.loads(text)
    assert (code, found["kind"], len(found["items"])) == (0, "List", 2)


def test_it_may_be_written_to_a_file(kubeconfig: Path, tmp_path: Path) -> None:
    file = tmp_path / "learned.yaml"
    code, text, error = asked("--kubeconfig", str(kubeconfig), "--file", str(file))
    assert (code, text) == (0, "")
    assert f"written to {file}" in error
    assert len(list(yaml.safe_load_all(file.read_text()))) == 2


def test_where_nothing_was_learned_it_is_said_what_it_takes(kubeconfig: Path) -> None:
    Answers.found = [raw.model_profile()]
    code, text, error = asked("--kubeconfig", str(kubeconfig))
    assert (code, text) == (1, "")
    assert "nothing was learned of any ModelProfile yet" in error
    assert "source: Learned needs no points" in error


def test_a_profile_that_is_not_there_is_named_with_those_that_are(kubeconfig: Path) -> None:
    code, _, error = asked("--kubeconfig", str(kubeconfig), "int4-h100")
    assert code == 1
    assert "there is no ModelProfile int4-h100; there are bf16-h100, fp8-h100" in error


def test_no_cluster_to_ask_is_an_error_of_the_command_line() -> None:
    code, _, error = asked("--kubeconfig", "/nowhere")
    assert code == 2
    assert "no cluster to ask" in error
