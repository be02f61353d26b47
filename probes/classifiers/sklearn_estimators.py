"""Classifiers of scikit-learn's kind, by import path."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from featurestore.arrays import FloatArray
from featurestore.errors import ConfigError
from probes.classifiers.interface import Bundle, FittedProbe, Settings, require_known


@dataclass(frozen=True)
class Estimator:
    """Any scikit-learn classifier, one fit after another; `random_state` is the seed.

    Attributes:
        path: ``module:Class``.
        defaults: Arguments that differ from the class's own.
        name: Its name in messages.
        draws: False for a solver that draws nothing, although the class takes a `random_state`.
        source: What a name stands for where the name alone does not say: of a plugin, its class and the
            version of its package. Part of the fingerprint.
    """

    path: str
    defaults: Settings = field(default_factory=dict)
    name: str = ""
    draws: bool = True
    source: str = ""
    # What an estimator holds out for itself, it holds out of what it is given.
    by_epochs: ClassVar[bool] = False

    @property
    def seeded(self) -> bool:
        """Whether a seed changes anything."""
        return self.draws and "random_state" in self._parameters()

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `Classifier.complete`."""
        usual = self._parameters()
        require_known(settings, sorted(usual.keys() - {"random_state"}), self._label())
        values = {**self.defaults, **settings}
        estimator = self._class()(**values)
        if hasattr(estimator, "_parameter_constraints"):  # scikit-learn's own
            try:
                estimator._validate_params()
            except ValueError as error:  # InvalidParameterError: one line, names the parameter
                raise ConfigError(f"classifier {self._label()}: {error}") from error
        return {name: _spelt(value, usual[name]) for name, value in values.items()}

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `Classifier.fit`."""
        from sklearn.exceptions import ConvergenceWarning

        out = []
        for settings, seed in bundle.fits:
            arguments = dict(settings)
            if self.seeded:
                arguments["random_state"] = seed
            estimator = self._class()(**arguments)
            started = time.perf_counter()
            with warnings.catch_warnings():
                # Told by n_epochs in the results instead of once for each of a thousand fits.
                warnings.simplefilter("ignore", ConvergenceWarning)
                with self._blaming(settings):
                    estimator.fit(bundle.x_train, bundle.y_train)
            elapsed = time.perf_counter() - started
            found = getattr(estimator, "n_iter_", None)  # SVC has one per pair of classes
            n_epochs = int(np.max(found)) if found is not None and np.size(found) else 0
            probabilistic = hasattr(estimator, "predict_proba") and not _by_distance(estimator)
            out.append(
                FittedProbe(
                    scores=partial(self._scores, settings, estimator, bundle.n_classes),
                    probabilistic=probabilistic,
                    n_epochs=n_epochs,
                    best_epoch=n_epochs,
                    fit_s=elapsed,
                    model=estimator,
                )
            )
        return out

    @contextmanager
    def _blaming(self, settings: Settings) -> Iterator[None]:
        """Settings that only a fit, or a prediction, shows to be impossible are the user's."""
        try:
            yield
        except (NotImplementedError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"classifier {self._label()}: cannot be used with {dict(settings)} ({reason}); "
                "change its settings in --grid"
            ) from error

    def _scores(self, settings: Settings, estimator: Any, n_classes: int, x: FloatArray) -> FloatArray:
        with self._blaming(settings):
            return scores_of(estimator, n_classes, x)

    def _label(self) -> str:
        return self.name or self.path

    def _class(self) -> Any:
        import importlib

        module, _, name = self.path.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"classifier {self.path!r}: cannot import it ({error}); expected module:Class"
            ) from error

    def _parameters(self) -> dict[str, Any]:
        """What the class takes, and what it does unless told otherwise."""
        try:
            made = self._class()()
        except TypeError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"classifier {self._label()!r}: cannot be made without arguments ({reason}); expected a "
                "scikit-learn classifier, whose parameters all have defaults"
            ) from error
        if not hasattr(made, "get_params") or not hasattr(made, "predict"):
            raise ConfigError(f"classifier {self.path!r}: expected a scikit-learn classifier")
        if _is_regressor(made):
            raise ConfigError(
                f"classifier {self.path!r}: expected a scikit-learn classifier, this is a regressor"
            )
        found: dict[str, Any] = made.get_params(deep=False)
        return found


def _spelt(value: Any, usual: Any) -> Any:
    """1 as 1.0 where the class takes a float: in two spellings it would be fitted twice."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and isinstance(usual, float) else value


def _is_regressor(estimator: Any) -> bool:
    from sklearn.base import is_regressor

    try:
        return bool(is_regressor(estimator))
    except (AttributeError, TypeError):  # not of scikit-learn's making
        return False


def scores_of(estimator: Any, n_classes: int, x: FloatArray) -> FloatArray:
    """`[n, C]` of a fitted estimator that saw every class 0 … C-1."""
    if _by_distance(estimator):
        from sklearn.metrics import pairwise_distances

        scores = -pairwise_distances(x, estimator.centroids_, metric=estimator.metric)
    elif hasattr(estimator, "predict_proba"):
        scores = estimator.predict_proba(x)
    elif hasattr(estimator, "decision_function"):
        scores = estimator.decision_function(x)
    else:
        scores = np.eye(n_classes)[estimator.predict(x)]
    scores = np.asarray(scores, dtype=np.float32)
    if scores.ndim == 1:  # two classes, one margin
        scores = np.stack([-scores, scores], axis=1)
    return scores


def _by_distance(estimator: Any) -> bool:
    """A nearest centroid: its `predict` goes by distance, its probabilities by another, scaled one."""
    centroids = getattr(estimator, "centroids_", None)
    prior = getattr(estimator, "class_prior_", None)
    return centroids is not None and prior is not None and bool(np.allclose(prior, 1 / len(centroids)))
