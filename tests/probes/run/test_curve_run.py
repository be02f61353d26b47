"""Learning curves through `run_probe`: a planted truth, single fits on the same rows, resumed and spread."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import ConfigError, LabelError
from probes import ProbeConfig, ProbeProgress, read_results, run_probe
from probes.questions.curve import SHARES, drawn_rows
from probes.questions.labelled_rows import labelled, layer_matrix
from probes.results.learning_curves import last_steps, learning_curves
from probes.results.results_folder import TASKS_FOLDER, read_controls, read_curve
from probes.run import memory_plan, task_worker
from probes.splits import make_split
from tests.probes.conftest import CALLS

Write = Callable[..., None]
GRID = {"linear": {"max_epochs": 4, "batch_size": 16, "learning_rate": 0.02}}
TIMES = ["fit_s", "finished_at"]


def config(store: Path | str, out: Path, **more: Any) -> ProbeConfig:
    given = {"labels": ("call",), "models": ("model-a",), "curves": ("groups",), **more}
    given = {"classifiers": ("logreg",), **given}
    grid = {name: GRID[name] for name in given["classifiers"] if name in GRID}
    return ProbeConfig(**{"store": str(store), "out": out, "grid": grid, **given})


def planted(n_groups: int, *, one_class_each: bool) -> pd.DataFrame:
    """Training groups of ten clips, each of one class or of all; validation and test rows of all classes."""
    rows = []
    for part, names in (("train", range(n_groups)), ("val", "v"), ("test", "t")):
        for g in names:
            for i in range(12 if part == "train" else 40):
                call = CALLS[int(g) % 4] if one_class_each and part == "train" else CALLS[i % 4]
                rows.append({"split": part, "group": f"{part}-{g}", "call": call})
    ids = [f"u{i:04d}" for i in range(len(rows))]
    return pd.DataFrame(rows).assign(utterance_id=ids, path=[f"{i}.wav" for i in ids])


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=TIMES).sort_values("fingerprint", ignore_index=True)


@pytest.mark.slow
def test_the_curve_is_the_planted_one(make_store: Write, tmp_path: Path) -> None:
    """A class lies in two of eight groups, well apart from the others: UAR is the share of classes drawn."""
    n_draws = 60
    make_store(tmp_path / "s.zarr", planted(8, one_class_each=True), layers=(20,), failed=())
    asked = config(tmp_path / "s.zarr", tmp_path / "r", curve_draws=n_draws, curve_shares="25,50")
    summary = run_probe(asked)
    assert summary.n_fitted == 1 + 2 * n_draws + 1
    fits = read_curve(tmp_path / "r")
    assert len(fits) == 2 * n_draws + 1
    np.testing.assert_allclose(fits["uar_test"], fits["n_classes_trained"] / 4)
    assert (fits["n_train"] == 12 * fits["n_train_groups"]).all()
    assert (fits["chance"] == 0.25).all()  # guessing among K of 4 recalls K/4 of 1/K
    table = learning_curves(tmp_path / "r").set_index("share")
    for k, share in ((2, 0.25), (4, 0.5)):
        drawn = 1 - comb(6, k) / comb(8, k)  # one of a class's two groups at least
        row = table.loc[share]
        # of C(8, k) sets of groups, those drawn once
        assert row["n_draws"] == fits.loc[fits["share"] == share, "trained"].nunique() <= comb(8, k)
        assert row["uar_mean"] == pytest.approx(drawn, abs=0.05)
        once = fits[fits["share"] == share].drop_duplicates("trained")
        assert row["lacking"] == pytest.approx((once["n_classes_trained"] < 4).mean())
        assert row["n_train_groups"] == k
    assert table.loc[1.0, ["uar_mean", "n_draws", "lacking"]].tolist() == [1.0, 1, 0.0]
    (step,) = last_steps(tmp_path / "r")
    assert step.low > 0
    assert "from 50 to 100 % of the training groups UAR rises by" in step.sentence()
    assert step.sentence().endswith("more groups would help.")


def test_a_draw_of_one_class_says_that_class(make_store: Write, tmp_path: Path) -> None:
    """Which no classifier of scikit-learn fits by itself."""
    make_store(tmp_path / "s.zarr", planted(8, one_class_each=True), layers=(20,), failed=())
    run_probe(
        config(tmp_path / "s.zarr", tmp_path / "r", curve_shares="10", classifiers=("logreg", "linear"))
    )
    fits = read_curve(tmp_path / "r")
    fits = fits[fits["share"] < 1]
    assert fits["n_train_groups"].unique().tolist() == fits["n_classes_trained"].unique().tolist() == [1]
    assert fits["uar_test"].tolist() == [0.25] * 10
    assert fits["uar_train"].tolist() == [1.0] * 10


@pytest.mark.slow
def test_where_every_group_has_every_class_the_curve_is_flat(make_store: Write, tmp_path: Path) -> None:
    make_store(tmp_path / "s.zarr", planted(8, one_class_each=False), layers=(20,), failed=())
    run_probe(config(tmp_path / "s.zarr", tmp_path / "r", curves=("groups", "rows")))
    table = learning_curves(tmp_path / "r")
    assert (table["uar_mean"] == 1).all()
    assert (table["lacking"] == 0).all()
    for step in last_steps(tmp_path / "r"):
        assert (step.difference, step.low, step.high) == (0, 0, 0)
        assert step.sentence().endswith("cannot be told from flat.")


@pytest.mark.slow
@pytest.mark.parametrize("curve", ["groups", "rows"])
@pytest.mark.parametrize("combine", ["each", "weighted"])
def test_a_fit_is_what_a_probe_of_a_data_set_with_these_training_rows_alone_is(
    make_store: Write, table: pd.DataFrame, tmp_path: Path, curve: str, combine: str
) -> None:
    """Two seeds and two settings fused on a share, against one at a time on a split column of these rows."""
    grid = {"linear": {**GRID["linear"], "weight_decay": [0, 0.1]}}
    more = {"grid": grid, "combine": (combine,), "layers": "0-1"}
    make_store(tmp_path / "s.zarr", table, layers=(0, 1))
    asked = config(
        tmp_path / "s.zarr",
        tmp_path / "r",
        classifiers=("linear",),
        split="random",
        n_seeds=2,
        curves=(curve,),
        curve_shares="50",
        curve_draws=2,
        **more,
    )
    run_probe(asked)
    from featurestore import open_store

    found = labelled(open_store(asked.store).features("model-a", "calls"), "call", "random")
    split = make_split("random", found.rows, 0, 0)
    drawn = split.train[drawn_rows(curve, found.rows, split, 0.5, 1)]
    parts = dict(zip(found.rows.utterance_id[drawn], ["train"] * len(drawn), strict=True))
    for name, where in split.parts()[1:]:
        parts |= dict.fromkeys(found.rows.utterance_id[where], name)
    alone = table.assign(split=[parts.get(i, "") for i in table["utterance_id"]])
    make_store(tmp_path / "alone.zarr", alone, layers=(0, 1))
    for decay in (0, 0.1):
        own = {**more, "grid": {"linear": {**GRID["linear"], "weight_decay": decay}}}
        for seeds in (1, 2):  # seed 0 alone, then seed 1
            run_probe(
                config(
                    tmp_path / "alone.zarr",
                    tmp_path / "alone",
                    classifiers=("linear",),
                    split="column",
                    n_seeds=seeds,
                    curves=(),
                    **own,
                )
            )
    key = ["layers", "hparams", "seed"]
    fits = read_curve(tmp_path / "r")
    one = fits[(fits["share"] == 0.5) & (fits["draw"] == 1)].set_index(key).sort_index()
    two = read_results(tmp_path / "alone").set_index(key).sort_index()
    assert len(one) == len(two) == (8 if combine == "each" else 4)
    assert (one["n_train"] == len(drawn)).all()
    same = [
        "uar_train",
        "uar_val",
        "uar_test",
        "auroc_macro_test",
        "ece_test",
        "chance",
        "best_epoch",
        "n_train",
    ]
    np.testing.assert_allclose(one[same].to_numpy(float), two[same].to_numpy(float), atol=1e-4)
    # and all training rows are the ordinary fits
    whole = fits[fits["share"] == 1].set_index(key).sort_index()
    ordinary = read_results(tmp_path / "r").set_index(key).sort_index()
    np.testing.assert_allclose(whole[same].to_numpy(float), ordinary[same].to_numpy(float), atol=1e-4)


@pytest.mark.slow
def test_ordinary_fits_and_controls_are_as_without_a_curve_and_nothing_is_fitted_twice(
    store: str, tmp_path: Path
) -> None:
    same = {"split": "group", "layers": "2"}
    run_probe(config(store, tmp_path / "plain", curves=(), controls=("shuffled-labels",), **same))
    asked = config(store, tmp_path / "r", curves=("groups", "rows"), controls=("shuffled-labels",), **same)
    first = run_probe(asked)
    for read in (read_results, read_controls):
        pd.testing.assert_frame_equal(comparable(read(tmp_path / "plain")), comparable(read(tmp_path / "r")))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "r"), pd.read_parquet(tmp_path / "r/results.parquet")
    )
    fits = read_curve(tmp_path / "r")
    assert fits["fingerprint"].is_unique
    assert first.n_fitted == 2 + len(fits)
    assert set(first.table["fingerprint"]) == set(read_results(tmp_path / "r")["fingerprint"])
    again = run_probe(asked)
    assert (again.n_fitted, again.n_cached) == (0, first.n_fitted)
    # one draw more is that draw alone
    more = run_probe(config(store, tmp_path / "r", curves=("rows",), curve_draws=6, **same))
    assert more.n_fitted == len(SHARES) - 1
    # the draws of before are the same, however many are asked for
    kept = read_curve(tmp_path / "r")
    kept = kept[kept["draw"] < 5]
    pd.testing.assert_frame_equal(comparable(kept), comparable(fits))


def test_all_fits_of_a_layer_share_one_reading_of_it(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, ...]] = []

    def counted(features: Any, layers: Any, position: Any) -> Any:
        read.append(layers)
        return layer_matrix(features, layers, position)

    monkeypatch.setattr(task_worker, "layer_matrix", counted)
    run_probe(config(store, tmp_path, split="group", layers="1-2"))
    assert sorted(read) == [(1,), (1,), (2,), (2,)]  # the ordinary fit, and 26 or fewer of the curve


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_its_curve_has_whole_draws_only(store: str, tmp_path: Path) -> None:
    more = {
        "split": "group-kfold:3",
        "layers": "2",
        "curve_draws": 3,
        "classifiers": ("linear",),
        "n_seeds": 6,
    }
    run_probe(config(store, tmp_path / "whole", **more))

    def stop(progress: ProbeProgress) -> None:
        if progress.n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(config(store, tmp_path / "r", **more), stop)
    part = read_curve(tmp_path / "r")
    whole = read_curve(tmp_path / "whole")
    assert 0 < len(part) < len(whole)
    shown = learning_curves(tmp_path / "r")
    assert (shown["n_fits"] % 3 == 0).all()
    done = run_probe(config(store, tmp_path / "r", **more))
    assert 0 < done.n_fitted == len(whole) - len(part)
    pd.testing.assert_frame_equal(comparable(read_curve(tmp_path / "r")), comparable(whole))
    pd.testing.assert_frame_equal(learning_curves(tmp_path / "r"), learning_curves(tmp_path / "whole"))


@pytest.mark.slow
def test_a_killed_run_leaves_its_finished_tasks(store: str, tmp_path: Path) -> None:
    """By SIGKILL: nothing is tidied up."""
    script = f"""
