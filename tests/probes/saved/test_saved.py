"""Saved probes: the same predictions from JSON and safetensors as from the fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.special import softmax

from featurestore import open_store
from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch, StoreError, UnknownFormat
from featurestore.fingerprint import digest
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.questions.labelled_rows import labelled
from probes.results.results_folder import RESULTS_NAME
from probes.saved.chosen_probe import save_probe
from probes.saved.probe_files import CONTENT_HASH, JSON_NAME, WEIGHTS_HASH, WEIGHTS_NAME, read_probe
from probes.splits import make_split

GRID = {name: {"max_epochs": 4, "batch_size": 32} for name in ("mlp", "linear")}


def probed(store: str, out: Path, classifier: str, **more: object) -> pd.DataFrame:
    grid = {classifier: GRID[classifier]} if classifier in GRID else {}
    given = {"labels": ("call",), "models": ("model-a",), "split": "group", "grid": grid, **more}
    run_probe(ProbeConfig(store=store, out=out, classifiers=(classifier,), **given))  # type: ignore[arg-type]
    return read_results(out)


@pytest.mark.parametrize("classifier", ["mlp", "linear", "logreg", "svm", "lda", "centroid"])
def test_predictions_on_test_rows_are_those_on_record(store: str, tmp_path: Path, classifier: str) -> None:
    table = probed(store, tmp_path / "r", classifier, n_seeds=2)
    saved = save_probe(tmp_path / "r", tmp_path / "p")
    # the layer by the mean over seeds, then the better seed
    layer = table.groupby("layer")["uar_val"].mean().idxmax()
    of_layer = table[table["layer"] == layer]
    best = of_layer.loc[of_layer["uar_val"].idxmax()]
    assert saved.card.layers == (best["layer"],)
    assert saved.card.scores["uar_test"] == best["uar_test"]
    assert saved.card.reproduced["n_differ"] == 0
    recorded = read_predictions(tmp_path / "r", table[table["fingerprint"] == saved.card.question])
    probe = read_probe(tmp_path / "p")
    features = open_store(store).features("model-a", "calls")
    x = features.layer(best["layer"]).numpy().reshape(len(features.index), -1)
    rows = features.index.reset_index().set_index("utterance_id")["index"][recorded["utterance_id"]]
    assert len(rows) == saved.card.reproduced["n_test"] > 10
    assert probe.predict(x[rows]).tolist() == recorded["prediction"].tolist()
    # no pickle: the weights are plain arrays, the rest is text
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == [JSON_NAME, WEIGHTS_NAME]
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "p" / WEIGHTS_NAME).read_bytes())


def test_the_linear_probe_is_a_softmax_that_anyone_can_compute(store: str, tmp_path: Path) -> None:
    probed(store, tmp_path / "r", "linear")
    save_probe(tmp_path / "r", tmp_path / "p")
    weights = load_file(tmp_path / "p" / WEIGHTS_NAME)
    card = json.loads((tmp_path / "p" / JSON_NAME).read_text(encoding="utf-8"))
    x = np.random.default_rng(0).standard_normal((9, 12)).astype(np.float32)
    z = (x - weights["standardiser.mean"]) / weights["standardiser.scale"]
    z = z @ weights["probe.linear.0.weight"].T + weights["probe.linear.0.bias"]
    np.testing.assert_allclose(read_probe(tmp_path / "p").scores(x), softmax(z, axis=1), rtol=1e-4, atol=1e-6)
    assert card["classes"] == ["peep", "phee", "trill", "tsik"]
    assert card["extraction"] == {"revision": 1}


@pytest.mark.parametrize(("classifier", "combine"), [("lda", "concat"), ("mlp", "weighted")])
def test_several_layers_are_saved_too(store: str, tmp_path: Path, classifier: str, combine: str) -> None:
    table = probed(store, tmp_path / "r", classifier, combine=(combine,))
    saved = save_probe(tmp_path / "r", tmp_path / "p")
    assert saved.card.layers == (0, 1, 2)
    assert saved.card.reproduced["n_differ"] == 0
    features = open_store(store).features("model-a", "calls")
    n = len(features.index)
    x = np.concatenate([features.layer(k).numpy().reshape(n, -1) for k in (0, 1, 2)], axis=1)
    found = labelled(features, "call")
    test = make_split("group", found.rows, 0, 0).test
    guess = read_probe(tmp_path / "p").predict(x[found.position[test]])
    recorded = read_predictions(tmp_path / "r", table).set_index("utterance_id")["prediction"]
    assert guess.tolist() == recorded[found.rows.utterance_id[test]].tolist()


def test_the_answer_is_saved_where_layers_were_combined_too(store: str, tmp_path: Path) -> None:
    table = probed(store, tmp_path / "r", "linear", combine=("each", "concat"), layers="0-1")
    table.loc[table["combine"] == "concat", "uar_val"] = 0.99  # the better one, on validation
    table.to_parquet(tmp_path / "r" / RESULTS_NAME)
    assert save_probe(tmp_path / "r", tmp_path / "p").card.combine == "each"


@pytest.mark.parametrize("classifier", ["rf", "knn"])
def test_what_needs_pickle_is_refused_in_one_line(store: str, tmp_path: Path, classifier: str) -> None:
    probed(store, tmp_path / "r", classifier, layers="2")
    with pytest.raises(
        ConfigError, match=rf"classifier {classifier}: its fits cannot be saved .*mlp, linear"
    ):
        save_probe(tmp_path / "r", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_neighbours_without_a_tree_are_arrays(store: str, tmp_path: Path) -> None:
    probed(store, tmp_path / "r", "knn", layers="2", grid={"knn": {"algorithm": "brute"}})
    saved = save_probe(tmp_path / "r", tmp_path / "p")
    assert saved.card.reproduced["n_differ"] == 0
    x = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    np.testing.assert_allclose(read_probe(tmp_path / "p").scores(x).sum(axis=1), 1, rtol=1e-6)


def test_wrong_calls_are_one_line(store: str, tmp_path: Path) -> None:
    table = probed(store, tmp_path / "r", "lda", labels=("call", "caller"), split="random")
    with pytest.raises(
        ConfigError, match=r"holds probes of several labels, say which with --label: call, caller"
    ):
        save_probe(tmp_path / "r", tmp_path / "p")
    with pytest.raises(ConfigError, match=r"--label cal: .* has call, caller"):
        save_probe(tmp_path / "r", tmp_path / "p", label="cal")
    with pytest.raises(StoreError, match="expected the results of"):
        save_probe(tmp_path, tmp_path / "p")
    with pytest.raises(StoreError, match="expected a probe of `fs save-probe`"):
        read_probe(tmp_path / "p")
    assert len(table) == 6


def test_a_store_that_changed_since_is_noticed(
    make_store: object, table: pd.DataFrame, tmp_path: Path
) -> None:
    make_store(tmp_path / "s.zarr", table)  # type: ignore[operator]
    probed(str(tmp_path / "s.zarr"), tmp_path / "r", "lda")
    make_store(tmp_path / "t.zarr", table, revision=2)  # type: ignore[operator]
    with pytest.raises(StoreError, match="changed since this probe was fitted"):
        save_probe(tmp_path / "r", tmp_path / "p", store=str(tmp_path / "t.zarr"))
    save_probe(tmp_path / "r", tmp_path / "p")
    probe = read_probe(tmp_path / "p")
    with pytest.raises(FingerprintMismatch, match=r"revision: probe 1, here 2"):
        probe.require({"revision": 2}, "t.zarr")


def test_damaged_probes_are_named(store: str, tmp_path: Path) -> None:
    probed(store, tmp_path / "r", "lda")
    save_probe(tmp_path / "r", tmp_path / "p")
    weights = (tmp_path / "p" / WEIGHTS_NAME).read_bytes()
    (tmp_path / "p" / WEIGHTS_NAME).write_bytes(weights[:100])
    with pytest.raises(CorruptData, match="not a readable probe"):
        read_probe(tmp_path / "p")
    (tmp_path / "p" / WEIGHTS_NAME).write_bytes(weights)
    card = json.loads((tmp_path / "p" / JSON_NAME).read_text())
    card["settings"]["class"] = "os:system"
    (tmp_path / "p" / JSON_NAME).write_text(json.dumps(card))
    with pytest.raises(CorruptData, match=r"probe.json was changed since it was saved"):
        read_probe(tmp_path / "p")
    # The hash is no signature: whoever changes the card can make one that fits.
    del card[CONTENT_HASH]
    card[CONTENT_HASH] = digest(card)
    (tmp_path / "p" / JSON_NAME).write_text(json.dumps(card))
    with pytest.raises(CorruptData, match="expected a class of scikit-learn"):
        read_probe(tmp_path / "p").scores(np.zeros((1, 12), np.float32))
    card["format_version"] = 99
    (tmp_path / "p" / JSON_NAME).write_text(json.dumps(card))
    with pytest.raises(UnknownFormat, match=r"format version 99.*up to 6; upgrade featurestore-audio"):
        read_probe(tmp_path / "p")


def test_probes_of_version_1_which_had_no_hashes_are_read(store: str, tmp_path: Path) -> None:
    probed(store, tmp_path / "r", "lda")
    save_probe(tmp_path / "r", tmp_path / "p")
    x = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    before = read_probe(tmp_path / "p").scores(x)
    card = json.loads((tmp_path / "p" / JSON_NAME).read_text())
    for name in (CONTENT_HASH, WEIGHTS_HASH):
        del card[name]
    (tmp_path / "p" / JSON_NAME).write_text(json.dumps({**card, "format_version": 1}))
    assert (read_probe(tmp_path / "p").scores(x) == before).all()
