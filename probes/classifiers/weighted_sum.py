"""Probes on a learned weighted sum of layers; see `probes.classifiers.layer_combination`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from featurestore.arrays import FloatArray
from featurestore.errors import ConfigError
from probes.classifiers.interface import require_float32

if TYPE_CHECKING:
    from probes.classifiers.registry import (
        Bundle,
        Fit,
        Fused,
        Settings,
    )

#: Rate of the layers' weights. Adam moves a number by about its rate per step: at the rate of the head
#: (1e-3) a few hundred steps could not move the softmax away from equal weights.
LAYER_LEARNING_RATE = "layer_learning_rate"
DEFAULT_LAYER_LEARNING_RATE = 0.01


class WeightedSumClassifier:
    """A fused classifier (MLP or linear) on top of a weighted sum of layers.

    Each layer is standardised by its training rows before the sum, so that weights compare. What is
    summed are the stored statistics: means add up as frames would, standard deviations do not.
    """

    seeded = True
    streams = True

    def __init__(self, top: Fused) -> None:
        self.top = top

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.registry.Classifier`."""
        rate = settings.get(LAYER_LEARNING_RATE, DEFAULT_LAYER_LEARNING_RATE)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise ConfigError(f"probe setting {LAYER_LEARNING_RATE}: expected a number above 0, got {rate!r}")
        others = {k: v for k, v in settings.items() if k != LAYER_LEARNING_RATE}
        complete = self.top.complete(others)
        require_float32(complete, "combine weighted")
        return {**complete, LAYER_LEARNING_RATE: rate}

    def fit(self, bundle: Bundle) -> list[Fit]:
        """See `probes.classifiers.registry.Classifier`."""
        from probes.classifiers.registry import Fit
        from probes.training.autograd import Job, MatrixFeed, Trained, train
        from probes.training.mlp import MLPConfig
        from probes.training.networks import WeightedSum, head

        n_features = bundle.x_train.shape[1] // bundle.n_layers

        def job(settings: Settings, seed: int) -> Job:
            rest = {k: v for k, v in settings.items() if k != LAYER_LEARNING_RATE}
            config = MLPConfig(**rest, seed=seed)
            sizes = (n_features, *config.hidden, bundle.n_classes)
            return Job(
                config=config,
                make=lambda: WeightedSum(bundle.n_layers, head(sizes, config.dropout, seed)),
                rates={"scores": float(settings[LAYER_LEARNING_RATE])},
            )

        trained: Sequence[Trained] = train(
            MatrixFeed(bundle.x_train),
            bundle.y_train,
            MatrixFeed(bundle.x_val),
            bundle.y_val,
            bundle.n_classes,
            [job(settings, seed) for settings, seed in bundle.fits],
        )

        def scores(t: Trained, x: FloatArray) -> FloatArray:
            return t.probabilities(MatrixFeed(x))

        out = []
        for t in trained:
            assert isinstance(t.network, WeightedSum)
            out.append(
                Fit(
                    scores=partial(scores, t),
                    probabilistic=True,
                    n_epochs=t.n_epochs,
                    best_epoch=t.best_epoch,
                    fit_s=t.fit_s,
                    layer_weights=tuple(t.network.weights().tolist()),
                    model=t.network,
                )
            )
        return out
