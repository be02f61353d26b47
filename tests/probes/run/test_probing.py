"""`run_probe` from end to end on a small real store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurestore import open_store
from featurestore.backends.storage import Storage
from featurestore.errors import (
    ConfigError,
    KeyNotFound,
    LabelError,
    StoreError,
    UserError,
)
from featurestore.store import chosen_keys
from featurestore.store.key import KeyInfo, find_keys
from probes import ProbeConfig, ProbeProgress, metrics, read_predictions, read_results, run_probe
from probes.run import probing

Write = Callable[..., None]
QUICK = {"linear": {"max_epochs": 4, "batch_size": 32}, "mlp": {"max_epochs": 3, "batch_size": 32}}
TIMES = ["fit_s", "finished_at"]


def config(store: str, out: Path, **changes: Any) -> ProbeConfig:
    given: dict[str, Any] = {"classifiers": ("linear",), "labels": ("call",), **changes}
    grid = {name: QUICK[name] for name in given["classifiers"] if name in QUICK}
    return ProbeConfig(**{"store": store, "out": out, "grid": grid, **given})


def test_a_run_writes_results_predictions_and_its_record(
    store: str, tmp_path: Path, table: pd.DataFrame
) -> None:
    manifest = table
    seen: list[ProbeProgress] = []
    summary = run_probe(
        config(
            store,
            tmp_path / "r",
            labels=("call", "caller"),
            classifiers=("mlp", "logreg"),
            split="random",
            n_seeds=2,
        ),
        progress=seen.append,
    )
    table = read_results(tmp_path / "r")
    # (3 + 2 layers) x 2 labels x (2 seeds of the MLP + 1 logistic regression)
    assert len(table) == 5 * 2 * 3 == summary.n_fitted
    assert table["fingerprint"].is_unique
    pd.testing.assert_frame_equal(table, summary.table)
    # a folder reads as the table: names with an underscore are skipped
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "r"), table)
    call = table[table["label"] == "call"]
    assert (call["n_train"] + call["n_val"] + call["n_test"] == 228).all()  # 10 unlabelled, 2 failed
    assert set(call["n_classes"]) == {4}

    predictions = read_predictions(tmp_path / "r", table)
    by_fit = predictions.groupby("fingerprint")
    for _, row in table.iterrows():
        part = by_fit.get_group(row["fingerprint"])
        assert len(part) == row["n_test"]
        assert metrics.uar(part["target"], part["prediction"]) == pytest.approx(row["uar_test"])
    truth = manifest.set_index("utterance_id")
    of_calls = predictions[predictions["target"].isin(["peep", "phee", "trill", "tsik"])]
    assert (truth.loc[of_calls["utterance_id"], "call"].to_numpy() == of_calls["target"]).all()
    assert (truth.loc[of_calls["utterance_id"], "group"].to_numpy() == of_calls["group"]).all()

    record = json.loads((tmp_path / "r" / "_run.json").read_text())
    assert record["config"]["labels"] == ["call", "caller"]
    assert record["versions"]["torch"]
    assert record["chance"]["calls/call"] == 0.25
    (split,) = [s for s in record["splits"] if (s["model"], s["label"]) == ("model-a", "call")]
    assert sum(p["rows"] for p in split["parts"].values()) == 228
    assert [p.n_fits_done for p in seen] == sorted(p.n_fits_done for p in seen)
    assert seen[-1].n_fits_done == 30
    assert seen[-1].best_uar["model-a"] == pytest.approx(
        table.loc[table["model"] == "model-a", "uar_val"].max()
    )


def test_a_fit_through_the_runner_equals_one_by_hand(store: str, tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    run_probe(
        config(store, tmp_path, classifiers=("logreg",), split="group", layers="2", models=("model-a",))
    )
    (row,) = read_results(tmp_path).query("model == 'model-a'").to_dict("records")
    record = json.loads((tmp_path / "_run.json").read_text())
    (split,) = [s for s in record["splits"] if s["model"] == "model-a"]
    f = open_store(store).features("model-a", "calls")
    index = f.index
    usable = (index["status"] == "ok") & (index["call"] != "")
    part = {
        name: usable & index["group"].isin(split["parts"][name]["groups"])
        for name in ("train", "val", "test")
    }
    assert not set(split["parts"]["train"]["groups"]) & set(split["parts"]["test"]["groups"])
    x = f.layer(2).numpy().reshape(len(index), -1)
    train = x[part["train"]]
    x = (x - train.mean(0)) / train.std(0)
    fitted = LogisticRegression(max_iter=1000).fit(x[part["train"]], index["call"][part["train"]])
    for name in part:
        guess = fitted.predict(x[part[name]])
        expected = balanced_accuracy_score(index["call"][part[name]], guess)
        assert row[f"uar_{name}"] == pytest.approx(expected, abs=1e-6)


def test_the_same_question_is_not_fitted_twice(store: str, tmp_path: Path) -> None:
    first = run_probe(config(store, tmp_path, n_seeds=2, layers="0-1"))
    again = run_probe(config(store, tmp_path, n_seeds=2, layers="0-1"))
    assert (first.n_fitted, first.n_cached) == (8, 0)
    assert (again.n_fitted, again.n_cached) == (0, 8)
    pd.testing.assert_frame_equal(first.table, again.table)
    more = run_probe(config(store, tmp_path, n_seeds=3, layers="0-1"))
    assert (more.n_fitted, more.n_cached) == (4, 8)
    other = run_probe(config(store, tmp_path, classifiers=("linear", "knn"), n_seeds=3, layers="0-1"))
    assert (other.n_fitted, other.n_cached) == (4, 12)
    assert len(read_results(tmp_path)) == 16


def test_each_fit_is_the_same_whatever_was_fitted_with_it(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path / "three", n_seeds=3, layers="1"))
    run_probe(config(store, tmp_path / "one", n_seeds=1, layers="1"))
    run_probe(config(store, tmp_path / "one", n_seeds=3, layers="1"))
    pd.testing.assert_frame_equal(
        read_results(tmp_path / "three").drop(columns=TIMES),
        read_results(tmp_path / "one").drop(columns=TIMES),
    )


@pytest.mark.slow
def test_results_do_not_depend_on_the_order_of_the_store(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    make_store(tmp_path / "a.zarr", table)
    shuffled = np.random.default_rng(5).permutation(len(table))
    make_store(tmp_path / "b.zarr", table, order=shuffled)
    for split in ("random", "group"):
        for name in "ab":
            run_probe(config(f"{tmp_path / name}.zarr", tmp_path / name, classifiers=("lda",), split=split))
    a, b = (read_results(tmp_path / name) for name in "ab")
    pd.testing.assert_frame_equal(a.drop(columns=TIMES), b.drop(columns=TIMES), atol=1e-5)


def test_changed_embeddings_or_labels_are_new_questions(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    for revision, name in ((1, "a.zarr"), (2, "b.zarr")):
        make_store(tmp_path / name, table, revision=revision)
    relabelled = table.assign(call=table["call"].replace({"tsik": "trill"}))
    make_store(tmp_path / "c.zarr", relabelled)
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        summary = run_probe(config(str(tmp_path / name), tmp_path / "r", layers="0"))
        assert (summary.n_fitted, summary.n_cached) == (1, 0)
        # the later answer replaces the earlier one in the table
        assert list(read_results(tmp_path / "r")["fingerprint"]) == list(summary.table["fingerprint"])


@pytest.mark.slow
def test_fits_on_labels_of_before_are_in_no_mean(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    out = tmp_path / "r"
    relabelled = table.assign(call=table["call"].replace({"tsik": "trill"}))
    make_store(tmp_path / "old.zarr", table)
    make_store(tmp_path / "new.zarr", relabelled)
    old = config(str(tmp_path / "old.zarr"), out, layers="0,1", n_seeds=2, split="kfold:3")
    run_probe(old)
    # fewer layers and seeds, so that nothing takes the place of the others
    new = run_probe(config(str(tmp_path / "new.zarr"), out, layers="0", split="kfold:3"))
    found = read_results(out)
    assert sorted(found["fingerprint"]) == sorted(new.table["fingerprint"])
    assert len(found) == 3
    # labels as they were: the fits of then are still there
    again = run_probe(old)
    assert (again.n_fitted, again.n_cached) == (0, 12)
    assert len(read_results(out)) == len(again.table) == 12


@pytest.mark.slow
def test_folds_that_are_gone_are_in_no_mean(make_store: Write, tmp_path: Path, table: pd.DataFrame) -> None:
    out = tmp_path / "r"
    for name, n_folds in (("old.zarr", 4), ("new.zarr", 3)):
        part = [f"part-{i % n_folds}" for i in range(len(table))]
        make_store(tmp_path / name, table.assign(part=part))
        run_probe(config(str(tmp_path / name), out, layers="0", split="fold:part"))
    assert read_results(out)["fold"].tolist() == [0, 1, 2]
    assert [s["fold"] for s in json.loads((out / "_run.json").read_text())["splits"]] == [0, 1, 2]


def test_a_setting_that_json_cannot_hold_is_one_line(store: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^classifier logreg, setting C: expected a value .* got inf$"):
        ProbeConfig(
            store=store, out=tmp_path, labels=("call",), classifiers=("logreg",),
            grid={"logreg": {"C": [float("inf")]}},
        )  # fmt: skip


def test_a_failure_keeps_what_is_finished(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def interrupt(progress: ProbeProgress) -> None:
        done.append(progress.n_done)
        if progress.n_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(config(store, tmp_path), progress=interrupt)
    assert len(read_results(tmp_path)) == 2
    summary = run_probe(config(store, tmp_path))
    assert (summary.n_fitted, summary.n_cached) == (3, 2)


def test_a_hidden_half_written_file_is_ignored(store: str, tmp_path: Path) -> None:
    first = run_probe(config(store, tmp_path, layers="0"))
    (tmp_path / "_tasks" / ".x.parquet.tmp").write_bytes(b"half")
    (tmp_path / "_tasks" / ".y.parquet").write_bytes(b"half")
    again = run_probe(config(store, tmp_path, layers="0"))
    assert again.n_cached == first.n_fitted == 2


@pytest.mark.slow
def test_two_local_processes_give_the_same_results(store: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    changes = {"classifiers": ("linear", "logreg"), "n_seeds": 2, "split": "random"}
    run_probe(config(store, tmp_path / "serial", **changes))
    run_probe(config(store, tmp_path / "local", cluster="local:2", **changes))
    pd.testing.assert_frame_equal(
        read_results(tmp_path / "serial").drop(columns=TIMES),
        read_results(tmp_path / "local").drop(columns=TIMES),
        atol=1e-5,
    )


@pytest.mark.slow
def test_planning_apart_gives_the_same_and_the_same_errors(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run_probe(config(store, tmp_path / "here"))
    monkeypatch.setattr(probing, "ROWS_PLANNED_APART", 1)
    monkeypatch.setattr(probing, "make_plan", None)  # of this process: it is not asked
    apart = run_probe(config(store, tmp_path / "apart"))
    assert apart.leakage == here.leakage
    columns = ["fingerprint", "uar_train", "uar_val", "uar_test"]
    pd.testing.assert_frame_equal(apart.table[columns], here.table[columns])
    with pytest.raises(LabelError, match="has no such label"):
        run_probe(config(store, tmp_path / "wrong", labels=("cal",)))


@pytest.mark.slow
def test_a_key_is_read_once_to_plan_and_once_by_a_worker(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import featurestore.store.reader as reader

    read: Counter[tuple[str, str]] = Counter()

    def counted(name: str) -> None:
        real = getattr(reader, name)

        def call(storage: Any, info: Any) -> Any:
            read[name, info.path] += 1
            return real(storage, info)

        monkeypatch.setattr(reader, name, call)

    for name in ("_with_its_ledger", "read_stored_manifest"):
        counted(name)
    asked = {"labels": ("call", "caller"), "classifiers": ("linear", "lda"), "split": "kfold:3"}
    assert len(run_probe(config(store, tmp_path / "r", layers="0", **asked)).table) == 2 * 2 * 2 * 3
    assert {path for _, path in read} == {"model-a/calls", "model-bb/calls"}
    assert set(read.values()) == {2}


def test_the_keys_of_a_store_are_listed_once(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket of a thousand keys a listing takes a second or two."""
    listings: list[object] = []

    def counted(storage: Storage) -> tuple[list[KeyInfo], dict[tuple[str, str], str]]:
        listings.append(storage)
        return find_keys(storage)

    monkeypatch.setattr(chosen_keys, "find_keys", counted)
    run_probe(config(store, tmp_path / "results"))
    assert len(listings) == 1


