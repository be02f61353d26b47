"""Controls: labels that cannot be learned, and the online code, against scikit-learn's log loss."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from featurestore import open_store
from featurestore.errors import ConfigError, LabelError
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.classifiers.interface import Bundle
from probes.classifiers.registry import get_classifier
from probes.questions.controls import PORTIONS, portions
from probes.questions.labelled_rows import labelled
from probes.results.results_folder import read_controls
from probes.results.selection import control_summary
from probes.run.probe_plan import make_plan
from probes.splits import make_split
from probes.training.standardise import Standardiser

Write = Callable[..., None]


def config(store: Path | str, out: Path, *controls: str, **more: object) -> ProbeConfig:
    given = {
        "labels": ("call",), "models": ("model-a",), "classifiers": ("linear",), "split": "random",
        "grid": {"linear": {"max_epochs": 6, "batch_size": 16, "learning_rate": 0.01}}, **more,
    }  # fmt: skip
    return ProbeConfig(store=str(store), out=out, controls=controls, **given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_controls_change_no_ordinary_question_and_no_ordinary_table(store: str, tmp_path: Path) -> None:
    plain = {t.question(f) for t in make_plan(config(store, tmp_path)).tasks for f in t.fits}
    with_controls = make_plan(config(store, tmp_path, "shuffled-labels", "mdl"))
    asked = [t.question(f) for t in with_controls.tasks for f in t.fits]
    assert plain < set(asked)
    assert len(set(asked)) == len(asked) == 3 * len(plain)
    run_probe(config(store, tmp_path / "plain"))
    summary = run_probe(config(store, tmp_path / "r", "shuffled-labels", "mdl"))
    a, b = read_results(tmp_path / "plain"), read_results(tmp_path / "r")
    times = ["fit_s", "finished_at"]
    pd.testing.assert_frame_equal(a.drop(columns=times), b.drop(columns=times))
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "r"), pd.read_parquet(tmp_path / "r/results.parquet")
    )
    assert set(summary.table["fingerprint"]) == plain
    assert Counter(read_controls(tmp_path / "r")["control"]) == {"shuffled-labels": 3, "mdl": 3}
    # asked again, nothing is fitted; controls asked for later are fitted alone
    assert run_probe(config(store, tmp_path / "r", "shuffled-labels", "mdl")).n_fitted == 0
    assert run_probe(config(store, tmp_path / "plain", "shuffled-labels")).n_fitted == 3


def test_shuffled_labels_keep_class_sizes_and_selectivity_is_paired(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path, "shuffled-labels", layers="2", n_seeds=2))
    table, controls = read_results(tmp_path), read_controls(tmp_path)
    truth = (
        read_predictions(tmp_path, table).drop_duplicates("utterance_id").set_index("utterance_id")["target"]
    )
    dealt = read_predictions(tmp_path, controls).drop_duplicates("utterance_id")
    dealt = dealt.set_index("utterance_id")["target"]
    assert Counter(dealt) == Counter(truth)
    assert (dealt != truth[dealt.index]).any()
    assert controls["chance"].tolist() == table["chance"].tolist()
    # as good a probe as layer 2 allows, and nothing to learn from dealt labels
    assert table["uar_test"].mean() > 0.75
    assert controls["uar_test"].mean() < 0.5
    (row,) = control_summary(table, controls).to_dict("records")
    expected = (table.set_index("seed")["uar_test"] - controls.set_index("seed")["uar_test"]).mean()
    assert row["selectivity"] == pytest.approx(expected)
    assert row["n_fits"] == 2


def test_labels_by_group_are_one_per_group_and_found_where_groups_straddle(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    """Layers that hold the caller: a control by group is learned on a random split, not across groups."""
    # the store's values follow `call`: let call say what the group is, and probe another label
    group = table["call"].where(table["call"] != "", "none")
    rng = np.random.default_rng(1)
    own = table.assign(group=group, mood=rng.choice(["calm", "alarm"], len(table)))
    make_store(tmp_path / "s.zarr", own, layers=(2,))
    run_probe(
        config(tmp_path / "s.zarr", tmp_path / "r", "group-labels", "shuffled-labels", labels=("mood",))
    )
    controls = read_controls(tmp_path / "r").set_index("control")
    predictions = read_predictions(tmp_path / "r", controls.loc[["group-labels"]])
    assert (predictions.groupby("group")["target"].nunique() == 1).all()
    assert predictions["target"].nunique() == 2
    assert controls.loc["group-labels", "uar_test"] > 0.9
    assert controls.loc["shuffled-labels", "uar_test"] < 0.75


def test_other_groups_are_another_question_of_labels_by_group_alone(
    make_store: Write, table: pd.DataFrame, tmp_path: Path
) -> None:
    asked = []
    for name, groups in (("a.zarr", table["group"]), ("b.zarr", table["group"] + "x")):
        make_store(tmp_path / name, table.assign(group=groups))
        tasks = make_plan(config(tmp_path / name, tmp_path, "group-labels", layers="0")).tasks
        asked.append({t.control: t.question(t.fits[0]) for t in tasks})
    assert asked[0][""] == asked[1][""]
    assert asked[0]["group-labels"] != asked[1]["group-labels"]


@pytest.mark.slow
def test_the_online_code_is_the_sum_of_log_losses(store: str, tmp_path: Path) -> None:
    asked = config(store, tmp_path, "mdl", layers="1-2", n_seeds=2)
    run_probe(asked)
    controls = read_controls(tmp_path).set_index(["layer", "seed"])
    features = open_store(store).features("model-a", "calls")
    found = labelled(features, "call")
    split = make_split("random", found.rows, 0, 0)
    classes, code = found.rows.classes
    y, n = code[split.train], len(split.train)
    order = np.argsort(found.rows.draws(0, 103)[split.train])
    sizes = [k for k in sorted({round(p * n) for p in PORTIONS}) if k >= 16]
    assert sizes == portions(n)
    assert sizes[-1] == n
    x = features.layer(2).numpy()[found.position].reshape(len(found.rows), -1)
    standardise = Standardiser.fit(x[split.train])
    x_train, x_val = standardise(x[split.train]), standardise(x[split.val])
    (settings,) = asked.fits()["linear"][:1]
    bits = sizes[0] * np.log2(len(classes))
    for start, stop in itertools.pairwise(sizes):
        past, coming = order[:start], order[start:stop]
        (probe,) = get_classifier("linear").fit(
            Bundle(
                x_train=x_train[past], y_train=y[past], x_val=x_val, y_val=code[split.val],
                n_classes=len(classes), fits=((json.loads(settings.hparams), 1),),
            )
        )  # fmt: skip
        p = probe.scores(x_train[coming]).astype(float)
        p /= p.sum(axis=1, keepdims=True)
        nats = log_loss(y[coming], p, labels=range(4), normalize=False)
        bits += nats / np.log(2)
    row = controls.loc[(2, 1)]
    assert row["codelength_bits"] == pytest.approx(bits, rel=1e-4)
    assert row["uniform_bits"] == pytest.approx(2 * n)
    assert row["compression"] == pytest.approx(2 * n / bits, rel=1e-4)
    # the clearer layer takes fewer bits
    assert controls.loc[(2, 0), "codelength_bits"] < controls.loc[(1, 0), "codelength_bits"]


def test_portions_end_with_all_rows_whatever_their_number() -> None:
    assert [len(portions(n)) for n in (16, 30, 31)] == [1, 1, 2]
    for n in (1, 3, 15, 16, 17, 40, 1000, 72_920):
        sizes = portions(n)
        assert sizes[-1] == n
        assert sizes == sorted(set(sizes))
    assert portions(100_000) == [100, 200, 400, 800, 1600, 3200, 6250, 12500, 25000, 50000, 100000]


def test_impossible_controls_are_one_line(
    store: str, make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    with pytest.raises(
        ConfigError, match=r"control: expected .*, got 'shuffled'; did you mean 'shuffled-labels'"
    ):
        config(store, tmp_path, "shuffled")
    with pytest.raises(ConfigError, match=r"control mdl: classifier lda gives no probability to a class"):
        config(store, tmp_path, "mdl", classifiers=("lda",), grid={})
    make_store(tmp_path / "s.zarr", table.assign(group=""), layers=(0,))
    with pytest.raises(LabelError, match=r"control group-labels needs a group for every row, 228 have none"):
        run_probe(config(tmp_path / "s.zarr", tmp_path / "r", "group-labels"))
    make_store(tmp_path / "few.zarr", table.iloc[:40], layers=(0,), failed=())  # 20 for training
    with pytest.raises(LabelError, match=r"control mdl needs at least 31 training rows, there are 20"):
        run_probe(config(tmp_path / "few.zarr", tmp_path / "r", "mdl"))
    assert not (tmp_path / "r").exists()
