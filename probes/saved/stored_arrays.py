"""Fitted classifiers as arrays and plain values, and back.

Five kinds: ``mlp`` (networks of `probes.training.mlp`: the weights of a ``torch.nn.Sequential``),
``weighted`` (the same on a weighted sum of layers), ``frames`` (attention over frames, of one layer or of a
weighted sum of several: see `probes.saved.stored_frames`), ``ridge`` (coefficients and intercept of one
number), and ``sklearn`` (an estimator of the list in `probes.saved.sklearn_classes`: linear models,
discriminant analysis, nearest centroids, brute-force neighbours). Trees and ensembles keep objects and cannot
be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray
from featurestore.errors import ConfigError, CorruptData
from featurestore.untrusted.document_shape import many, whole
from probes.saved.sklearn_classes import MOST_WIDTH, is_savable, put_together

Scores = Callable[[FloatArray], FloatArray]
CAN_BE_SAVED = "mlp, linear, attention, mha, ridge, logreg, svm, lda, centroid and knn with algorithm: brute"
#: The kind that reads the frames of a clip.
OF_FRAMES = "frames"
OF_RIDGE = "ridge"
# What scores are: probabilities of classes one of which is right, of labels any of which is, or numbers.
_SOFTMAX, _SIGMOID, _NUMBERS = range(3)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A fitted classifier without code.

    Attributes:
        kind: ``mlp``, ``weighted``, ``frames``, ``ridge`` or ``sklearn``.
        settings: JSON values.
        arrays: NumPy arrays of numbers by name.
    """

    kind: str
    settings: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


def to_store(model: Any, classifier: str) -> Stored:
    """Take a fitted classifier apart.

    Args:
        model: `probes.classifiers.interface.FittedProbe.model`.
        classifier: Its name, for messages.

    Raises:
        ConfigError: its state is more than arrays and plain values.
    """
    from sklearn.base import BaseEstimator

    from probes.classifiers.ridge import LinearFit
    from probes.saved.stored_frames import FramePooler, taken_apart
    from probes.training.mlp import FittedMLP
    from probes.training.networks import Head, WeightedSum

    if isinstance(model, FittedMLP):
        return _store_network(model)
    if isinstance(model, Head):
        return _store_modules(model)
    if isinstance(model, WeightedSum):
        return _store_sum(model)
    if isinstance(model, FramePooler):
        settings, arrays = taken_apart(model)
        return Stored(kind=OF_FRAMES, settings=settings, arrays=arrays)
    if isinstance(model, LinearFit):
        return Stored(
            kind=OF_RIDGE,
            settings={},
            arrays={"coefficients": model.coefficients, "intercept": model.intercept},
        )
    if isinstance(model, BaseEstimator) and is_savable(model):
        return _store_estimator(model, classifier)
    raise ConfigError(f"classifier {classifier}: its fits cannot be saved without pickle; {CAN_BE_SAVED} can")


def restore(
    stored: Stored,
    *,
    n_features: int,
    n_classes: int,
    multilabel: bool = False,
    of_numbers: bool = False,
) -> Scores:
    """From standardised rows `[n, d]`, or standardised frames of rows, to class scores `[n, C]`.

    Of numbers to what is predicted `[n, 1]`, on the scale that was fitted on. It is tried on a row before it
    is handed out.

    Raises:
        CorruptData: arrays or values are missing, do not fit together, or are of an unknown kind.
    """
    if stored.kind not in ("mlp", "weighted", OF_FRAMES, OF_RIDGE, "sklearn"):
        raise CorruptData(f"saved probe: unknown kind {stored.kind!r}; it is from a later version")
    end = _NUMBERS if of_numbers else _SIGMOID if multilabel else _SOFTMAX
    try:
        if {OF_RIDGE: True, "sklearn": False}.get(stored.kind, of_numbers) != of_numbers:
            raise ValueError(f"kind {stored.kind} predicts {'no numbers' if of_numbers else 'numbers alone'}")
        if stored.kind == OF_FRAMES:
            from probes.saved.stored_frames import put_together as pooling

            return cast(
                "Scores",
                pooling(stored.settings, stored.arrays, n_features, n_classes, of_numbers=of_numbers),
            )
        if stored.kind in ("mlp", "weighted"):
            many(whole(1, MOST_WIDTH), 2, 100)(stored.settings.get("sizes"), "settings.sizes")
        if stored.kind == "mlp":
            scores = _network(stored, end)
        elif stored.kind == "weighted":
            scores = _sum(stored, end)
        elif stored.kind == OF_RIDGE:
            scores = _linear(stored, n_features)
        else:
            scores = _estimator(stored, n_features, n_classes)
        tried = scores(np.ones((1, n_features), dtype=np.float32)).shape
        if tried != (1, n_classes):
            raise ValueError(f"expected scores of {n_classes} classes, got {tried[1:]}")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CorruptData(
            f"saved probe: cannot be put together ({type(error).__name__}: {reason}); save it again"
        ) from error
    return scores


