"""MLP and linear probes, all fits of a bundle trained together; of label sets and of numbers too."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from featurestore.errors import ConfigError
from probes.classifiers.interface import Bundle, FittedProbe, Settings, require_known, widths
from probes.classifiers.numbers import of_numbers


class Fused:
    """MLP with settings of its own if wanted; some may be fixed."""

    seeded = True
    by_epochs = True
    streams = True  # rows may stay in the store, see `probes.training.vectors`

    def __init__(self, name: str, fixed: Settings) -> None:
        self.name, self.fixed = name, fixed

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `Classifier.complete`."""
        from probes.training.mlp_config import MLPConfig

        known = [f.name for f in fields(MLPConfig) if f.name not in ("seed", *self.fixed)]
        require_known(settings, known, self.name)
        values = {**self.fixed, **settings}
        if "hidden" in values:
            values["hidden"] = widths(values["hidden"])
        try:
            return MLPConfig(**values).hparams()
        except TypeError as error:
            raise ConfigError(f"classifier {self.name}: {error}") from error

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `Classifier.fit`; targets may be label sets, 0/1 matrices `[n, C]`, or numbers."""
        from probes.training.devices import resolve_device
        from probes.training.mlp import fit_mlps
        from probes.training.mlp_config import MLPConfig

        if bundle.y_train.ndim == 2:
            from probes.classifiers.trained_networks import fit_networks, head_of

            n_features, n_classes = bundle.x_train.shape[1], bundle.n_classes
            return fit_networks(bundle, lambda config, _: head_of(config, n_features, n_classes))
        configs = [MLPConfig(**settings, seed=seed) for settings, seed in bundle.fits]
        numbers = of_numbers(bundle.y_train)
        y_train, y_val = bundle.y_train, bundle.y_val
        if numbers:
            y_train = y_train.astype(np.float32)
            y_val = None if y_val is None else y_val.astype(np.float32)
        fitted = fit_mlps(
            bundle.x_train,
            y_train,
            bundle.x_val,
            y_val,
            bundle.n_classes,
            configs,
            schedules=bundle.schedules,
            device=resolve_device(bundle.device),
        )
        return [
            FittedProbe.of_network(
                f,
                f.logits if numbers else f.probabilities,
                probabilistic=not numbers,
                model=f,
                device=f.device,
            )
            for f in fitted
        ]
