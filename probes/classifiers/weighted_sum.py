"""Probes on a learned weighted sum of layers; see `probes.classifiers.layer_combination`."""

from __future__ import annotations

from typing import Any

from featurestore.errors import ConfigError
from probes.classifiers.fused_mlp import Fused
from probes.classifiers.interface import Bundle, FittedProbe, Settings, require_float32

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
        """See `probes.classifiers.interface.Classifier`."""
        rate = settings.get(LAYER_LEARNING_RATE, DEFAULT_LAYER_LEARNING_RATE)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise ConfigError(f"probe setting {LAYER_LEARNING_RATE}: expected a number above 0, got {rate!r}")
        others = {k: v for k, v in settings.items() if k != LAYER_LEARNING_RATE}
        complete = self.top.complete(others)
        require_float32(complete, "combine weighted")
        return {**complete, LAYER_LEARNING_RATE: rate}

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `probes.classifiers.interface.Classifier`."""
        from probes.classifiers.trained_networks import fit_networks, head_of
        from probes.training.networks import WeightedSum

        n_layers, n_classes = bundle.n_layers, bundle.n_classes
        n_features = bundle.x_train.shape[1] // n_layers
        return fit_networks(
            bundle,
            lambda config, _: WeightedSum(n_layers, head_of(config, n_features, n_classes)),
            rates={LAYER_LEARNING_RATE: "scores"},
        )