def _store_network(fit: Any) -> Stored:
    arrays = {"linear.0.weight": fit.first.numpy()}
    names = {"weight": "linear.{}.weight", "bias": "linear.{}.bias"}
    names |= {"gain": "norm.{}.weight", "shift": "norm.{}.bias"}
    for name, layer, where, shape in fit.shape.tail_slices():
        arrays[names[name].format(layer)] = fit.tail[where].reshape(shape).numpy()
    return Stored(kind="mlp", settings={"sizes": list(fit.shape.sizes)}, arrays=arrays)


def _store_modules(network: Any) -> Stored:
    """Of `probes.training.networks.Head`: the same names as `_store_network` gives."""
    from torch import nn

    arrays: dict[str, npt.NDArray[Any]] = {}
    for kind, name in ((nn.Linear, "linear"), (nn.LayerNorm, "norm")):
        for i, module in enumerate(m for m in network if isinstance(m, kind)):
            for part, value in module.named_parameters():
                arrays[f"{name}.{i}.{part}"] = value.detach().numpy()
    return Stored(kind="mlp", settings={"sizes": list(network.sizes)}, arrays=arrays)


def _store_sum(network: Any) -> Stored:
    """The weights of the layers, and the head."""
    head = _store_modules(network.head)
    layers = {"layers": network.weights().detach().numpy()}
    return Stored(kind="weighted", settings=head.settings, arrays={**head.arrays, **layers})


def _linear(stored: Stored, n_features: int) -> Scores:
    from probes.classifiers.ridge import LinearFit

    coefficients, intercept = stored.arrays["coefficients"], stored.arrays["intercept"]
    for name, value, shape in (
        ("coefficients", coefficients, (n_features, 1)),
        ("intercept", intercept, (1,)),
    ):
        if value.dtype != np.float64 or value.shape != shape:
            raise ValueError(
                f"{name}: expected float64 of the shape {shape}, got {value.dtype}, {value.shape}"
            )
    return LinearFit(coefficients, intercept)


def _sum(stored: Stored, end: int) -> Scores:
    weights, rest = stored.arrays["layers"], {k: v for k, v in stored.arrays.items() if k != "layers"}
    head = _network(Stored(kind="mlp", settings=stored.settings, arrays=rest), end)

    def scores(x: FloatArray) -> FloatArray:
        return head(np.einsum("nld,l->nd", x.reshape(len(x), len(weights), -1), weights))

    return scores


def _network(stored: Stored, end: int) -> Scores:
    """Linear → LayerNorm → ReLU, …, Linear, then softmax; a sigmoid for label sets, nothing for numbers."""
    import torch
    from torch.nn import functional

    weights = {name: torch.from_numpy(np.array(value)) for name, value in stored.arrays.items()}
    n_layers = len(stored.settings["sizes"]) - 1
    for layer in range(n_layers):
        weights[f"linear.{layer}.weight"], weights[f"linear.{layer}.bias"]

    def scores(x: FloatArray) -> FloatArray:
        z = torch.from_numpy(np.ascontiguousarray(x))
        for i in range(n_layers):
            z = functional.linear(z, weights[f"linear.{i}.weight"], weights[f"linear.{i}.bias"])
            if i < n_layers - 1:
                gain, shift = weights[f"norm.{i}.weight"], weights[f"norm.{i}.bias"]
                z = functional.layer_norm(z, [z.shape[-1]], gain, shift).relu()
        if end != _NUMBERS:
            z = torch.sigmoid(z) if end == _SIGMOID else torch.softmax(z, -1)
        out: FloatArray = z.numpy()
        return out

    return scores


def _store_estimator(estimator: Any, classifier: str) -> Stored:
    parameters = estimator.get_params(deep=False)
    arrays: dict[str, npt.NDArray[Any]] = {}
    values: dict[str, Any] = {}
    for name, value in vars(estimator).items():
        if name in parameters:
            continue
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
            arrays[name] = np.asarray(value)
        elif _is_plain(value):
            values[name] = value
        else:
            raise ConfigError(
                f"classifier {classifier}: its fits cannot be saved without pickle (its {name} is a "
                f"{type(value).__name__}); {CAN_BE_SAVED} can"
            )
    if not all(_is_plain(v) for v in parameters.values()):
        odd = next(k for k, v in parameters.items() if not _is_plain(v))
        raise ConfigError(f"classifier {classifier}: its setting {odd} cannot be saved as JSON")
    kind = f"{type(estimator).__module__}:{type(estimator).__qualname__}"
    settings = {"class": kind, "parameters": parameters, "values": values}
    return Stored(kind="sklearn", settings=settings, arrays=arrays)


def _estimator(stored: Stored, n_features: int, n_classes: int) -> Scores:
    from probes.classifiers.sklearn_estimators import scores_of

    estimator = put_together(
        stored.settings["class"],
        stored.settings["parameters"],
        {**stored.settings["values"], **stored.arrays},
        {"classes": n_classes, "features": n_features},
    )
    return lambda x: scores_of(estimator, n_classes, x)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
