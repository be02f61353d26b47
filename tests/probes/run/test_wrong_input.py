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


def test_what_annotations_and_recorders_say_is_not_offered_as_a_label(
    make_store: Write, table: pd.DataFrame, tmp_path: Path
) -> None:
    more = {"selection": "1", "low_hz": "200", "high_hz": "900", "latitude": "3.5"}
    make_store(tmp_path / "s.zarr", table.assign(**more, group=""), layers=(0,))
    line = probe(tmp_path / "s.zarr", tmp_path / "r", "--label", "low_h")
    assert line.endswith("its labels are call, caller, species")
    # by name they can be asked for: 'selection' has one class
    assert "at least two classes" in probe(tmp_path / "s.zarr", tmp_path / "r", "--label", "selection")
    shown = CliRunner().invoke(
        cli.main,
        [
            *("probe", "--store", str(tmp_path / "s.zarr"), "--label", "call", "--classifier", "centroid"),
            *("--out", str(tmp_path / "r"), "-q"),
        ],
    )
    said = " ".join((shown.output + shown.stderr).split())
    assert "if one of these names them:" in said, said
    assert "selection" not in said
    assert "_hz" not in said


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


@pytest.mark.parametrize("split", ["group-kfold:3", "logo", "group-nested:3", "fold:caller"])
def test_a_label_that_is_the_group(store: str, tmp_path: Path, split: str) -> None:
    """Every class is tested where it was not trained: 0.0 of such a split says nothing of the embeddings."""
    line = probe(store, tmp_path / "r", "--label", "caller", "--split", split)
    assert f"in no fold of split {split!r} is a class of the test rows trained" in line
    assert "no column divides its classes any further" in line  # every clip is a file of its own
    assert "--split random and kfold:5 hold none out" in line


def test_a_label_that_is_a_number(make_store: Write, table: pd.DataFrame, tmp_path: Path) -> None:
    weights = [f"{0.37 * i:.2f}" for i in range(len(table))]
    make_store(tmp_path / "s.zarr", table.assign(weight=weights), layers=(0,))
    line = probe(tmp_path / "s.zarr", tmp_path / "r", "--label", "weight")
    assert "classes in 238 rows: is this label a number" in line


def test_a_column_of_the_contract_as_label(store: str, tmp_path: Path) -> None:
    line = probe(store, tmp_path / "r", "--label", "group")
    assert "'group' is no label column" in line
    assert "fs manifest attach" in line


def test_a_part_of_a_store(store: str, tmp_path: Path) -> None:
    for part in ("model-a", "model-a/calls", "model-a/calls/layer_00"):
        line = probe(f"{store}/{part}", tmp_path / "r", "--label", "call")
        assert f"{part}: this Zarr node is not the root of a feature store" in line


def test_more_seeds_than_anybody_wants(store: str, tmp_path: Path) -> None:
    line = probe(store, tmp_path / "r", "--label", "call", "--seeds", "100000000")
    assert "seeds: expected 1 to 10,000, got 100000000" in line


def test_an_option_given_twice(store: str, tmp_path: Path) -> None:
    line = probe(store, tmp_path / "r", "--label", "call", "--split", "random", "--split", "kfold:3")
    assert "--split was given 2 times and takes one value" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("probe", "--lable", "x"), "no such option '--lable'. (Did you mean"),
        (("probe", "--label", "x", "--out", "r"), "missing option '--store'"),
        (("prob",), "no such command 'prob'. Did you mean 'probe'?"),
        (("attach", "S", "m.csv"), "no such command 'attach'; did you mean 'manifest attach'?"),
        (("raven", "x"), "did you mean 'manifest raven'?"),
        (("--bogus",), "no such option '--bogus'"),
        (("extract", "--dtype", "float8"), "'float8' is not one of 'float32', 'float16'"),
        (("ls",), "missing argument 'STORE'"),
        (("ls", "a", "b"), "got unexpected extra argument (b)"),
    ],
)
def test_usage_errors_are_one_line_too(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(cli.main, list(arguments))
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert result.output.startswith("error: ")
    assert said in result.output
    assert "--help` lists what there is" in result.output


def told(store: object, out: Path, *options: object) -> str:
    """What an `fs probe` that can be says beside its tables."""
    arguments = ["probe", "--store", store, "--out", out, "-q", *options]
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_doubtful_classes_are_told_of(make_store: Write, table: pd.DataFrame, tmp_path: Path) -> None:
    call = table["call"].to_numpy(dtype=object).copy()
    call[np.flatnonzero(call == "trill")[:9]] = "Trill "
    call[np.flatnonzero(call == "peep")[:9]] = "NaN"
    make_store(tmp_path / "s.zarr", table.assign(call2=call), layers=(0,))
    said = told(tmp_path / "s.zarr", tmp_path / "r", "--label", "call2", "--classifier", "centroid")
    assert (
        "classes 'Trill ' and 'trill' differ in case, blanks or underscores only and count as 2 classes"
        in said
    )
    assert "class 'NaN' (" in said
    assert "rows) reads like a missing value" in said
    other = told(tmp_path / "s.zarr", tmp_path / "q", "--label", "call", "--classifier", "centroid")
    assert "label 'call' of calls: 10 of 240 clips have no label and are left out" in other
    assert "missing value" not in other
    assert "differ in" not in other


@pytest.mark.parametrize("split", [("--split", "group"), ("--group", "caller", "--split", "group-kfold:3")])
def test_groups_written_in_several_ways_are_told_of(
    make_store: Write, table: pd.DataFrame, tmp_path: Path, split: tuple[str, ...]
) -> None:
    column = "caller" if "--group" in split else "group"
    cells = table[column].to_numpy(dtype=object).copy()
    old = cells[0]
    cells[np.flatnonzero(cells == old)[::2]] = old.upper()
    make_store(tmp_path / "s.zarr", table.assign(**{column: cells}), layers=(0,))
    said = told(tmp_path / "s.zarr", tmp_path / "r", "--label", "call", "--classifier", "centroid", *split)
    assert f"{old.upper()!r} and {old!r} differ in case only" in said
    assert "one may be trained and the other tested" in said


def test_classes_that_a_fold_does_not_train_are_told_of(
    make_store: Write, table: pd.DataFrame, tmp_path: Path
) -> None:
    call = table["call"].to_numpy(dtype=object).copy()
    group = table["group"].to_numpy(dtype=object)
    call[np.flatnonzero(group == "session-0")[:5]] = "rare"
    make_store(tmp_path / "s.zarr", table.assign(call2=call), layers=(0,))
    more = ("--label", "call2", "--classifier", "centroid", "--split", "group-kfold:3")
    said = told(tmp_path / "s.zarr", tmp_path / "r", *more)
    assert "some of the 3 folds have no train clips of rare (" in said
    assert "there they cannot be recognised and count as recall 0" in said


@pytest.mark.slow
def test_fits_that_had_not_settled_are_told_of(store: str, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    more = ("--label", "call", "--model", "model-a", "--layers", 2, "--classifier", "linear", "--seeds", 3)
    more = (*more, "--grid", grid)
    grid.write_text("linear: {max_epochs: 1, batch_size: 256}\n")
    said = told(store, tmp_path / "r", *more)
    assert "best at the end of 1 epochs" in said
    assert "1 step an epoch" in said
    grid.write_text("linear: {max_epochs: 300, learning_rate: 0.01}\n")
    assert "best at the end" not in told(store, tmp_path / "q", *more)
