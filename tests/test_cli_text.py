"""Names and labels are shown as what they are, by every command, whatever they hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
from tests.conftest import write_clips

ODD = ("[red]x[/red]", ":smile:", "\x1b[31mred", "a\nerror: b")
SHOWN = ("[red]x[/red]", ":smile:", r"\x1b[31mred", r"a\nerror: b")


def fs(*arguments: object) -> Result:
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert "\x1b" not in result.output
    assert "\nerror: b" not in result.output
    assert not {"😄", "🐦"} & set(result.output)
    return result


class World:
    """A store and results whose names hold what terminals and Rich would act on."""

    def __init__(self, root: Path) -> None:
        self.manifest = write_clips(root / "audio", [5000 + 61 * i for i in range(40)])
        table = pd.read_csv(self.manifest)
        table["utterance_id"] = [f"{ODD[i % 4]} {i}" for i in range(40)]
        table["bird"] = [f"f{i // 4 % 5}" for i in range(40)]
        table["[b]:smile:[/b]"] = [ODD[i % 4] for i in range(40)]
        table["\x1b[31mb"] = [ODD[i % 2] for i in range(40)]
        table.to_csv(self.manifest, index=False)
        for i in range(3):
            (self.manifest.parent / f"clip{i:03d}.wav").write_text("no audio")
        self.store, self.results = root / "s", root / "r"
        self.extracted = fs(
            "extract", "--manifest", self.manifest, "--dataset", "d", "--model", "logmel",
            "--store", self.store, "-q",
        )  # fmt: skip
        self.probed = fs(
            "probe", "--store", self.store, "--label", "[b]:smile:[/b]", "--label", "\x1b[31mb",
            "--split", "fold:bird", "--classifier", "lda", "--out", self.results, "-q",
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world") / "[i]:smile:[_i]")


def test_extracting_and_its_failures(world: World) -> None:
    assert world.extracted.exit_code == 0, world.extracted.output
    assert f"written to {world.store}" in world.extracted.output
    assert r"(e.g. '\x1b[31mred 2')" in world.extracted.output


def test_probing(world: World) -> None:
    assert world.probed.exit_code == 0, (world.probed.output, world.probed.exception)
    assert "[b]:smile:[/b] · d · lda · split: fold:bird" in world.probed.output
    assert r"\x1b[31mb · d · lda · split: fold:bird" in world.probed.output
    assert f"results in {world.results}" in world.probed.output


@pytest.mark.slow
def test_reports(world: World, tmp_path: Path) -> None:
    out = tmp_path / "[u]:bird:[/u]"
    result = fs("report", world.results, "--out", out)
    assert result.exit_code == 0, result.output
    assert "[b]:smile:[/b] · d · lda · split: fold:bird" in result.output
    assert f"wrote {out}" in result.output
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "[b]:smile:[/b] · d" in page
    assert r"\x1b[31mb and [b]:smile:[/b] in d" in page
    assert "\x1b" not in page


@pytest.mark.parametrize("command", ["ls", "info", "verify"])
def test_what_a_store_holds(world: World, command: str) -> None:
    result = fs(command, world.store)
    assert result.exit_code == 0, result.output
    if command == "info":
        assert r"[b]:smile:[/b], \x1b[31mb" in result.output
        assert r"(e.g. '\x1b[31mred 2')" in result.output


def test_audits(world: World, tmp_path: Path) -> None:
    table = pd.read_csv(world.manifest, keep_default_na=False)
    table.loc[30:, "[b]:smile:[/b]"] = "\x1b[31mRed"  # nearly another class
    table["path"] = [world.manifest.parent / p for p in table["path"]]
    table.to_csv(tmp_path / "m.csv", index=False)
    result = fs("audit", tmp_path / "m.csv", "--store", world.store, "--out", tmp_path / "page", "-q")
    assert result.exit_code == 1
    assert f"{tmp_path / 'm.csv'}: 40 clips of 40 files" in result.output
    assert r"\x1b[31mRed" in result.output
    for name in ("audit.txt", "index.html"):
        text = (tmp_path / "page" / name).read_text(encoding="utf-8")
        assert r"\x1b[31mRed" in text.replace("<wbr>", "")
        assert "\x1b" not in text


def test_attaching_and_notes(world: World) -> None:
    result = fs("manifest", "attach", world.store, world.manifest)
    assert r"[b]:smile:[/b], \x1b[31mb attached" in result.output


@pytest.mark.parametrize(("name", "shown"), list(zip(ODD, SHOWN, strict=True)))
def test_errors_name_what_was_given_on_one_line(world: World, tmp_path: Path, name: str, shown: str) -> None:
    for arguments in (
        ("ls", tmp_path / name),
        ("probe", "--store", world.store, "--label", name, "--out", tmp_path / "r", "-q"),
        ("extract", "--manifest", f"{name}.csv", "--dataset", "d", "--model", "logmel", "--store", "s"),
        ("extract", "--manifest", world.manifest, "--dataset", "d", "--model", f"./{name}", "--store", "s"),
        ("info", world.store, "--model", name),
        ("info", world.store, f"--{name}"),
        (name,),
    ):
        result = fs(*arguments)
        assert result.exit_code == 2, (arguments, result.output, result.exception)
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert shown in result.stderr.replace("\\\\", "\\"), (arguments, result.stderr)


WARNING = r"""
import logging, sys, warnings
import cli, studies.terminal.operations

