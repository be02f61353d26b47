"""Learning curves as `fs probe --curve` shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from probes.report import write_report
from probes.results.learning_curves import last_steps, learning_curves
from tests.probes.conftest import manifest_table, write_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_store(tmp_path / "s.zarr", manifest_table(), layers=(1, 2))
    return tmp_path / "s.zarr"


@pytest.mark.slow
def test_a_table_and_a_sentence_for_each_curve(store: Path, tmp_path: Path) -> None:
    asked = ["probe", "--store", str(store), "--label", "call", "--classifier", "logreg", "--split", "random"]
    asked += ["--out", str(tmp_path / "r"), "-q", "--curve-draws", "3", "--curve-shares", "20,60"]
    result = CliRunner().invoke(cli.main, [*asked, "--curve", "groups", "--curve", "rows"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"{2 + 2 * 2 * (2 * 3 + 1)} fits in" in result.output
    for row in learning_curves(tmp_path / "r").to_dict("records"):
        cells = [f"{100 * row['share']:.0f}", f"{row['n_train_groups']:.4g}", f"{row['n_train']:,.0f}"]
        cells.append(f"{100 * row['uar_mean']:.1f}")
        assert any(line.split()[:4] == cells for line in result.output.splitlines()), (cells, result.output)
    for step in last_steps(tmp_path / "r"):
        assert step.sentence() in result.output
        assert step.contents() in result.output
    title = "curve over training groups · call · calls · model-a layer 2 · logreg · split: random"
    assert title in result.output
    # asked again for one of them, one is shown, and nothing is fitted
    again = CliRunner().invoke(cli.main, [*asked, "--curve", "rows"])
    assert "0 fits in" in again.output
    assert "curve over training clips" in again.output
    assert "curve over training groups" not in again.output
    # the page says how the curves came about
    page = write_report(tmp_path / "r", tmp_path / "page").html.read_text("utf-8")
    for words in ("--curve groups", "--curve-draws 3", "--curve-shares 20,60"):
        assert words in page


def test_what_cannot_be_is_one_line(store: Path, tmp_path: Path) -> None:
    asked = ["probe", "--store", str(store), "--label", "call", "--out", str(tmp_path / "r")]
    for more, message in (
        (["--curve", "animals"], "error: curve: expected groups or rows, got 'animals'"),
        (
            ["--curve-shares", "10"],
            "error: --curve-shares: says how a curve is drawn; ask for --curve groups",
        ),
        (
            ["--curve", "rows", "--curve-shares", "x"],
            "error: curve shares: expected percentages from 0 to 100",
        ),
    ):
        result = CliRunner().invoke(cli.main, [*asked, *more])
        assert result.exit_code == 2
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith(message)
    assert not (tmp_path / "r").exists()
