"""Saved classifiers of scikit-learn: a list of classes, whose arrays are of the shapes they must have."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from featurestore.errors import ConfigError, CorruptData
from featurestore.fingerprint import digest
from probes.classifiers.sklearn_estimators import scores_of
from probes.saved.chosen_probe import save_probe
from probes.saved.probe_files import CONTENT_HASH, JSON_NAME, WEIGHTS_HASH, WEIGHTS_NAME, read_probe
from probes.saved.sklearn_classes import SAVABLE
from probes.saved.stored_arrays import Stored, restore, to_store
from tests.probes.saved.test_saved import probed

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "LinearDiscriminantAnalysis": [{}, {"solver": "lsqr", "shrinkage": "auto"}],
    "NearestCentroid": [{}, {"priors": "empirical"}, {"metric": "manhattan"}],
    "KNeighborsClassifier": [
        {"algorithm": "brute"},
        {"algorithm": "brute", "weights": "distance", "metric": "cosine", "n_jobs": 2},
        {"algorithm": "brute", "p": 3},
    ],
    "SVC": [{}, {"kernel": "poly", "gamma": 1}, {"kernel": "linear"}],
}
CASES = [(name, settings) for name in SAVABLE for settings in SETTINGS.get(name, [{}])]


def fitted(name: str, settings: dict[str, Any], n_classes: int) -> tuple[Any, np.ndarray]:
    """A classifier and rows `[40, 6]` that it did not see."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 6)).astype(np.float32), np.arange(80) % n_classes
    x[:, 0] += y
    made = getattr(importlib.import_module(SAVABLE[name].module), name)(**settings)
    return made.fit(x, y), rng.standard_normal((40, 6)).astype(np.float32)


def as_json(stored: Stored, **arrays: Any) -> Stored:
    """As it is after it was written and read, with some arrays replaced; None takes one out."""
    kept = {k: v for k, v in {**stored.arrays, **arrays}.items() if v is not None}
    return Stored(kind=stored.kind, settings=json.loads(json.dumps(stored.settings)), arrays=kept)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_what_comes_back_gives_the_very_scores(name: str, settings: dict[str, Any], n_classes: int) -> None:
    estimator, x = fitted(name, settings, n_classes)
    scores = restore(as_json(to_store(estimator, name)), n_features=6, n_classes=n_classes)
    np.testing.assert_array_equal(scores(x), scores_of(estimator, n_classes, x))


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_arrays_of_other_shapes_are_refused_whichever_it_is(name: str, settings: dict[str, Any]) -> None:
    estimator, _ = fitted(name, settings, 4)
    stored = to_store(estimator, name)
    refused = 0
    for key in SAVABLE[name].arrays:
        value = np.asarray({**stored.settings["values"], **stored.arrays}[key])
        others = [np.stack([value, value]), value.astype(str), np.full(value.shape, np.nan)]
        if value.ndim:
            others += [np.concatenate([value, value[:1]]), value[:-1], value[..., :0]]
        for other in others:
            if other.shape == value.shape and other.dtype == value.dtype:
                continue  # _probA of an SVC without probabilities has nothing to leave out
            with pytest.raises(CorruptData, match=r"saved probe: cannot be put together") as error:
                restore(as_json(stored, **{key: other}), n_features=6, n_classes=4)
            assert "\n" not in str(error.value)
            refused += 1
        if key not in SAVABLE[name].optional and key in stored.arrays:
            with pytest.raises(CorruptData, match=key):
                restore(as_json(stored, **{key: None}), n_features=6, n_classes=4)
    assert refused >= 6


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("SVC", lambda a: a["_n_support"] + np.array([10_000_000, 0, 0, 0], np.int32), "support vectors"),
        ("SVC", lambda a: a["_n_support"] * np.array([-1, 1, 1, 1], np.int32), "support vectors"),
        ("KNeighborsClassifier", lambda a: np.where(a["_y"] == 0, 1 << 40, a["_y"]), "each of the 4 classes"),
        ("KNeighborsClassifier", lambda a: np.where(a["_y"] == 0, 1, a["_y"]), "each of the 4 classes"),
    ],
    ids=["too-many", "negative", "no-class", "class-left-out"],
)
def test_counts_and_classes_that_compiled_code_would_trust_are_checked(
    name: str, change: Callable[[dict[str, np.ndarray]], np.ndarray], message: str
) -> None:
    stored = to_store(fitted(name, SETTINGS[name][0], 4)[0], name)
    key = "_n_support" if name == "SVC" else "_y"
    with pytest.raises(CorruptData, match=message):
        restore(as_json(stored, **{key: change(stored.arrays)}), n_features=6, n_classes=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class": "sklearn.svm._classes:LinearSVR"}, "can be saved"),
        ({"class": "os:system"}, "can be saved"),
        ({"class": "os:LogisticRegression"}, "can be saved"),
        ({"class": "sklearn.linear_modelled:LogisticRegression"}, "can be saved"),
        ({"class": 7}, "cannot be put together"),
        ({"parameters": {"C": "high"}}, "'C' parameter"),
        ({"parameters": {"no_such": 1}}, "no_such"),
        ({"parameters": [1]}, "cannot be put together"),
        ({"values": 3}, "cannot be put together"),
    ],
)
def test_a_class_or_parameters_of_another_kind_are_refused(settings: dict[str, Any], message: str) -> None:
    stored = to_store(fitted("LogisticRegression", {}, 4)[0], "logreg")
    other = Stored(kind="sklearn", settings={**stored.settings, **settings}, arrays=stored.arrays)
    with pytest.raises(CorruptData, match=message):
        restore(other, n_features=6, n_classes=4)


