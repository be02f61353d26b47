"""Classifiers of packages that are really installed, in a folder on the path."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import cli
from probes import read_results
from probes.classifiers.registry import get_classifier, source_of

MODULE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Nearest(ClassifierMixin, BaseEstimator):
    def __init__(self, power=2.0):
        self.power = power

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.centres_ = np.stack([X[y == c].mean(0) for c in self.classes_])
        return self

    def decision_function(self, X):
        return -(np.abs(X[:, None] - self.centres_) ** self.power).sum(-1)

    def predict(self, X):
        return self.classes_[self.decision_function(X).argmax(1)]


class Needy(Nearest):
    def __init__(self, power):
        self.power = power


class Own:
    seeded = False

    def complete(self, settings):
        return dict(settings)

    def fit(self, bundle):
        return []


own = Own()


def function(X, y):
    return None
"""


def install(folder: Path, entry_points: str, name: str = "my_probes", version: str = "1.2") -> None:
    """What an installer leaves of a package of one module."""
    module = name if name == "my_probes" else f"{name}_module"
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(MODULE)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[featurestore.classifiers]\n{entry_points}\n")
    (info / "RECORD").write_text(f"{module}.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")


def probe(store: str, out: Path, *more: object) -> Result:
    command = ["probe", "--store", store, "--label", "call", "--model", "model-a", "--out", out, "-q", *more]
    return CliRunner().invoke(cli.main, [str(c) for c in command])


@pytest.mark.slow
def test_a_class_is_fitted_over_its_grid(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "nearest = my_probes:Nearest")
    monkeypatch.syspath_prepend(tmp_path / "site")
    grid = tmp_path / "grid.yaml"
    grid.write_text(yaml.safe_dump({"nearest": {"power": [1.0, 2.0]}}))
    more = ("--classifier", "nearest", "--classifier", "centroid", "--grid", grid)
    result = probe(store, tmp_path / "r", *more)
    assert result.exit_code == 0, (result.output, result.exception)
    table = read_results(tmp_path / "r")
    assert len(table) == 3 * 2 + 3
    # by squares it is the nearest centroid
    squares = table[table["hparams"] == '{"power":2.0}']
    centroid = table[table["classifier"] == "centroid"]
    assert squares["uar_test"].tolist() == centroid["uar_test"].tolist()
    again = probe(store, tmp_path / "r", *more)
    assert "0 fits in" in again.output


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lda", {"solver": "svd", "shrinkage": 0.5}, "(shrinkage not supported with 'svd' solver.)"),
        ("knn", {"n_neighbors": 5000}, "(Expected n_neighbors <= n_samples_fit"),
    ],
)
def test_a_setting_that_only_the_rows_refuse_is_one_line(
    store: str, tmp_path: Path, name: str, settings: dict[str, object], message: str
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(yaml.safe_dump({name: settings}))
    result = probe(store, tmp_path / "r", "--classifier", name, "--grid", grid)
    assert result.exit_code == 2, (result.output, result.exception)
    said = result.stderr.splitlines()[-1]  # after the note on leakage
    assert f"classifier {name}: cannot be used with " in said
    assert message in said
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_another_version_of_the_package_is_another_question(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.2", "1.3"):
        install(tmp_path / version, "nearest = my_probes:Nearest", version=version)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / version)
            result = probe(store, tmp_path / "r", "--classifier", "nearest", "--layers", "1")
        assert "1 fit in" in result.output, (result.output, result.exception)


def test_an_object_has_the_version_of_its_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "own = my_probes:own")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert source_of("own") == "my_probes:own of my_probes 1.2"


@pytest.mark.parametrize(
    ("entry_points", "asked", "message"),
    [
        ("near = my_probes:Nearest", "neer", "did you mean 'near'?"),
        ("gone = my_probes:Gone", "gone", "classifier 'gone' of my_probes 1.2: cannot import my_probes:Gone"),
        ("odd = my_probes:function", "odd", "got my_probes:function, which is function"),
        ("needy = my_probes:Needy", "needy", "classifier 'needy': cannot be made without arguments"),
    ],
)
def test_a_mistake_is_one_line(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry_points: str,
    asked: str,
    message: str,
) -> None:
    install(tmp_path / "site", entry_points)
    monkeypatch.syspath_prepend(tmp_path / "site")
    result = probe(store, tmp_path / "r", "--classifier", asked)
    assert result.exit_code == 2, (result.output, result.exception)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_name_offered_twice_is_refused(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "nearest = my_probes:Nearest")
    install(tmp_path / "site", "nearest = other_module:Nearest", name="other")
    monkeypatch.syspath_prepend(tmp_path / "site")
    result = probe(store, tmp_path / "r", "--classifier", "nearest")
    assert result.exit_code == 2
    assert "offered by my_probes 1.2 and other 1.2" in result.stderr


def test_our_own_names_are_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_classifier("knn")
    install(tmp_path / "site", "knn = my_probes:Nearest")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert get_classifier("knn") is before
