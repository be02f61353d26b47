"""`fs inspect` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.command_line import fs, one_line_error
from tests.conftest import write_clips


@pytest.fixture
def store(tmp_path: Path) -> Path:
    manifest = write_clips(tmp_path / "audio", [5000 + 61 * i for i in range(36)])
    words = ("--manifest", manifest, "--dataset", "d", "--model", "logmel", "--model", "mfcc", "-q")
    result = fs("extract", *words, "--store", tmp_path / "s")
    assert result.exit_code == 0, result.output
    return tmp_path / "s"


def test_layers_of_two_models_and_then_one_of_them(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = fs("inspect", "--store", store, "--label", "kind", "--out", out, "-q")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "d: 36 utterances with a label 'kind'; all stored functionals side by side" in result.output
    assert "Most alike of logmel and mfcc: layers 0 and 0, CKA" in result.output
    cka = pd.read_csv(out / "cka.csv")
    shown = f"{100 * cka['cka'][1]:.0f}"
    assert f"A logmel · 0 100 {shown}" in " ".join(result.output.split())
    assert not (out / "suspects.csv").exists()
    one = ("--model", "logmel", "--neighbours", "3")
    result = fs("inspect", "--store", store, "--label", "kind", "--out", out, "-q", *one)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "Suspects: of 36 utterances" in result.output
    assert "the 3 nearest utterances of other groups (path)" in result.output
    assert len(pd.read_csv(out / "neighbours.csv")) == 36 * 3
    assert len(pd.read_csv(out / "map.csv")) == 36


@pytest.mark.slow
@pytest.mark.shared
def test_swapped_speakers_of_real_recordings_stand_first(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers of docs/inside.md: 90 of the 3,000 clips of the Free Spoken Digit Dataset are swapped."""
    folder = shared / "data" / "fsdd"
    table = pd.read_csv(folder / "manifest.csv", dtype=str)
    table["path"] = [str(folder / p) for p in table["path"]]
    rng = np.random.default_rng(0)
    swapped = rng.choice(len(table), 90, replace=False)
    speakers = sorted(set(table["speaker"]))
    table["given"] = table["speaker"]
    for i in swapped:
        table.loc[i, "given"] = rng.choice([s for s in speakers if s != table["speaker"][i]])
    table.to_csv(tmp_path / "m.csv", index=False)
    words = ("--manifest", tmp_path / "m.csv", "--dataset", "fsdd", "--model", "logmel", "-q")
    assert fs("extract", *words, "--store", tmp_path / "s").exit_code == 0
    ask = ("--store", tmp_path / "s", "--label", "given", "--group", "path", "--out", tmp_path / "out", "-q")
    result = fs("inspect", *ask)
    assert result.exit_code == 0, (result.output, result.exception)
    names = set(table.loc[swapped, "utterance_id"])
    hit = pd.read_csv(tmp_path / "out" / "suspects.csv")["utterance_id"].isin(names)
    found = f"of the first 50 {hit[:50].sum()}, of the first 90 {hit[:90].sum()}, in all {hit.sum()}"
    with capsys.disabled():
        print(f"\n{found}\n{result.output}")
    # At random 1.5 of 50 would be.
    assert hit[:50].mean() > 0.8
    assert hit.sum() > 0.9 * len(names)


def test_errors_are_one_line(store: Path, tmp_path: Path) -> None:
    ask = ("inspect", "--store", store, "--out", tmp_path / "out")
    one_line_error(fs(*ask, "--rows", "many"), "rows: expected a number or all, got 'many'")
    one_line_error(fs(*ask, "--rows", "3"), "10 utterances or more, got 3")
    one_line_error(fs(*ask, "--neighbours", "5"), "choose one with --model and --layers")
    one_line_error(fs(*ask, "--neighbours", "0"), "expected 1 to 1,000, got 0")
    one_line_error(fs(*ask, "--results", tmp_path, "--label", "kind"), "expected the results of `fs probe`")
    one_line_error(fs(*ask, "--results", tmp_path), "add --label")
    one_line_error(fs("inspect", "--store", store, "--out", store), "is in the feature store")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "cka.csv").write_text("mine\n")
    one_line_error(fs(*ask), "cka.csv: this is no table of an inspection")
