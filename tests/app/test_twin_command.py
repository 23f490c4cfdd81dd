"""`fallow twin predict` by its exit code and what it prints."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from fallow.app.cli import app

ASKED = ["twin", "predict", "--gpu", "H100", "--precision", "BF16", "--tp", "1", "--params", "14e9"]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_json_is_a_list_of_figures_with_bounds() -> None:
    code, out, _ = run(*ASKED, "--active-params", "14e9", "--batch", "8,64,256", "-o", "json")
    answers = json.loads(out)
    assert code == 0
    assert [answer["batch"] for answer in answers] == [8, 64, 256]
    for answer in answers:
        for key in ("joules_per_token", "watts_per_gpu", "itl_ms", "tokens_per_second"):
            assert 0 < answer[key]["low"] <= answer[key]["best"] <= answer[key]["high"]


def test_csv_has_a_column_for_each_end() -> None:
    code, out, _ = run(*ASKED, "--batch", "8", "-o", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert code == 0
    assert float(row["itl_ms_low"]) <= float(row["itl_ms_best"]) <= float(row["itl_ms_high"])


def test_text_says_what_it_stands_on() -> None:
    code, out, _ = run("twin", "predict", "--gpu", "H100", "--model", "meta-llama/Llama-3.1-8B-Instruct")
    assert code == 0
    assert "J/token" in out
    assert "measured on this configuration" in out


def test_a_batch_beyond_the_cache_is_said_on_the_error_stream() -> None:
    code, out, err = run(*ASKED, "--batch", "60000", "-o", "json")
    assert code == 0
    assert json.loads(out)
    assert "KV cache holds about" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*ASKED, "--batch", "eight"], "8,64,256"),
        (["twin", "predict", "--gpu", "H900", "--params", "14e9"], "H100"),
        (["twin", "predict", "--gpu", "L4", "--params", "70e9"], "--tp 8"),
        (["twin", "predict", "--gpu", "L4"], "--model NAME"),
    ],
    ids=["batch", "gpu", "too large", "no model"],
)
def test_bad_input_gives_one_line_and_two(arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_break_even_gives_both_rules() -> None:
    result = CliRunner().invoke(app, ["twin", "break-even", "--gpu", "L40S"])

    assert result.exit_code == 0
    assert "pays after 178 s without requests" in result.output
    assert "202 s by the rule" in result.output