def test_a_class_that_is_not_on_the_list_is_not_saved() -> None:
    from sklearn.dummy import DummyClassifier

    with pytest.raises(ConfigError, match=r"classifier x: its fits cannot be saved .*mlp, linear"):
        to_store(DummyClassifier().fit(np.zeros((4, 2)), [0, 1, 0, 1]), "x")


def rewritten(folder: Path, **arrays: np.ndarray) -> None:
    """Change arrays of a saved probe, with hashes that fit: they are no signature."""
    weights = save({**load_file(folder / WEIGHTS_NAME), **arrays})
    (folder / WEIGHTS_NAME).write_bytes(weights)
    card = json.loads((folder / JSON_NAME).read_text())
    card[WEIGHTS_HASH] = hashlib.sha256(weights).hexdigest()
    del card[CONTENT_HASH]
    card[CONTENT_HASH] = digest(card)
    (folder / JSON_NAME).write_text(json.dumps(card))


@pytest.mark.slow
def test_an_altered_svc_is_an_error_and_no_segmentation_fault(store: str, tmp_path: Path) -> None:
    probed(store, tmp_path / "r", "sklearn.svm:SVC", layers="2")
    save_probe(tmp_path / "r", tmp_path / "p", classifier="sklearn.svm:SVC")
    x = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    assert np.isfinite(read_probe(tmp_path / "p").scores(x)).all()
    counts = load_file(tmp_path / "p" / WEIGHTS_NAME)["probe._n_support"]
    counts[:2] += np.array([10_000_000, -10_000_000], np.int32)  # their sum scikit-learn looks at itself
    rewritten(tmp_path / "p", **{"probe._n_support": counts})
    code = (
        "import sys, numpy as np; from pathlib import Path; from probes.saved.probe_files import read_probe; "
        "read_probe(Path(sys.argv[1])).scores(np.ones((5, 12), np.float32))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.returncode
    assert "_n_support counts" in done.stderr


@pytest.mark.parametrize("classifier", ["mlp", "linear"])
def test_networks_whose_layers_do_not_fit_are_refused_when_read(
    store: str, tmp_path: Path, classifier: str
) -> None:
    probed(store, tmp_path / "r", classifier, layers="2")
    save_probe(tmp_path / "r", tmp_path / "p")
    first = load_file(tmp_path / "p" / WEIGHTS_NAME)["probe.linear.0.weight"]
    rewritten(tmp_path / "p", **{"probe.linear.0.weight": np.ascontiguousarray(first[:, :-1])})
    with pytest.raises(CorruptData, match=r"/p: saved probe: cannot be put together"):
        read_probe(tmp_path / "p")


def test_a_standardiser_of_another_length_is_refused(store: str, tmp_path: Path) -> None:
    probed(store, tmp_path / "r", "lda", layers="2")
    save_probe(tmp_path / "r", tmp_path / "p")
    rewritten(tmp_path / "p", **{"standardiser.scale": np.ones(1, np.float32)})
    with pytest.raises(CorruptData, match="mean and a scale of one length"):
        read_probe(tmp_path / "p")