def test_the_default_split_is_the_column_then_the_group_then_random(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    own = np.resize(["train"] * 7 + ["val"] * 2 + ["test"], len(table))
    variants = {
        "column": table.assign(split=own),
        "group": table,
        "random": table.assign(group=""),
    }
    for name, variant in variants.items():
        make_store(tmp_path / f"{name}.zarr", variant, layers=(0,))
        notes: list[str] = []
        asked = config(str(tmp_path / f"{name}.zarr"), tmp_path / name, classifiers=("lda",))
        run_probe(asked, on_notes=notes.extend)
        assert set(read_results(tmp_path / name)["split"]) == {name}
        # A split that nobody asked for, and that holds nothing apart, is never silent.
        said = [n for n in notes if "the manifest names no groups, so the split is random" in n]
        assert len(said) == (name == "random"), notes


def test_nothing_is_written_when_the_question_is_wrong(store: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError):
        run_probe(config(store, tmp_path / "r", labels=("cal",)))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"labels": ("cal",)}, LabelError, "label 'cal': .* call, caller, species; did you mean 'call'"),
        ({"labels": ("species",)}, LabelError, "at least two classes, found only 'marmoset'"),
        ({"labels": ()}, ConfigError, "labels: expected at least one"),
        ({"models": ("model-b",)}, KeyNotFound, "model 'model-b': .*did you mean 'model-bb'"),
        ({"datasets": ("call",)}, KeyNotFound, "dataset 'call': .*did you mean 'calls'"),
        ({"layers": "7"}, KeyNotFound, "layers 7: model-a/calls has none of them, it has 0-2"),
        ({"layers": "1-9"}, KeyNotFound, "layers 1-9: nothing .* has layer 3-9, the store has 0-2"),
        ({"layers": "5-3"}, ConfigError, "range 5-3 is empty"),
        ({"classifiers": ("mpl",)}, ConfigError, "classifier: .* got 'mpl'; did you mean 'mlp'"),
        ({"classifiers": ("no.such:Thing",)}, ConfigError, "'no.such:Thing': cannot import"),
        (
            {"grid": {"linear": {"learning_rat": [1]}}},
            ConfigError,
            "classifier linear: unknown setting 'learning_rat', .*did you mean 'learning_rate'",
        ),
        ({"grid": {"linear": {"learning_rate": [0]}}}, ConfigError, "learning_rate: expected"),
        ({"grid": {"linear": {"learning_rate": ["fast"]}}}, ConfigError, "learning_rate: expected"),
        ({"grid": {"linear": {"learning_rate": []}}}, ConfigError, "'learning_rate' has no values"),
        ({"grid": {"mlp": {}}}, ConfigError, "grid: settings for classifier 'mlp', but"),
        (
            {"classifiers": ("logreg",), "grid": {"logreg": {"C": [-1]}}},
            ConfigError,
            "classifier logreg: The 'C' parameter",
        ),
        ({"split": "groups"}, ConfigError, "split: expected .* got 'groups'; did you mean 'group'"),
        ({"split": "column"}, LabelError, "split 'column' needs rows in train, val and test"),
        ({"n_seeds": 0}, ConfigError, "seeds: expected 1 to 10,000, got 0"),
        ({"cluster": "locall"}, ConfigError, "cluster 'locall': expected local"),
    ],
)
def test_a_mistake_is_one_line(
    store: str, tmp_path: Path, changes: dict[str, Any], kind: type[UserError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        run_probe(config(store, tmp_path / "r", **changes))
    assert "\n" not in str(caught.value)


def test_a_class_missing_from_training_is_named(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    own = np.resize(["train"] * 7 + ["val"] * 2 + ["test"], len(table)).astype(object)
    own[(table["call"] == "tsik").to_numpy()] = "test"
    make_store(tmp_path / "s.zarr", table.assign(split=own), layers=(0,))
    with pytest.raises(LabelError, match=r"class 'tsik' without training rows \(0 in val"):
        run_probe(config(str(tmp_path / "s.zarr"), tmp_path / "r"))


def test_an_unwritable_folder_is_named(store: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write results here"):
        run_probe(config(store, tmp_path / "file" / "r"))


def test_a_store_that_changes_under_a_task_is_noticed(store: str, tmp_path: Path) -> None:
    from dataclasses import replace

    task = probing.make_plan(config(store, tmp_path)).tasks[0]
    with pytest.raises(StoreError, match="changed while it was probed"):
        probing.run_task(replace(task, data="0" * 64))
