"""Probes of label sets: any number of classes can be right at once.

A column of label sets holds cells such as ``AMRE|OVEN`` (`featurestore.manifest.labels`). A probe of it has
one sigmoid per class and is trained by binary cross-entropy, the mean over rows and classes. What selects
epoch, settings and layer is mean average precision (mAP) on validation; UAR is not defined. The recipe is
otherwise that of `probes.training.mlp`: AdamW, learning rate cut on a plateau of the validation loss, early
stop, weights of the best epoch kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray, TextArray
from featurestore.errors import ConfigError
from featurestore.manifest.labels import NOTHING, join_labels, split_labels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from probes.classifiers.registry import Bundle, Fit, Settings

#: A class is predicted where its sigmoid says at least this.
THRESHOLD = 0.5
CLASSIFIERS = ("mlp", "linear")


def rarest_label(cells: TextArray) -> TextArray:
    """The rarest label of each row's set, ``|`` for the empty set `[n]`: what splits stratify by.

    The first step of iterative stratification (Sechidis et al. 2011): a rare label goes by itself, and
    frequent ones find their way into every part anyhow.
    """
    sets = {cell: split_labels(cell) or frozenset() for cell in set(cells)}
    sizes = Counter(name for cell in cells for name in sets[cell])
    rarest = {
        cell: min(names, key=lambda n: (sizes[n], n)) if names else NOTHING for cell, names in sets.items()
    }
    return np.array([rarest[cell] for cell in cells], dtype=object)


def class_names(cells: TextArray) -> list[str]:
    """All labels that occur in the sets of `cells`, by name."""
    return sorted({name for cell in set(cells) for name in split_labels(cell) or ()})


def indicator(cells: TextArray, classes: Sequence[str]) -> IntArray:
    """0/1 matrix `[n, C]`: which classes each set holds."""
    sets = [split_labels(cell) or frozenset() for cell in cells]
    return np.array([[int(c in s) for c in classes] for s in sets], dtype=np.int64).reshape(-1, len(classes))


def cells_of(matrix: npt.NDArray[Any], classes: Sequence[str]) -> TextArray:
    """Inverse of `indicator`: sets as text `[n]`."""
    names = np.array(classes, dtype=object)
    return np.array([join_labels(names[row.astype(bool)]) for row in matrix], dtype=object)


def learnable(y_train: IntArray) -> IntArray:
    """Columns of `y_train [n, C]` that hold 0 and 1: others cannot be learned."""
    positive = y_train.sum(axis=0)
    return np.flatnonzero((positive > 0) & (positive < len(y_train)))


def check_classifier(name: str, combine: str, fits: Sequence[Settings], what: str) -> None:
    """Refuse what cannot be trained on label sets.

    Raises:
        ConfigError: one line that says what can.
    """
    if name not in CLASSIFIERS:
        raise ConfigError(
            f"{what} holds sets of labels: expected classifier {' or '.join(CLASSIFIERS)}, got {name}; "
            "or spread it over one column per class (`fs manifest … --explode`) and probe each"
        )
    if combine == "weighted":
        raise ConfigError(f"{what} holds sets of labels: combine weighted is for single labels; leave it out")
    for settings in fits:
        if settings.get("precision", "fp32") != "fp32" or not isinstance(settings["class_weight"], str):
            raise ConfigError(
                f"{what} holds sets of labels: expected precision fp32 and class_weight none or balanced"
            )


@dataclass
class SetNetwork:
    """A trained network of one sigmoid per class.

    Attributes:
        network: `probes.training.networks.head`.
        sizes: Inputs, hidden widths, classes.
        n_epochs: Epochs trained.
        best_epoch: The one that was kept, counted from 1.
        fit_s: Seconds.
    """

    network: nn.Sequential
    sizes: tuple[int, ...]
    n_epochs: int = 0
    best_epoch: int = 0
    fit_s: float = 0.0

    def probabilities(self, x: FloatArray) -> FloatArray:
        """Probability of each class `[n, C]` of standardised rows `[n, d]`."""
        import torch

        self.network.eval()
        with torch.inference_mode():
            out: FloatArray = torch.sigmoid(self.network(torch.from_numpy(x))).numpy()
        return out


def fit_sets(bundle: Bundle) -> list[Fit]:
    """Fit all of a bundle whose `y_train` and `y_val` are 0/1 matrices `[n, C]`."""
    from probes.classifiers.registry import Fit
    from probes.training.mlp import MLPConfig

    out = []
    for settings, seed in bundle.fits:
        trained = _fit(bundle, MLPConfig(**settings, seed=seed))
        out.append(
            Fit(
                scores=partial(SetNetwork.probabilities, trained),
                probabilistic=True,
                n_epochs=trained.n_epochs,
                best_epoch=trained.best_epoch,
                fit_s=trained.fit_s,
                model=trained,
            )
        )
    return out


def _fit(bundle: Bundle, config: Any) -> SetNetwork:
    import torch
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    from probes.metrics import mean_average_precision
    from probes.training.networks import head

    started = time.perf_counter()
    x, x_val = torch.from_numpy(bundle.x_train), torch.from_numpy(bundle.x_val)
    y, y_val = torch.from_numpy(bundle.y_train).float(), torch.from_numpy(bundle.y_val).float()
    sizes = (x.shape[1], *config.hidden, bundle.n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = head(sizes, config.dropout, config.seed)
    criterion = _criterion(y, config)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = ReduceLROnPlateau(optimiser, factor=0.1, patience=config.lr_patience)
    order = torch.Generator().manual_seed(config.order_seed)
    fit = SetNetwork(network, sizes)
    best, weights = -1.0, network.state_dict()
    while fit.n_epochs < config.max_epochs and fit.n_epochs - fit.best_epoch < config.patience:
        network.train()
        for rows in torch.split(torch.randperm(len(x), generator=order), config.batch_size):
            optimiser.zero_grad(set_to_none=True)
            criterion(network(x[rows]), y[rows]).backward()
            optimiser.step()
        fit.n_epochs += 1
        network.eval()
        with torch.inference_mode():
            logits = network(x_val)
            schedule.step(float(criterion(logits, y_val)))
        score = mean_average_precision(bundle.y_val, logits.numpy())
        # Where no class stands both in and out of validation, mAP chooses nothing: the last epoch stays.
        if np.isnan(score) or score > best:
            best, fit.best_epoch = (best if np.isnan(score) else score), fit.n_epochs
            weights = {name: p.clone() for name, p in network.state_dict().items()}
    network.load_state_dict(weights)
    fit.fit_s = time.perf_counter() - started
    return fit


def _criterion(y: Tensor, config: Any) -> Any:
    """Binary cross-entropy, smoothed and weighted as `MLPConfig` says."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    positive = y.sum(0)
    # "balanced": both answers to a class weigh alike in all, as scikit-learn's class_weight does.
    weight = (len(y) - positive) / positive if config.class_weight == "balanced" else None
    smoothing = config.label_smoothing

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        smooth = targets * (1 - smoothing) + smoothing / 2
        return binary_cross_entropy_with_logits(logits, smooth, pos_weight=weight)

    return loss
