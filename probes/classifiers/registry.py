"""Classifiers by name: one line each in `CLASSIFIERS`.

A classifier fits a *bundle*: several settings times several seeds on the same rows, and selects
nothing. Inputs are standardised by the training rows for all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.errors import ConfigError, did_you_mean
from probes.classifiers.attention import ATTENTION, MULTIHEAD, FramePooling
from probes.classifiers.entry_points import find_plugin, plugin_names, plugin_source
from probes.classifiers.fused_mlp import Fused

# Classifiers of other packages import what they are given, and what they give back, from here.
from probes.classifiers.interface import FRAMES, Classifier, inputs_of
from probes.classifiers.interface import Bundle as Bundle
from probes.classifiers.interface import Fit as Fit
from probes.classifiers.interface import Settings as Settings
from probes.classifiers.layer_combination import COMBINATIONS, CONCAT, EACH, WEIGHTED
from probes.classifiers.numbers import RIDGE
from probes.classifiers.retrieval import Retrieval
from probes.classifiers.ridge import Ridge
from probes.classifiers.sklearn_estimators import Estimator
from probes.classifiers.weighted_sum import WeightedFramePooling, WeightedSumClassifier

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
    # numbers alone
    RIDGE: Ridge(),
    "rf": Estimator("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 300}, "rf"),
    "gb": Estimator("sklearn.ensemble:HistGradientBoostingClassifier", {}, "gb"),
    # over the frames of a clip: one learned query, or several heads
    ATTENTION: FramePooling(ATTENTION),
    MULTIHEAD: FramePooling(MULTIHEAD),
}


#: Those that can look at a learned sum of layers.
LEARN_WEIGHTS = "mlp, linear, attention and mha"


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
    found = get_classifier(name)
    if combine == WEIGHTED:
        assert isinstance(found, Fused | FramePooling)
        return WeightedSumClassifier(found) if isinstance(found, Fused) else WeightedFramePooling(found)
    return found


def source_of(name: str) -> str:
    """What a plugin's name stands for, with the version of its package; "" for import paths.

    Of our own classifiers, what the name alone does not say; see `Estimator`.
    """
    own = str(getattr(get_classifier(name), "source", ""))
    return own if name in CLASSIFIERS else plugin_source(name) or own


def expand_grid(name: str, grid: Mapping[str, Any], combine: str = EACH) -> list[dict[str, Any]]:
    """Every combination of a grid's values with all defaults filled in, each once, in order.

    A classifier may have a grid of its own (`default_grid`), which counts for settings that are not given.

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
    for key, value in {**getattr(classifier, "default_grid", {}), **grid}.items():
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


def check_combinations(combine: Sequence[str], classifiers: Sequence[str]) -> None:
    """Refuse a combination that is unknown, or that a classifier cannot look at.

    Raises:
        ConfigError: one line that says which.
    """
    if not combine:
        raise ConfigError(f"combine: expected at least one of {', '.join(COMBINATIONS)}")
    for name in combine:
        if name not in COMBINATIONS:
            hint = did_you_mean(name, COMBINATIONS)
            raise ConfigError(f"combine: expected {', '.join(COMBINATIONS)}, got {name!r}{hint}")
    for classifier in classifiers:
        found = get_classifier(classifier)
        for name in combine:
            if name == CONCAT and inputs_of(found) == FRAMES:
                raise ConfigError(
                    f"combine {name}: classifier {classifier} looks at the frames of one layer, or of a "
                    f"weighted sum of layers; leave out --combine {name}, or ask for {classifier} in a "
                    "command of its own"
                )
            if name == WEIGHTED and not isinstance(found, Fused | FramePooling):
                raise ConfigError(
                    f"combine {name}: classifier {classifier} cannot learn weights of layers; "
                    f"{LEARN_WEIGHTS} can; ask for {classifier} in a command of its own"
                )