import os, signal
from probes import ProbeConfig, run_probe

def kill(progress):
    if progress.n_done == 4:
        os.kill(os.getpid(), signal.SIGKILL)

run_probe(ProbeConfig(store={store!r}, labels=("call",), models=("model-a",), classifiers=("logreg",),
                      split="group", curves=("groups",), curve_draws=2, out={str(tmp_path / "r")!r}), kill)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((tmp_path / "r" / TASKS_FOLDER).glob("*.parquet"))) == 4
    again = run_probe(config(store, tmp_path / "r", split="group", curve_draws=2))
    run_probe(config(store, tmp_path / "whole", split="group", curve_draws=2))
    whole = read_curve(tmp_path / "whole")
    # three ordinary fits and the curve of one of the three layers were finished
    assert again.n_fitted == len(whole) * 2 // 3
    pd.testing.assert_frame_equal(comparable(read_curve(tmp_path / "r")), comparable(whole))


@pytest.mark.slow
def test_a_run_on_local_workers_is_the_same(store: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    more = {"split": "group", "classifiers": ("linear",), "layers": "1-2", "curve_draws": 2}
    run_probe(config(store, tmp_path / "here", **more))
    run_probe(config(store, tmp_path / "there", cluster="local:2", **more))
    assert len(list((tmp_path / "there" / TASKS_FOLDER).glob("*.parquet"))) >= 4
    pd.testing.assert_frame_equal(
        comparable(read_curve(tmp_path / "here")), comparable(read_curve(tmp_path / "there"))
    )


def test_a_layer_larger_than_memory_is_streamed_share_by_share(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"split": "group", "layers": "2", "classifiers": ("linear",), "curve_shares": "50"}
    run_probe(config(store, tmp_path / "held", **more))
    monkeypatch.setattr(memory_plan, "block_rows", lambda *_: 100)
    run_probe(config(store, tmp_path / "streamed", **more))
    held, streamed = (comparable(read_curve(tmp_path / name)) for name in ("held", "streamed"))
    same = ["fingerprint", "n_train", "n_train_groups", "n_classes_trained", "trained", "chance"]
    pd.testing.assert_frame_equal(held[same], streamed[same])
    # other orders of the rows: other fits of about the same worth
    assert abs(held["uar_test"].mean() - streamed["uar_test"].mean()) < 0.1


@pytest.mark.slow
def test_other_groups_are_another_curve_and_the_former_leaves_the_table(
    make_store: Write, table: pd.DataFrame, tmp_path: Path
) -> None:
    asked = {"split": "random", "layers": "0", "curves": ("groups", "rows"), "curve_draws": 2}
    make_store(tmp_path / "a.zarr", table, layers=(0,))
    make_store(tmp_path / "b.zarr", table.assign(group=table["group"] + "x"), layers=(0,))
    run_probe(config(tmp_path / "a.zarr", tmp_path / "r", **asked))
    before = read_curve(tmp_path / "r")
    run_probe(config(tmp_path / "b.zarr", tmp_path / "r", **asked))
    after = read_curve(tmp_path / "r")
    assert len(before) == len(after)
    by_groups = [set(t.loc[t["curve"] == "groups", "fingerprint"]) for t in (before, after)]
    assert not by_groups[0] & by_groups[1]
    assert (after["finished_at"] > before["finished_at"].max()).all()


@pytest.mark.slow
def test_few_groups_are_said_and_what_cannot_be_is_one_line(
    make_store: Write, table: pd.DataFrame, tmp_path: Path
) -> None:
    notes: list[str] = []
    make_store(tmp_path / "few.zarr", planted(3, one_class_each=False), layers=(20,), failed=())
    run_probe(config(tmp_path / "few.zarr", tmp_path / "few"), on_notes=notes.extend)
    few = (
        "call · calls · split: column: curve groups: with 3 training groups 10, 20, 50 % take as many as the "
        "next larger share and are left out"
    )
    assert few in notes
    shown = learning_curves(tmp_path / "few")
    assert shown["n_train_groups"].tolist() == [1, 2, 3]
    assert shown["share"].tolist() == [0.3, 0.7, 1.0]
    (step,) = last_steps(tmp_path / "few")
    assert step.n_draws <= 3  # there are three pairs of three groups

    make_store(tmp_path / "none.zarr", table.assign(group=""), layers=(0,))
    with pytest.raises(LabelError, match=r"curve groups needs a group for every training row, \d+ have none"):
        run_probe(config(tmp_path / "none.zarr", tmp_path / "none", split="random"))
    run_probe(
        config(tmp_path / "none.zarr", tmp_path / "none", split="random", curves=("rows",), curve_draws=1)
    )
    assert (read_curve(tmp_path / "none")["n_train_groups"] == 0).all()
    (step,) = last_steps(tmp_path / "none")
    assert np.isnan(step.low)
    assert "take more --curve-draws" in step.sentence()

    both = [f"{a}|{b}" for a, b in zip(table["caller"], table["group"], strict=True)]
    make_store(tmp_path / "sets.zarr", table.assign(both=both), layers=(0,))
    sets = {"labels": ("both",), "split": "random", "classifiers": ("linear",)}
    with pytest.raises(ConfigError, match=r"holds sets of labels: learning curves are for single labels"):
        run_probe(config(tmp_path / "sets.zarr", tmp_path / "sets", **sets))
    with pytest.raises(
        ConfigError, match=r"curve rows, 2 % \(\d clips of \d class.*or leave small shares out"
    ):
        run_probe(
            config(
                tmp_path / "none.zarr",
                tmp_path / "knn",
                split="random",
                curves=("rows",),
                curve_shares="2",
                classifiers=("knn",),
            )
        )
