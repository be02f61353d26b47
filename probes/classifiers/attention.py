"""Probes that pool the frames of an utterance by learned attention; they need a store with frames."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from featurestore.arrays import FloatArray
from featurestore.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from featurestore.store.reader import Features
    from probes.classifiers.registry import Bundle, Fit, Settings
    from probes.training.autograd import Trained
    from probes.training.frames import FrameRows

ATTENTION, MULTIHEAD = "attention", "mha"
DEFAULT_HEADS = 8


class FramePooling:
    """Attention over the frames of a clip, then a linear head (or an MLP, with `hidden`).

    Settings are those of the MLP, and `heads` for multi-head attention.
    """

    seeded = True
    inputs = "frames"

    def __init__(self, name: str) -> None:
        self.name = name

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.registry.Classifier`."""
        from probes.classifiers.interface import require_float32
        from probes.classifiers.registry import require_known, widths
        from probes.training.mlp import MLPConfig

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

    def fit(self, bundle: Bundle) -> list[Fit]:
        """See `probes.classifiers.registry.Classifier`; the rows are `probes.training.frames.FrameRows`."""
        from probes.classifiers.registry import Fit
        from probes.training.autograd import Job, train
        from probes.training.mlp import MLPConfig

        x, x_val = cast("FrameRows", bundle.x_train), cast("FrameRows", bundle.x_val)

        def job(settings: Settings, seed: int) -> Job:
            rest = {k: v for k, v in settings.items() if k != "heads"}
            config = MLPConfig(**rest, seed=seed)
            heads = int(settings.get("heads", 1))
            return Job(
                config=config,
                make=partial(self._network, config, x.n_features, heads, bundle.n_classes),
                rates={},
            )

        jobs = [job(settings, seed) for settings, seed in bundle.fits]
        return [
            Fit(
                scores=partial(_scores, t),
                probabilistic=True,
                n_epochs=t.n_epochs,
                best_epoch=t.best_epoch,
                fit_s=t.fit_s,
                model=t.network,
            )
            for t in train(x, bundle.y_train, x_val, bundle.y_val, bundle.n_classes, jobs)
        ]

    def _network(self, config: Any, n_features: int, heads: int, n_classes: int) -> nn.Module:
        from probes.training.networks import AttentivePooling, MultiheadPooling, head

        top = head((n_features, *config.hidden, n_classes), config.dropout, config.seed)
        if self.name == MULTIHEAD:
            return MultiheadPooling(n_features, heads, top)
        return AttentivePooling(n_features, top)


def _scores(trained: Trained, x: FloatArray) -> FloatArray:
    return trained.probabilities(cast("FrameRows", x))
