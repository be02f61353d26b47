"""Probes on a learned weighted sum of layers, or of frames; see `probes.classifiers.layer_combination`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from featurestore.errors import ConfigError
from probes.classifiers.attention import FramePooling
from probes.classifiers.fused_mlp import Fused
from probes.classifiers.interface import FRAMES, Bundle, FittedProbe, Settings, require_float32

if TYPE_CHECKING:
    from torch import nn

    from probes.training.frames import FrameRows
    from probes.training.mlp_config import MLPConfig

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
    by_epochs = True
    streams = True

    def __init__(self, top: Fused) -> None:
        self.top = top

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.interface.Classifier`."""
        return _completed(self.top, settings)

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


class WeightedFramePooling:
    """Attention over the frames of a weighted sum of layers.

    Each layer is standardised by the frames of the training clips; then the sum is taken, frame by frame.
    """

    seeded = True
    by_epochs = True
    inputs = FRAMES

    def __init__(self, pooling: FramePooling) -> None:
        self.pooling = pooling

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.interface.Classifier`."""
        return _completed(self.pooling, settings)

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `probes.classifiers.interface.Classifier`; the rows are `probes.training.frames.FrameRows`."""
        from probes.classifiers.trained_networks import as_frames, fit_networks

        n_features = cast("FrameRows", bundle.x_train).n_features // bundle.n_layers
        build = partial(self._network, bundle.n_layers, n_features, bundle.n_classes)
        return fit_networks(bundle, build, rates={LAYER_LEARNING_RATE: "scores"}, feed=as_frames)

    def _network(
        self, n_layers: int, n_features: int, n_classes: int, config: MLPConfig, settings: Settings
    ) -> nn.Module:
        from probes.training.networks import WeightedFrames

        return WeightedFrames(n_layers, self.pooling.network(n_features, n_classes, config, settings))


def _completed(top: Fused | FramePooling, settings: Settings) -> dict[str, Any]:
    """All settings of what looks at the sum, and the rate of the layers' weights.

    Raises:
        ConfigError: a setting that cannot be.
    """
    rate = settings.get(LAYER_LEARNING_RATE, DEFAULT_LAYER_LEARNING_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise ConfigError(f"probe setting {LAYER_LEARNING_RATE}: expected a number above 0, got {rate!r}")
    others = {k: v for k, v in settings.items() if k != LAYER_LEARNING_RATE}
    complete = top.complete(others)
    require_float32(complete, "combine weighted")
    return {**complete, LAYER_LEARNING_RATE: rate}
