"""Classifiers by name: one line each in `CLASSIFIERS`.

A classifier fits a *bundle*: several settings times several seeds on the same rows, and selects
nothing. Inputs are standardised by the training rows for all of them.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featurestore.errors import ConfigError
from probes.combine import EACH, WEIGHTED
from probes.plugins import find_plugin, plugin_names
from probes.pooling import ATTENTION, MULTIHEAD, FramePooling
from probes.retrieval import Retrieval

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Standardised rows and what to fit on them.

    Attributes:
        x_train: `[n_train, d]` float32.
        y_train: Classes 0 … C-1 `[n_train]`; every class occurs. Of label sets 0 or 1 `[n_train, C]`.
        x_val: `[n_val, d]`; for early stopping only.
        y_val: Classes `[n_val]`.
        n_classes: C.
        fits: ``(settings, seed)`` of every fit.
        n_layers: Layers that stand side by side in the rows, for those who tell them apart.
    """

    x_train: FloatArray
    y_train: IntArray
    x_val: FloatArray
    y_val: IntArray
    n_classes: int
    fits: tuple[tuple[Settings, int], ...]
    n_layers: int = 1


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One fitted probe.

    Attributes:
        scores: From standardised rows `[n, d]` to class scores `[n, C]`; the largest wins.
        probabilistic: Scores are probabilities.
        n_epochs: Passes or solver iterations, 0 where there is no such thing.
        best_epoch: The one that was kept.
        fit_s: Seconds of its own, or its share of a fused fit.
        model: The fitted object, for whoever wants to keep it.
        measure: Further scores of test rows `[n, d]` with their classes `[n]` (-1 where a class was not
            trained), by column of the results.
        layer_weights: Learned weight of each layer, where several were combined that way.
    """

    scores: Callable[[FloatArray], FloatArray]
    probabilistic: bool
    n_epochs: int = 0
    best_epoch: int = 0
    fit_s: float = 0.0
    model: Any = None
    layer_weights: tuple[float, ...] = ()
    measure: Callable[[FloatArray, IntArray], Mapping[str, float]] | None = None


class Classifier(Protocol):
    """What a registry entry makes."""

    @property
    def seeded(self) -> bool:
        """False where a seed changes nothing: then one seed is fitted."""
        ...

    def complete(self, settings: Settings) -> dict[str, Any]:
        """All settings, defaults filled in, as JSON values.

        Raises:
            ConfigError: an unknown setting, or a value that cannot be.
        """
        ...

    def fit(self, bundle: Bundle) -> list[Fit]:
        """Fit all of a bundle, in its order."""
        ...


VECTORS, FRAMES = "vectors", "frames"


def inputs_of(classifier: Classifier) -> str:
    """`VECTORS` where rows are one vector per utterance, `FRAMES` where they are its frames."""
    return str(getattr(classifier, "inputs", VECTORS))


def learns_weights(classifier: Classifier) -> bool:
    """Whether it can learn weights of layers with itself; see `probes.combine`."""
    return isinstance(classifier, Fused)


class Fused:
    """MLP and linear softmax probes, all fits of a bundle trained together."""

    seeded = True
    streams = True  # rows may stay in the store, see `probes.streaming`

    def __init__(self, name: str, fixed: Settings) -> None:
        self.name, self.fixed = name, fixed

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `Classifier.complete`."""
        from probes.mlp import MLPConfig

        known = [f.name for f in fields(MLPConfig) if f.name not in ("seed", *self.fixed)]
        require_known(settings, known, self.name)
        values = {**self.fixed, **settings}
        if "hidden" in values:
            values["hidden"] = widths(values["hidden"])
        try:
            return MLPConfig(**values).hparams()
        except TypeError as error:
            raise ConfigError(f"classifier {self.name}: {error}") from error

    def fit(self, bundle: Bundle) -> list[Fit]:
        """See `Classifier.fit`."""
        from probes.mlp import MLPConfig, fit_mlps

        if bundle.y_train.ndim == 2:
            from probes.multilabel import fit_sets

            return fit_sets(bundle)
        configs = [MLPConfig(**settings, seed=seed) for settings, seed in bundle.fits]
        fitted = fit_mlps(
            bundle.x_train, bundle.y_train, bundle.x_val, bundle.y_val, bundle.n_classes, configs
        )
        return [
            Fit(
                scores=f.probabilities,
                probabilistic=True,
                n_epochs=f.n_epochs,
                best_epoch=f.best_epoch,
                fit_s=f.fit_s,
                model=f,
            )
            for f in fitted
        ]


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

    @property
    def seeded(self) -> bool:
        """Whether a seed changes anything."""
        return self.draws and "random_state" in self._parameters()

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `Classifier.complete`."""
        require_known(settings, sorted(self._parameters() - {"random_state"}), self._label())
        values = {**self.defaults, **settings}
        estimator = self._class()(**values)
        if hasattr(estimator, "_parameter_constraints"):  # scikit-learn's own
            try:
                estimator._validate_params()
            except ValueError as error:  # InvalidParameterError: one line, names the parameter
                raise ConfigError(f"classifier {self._label()}: {error}") from error
        return values

    def fit(self, bundle: Bundle) -> list[Fit]:
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
            n_epochs = int(np.max(getattr(estimator, "n_iter_", 0) or 0))
            probabilistic = hasattr(estimator, "predict_proba") and not _by_distance(estimator)
            out.append(
                Fit(
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
            return _scores(estimator, n_classes, x)

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

    def _parameters(self) -> set[str]:
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
        return set(made.get_params(deep=False))


#: Classifiers by name; see `probes.plugins` for those of other packages. A name with a colon is an import
#: path, ``package.module:Class``.
CLASSIFIERS: dict[str, Classifier] = {
    # the paper's, with settings of its own if wanted
    "mlp": Fused("mlp", {}),
    "linear": Fused("linear", {"hidden": ()}),
    # scikit-learn's default of 100 iterations is too few for 1,536 features
    "logreg": Estimator("sklearn.linear_model:LogisticRegression", {"max_iter": 1000}, "logreg", draws=False),
    "svm": Estimator("sklearn.svm:LinearSVC", {"C": 0.01}, "svm"),
    "knn": Estimator("sklearn.neighbors:KNeighborsClassifier", {}, "knn"),
    "lda": Estimator(
        "sklearn.discriminant_analysis:LinearDiscriminantAnalysis",
        # more features than rows are usual here; the plain solver needs the opposite
        {"solver": "lsqr", "shrinkage": "auto"},
        "lda",
    ),
    # "distance": results of before, by scikit-learn's other decision, are another question
    "centroid": Estimator("sklearn.neighbors:NearestCentroid", {}, "centroid", source="distance"),
    "retrieval": Retrieval(),
    "rf": Estimator("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 300}, "rf"),
    "gb": Estimator("sklearn.ensemble:HistGradientBoostingClassifier", {}, "gb"),
    # over the frames of a clip: one learned query, or several heads
    ATTENTION: FramePooling(ATTENTION),
    MULTIHEAD: FramePooling(MULTIHEAD),
}


def get_classifier(name: str) -> Classifier:
    """The classifier of a registry name, an entry point or an import path.

    Raises:
        ConfigError: nothing known by that name.
    """
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    if ":" in name:
        estimator = Estimator(name)
        estimator.complete({})
        return estimator
    plugin = find_plugin(name)
    if plugin is not None:
        plugin.complete({})
        return plugin
    known = [*CLASSIFIERS, *plugin_names()]
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"classifier: expected {', '.join(known)} or module:Class, got {name!r}{hint}")


def classifier_for(name: str, combine: str = EACH) -> Classifier:
    """The classifier that looks at layers in this way; see `probes.combine`."""
    from probes.weighted import WeightedSumClassifier

    found = get_classifier(name)
    if combine == WEIGHTED:
        assert isinstance(found, Fused)
        return WeightedSumClassifier(found)
    return found


def expand_grid(name: str, grid: Mapping[str, Any], combine: str = EACH) -> list[dict[str, Any]]:
    """Every combination of a grid's values with all defaults filled in, each once, in order.

    Args:
        name: Classifier.
        grid: Setting to a list of values, or to one value. A list of lists is several `hidden`;
            ``hidden: [64, 32]`` is one.
        combine: See `probes.combine`.

    Raises:
        ConfigError: unknown classifier or setting, impossible value, or a list without values.
    """
    classifier = classifier_for(name, combine)
    axes = []
    for key, value in grid.items():
        values = value if isinstance(value, list | tuple) else [value]
        if key == "hidden" and not any(isinstance(v, list | tuple) for v in values):
            values = [values]
        if not values:
            raise ConfigError(f"grid of classifier {name}: setting {key!r} has no values")
        axes.append([(key, v) for v in values])
    out: list[dict[str, Any]] = []
    for combination in itertools.product(*axes):
        settings = classifier.complete(dict(combination))
        if settings not in out:
            out.append(settings)
    return out


def require_known(settings: Settings, known: Sequence[str], name: str) -> None:
    """Refuse a setting that a classifier does not have.

    Raises:
        ConfigError: names the settings it has.
    """
    for key in settings:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"classifier {name}: unknown setting {key!r}, expected {', '.join(known)}{hint}"
            )


def widths(value: Any) -> tuple[int, ...]:
    """A list of hidden widths as settings hold it.

    Raises:
        ConfigError: it is no list.
    """
    if not isinstance(value, list | tuple):
        raise ConfigError(f"probe setting hidden: expected a list of widths, got {value!r}")
    return tuple(value)


def _scores(estimator: Any, n_classes: int, x: FloatArray) -> FloatArray:
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