def warn(url):
    warnings.warn(f"odd {url}")
    logging.getLogger("some.library").warning("odder %s", url)

studies.terminal.operations.list_keys = warn
cli.main(["ls", "\x1b[31mred\nerror: b"])
"""


def test_warnings_and_log_lines_of_any_library_are_one_line_of_text() -> None:
    done = subprocess.run([sys.executable, "-c", WARNING], capture_output=True, text=True, check=True)
    assert r"UserWarning: odd \x1b[31mred\nerror: b" in done.stderr
    assert r"odder \x1b[31mred\nerror: b" in done.stderr
    assert "\x1b" not in done.stderr


def test_predictions_hold_no_formulas_and_every_id(world: World, tmp_path: Path) -> None:
    table = pd.read_csv(world.manifest)
    ids = [f"{'=@-'[i % 3]}x {i}" for i in range(40)]
    table["utterance_id"], table["kind"] = ids, [("=a", "-b")[i % 2] for i in range(40)]
    table["path"] = [world.manifest.parent / p for p in table["path"]]
    manifest, store = tmp_path / "m.csv", tmp_path / "s"
    table.to_csv(manifest, index=False)
    said = fs(
        "extract", "--manifest", manifest, "--dataset", "d", "--model", "logmel", "--store", store, "-q"
    )
    assert said.exit_code == 0, said.output
    asked = ("--store", store, "--label", "kind", "--split", "random", "--classifier", "lda", "-q")
    assert fs("probe", *asked, "--out", tmp_path / "r").exit_code == 0
    assert fs("save-probe", tmp_path / "r", "--out", tmp_path / "p").exit_code == 0
    for suffix in ("csv", "parquet"):
        out = tmp_path / f"out.{suffix}"
        said = fs("predict", "--probe", tmp_path / "p", "--store", store, "--out", out)
        assert said.exit_code == 0, (said.output, said.exception)
    shown = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    exact = pd.read_parquet(tmp_path / "out.parquet")
    assert list(exact["utterance_id"]) == ids
    assert list(shown["utterance_id"]) == [f"'{name}" for name in ids]
    assert set(shown["prediction"]) <= {"", "'=a", "'-b"}
    assert list(shown)[-2:] == ["p:-b", "p:=a"]
    # What is for programs keeps the ids byte for byte.
    assert fs("export", store, "--format", "npz", "--out", tmp_path / "npz", "-q").exit_code == 0
    for name in ("manifest.csv", "index.csv"):
        assert list(pd.read_csv(tmp_path / "npz" / "logmel" / "d" / name)["utterance_id"]) == ids
