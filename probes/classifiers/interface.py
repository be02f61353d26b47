"""What a classifier is given, what it gives back, and what it has to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError, did_you_mean
from probes.training.mlp_config import Schedule

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Standardised rows and what to fit on them.

    Attributes:
        x_train: `[n_train, d]` float32.
        y_train: Classes 0 … C-1 `[n_train]`; every class occurs. Of label sets 0 or 1 `[n_train, C]`. Numbers
            of regression are float64 `[n_train]`, standardised.
        x_val: `[n_val, d]`; for early stopping only. None where fits are made again on all rows.
        y_val: Classes `[n_val]`; None likewise.
        n_classes: C; 1 for numbers.
        fits: ``(settings, seed)`` of every fit.
        n_layers: Layers that stand side by side in the rows, for those who tell them apart.
        device: Where to train, ``auto`` included, for those who can elsewhere than on a CPU.
        schedules: Of every fit how long it is trained, where no validation rows say it; of classifiers that
            are trained by epochs only.
    """

    x_train: FloatArray
    y_train: npt.NDArray[Any]
    x_val: FloatArray | None
    y_val: npt.NDArray[Any] | None
    n_classes: int
    fits: tuple[tuple[Settings, int], ...]
    n_layers: int = 1
    device: str = "cpu"
    schedules: tuple[Schedule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """What a fit gives.

    Attributes:
        scores: From standardised rows `[n, d]` to class scores `[n, C]`; the largest wins. Of numbers to
            what is predicted `[n, 1]`.
        probabilistic: Scores are probabilities.
        n_epochs: Passes or solver iterations, 0 where there is no such thing.
        best_epoch: The one with the best validation score, which was kept unless `keep: last` was asked for.
        fit_s: Seconds of its own, or its share of a fused fit.
        model: The fitted object, for whoever wants to keep it.
        measure: Further scores of test rows `[n, d]` with their classes `[n]` (-1 where a class was not
            trained), by column of the results.
        layer_weights: Learned weight of each layer, where several were combined that way.
        device: Where it was trained.
        schedule: How its weights were trained; None where nothing is trained by epochs.
    """

    scores: Callable[[FloatArray], FloatArray]
    probabilistic: bool
    n_epochs: int = 0
    best_epoch: int = 0
    fit_s: float = 0.0
    model: Any = None
    layer_weights: tuple[float, ...] = ()
    device: str = "cpu"
    schedule: Schedule | None = None
    measure: Callable[[FloatArray, IntArray], Mapping[str, float]] | None = None

    @classmethod
    def of_network(
        cls,
        trained: Any,
        scores: Callable[[FloatArray], FloatArray],
        *,
        probabilistic: bool,
        **more: Any,
    ) -> FittedProbe:
        """Of a network that says how long it was trained and which epoch was kept; `more` are attributes."""
        return cls(
            scores=scores,
            probabilistic=probabilistic,
            n_epochs=trained.n_epochs,
            best_epoch=trained.best_epoch,
            fit_s=trained.fit_s,
            schedule=trained.schedule,
            **more,
        )


#: Its earlier name, by which classifiers of other packages import it.
Fit = FittedProbe


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

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """Fit all of a bundle, in its order."""
        ...


VECTORS, FRAMES = "vectors", "frames"


def inputs_of(classifier: Classifier) -> str:
    """`VECTORS` where rows are one vector per utterance, `FRAMES` where they are its frames."""
    return str(getattr(classifier, "inputs", VECTORS))


def trains_by_epochs(classifier: Classifier) -> bool | None:
    """Whether validation rows say how long it is trained; None where it does not say, as those of others."""
    found = getattr(classifier, "by_epochs", None)
    return None if found is None else bool(found)


def require_known(settings: Settings, known: Sequence[str], name: str) -> None:
    """Refuse a setting that a classifier does not have.

    Raises:
        ConfigError: names the settings it has.
    """
    for key in settings:
        if key not in known:
            hint = did_you_mean(key, known)
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


def require_float32(settings: Settings, what: str) -> None:
    """Refuse a precision that would be recorded and not used.

    Raises:
        ConfigError: `settings` ask for another precision.
    """
    precision = settings.get("precision", "fp32")
    if precision != "fp32":
        raise ConfigError(
            f"probe setting precision: {what} is trained in fp32 only, got {precision!r}; "
            "leave precision out of --grid"
        )
