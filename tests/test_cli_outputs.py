"""What commands write: where it may go, what is never lost, a disk that is full, files that were changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from safetensors.numpy import load_file, save_file

from tests.command_line import fs, one_line_error
from tests.conftest import write_clips
from tests.test_cli import extract


class World:
    """A store, the results of two labels, and a saved probe of one; with what was printed."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.results, self.probe = root, root / "s", root / "r", root / "p"
        manifest = write_clips(root / "audio", [5000 + 61 * i for i in range(48)])
        assert extract(manifest, self.store).exit_code == 0
        for label in ("kind", "caller"):
            assert self.ask("--label", label).exit_code == 0
        assert self.save(self.probe).exit_code == 0

    def ask(self, *more: object, out: Path | None = None) -> Result:
        asked = ("--store", self.store, "--split", "random", "--classifier", "lda", "-q")
        return fs("probe", *asked, "--out", out or self.results, *more)

    def save(self, out: object, *more: object, label: str = "kind") -> Result:
        return fs("save-probe", self.results, "--label", label, "--out", out, *more)

    def predict(self, out: object, probe: Path | None = None) -> Result:
        return fs("predict", "--probe", probe or self.probe, "--store", self.store, "--out", out)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("outputs"))


def limited(kilobytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`fs` in a process whose files cannot grow beyond a size: its writes fail as on a full disk."""
    script = (
        "import resource, sys, cli\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes << 10}, {kilobytes << 10}))\n"
        "cli.main(sys.argv[1:])\n"
    )
    # Compiled modules and font lists are files too.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_results_go_nowhere_where_something_would_be_lost(world: World, tmp_path: Path) -> None:
    before = sorted(p for p in world.store.rglob("*") if p.is_file())
    for out, said in (
        ("", "expected a name"),
        (world.store, "in the feature store"),
        (world.store / "logmel" / "r", "in the feature store"),
        ("s3://bucket/r", "only stores can be remote"),
        (world.results / "results.parquet", "this is a file"),
        ("/proc/r", "cannot be written"),
    ):
        one_line_error(fs("probe", "--store", world.store, "--label", "kind", "--out", out), said)
        one_line_error(fs("report", world.results, "--out", out), said)
        one_line_error(world.save(out), said)
    for out, said in (
        (world.store / "x.csv", "in the feature store"),
        (tmp_path, "this is a folder"),
        (tmp_path / "x.txt", "ends in .csv or .parquet"),
    ):
        one_line_error(world.predict(out), said)
    assert sorted(p for p in world.store.rglob("*") if p.is_file()) == before


def test_predictions_replace_predictions_only(world: World, tmp_path: Path) -> None:
    table, notes = tmp_path / "p.csv", tmp_path / "notes.csv"
    assert world.predict(table).exit_code == 0
    first = table.read_bytes()
    assert world.predict(table).exit_code == 0
    assert table.read_bytes() == first
    notes.write_text("id,comment\n1,three days of work\n")
    one_line_error(world.predict(notes), "no table of predictions", "would be lost")
    assert notes.read_text() == "id,comment\n1,three days of work\n"
    assert world.predict(tmp_path / "p.parquet").exit_code == 0
    read = pd.read_parquet(tmp_path / "p.parquet")
    assert read["prediction"].tolist() == pd.read_csv(table)["prediction"].tolist()


def test_a_probe_of_another_label_is_not_written_over(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.probe, tmp_path / "p")
    assert world.save(tmp_path / "p").exit_code == 0
    one_line_error(world.save(tmp_path / "p", label="caller"), "holds the probe of label 'kind'")
    (tmp_path / "p" / "weights.safetensors").unlink()  # of no use any more
    assert world.save(tmp_path / "p", label="caller").exit_code == 0


def test_a_probe_that_was_changed_is_refused(world: World, tmp_path: Path) -> None:
    card, weights = tmp_path / "p" / "probe.json", tmp_path / "p" / "weights.safetensors"
    shutil.copytree(world.probe, tmp_path / "p")
    text = card.read_text()
    assert '"a",\n    "b"' in text
    card.write_text(text.replace('"a",\n    "b"', '"b",\n    "a"'))
    one_line_error(world.predict(tmp_path / "x.csv", tmp_path / "p"), "probe.json was changed")
    card.write_text(text)
    arrays = load_file(weights)
    save_file({name: np.array(-value) for name, value in arrays.items()}, weights)
    one_line_error(world.predict(tmp_path / "x.csv", tmp_path / "p"), "is not the one that was saved")
    assert not (tmp_path / "x.csv").exists()


def test_a_fit_that_diverged_is_not_saved(world: World, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("mlp: {learning_rate: 1.0e+30}\n")
    more = ("--grid", grid, "-q", "--split", "random")
    asked = fs("probe", "--store", world.store, "--label", "kind", "--out", tmp_path / "r", *more)
    assert asked.exit_code == 0, (asked.output, asked.exception)
    one_line_error(fs("save-probe", tmp_path / "r", "--out", tmp_path / "p"), "diverged", "learning_rate")
    assert not (tmp_path / "p").exists()


@pytest.mark.slow  # processes of their own
def test_a_disk_that_is_full_is_one_line_and_the_same_command_goes_on(world: World, tmp_path: Path) -> None:
    def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
        # Matplotlib and joblib too say what they could not write.
        lines = [line for line in done.stderr.splitlines() if "error: " in line]
        assert done.returncode == 2, done.stderr
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("error: ")
        assert "Traceback" not in done.stderr
        for part in ("cannot be written (File too large)", *parts):
            assert part in lines[0]

    out = tmp_path / "r"
    asked = ("probe", "--store", world.store, "--label", "kind", "--split", "random", "--classifier", "lda")
    refused(limited(4, *asked, "--out", out, "-q"), "what was finished is kept")
    again = fs(*asked, "--out", out, "-q")
    assert again.exit_code == 0, again.output
    assert pd.read_parquet(out).equals(pd.read_parquet(out / "results.parquet"))
    refused(limited(8, "report", out, "--out", tmp_path / "page"), "write the report again")
    refused(limited(0, "save-probe", out, "--out", tmp_path / "p"), "choose another --out")
    refused(
        limited(0, "predict", "--probe", world.probe, "--store", world.store, "--out", tmp_path / "x.csv")
    )
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_a_damaged_file_of_results_is_made_again_once_it_is_deleted(world: World, tmp_path: Path) -> None:
    out = tmp_path / "r"
    shutil.copytree(world.results, out)
    for path in (out / "_predictions").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    one_line_error(
        fs("report", out, "--out", tmp_path / "page"), "_predictions", "delete it and run the same"
    )
    for path in (out / "_predictions").iterdir():
        path.unlink()
    for label in ("kind", "caller"):
        assert "1 fit in" in world.ask("--label", label, out=out).output
    assert fs("report", out, "--out", tmp_path / "page").exit_code == 0
    saved = fs("save-probe", out, "--label", "kind", "--out", tmp_path / "p")
    n = len(pd.read_parquet(next(iter((out / "_predictions").iterdir()))))
    assert f"{n} of {n} test predictions are those on record" in saved.output


def test_a_probe_without_predictions_on_record_is_not_saved(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.results, tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "_predictions")
    result = fs("save-probe", tmp_path / "r", "--label", "kind", "--out", tmp_path / "p")
    one_line_error(result, "_predictions", "run the same `fs probe` again")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "3",
        '{"splits": [1]}',
        "{",
        '{"splits": [], "calls": [{"config": {"store": "s", "labels": "a"}}]}',
    ],
)
def test_a_damaged_record_of_the_run_is_named(world: World, tmp_path: Path, text: str) -> None:
    shutil.copytree(world.results, tmp_path / "r")
    (tmp_path / "r" / "_run.json").write_text(text)
    for command in (("report", tmp_path / "r"), ("save-probe", tmp_path / "r", "--label", "kind")):
        one_line_error(fs(*command, "--out", tmp_path / "x"), "_run.json: cannot be read", "delete it")
    (tmp_path / "r" / "_run.json").unlink()
    assert world.ask("--label", "kind", out=tmp_path / "r").exit_code == 0


def test_a_table_that_is_none_of_ours_is_named(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.results, tmp_path / "r")
    table = pd.read_parquet(tmp_path / "r" / "results.parquet")
    table.drop(columns="uar_val").to_parquet(tmp_path / "r" / "results.parquet")
    one_line_error(fs("report", tmp_path / "r", "--out", tmp_path / "x"), "lacks the columns uar_val")


@pytest.mark.slow
def test_all_calls_are_kept_and_the_store_is_found_from_anywhere(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        shutil.copytree(world.store, tmp_path / name / "s")
    rest = ("--classifier", "lda", "--split", "random", "--out", tmp_path / "r", "-q")
    for name, label in (("one", "kind"), ("two", "caller"), ("two", "kind"), ("one", "kind")):
        monkeypatch.chdir(tmp_path / name)
        assert fs("probe", "--store", "s", "--label", label, *rest).exit_code == 0
    monkeypatch.chdir("/")
    calls = json.loads((tmp_path / "r" / "_run.json").read_text())["calls"]
    assert [(c["cwd"], c["config"]["labels"], c["finished"]) for c in calls] == [
        (str(tmp_path / "two"), ["caller"], True),
        (str(tmp_path / "two"), ["kind"], True),
        (str(tmp_path / "one"), ["kind"], True),
    ]
    for label in ("kind", "caller"):
        assert fs("save-probe", tmp_path / "r", "--label", label, "--out", tmp_path / label).exit_code == 0
    assert fs("report", tmp_path / "r", "--out", tmp_path / "page").exit_code == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "--label kind" in page
    assert "--label caller" in page
    shutil.rmtree(tmp_path / "two")
    gone = fs("save-probe", tmp_path / "r", "--label", "caller", "--out", tmp_path / "x")
    one_line_error(gone, "no feature store here", "has moved, give --store")


@pytest.mark.slow
def test_a_call_that_was_interrupted_is_shown_as_such(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    shutil.copytree(world.results, tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr("probes.run.probing.run_task", interrupted)
        more = ("--classifier", "centroid", "--out", tmp_path / "r", "-q")
        assert fs("probe", "--store", world.store, "--label", "kind", *more).exit_code == 130
    assert fs("report", tmp_path / "r", "--out", tmp_path / "page").exit_code == 0
    assert "# was interrupted, or failed" in (tmp_path / "page" / "index.html").read_text()


def test_what_others_made_is_not_written_over(world: World, tmp_path: Path) -> None:
    page, table, manifest = tmp_path / "index.html", tmp_path / "results.parquet", tmp_path / "m.csv"
    page.write_text("<title>three years of work</title>")
    one_line_error(fs("report", world.results, "--out", tmp_path), "index.html: this is no report of ours")
    pd.DataFrame({"mine": [1]}).to_parquet(table)
    one_line_error(world.ask("--label", "kind", out=tmp_path), "results.parquet: this table is not one of")
    manifest.write_text("a,b\n1,2\n")
    audio = tmp_path / "audio"
    write_clips(audio / "cat", [5000], labels=False)
    (audio / "cat" / "manifest.csv").unlink()
    one_line_error(fs("manifest", "folder", audio, "--out", manifest), "this file is no manifest")
    one_line_error(fs("manifest", "folder", audio, "--out", world.store / "m.csv"), "in the feature store")
    assert page.read_text() == "<title>three years of work</title>"
    assert list(pd.read_parquet(table).columns) == ["mine"]
    assert manifest.read_text() == "a,b\n1,2\n"
    for _ in range(2):
        assert fs("manifest", "folder", audio, "--out", tmp_path / "good.csv").exit_code == 0


def test_predictions_of_other_classes_and_columns_of_the_user_stay(world: World, tmp_path: Path) -> None:
    assert world.save(tmp_path / "p", label="caller").exit_code == 0
    assert world.predict(tmp_path / "x.csv").exit_code == 0
    one_line_error(world.predict(tmp_path / "x.csv", tmp_path / "p"), "predictions of other classes")
    pd.read_csv(tmp_path / "x.csv").assign(checked="yes").to_csv(tmp_path / "x.csv", index=False)
    one_line_error(world.predict(tmp_path / "x.csv"), "columns of yours ('checked')")
    assert pd.read_csv(tmp_path / "x.csv")["checked"].eq("yes").all()


def test_a_task_file_that_is_none_of_ours_is_named(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.results, tmp_path / "r")
    for path in (tmp_path / "r" / "_tasks").iterdir():
        pd.read_parquet(path).drop(columns="uar_val").to_parquet(path)
    before = (tmp_path / "r" / "results.parquet").read_bytes()
    one_line_error(world.ask("--label", "kind", out=tmp_path / "r"), "_tasks", "lacks the columns uar_val")
    assert (tmp_path / "r" / "results.parquet").read_bytes() == before


@pytest.mark.slow  # three processes
def test_the_commands_of_a_report_can_be_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process each, from an empty folder, as somebody would who pastes them."""
    from probes.report.data import load_report_data
    from probes.report.run_info import run_info

    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copytree(world.store, tmp_path / "s")
    monkeypatch.chdir(tmp_path / "deep" / "er")
    more = ("--split", "random", "--classifier", "lda", "-q")
    assert fs("probe", "--store", "../../s", "--label", "kind", "--out", "../r", *more).exit_code == 0
    commands = run_info(load_report_data(tmp_path / "deep" / "r"))["commands"]
    assert commands[0].startswith(f"# needs the table {world.root}/audio/manifest.csv: 48 rows, SHA-256 ")
    first = pd.read_parquet(tmp_path / "deep" / "r")
    for name in ("deep", "s"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = ["bash", "-euc", "\n".join(commands)]
    subprocess.run(script, check=True, capture_output=True, cwd=tmp_path / "empty", env=environment)
    again = pd.read_parquet(tmp_path / "empty" / "r")
    assert again["uar_test"].tolist() == first["uar_test"].tolist()
    assert (tmp_path / "empty" / "report" / "index.html").is_file()
    assert not (tmp_path / "deep").exists()


@pytest.mark.slow
def test_an_audit_replaces_an_audit_only(world: World, tmp_path: Path) -> None:
    manifest, out = write_clips(tmp_path / "audio", [5000] * 3), tmp_path / "a"

    def audit(to: Path) -> Result:
        return fs("audit", manifest, "--out", to, "-q")

    for _ in range(2):
        assert audit(out).exit_code in (0, 1)
    assert "fs audit" in (out / "index.html").read_text()
    # A report is ours and no audit, and the other way round.
    assert fs("report", world.results, "--out", tmp_path / "r").exit_code == 0
    one_line_error(audit(tmp_path / "r"), "index.html: this is no page of an audit of ours")
    one_line_error(fs("report", world.results, "--out", out), "index.html: this is no report of ours")
    for name, text in (
        ("index.html", "<title>Audit of our accounts</title>"),
        ("audit.json", '{"findings": ["of three years"]}'),
        ("audit.txt", "notes"),
    ):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text(text)
        one_line_error(audit(folder), f"{name}: this is no", "would be lost")
        assert [(p.name, p.read_text()) for p in folder.iterdir()] == [(name, text)]


def test_figures_and_tables_beside_no_page_of_ours_are_not_written_over(world: World, tmp_path: Path) -> None:
    for name in ("layers.csv", "comparisons.csv"):
        (tmp_path / name).write_text("mine")
        one_line_error(fs("report", world.results, "--out", tmp_path), f"{name}: this is no", "would be lost")
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "mine")]
        (tmp_path / name).unlink()
    mine = tmp_path / "figures" / "q1-layer-curve.png"
    mine.parent.mkdir()
    mine.write_text("mine")
    one_line_error(fs("report", world.results, "--out", tmp_path), "figures: these are no figures of ours")
    assert mine.read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["audit", "report"])
def test_a_page_appears_whole_or_not_at_all(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A disk that fills up while it is written anew leaves the page that was there."""
    source = world.results if command == "report" else write_clips(tmp_path / "audio", [5000] * 3)
    out = tmp_path / "page"
    assert fs(command, source, "--out", out).exit_code in (0, 1)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    one_line_error(fs(command, source, "--out", out), "cannot be written (No space left on device)")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
