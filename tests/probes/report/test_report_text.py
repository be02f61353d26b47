"""What results hold is text in every form of a report: terminal, page, drawings, CSV, commands."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
import report_results
from click.testing import CliRunner
from report_results import without_libraries

import cli
from probes.results import results_folder

MODEL = "=m\x1b[31m\x9b1m\nerror: x\u2028\u202e"
LABEL = "@l\x07\x85"
CLASS = "-c\x08\x9b31m"
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder that nobody's `fs probe` would write."""
    models = {MODEL: (0, 1, 2), "other": (0, 1, 2), "logmel": (0,)}
    skill = {
        (m, k): report_results.SKILL["other" if m == MODEL else m, k] for m, ks in models.items() for k in ks
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_results, "MODELS", models)
        patch.setattr(report_results, "SKILL", skill)
        patch.setattr(report_results, "LABEL", LABEL)
        patch.setattr(report_results, "CLASSES", (CLASS, *report_results.CLASSES[1:]))
        out = report_results.write_results(tmp_path_factory.mktemp("results") / "r\nrm -r folder\x1b[2J")
    run = json.loads((out / results_folder.RUN_NAME).read_text(encoding="utf-8"))
    grid = {"mlp": {"note": ["a\nrm -r folder\u2028b\x85'$(touch x)"]}}
    run["config"] |= {"grid": grid, "store": "s\nrm -r folder\x9b"}
    run["versions"]["torch"] = "2\x1b[2J"
    run["calls"] = [{"config": run["config"], "cwd": "/", "keys": {}, "finished": True}]
    results_folder._write_run(out, run)
    return out


@pytest.fixture(scope="module")
def report(evil: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("report")
    done = CliRunner().invoke(cli.main, ["report", str(evil), "--out", str(out), "--oracle"])
    assert done.exit_code == 0, (done.output, done.exception)
    return out, done.output


@pytest.mark.slow
def test_the_terminal_shows_text(report: tuple[Path, str]) -> None:
    _, output = report
    assert not HIDDEN.search(output)
    assert not re.search(r"^\s*error: x", output, re.MULTILINE)
    assert r"=m\x1b[31m\x9b1m\nerror: x\u2028\u202e" in output


@pytest.mark.slow
def test_the_page_shows_text(report: tuple[Path, str]) -> None:
    page = without_libraries((report[0] / "index.html").read_text(encoding="utf-8"))
    assert not HIDDEN.search(page)
    assert r"2\x1b[2J" in page


def test_the_drawings_are_xml(report: tuple[Path, str]) -> None:
    drawings = sorted((report[0] / "figures").glob("*.svg"))
    assert len(drawings) == 4
    shown = r"=m\x1b[31m\x9b1m\nerror: x\u2028\u202e"
    for path in drawings:
        svg = path.read_text(encoding="utf-8")
        assert not HIDDEN.search(svg.replace("\t", " "))
        ElementTree.fromstring(svg)
    assert shown in (report[0] / "figures" / "q1-layer-curve.svg").read_text(encoding="utf-8")


def test_the_csv_is_no_formula_and_reads_back(report: tuple[Path, str]) -> None:
    table = pd.read_csv(io.StringIO((report[0] / "layers.csv").read_bytes().decode(), newline=""))
    assert set(table["model"]) == {f"'{MODEL}", "other", "logmel"}
    assert set(table["label"]) == {f"'{LABEL}"}
    assert table["score_test_mean"].dtype == float


def test_the_commands_are_those_of_the_run(report: tuple[Path, str], evil: Path, tmp_path: Path) -> None:
    from probes.report import load_report_data
    from probes.report.run_info import run_info

    commands = "\n".join(run_info(load_report_data(evil))["commands"])
    assert not HIDDEN.search(commands)
    for line in commands.splitlines():
        assert line.startswith(("fs ", "printf ", "# ", "  --")), line
    # As a shell reads them: a grid file with the grid, and options with the texts.
    script = f"fs() {{ printf '%s\\0' \"$@\" >> args; }}\n{commands}"
    subprocess.run(
        ["bash", "-euc", script], check=True, cwd=tmp_path, env={"LC_ALL": "C.UTF-8", "PATH": "/bin:/usr/bin"}
    )
    run = json.loads((evil / results_folder.RUN_NAME).read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "grid.json").read_text(encoding="utf-8")) == run["config"]["grid"]
    words = (tmp_path / "args").read_text(encoding="utf-8").split("\0")
    assert f"/{run['config']['store']}" in words  # from where the call was made
    assert evil.name in words
    assert LABEL in words
    assert sorted(p.name for p in tmp_path.iterdir()) == ["args", "grid.json"]
    assert "rm -r folder" not in (
        line.strip() for line in (report[0] / "index.html").read_text().splitlines()
    )


def test_the_run_is_kept_without_control_characters(evil: Path) -> None:
    assert not HIDDEN.search((evil / results_folder.RUN_NAME).read_text(encoding="utf-8"))
