"""Mistakes as a user meets them: exit code 2, one line that says what was expected and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import cli

Write = Callable[..., None]


def probe(store: Path | str, out: Path, *options: object) -> str:
    """The one line of an `fs probe` that cannot be."""
    arguments = ["probe", "--store", store, "--out", out, "-q", *options]
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert not out.exists()
    return lines[0]


def test_a_label_with_one_class(store: str, tmp_path: Path) -> None:
    line = probe(store, tmp_path / "r", "--label", "species")
    assert "label 'species' of model-a/calls" in line
    assert "at least two classes" in line
    assert "marmoset" in line


def test_a_class_missing_from_training(make_store: Write, table: pd.DataFrame, tmp_path: Path) -> None:
    split = np.array([("train", "train", "val", "test")[i % 4] for i in range(len(table))], dtype=object)
    split[(table["call"] == "tsik").to_numpy() & (split == "train")] = "test"
    make_store(tmp_path / "s.zarr", table.assign(split=split), layers=(0,))
    line = probe(tmp_path / "s.zarr", tmp_path / "r", "--label", "call")
    assert "'tsik'" in line
    assert "train" in line


def test_more_folds_than_groups(store: str, tmp_path: Path) -> None:
    line = probe(store, tmp_path / "r", "--label", "call", "--split", "group-kfold:9")
    assert "needs at least 9 groups, found 6" in line
    assert "ask for 6 folds" in line


def test_an_unknown_classifier_parameter(store: str, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("mlp: {learning_rat: [0.1]}\n")
    line = probe(store, tmp_path / "r", "--label", "call", "--grid", grid)
    assert "classifier mlp: unknown setting 'learning_rat'" in line
    assert "did you mean 'learning_rate'" in line
    grid.write_text("logreg: {C: [-1]}\n")
    line = probe(store, tmp_path / "r", "--label", "call", "--classifier", "logreg", "--grid", grid)
    assert "classifier logreg" in line
    assert "'C'" in line


@pytest.mark.parametrize("layers", ["3-1", "", "7-9"])
def test_an_empty_layer_range(store: str, tmp_path: Path, layers: str) -> None:
    line = probe(store, tmp_path / "r", "--label", "call", "--layers", layers)
    assert "layers" in line
    assert repr(layers) in line or layers in line


def test_unknown_names_are_met_with_the_nearest(store: str, tmp_path: Path) -> None:
    assert "did you mean 'call'" in probe(store, tmp_path / "r", "--label", "cal")
    assert "did you mean 'model-a'" in probe(store, tmp_path / "r", "--label", "call", "--model", "model-s")
    assert "did you mean 'linear'" in probe(store, tmp_path / "r", "--label", "call", "--classifier", "liner")
    line = probe(store, tmp_path / "r", "--label", "call", "--control", "shufled-labels")
    assert "did you mean 'shuffled-labels'" in line


@pytest.mark.parametrize("classifier", ["lda", "mlp", "logreg"])
def test_a_val_part_of_one_class_is_no_crash(
    make_store: Write, table: pd.DataFrame, tmp_path: Path, classifier: str
) -> None:
    """Not an error: validation then says little, and the report warns of it."""
    split = np.array([("train", "train", "test")[i % 3] for i in range(len(table))], dtype=object)
    split[np.flatnonzero(table["call"] == "phee")[:6]] = "val"
    make_store(tmp_path / "s.zarr", table.assign(split=split), layers=(0,))
    arguments = ["probe", "--store", tmp_path / "s.zarr", "--out", tmp_path / "r", "-q", "--label", "call"]
    result = CliRunner().invoke(cli.main, [str(a) for a in (*arguments, "--classifier", classifier)])
    assert result.exit_code == 0, (result.output, result.exception)
