"""Probes that pool the frames of an utterance by learned attention; they need a store with frames."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from featurestore.errors import ConfigError
from probes.classifiers.interface import (
    FRAMES,
    Bundle,
    FittedProbe,
    Settings,
    require_float32,
    require_known,
    widths,
)

if TYPE_CHECKING:
    from featurestore.store.reader import Features
    from probes.training.frames import FrameRows
    from probes.training.mlp_config import MLPConfig
    from probes.training.networks import AttentivePooling, MultiheadPooling

ATTENTION, MULTIHEAD = "attention", "mha"
DEFAULT_HEADS = 8


class FramePooling:
    """Attention over the frames of a clip, then a linear head (or an MLP, with `hidden`).

    Settings are those of the MLP, and `heads` for multi-head attention.
    """

    seeded = True
    by_epochs = True
    inputs = FRAMES

    def __init__(self, name: str) -> None:
        self.name = name

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.interface.Classifier`."""
        from probes.training.mlp_config import MLPConfig

        own = {"heads": DEFAULT_HEADS} if self.name == MULTIHEAD else {}
        known = [*own, *(f.name for f in fields(MLPConfig) if f.name != "seed")]
        require_known(settings, known, self.name)
        values: dict[str, Any] = {"hidden": (), **settings}
        values["hidden"] = widths(values["hidden"])
        for name in own:
            own[name] = values.pop(name, own[name])
            if isinstance(own[name], bool) or not isinstance(own[name], int) or own[name] < 1:
                raise ConfigError(f"probe setting {name}: expected a whole number above 0, got {own[name]!r}")
        complete = MLPConfig(**values).hparams()
        require_float32(complete, f"classifier {self.name}")
        return {**complete, **own}

    def check(self, features: Features, settings: Settings) -> None:
        """Refuse a key that this classifier cannot read.

        Raises:
            ConfigError: it holds no frames, or its features cannot be shared among the heads.
        """
        where = f"{features.model}/{features.dataset}"
        if features.info.frames is None:
            raise ConfigError(
                f"classifier {self.name}: {features.storage.url} holds no frames of {where}; extract them "
                "with `fs extract --frames --name NAME`, or choose a key that has them with --model"
            )
        width = features.info.frames.n_features
        heads = int(settings.get("heads", 1))
        if width % heads:
            raise ConfigError(
                f"classifier {self.name}: {heads} heads cannot share the {width} features of {where}; "
                f"set heads in --grid to a divisor of {width}"
            )

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `probes.classifiers.interface.Classifier`; the rows are `probes.training.frames.FrameRows`."""
        from probes.classifiers.trained_networks import as_frames, fit_networks

        n_features = cast("FrameRows", bundle.x_train).n_features
        return fit_networks(bundle, partial(self.network, n_features, bundle.n_classes), feed=as_frames)

    def network(
        self, n_features: int, n_classes: int, config: MLPConfig, settings: Settings
    ) -> AttentivePooling | MultiheadPooling:
        """From frames `[b, T, d]` and where there are none `[b, T]` to logits `[b, C]`, not trained yet."""
        from probes.classifiers.trained_networks import head_of
        from probes.training.networks import AttentivePooling, MultiheadPooling

        top = head_of(config, n_features, n_classes)
        if self.name == MULTIHEAD:
            return MultiheadPooling(n_features, int(settings["heads"]), top)
        return AttentivePooling(n_features, top)
