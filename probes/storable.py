"""Fitted classifiers as arrays and plain values, and back.

Three kinds: ``mlp`` (networks of `probes.mlp`: the weights of a ``torch.nn.Sequential``), ``weighted`` (the
same on a weighted sum of layers), and
``sklearn`` (an estimator whose whole state is arrays and plain values: linear models, discriminant
analysis, nearest centroids, brute-force neighbours). Trees and ensembles keep objects and cannot be stored.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.errors import ConfigError, CorruptData

FloatArray = npt.NDArray[np.float32]
Scores = Callable[[FloatArray], FloatArray]
CAN_BE_SAVED = "mlp, linear, logreg, svm, lda, centroid and knn with algorithm: brute"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A fitted classifier without code.

    Attributes:
        kind: ``mlp``, ``weighted`` or ``sklearn``.
        settings: JSON values.
        arrays: NumPy arrays of numbers by name.
    """

    kind: str
    settings: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


def to_store(model: Any, classifier: str) -> Stored:
    """Take a fitted classifier apart.

    Args:
        model: `probes.classifiers.Fit.model`.
        classifier: Its name, for messages.

    Raises:
        ConfigError: its state is more than arrays and plain values.
    """
    from sklearn.base import BaseEstimator

    from probes.mlp import FittedMLP
    from probes.multilabel import SetNetwork
    from probes.networks import WeightedSum

    if isinstance(model, FittedMLP):
        return _store_network(model)
    if isinstance(model, SetNetwork):
        return _store_modules(model.network, model.sizes)
    if isinstance(model, WeightedSum):
        return _store_sum(model)
    if isinstance(model, BaseEstimator) and type(model).__module__.startswith("sklearn."):
        return _store_estimator(model, classifier)
    raise ConfigError(f"classifier {classifier}: its fits cannot be saved without pickle; {CAN_BE_SAVED} can")


def restore(stored: Stored, *, multilabel: bool = False) -> Scores:
    """From standardised rows `[n, d]` to class scores `[n, C]`.

    Raises:
        CorruptData: arrays or values are missing or of an unknown kind.
    """
    try:
        if stored.kind == "mlp":
            return _network(stored, multilabel=multilabel)
        if stored.kind == "weighted":
            return _sum(stored)
        if stored.kind == "sklearn":
            return _estimator(stored)
    except (KeyError, TypeError, AttributeError, ImportError, ValueError) as error:
        raise CorruptData(f"saved probe: cannot be put together ({error!r}); save it again") from error
    raise CorruptData(f"saved probe: unknown kind {stored.kind!r}; it is from a later version")


def _store_network(fit: Any) -> Stored:
    arrays = {"linear.0.weight": fit.first.numpy()}
    names = {"weight": "linear.{}.weight", "bias": "linear.{}.bias"}
    names |= {"gain": "norm.{}.weight", "shift": "norm.{}.bias"}
    for name, layer, where, shape in fit.shape.tail_slices():
        arrays[names[name].format(layer)] = fit.tail[where].reshape(shape).numpy()
    return Stored(kind="mlp", settings={"sizes": list(fit.shape.sizes)}, arrays=arrays)


def _store_modules(network: Any, sizes: Sequence[int]) -> Stored:
    """Of `probes.networks.head`: the same names as `_store_network` gives."""
    from torch import nn

    arrays: dict[str, npt.NDArray[Any]] = {}
    for kind, name in ((nn.Linear, "linear"), (nn.LayerNorm, "norm")):
        for i, module in enumerate(m for m in network if isinstance(m, kind)):
            for part, value in module.named_parameters():
                arrays[f"{name}.{i}.{part}"] = value.detach().numpy()
    return Stored(kind="mlp", settings={"sizes": list(sizes)}, arrays=arrays)


def _store_sum(network: Any) -> Stored:
    """The weights of the layers, and the head."""
    from torch import nn

    linear = [m for m in network.head if isinstance(m, nn.Linear)]
    head = _store_modules(network.head, [linear[0].in_features, *(m.out_features for m in linear)])
    layers = {"layers": network.weights().detach().numpy()}
    return Stored(kind="weighted", settings=head.settings, arrays={**head.arrays, **layers})


def _sum(stored: Stored) -> Scores:
    weights, rest = stored.arrays["layers"], {k: v for k, v in stored.arrays.items() if k != "layers"}
    head = _network(Stored(kind="mlp", settings=stored.settings, arrays=rest), multilabel=False)

    def scores(x: FloatArray) -> FloatArray:
        return head(np.einsum("nld,l->nd", x.reshape(len(x), len(weights), -1), weights))

    return scores


def _network(stored: Stored, *, multilabel: bool) -> Scores:
    """Linear → LayerNorm → ReLU, …, Linear, then softmax, or a sigmoid for label sets."""
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
        out: FloatArray = (torch.sigmoid(z) if multilabel else torch.softmax(z, -1)).numpy()
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


def _estimator(stored: Stored) -> Scores:
    from sklearn.base import BaseEstimator, is_classifier

    from probes.estimators import scores_of

    module, _, name = stored.settings["class"].partition(":")
    # A file says what to import: nothing but scikit-learn's own classifiers.
    if module.partition(".")[0] != "sklearn":
        raise CorruptData(f"saved probe: expected a class of scikit-learn, got {stored.settings['class']!r}")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, BaseEstimator)):
        raise CorruptData(f"saved probe: {stored.settings['class']!r} is no estimator")
    estimator = kind(**stored.settings["parameters"])
    if not is_classifier(estimator):
        raise CorruptData(f"saved probe: {stored.settings['class']!r} is no classifier")
    state: Mapping[str, Any] = {**stored.settings["values"], **stored.arrays}
    for key, value in state.items():
        # 0-d arrays were NumPy's own numbers
        setattr(estimator, key, value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value)
    n_classes = len(state["classes_"])
    return lambda x: scores_of(estimator, n_classes, x)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
