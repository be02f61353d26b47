"""Classifiers by name: one line each in `CLASSIFIERS`.

A classifier fits a *bundle*: several settings times several seeds on the same rows, and selects
nothing. Inputs are standardised by the training rows for all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from featurestore.errors import ConfigError, did_you_mean
from probes.classifiers.attention import ATTENTION, MULTIHEAD, FramePooling
from probes.classifiers.entry_points import find_plugin, plugin_names
from probes.classifiers.interface import (
    FRAMES,
    VECTORS,
    Bundle,
    Classifier,
    Fit,
    Settings,
    inputs_of,
    require_known,
    widths,
)
from probes.classifiers.layer_combination import EACH, WEIGHTED
from probes.classifiers.retrieval import Retrieval
from probes.classifiers.sklearn_estimators import Estimator

__all__ = [
    "CLASSIFIERS",
    "FRAMES",
    "VECTORS",
    "Bundle",
    "Classifier",
    "Estimator",
    "Fit",
    "Fused",
    "Settings",
    "classifier_for",
    "expand_grid",
    "get_classifier",
    "inputs_of",
    "learns_weights",
    "require_known",
    "widths",
]


class Fused:
    """MLP and linear softmax probes, all fits of a bundle trained together."""

    seeded = True
    streams = True  # rows may stay in the store, see `probes.training.streamed_vectors`

    def __init__(self, name: str, fixed: Settings) -> None:
        self.name, self.fixed = name, fixed

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `Classifier.complete`."""
        from probes.training.mlp import MLPConfig

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
        from probes.training.mlp import MLPConfig, fit_mlps

        if bundle.y_train.ndim == 2:
            from probes.classifiers.multilabel import fit_sets

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


def learns_weights(classifier: Classifier) -> bool:
    """Whether it can learn weights of layers with itself; see `probes.classifiers.layer_combination`."""
    return isinstance(classifier, Fused)


#: Classifiers by name; see `probes.classifiers.entry_points` for those of other packages. A name with a colon
#: is an import path, ``package.module:Class``.
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
    hint = did_you_mean(name, known)
    raise ConfigError(f"classifier: expected {', '.join(known)} or module:Class, got {name!r}{hint}")


def classifier_for(name: str, combine: str = EACH) -> Classifier:
    """The classifier that looks at layers in this way; see `probes.classifiers.layer_combination`."""
    from probes.classifiers.weighted_sum import WeightedSumClassifier

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
        combine: See `probes.classifiers.layer_combination`.

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
