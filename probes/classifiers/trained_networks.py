"""A bundle fitted as networks that autograd trains; it loads torch, so import it where a bundle is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, cast

from torch import nn

from featurestore.arrays import FloatArray
from probes.classifiers.interface import Bundle, FittedProbe, Settings
from probes.classifiers.numbers import of_numbers
from probes.training.autograd import Feed, MatrixFeed, NetworkSpec, Trained, train
from probes.training.mlp_config import MLPConfig, Schedule
from probes.training.networks import Head, LayerWeights

NO_RATES: Mapping[str, str] = {}


def fit_networks(
    bundle: Bundle,
    build: Callable[[MLPConfig, Settings], nn.Module],
    *,
    rates: Mapping[str, str] = NO_RATES,
    feed: Callable[[Any], Feed] = MatrixFeed,
) -> list[FittedProbe]:
    """Fit all of a bundle, in its order.

    Args:
        bundle: Rows, and settings: those of `MLPConfig` and others that `build` knows.
        build: From both a network.
        rates: Settings that are the learning rate of one parameter, by name, and the parameter's name.
        feed: From `x_train`, `x_val` or rows to be scored what the network reads.
    """
    known = {f.name for f in fields(MLPConfig)}

    def spec(settings: Settings, seed: int, schedule: Schedule | None) -> NetworkSpec:
        config = MLPConfig(**{k: v for k, v in settings.items() if k in known}, seed=seed)
        own = {parameter: float(settings[name]) for name, parameter in rates.items()}
        return NetworkSpec(config=config, make=partial(build, config, settings), rates=own, schedule=schedule)

    schedules = bundle.schedules or (None,) * len(bundle.fits)
    trained = train(
        feed(bundle.x_train),
        bundle.y_train,
        None if bundle.x_val is None else feed(bundle.x_val),
        bundle.y_val,
        bundle.n_classes,
        [spec(*fit, s) for fit, s in zip(bundle.fits, schedules, strict=True)],
    )
    return [
        FittedProbe.of_network(
            t,
            partial(_scores, t, feed),
            probabilistic=not of_numbers(bundle.y_train),
            model=t.network,
            layer_weights=tuple(t.network.weights().tolist()) if isinstance(t.network, LayerWeights) else (),
        )
        for t in trained
    ]


def as_frames(x: Any) -> Feed:
    """Frames are fed as they are; see `probes.training.frames`."""
    return cast("Feed", x)


def head_of(config: MLPConfig, n_features: int, n_classes: int) -> Head:
    """The MLP that a network ends in."""
    return Head((n_features, *config.hidden, n_classes), config.dropout, config.seed)


def _scores(trained: Trained, feed: Callable[[Any], Feed], x: FloatArray) -> FloatArray:
    return trained.scores(feed(x))
