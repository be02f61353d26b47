"""The paper's MLP as a scikit-learn classifier."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.training.mlp import FittedMLP, fit_mlps
from probes.training.mlp_config import PAPER_HIDDEN, MLPConfig
from probes.training.standardise import Standardiser


class MLPProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """MLP probe (`hidden=()`: linear) that standardises its inputs; see `probes.training.mlp.MLPConfig`.

    Args:
        hidden: Width of each hidden layer.
        learning_rate: Initial rate.
        weight_decay: Decoupled weight decay.
        dropout: After each ReLU.
        label_smoothing: Of the cross-entropy.
        class_weight: None, "balanced", or a mapping of class to weight. With a mapping no rows are held
            out: a choice of epoch by UAR would undo the weights.
        batch_size: Rows per step.
        max_epochs: Passes over the rows.
        patience: Epochs without a better validation UAR before it stops.
        validation_fraction: Share of each class's rows given to `fit` that is held out for early
            stopping, unless `fit` is given validation rows. With 0, or where some class cannot
            spare a row, all rows train for `max_epochs`.
        random_state: Seed, or a generator to draw one from; None is 0, so that a fit can always
            be repeated.

    Attributes:
        classes_: Sorted labels `[C]`.
        n_features_in_: d.
        standardiser_: Statistics of the training rows.
        fitted_: The trained network, with its history.
        n_iter_: Epochs trained.
    """

    def __init__(
        self,
        hidden: Sequence[int] = PAPER_HIDDEN,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        batch_size: int = 128,
        max_epochs: int = 30,
        patience: int = 10,
        validation_fraction: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        X_val: npt.ArrayLike | None = None,
        y_val: npt.ArrayLike | None = None,
    ) -> MLPProbe:
        """Train on `X [n, d]`, labels `y [n]`; validation rows choose the epoch."""
        x, labels = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"expected at least two classes, got one class: {self.classes_[0]!r}")
        codes = codes.astype(np.int64)
        seed = self._seed()
        if X_val is not None:
            x_val = validate_data(self, X_val, dtype=np.float32, reset=False)
            codes_val = np.searchsorted(self.classes_, np.asarray(y_val))
            known = np.isin(np.asarray(y_val), self.classes_)
            if len(known) != len(x_val) or not known.all():
                raise ValueError("y_val: expected one known class per row of X_val")
            train, held_out = np.arange(len(x)), (x_val, codes_val.astype(np.int64))
        else:
            train, val = self._hold_out(codes, seed)
            held_out = (x[val], codes[val])
        self.standardiser_ = Standardiser.fit(x[train])
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=labels[train])
        config = MLPConfig(
            hidden=tuple(self.hidden),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            label_smoothing=self.label_smoothing,
            class_weight="none" if self.class_weight is None else tuple(weights.tolist()),
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            seed=seed,
            order_seed=seed,
        )
        validate = len(held_out[0]) > 0
        fitted = fit_mlps(
            self.standardiser_(x[train]),
            codes[train],
            self.standardiser_(held_out[0]) if validate else None,
            held_out[1] if validate else None,
            len(self.classes_),
            [config],
        )
        self.fitted_: FittedMLP = fitted[0]
        self.n_iter_ = self.fitted_.n_epochs
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]` in the order of `classes_`."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float32, reset=False)
        return self.fitted_.probabilities(self.standardiser_(x)).astype(np.float64)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """The most probable class of each row `[n]`."""
        probabilities = self.predict_proba(X)
        predicted: npt.NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(self.random_state.randint(1 << 31))

    def _hold_out(
        self, codes: npt.NDArray[np.int64], seed: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Stratified positions to train on and to validate on."""
        generator = np.random.Generator(np.random.PCG64(seed))
        val: list[npt.NDArray[np.int64]] = []
        if isinstance(self.class_weight, Mapping):
            return np.arange(len(codes)), np.zeros(0, dtype=np.int64)
        for code in range(len(self.classes_)):
            members = np.flatnonzero(codes == code)
            n_val = int(self.validation_fraction * len(members) + 0.5)
            if n_val == 0:
                return np.arange(len(codes)), np.zeros(0, dtype=np.int64)
            val.append(generator.permutation(members)[:n_val])
        held_out = np.sort(np.concatenate(val))
        return np.setdiff1d(np.arange(len(codes)), held_out), held_out
