"""What the results table says: choices by validation only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import CorruptData, StoreError
from probes.results.fit_tables import FIT_COLUMNS
from probes.results.results_folder import (
    consolidate,
    prepare,
    read_predictions,
    read_results,
    write_task,
)
from probes.results.selection import summarise


def fit(layer: int, hparams: str, seed: int, val: float, test: float) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(FIT_COLUMNS, 0)
    text = {"model": "m", "dataset": "d", "label": "l", "classifier": "mlp", "split": "random"}
    text |= dict.fromkeys(("layer_weights", "data", "clips", "device"), "")
    row.update(
        text,
        layer=layer,
        layers=str(layer),
        combine="each",
        hparams=hparams,
        seed=seed,
        uar_val=val,
        uar_test=test,
        chance=0.25,
        finished_at="2026-01-01",
        fingerprint=f"{layer}/{hparams}/{seed}",
    )
    return row


def test_settings_and_layer_are_chosen_on_validation_and_ties_go_to_the_lower_layer() -> None:
    table = pd.DataFrame(
        [
            fit(0, "a", 0, val=0.5, test=0.9),
            fit(0, "a", 1, val=0.7, test=0.7),
            fit(0, "b", 0, val=0.59, test=1.0),  # better test must not win
            fit(0, "b", 1, val=0.59, test=1.0),
            fit(1, "a", 0, val=0.8, test=0.2),
            fit(1, "a", 1, val=0.8, test=0.4),
            fit(2, "a", 0, val=0.9, test=1.0),
            fit(2, "a", 1, val=0.7, test=1.0),
        ]
    )
    summary = summarise(table)
    assert summary["layer"].tolist() == [0, 1, 2]
    assert summary["hparams"].tolist() == ["a", "a", "a"]
    assert summary["best"].tolist() == [False, True, False]
    assert summary["uar_test_mean"].tolist() == pytest.approx([0.8, 0.3, 1.0])
    assert summary["uar_test_std"].tolist() == pytest.approx([np.sqrt(0.02), np.sqrt(0.02), 0])
    assert summary["n_fits"].tolist() == [2, 2, 2]
    shuffled = summarise(table.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(summary, shuffled)


def test_the_table_does_not_depend_on_the_order_of_tasks(tmp_path: Path) -> None:
    rows = [fit(k, "{}", s, 0.5, 0.5) for k in range(3) for s in range(2)]
    empty = pd.DataFrame(columns=["fingerprint", "utterance_id", "group", "target", "prediction"])
    tables = []
    for name, order in (("a", range(6)), ("b", (5, 2, 0, 4, 1, 3))):
        prepare(tmp_path / name)
        for i in order:
            write_task(tmp_path / name, f"task{(i * 7) % 6}{name}", [rows[i]], empty)
        tables.append(consolidate(tmp_path / name))
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(tables[0], read_results(tmp_path / "a"))


def test_predictions_of_a_fit_in_two_tasks_are_read_once(tmp_path: Path) -> None:
    prepare(tmp_path)
    a, b = fit(0, "{}", 0, 0.5, 0.5), fit(1, "{}", 0, 0.5, 0.5)
    for name, day, rows, guess in (("x", "02", [a], "late"), ("y", "01", [a, b], "early")):
        said = [
            {"fingerprint": r["fingerprint"], "utterance_id": "u", "group": "", "target": "t"} for r in rows
        ]
        predictions = pd.DataFrame(said).assign(prediction=guess)
        write_task(tmp_path, name, [{**r, "finished_at": f"2026-01-{day}"} for r in rows], predictions)
    table = consolidate(tmp_path)
    found = read_predictions(tmp_path, table).set_index("fingerprint")["prediction"]
    assert found.to_dict() == {"0/{}/0": "late", "1/{}/0": "early"}
    assert len(found) == 2


def test_missing_and_damaged_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"results.parquet: expected the results of `fs probe`"):
        read_results(tmp_path)
    (tmp_path / "results.parquet").write_bytes(b"not parquet")
    with pytest.raises(CorruptData, match=r"results.parquet: cannot be read"):
        read_results(tmp_path)
