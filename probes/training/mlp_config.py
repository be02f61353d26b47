"""Settings of an MLP probe, checked where they are made; without PyTorch, for whoever only asks for fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from featurestore.errors import ConfigError

PRECISIONS = ("fp32", "bf16")
PAPER_HIDDEN = (128, 64, 32)
#: Of the learning rate, after `lr_patience` epochs without a lower validation loss.
RATE_CUT = 0.1
#: Smaller changes of the rate are left out, as `torch.optim.lr_scheduler.ReduceLROnPlateau` does.
LEAST_CUT = 1e-8
Keep = Literal["best", "last"]
# Settings that are no part of older fingerprints, with what was done before there were any.
_YOUNGER: dict[str, Any] = {"precision": "fp32", "keep": "best"}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a network was trained, and when its rate was cut: what validation rows decided of it.

    Attributes:
        n_epochs: Epochs, from 1, that its weights have seen.
        cuts: Epochs before the last after which the learning rate was multiplied by `RATE_CUT`, ascending.
    """

    n_epochs: int
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """One fit. `hidden=()` is a linear softmax probe.

    Attributes:
        hidden: Width of each hidden layer.
        learning_rate: AdamW's initial rate.
        weight_decay: Decoupled (Loshchilov & Hutter 2019); with 0, as here, AdamW is Adam.
        dropout: Probability of dropping a hidden activation, after each ReLU.
        label_smoothing: As in `torch.nn.CrossEntropyLoss`.
        class_weight: "balanced" weights a class by n / (C * its count), as scikit-learn; or one
            weight per class.
        batch_size: Rows per step.
        max_epochs: Passes over the training rows.
        patience: Epochs without a better validation UAR before the fit stops.
        lr_patience: Epochs without a lower validation loss before the rate is multiplied by 0.1.
        keep: Whose weights the fit ends with: those of the epoch with the best validation UAR, or of the
            last. Both stop at the same epoch.
        seed: Draws initial weights and dropout noise.
        order_seed: Draws the order of the rows in every epoch.
        precision: "bf16" rounds the factors of the first layer's matrix products to bfloat16; weights,
            moments and everything else stay float32. Faster only on processors with bfloat16
            instructions.
    """

    hidden: tuple[int, ...] = PAPER_HIDDEN
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    class_weight: Literal["none", "balanced"] | tuple[float, ...] = "none"
    batch_size: int = 128
    max_epochs: int = 30
    patience: int = 10
    lr_patience: int = 10
    seed: int = 0
    order_seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    keep: Keep = "best"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not isinstance(self.class_weight, str):  # a list, as JSON and YAML give it
            object.__setattr__(self, "class_weight", tuple(self.class_weight))
        for name, (is_ok, expected) in _EXPECTED.items():
            got = getattr(self, name)
            if not is_ok(got):
                raise ConfigError(f"probe setting {name}: expected {expected}, got {got!r}")
        # 0 and 0.0 are one setting: as two, they would be fitted twice and compete with each other.
        for name in ("learning_rate", "weight_decay", "dropout", "label_smoothing"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not isinstance(self.class_weight, str):
            object.__setattr__(self, "class_weight", tuple(float(w) for w in self.class_weight))

    def hparams(self) -> dict[str, Any]:
        """Every setting but the seed, for the results table; younger ones only off their defaults."""
        out = asdict(self)
        del out["seed"]
        for name, default in _YOUNGER.items():  # fingerprints are older than these settings
            if out[name] == default:
                del out[name]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}


def schedule_of(config: MLPConfig, n_epochs: int, best_epoch: int, cuts: Sequence[int]) -> Schedule:
    """The schedule that led to the weights which a fit kept."""
    kept = n_epochs if config.keep == "last" else best_epoch
    return Schedule(n_epochs=kept, cuts=tuple(epoch for epoch in cuts if epoch < kept))


def _is_class_weight(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) > 0 and all(_is_number(v) and v > 0 for v in value)
    return value in ("none", "balanced")


def _is_number(value: object) -> bool:
    return (isinstance(value, float | np.floating) and np.isfinite(value)) or _is_int(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


_WIDTHS = (lambda v: all(_is_int(h) and h > 0 for h in v), "positive whole numbers")
_ABOVE_0 = (lambda v: _is_number(v) and v > 0, "a number above 0")
_FROM_0 = (lambda v: _is_number(v) and v >= 0, "a number of at least 0")
_BELOW_1 = (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1")
_WHOLE_FROM_1 = (lambda v: _is_int(v) and v > 0, "a whole number of at least 1")
_WHOLE_FROM_0 = (lambda v: _is_int(v) and v >= 0, "a whole number of at least 0")
# Settings of `MLPConfig`: which values can be, and what they are called.
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "hidden": _WIDTHS,
    "learning_rate": _ABOVE_0,
    "weight_decay": _FROM_0,
    **dict.fromkeys(("dropout", "label_smoothing"), _BELOW_1),
    "class_weight": (_is_class_weight, "none, balanced or weights"),
    **dict.fromkeys(("batch_size", "max_epochs", "patience"), _WHOLE_FROM_1),
    **dict.fromkeys(("lr_patience", "seed", "order_seed"), _WHOLE_FROM_0),
    "precision": (lambda v: v in PRECISIONS, " or ".join(PRECISIONS)),
    "keep": (lambda v: v in get_args(Keep), " or ".join(get_args(Keep))),
}
