"""Worlds with a known truth that `coverage.py` draws test parts from.

Clips come in groups (recordings, animals); a clip is right with a chance that depends on its class and, on
the logit scale, on its group. The truth is the mean chance over classes, exact by quadrature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

GROUPS = (4, 6, 10, 20, 50)
FloatArray = npt.NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A world to draw test parts from.

    Attributes:
        groups: Groups tested.
        uar: True UAR.
        effect: Standard deviation of a group's effect on the logit.
        ratio: Most frequent class to rarest.
        classes: How many.
        clips: Clips of a group, on average.
        seeds: Networks trained on the same rows.
        folds: Networks that each test their own groups, pooled; 1: one network tests all.
        layout: `crossed` (every group draws from all classes alike), `mixed` (groups prefer classes), `sizes`
            (groups of very unequal size), `label` (the label is the group's: one class each), `few` (as
            `label`, and the last class has one group only), `single` (every clip is a group).
    """

    groups: int
    uar: float
    effect: float = 0.8
    ratio: float = 1
    classes: int = 5
    clips: int = 20
    seeds: int = 1
    folds: int = 1
    layout: str = "crossed"


@dataclass(frozen=True)
class Drawn:
    """Target `[n]`, right or wrong `[S, n]`, group `[n]`, and the true recall of each class `[C]`."""

    target: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]
    truth: FloatArray

    def predictions(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Predicted classes `[S, n]`: a wrong one is any other, each as often."""
        n_classes = len(self.truth)
        other = (self.target + rng.integers(1, n_classes, self.right.shape)) % n_classes
        return np.where(self.right, self.target, other)

    @property
    def true_uar(self) -> float:
        """Mean of the true recalls of the classes that were drawn."""
        return float(self.truth[np.unique(self.target)].mean())


def chances(uar: float, n_classes: int) -> FloatArray:
    """Recalls of classes, spread on the logit scale, with this mean `[C]`."""
    spread = np.linspace(-0.8, 0.8, n_classes) if uar < 0.95 else np.linspace(-0.5, 0.5, n_classes)
    low, high = logit(uar) - 2, logit(uar) + 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(middle + spread).mean() < uar else (low, middle)
    return np.asarray(expit(low + spread))


def intercepts(chance: FloatArray, effect: float) -> FloatArray:
    """Logits whose mean chance over groups of this effect is `chance`, of the same shape."""
    low, high = np.full(chance.shape, -20.0), np.full(chance.shape, 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = mean_chance(middle, effect) < chance
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def mean_chance(intercept: FloatArray, effect: float) -> FloatArray:
    return np.asarray((expit(intercept[..., None] + effect * _NODES) * _WEIGHTS).sum(-1))


def shares(setting: Setting) -> FloatArray:
    pi = np.geomspace(1, 1 / setting.ratio, setting.classes)
    return np.asarray(pi / pi.sum())


def draw_rows(setting: Setting, rng: np.random.Generator) -> tuple[Any, Any]:
    """Class and group of each clip."""
    n, k = setting.groups, setting.classes
    pi = shares(setting)
    if setting.layout == "single":
        return rng.choice(k, n * setting.clips, p=pi), np.arange(n * setting.clips)
    sizes = np.full(n, setting.clips)
    if setting.layout == "sizes":
        sizes = np.maximum(1, np.round(setting.clips * np.exp(0.8 * rng.standard_normal(n) - 0.32))).astype(
            int
        )
    group = np.repeat(np.arange(n), sizes)
    if setting.layout in ("label", "few"):
        own = np.arange(n) % (k if setting.layout == "label" else k - 1)
        if setting.layout == "few":
            own[-1] = k - 1
        return own[group], group
    if setting.layout == "mixed":
        prefer = rng.dirichlet(0.7 * k * pi, n)
        return np.concatenate([rng.choice(k, s, p=p) for s, p in zip(sizes, prefer, strict=True)]), group
    return rng.choice(k, len(group), p=pi), group


class World:
    """A setting with its networks, whose true recalls are fixed; `draw` makes a test part."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        rng = np.random.default_rng(seed)
        base = intercepts(chances(setting.uar, setting.classes), setting.effect)
        # Networks of other seeds and folds differ a little in every class.
        n = max(setting.seeds, setting.folds)
        apart = 0.25 * rng.standard_normal((n, setting.classes)) if n > 1 else np.zeros((1, setting.classes))
        self.intercept = base + apart - apart.mean(axis=0)
        self.chance = mean_chance(self.intercept, setting.effect)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """A test part."""
        setting = self.setting
        target, group = draw_rows(setting, rng)
        effect = setting.effect * rng.standard_normal(group.max() + 1)
        # Seeds agree on half of the rows.
        chance = rng.random(len(target))
        agree = rng.random(len(target)) < 0.5
        if setting.folds > 1:
            fold = group % setting.folds
            right = chance < expit(self.intercept[fold, target] + effect[group])
            weight = np.bincount(np.arange(setting.groups) % setting.folds, minlength=setting.folds)
            return Drawn(target, right[None], group, weight @ self.chance / weight.sum())
        rows = []
        for s in range(setting.seeds):
            own = np.where(agree, chance, rng.random(len(target))) if s else chance
            rows.append(own < expit(self.intercept[s, target] + effect[group]))
        return Drawn(target, np.array(rows), group, self.chance[: setting.seeds].mean(axis=0))


def several(
    setting: Setting, intercept: FloatArray, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What models say of the same rows: target `[n]`, predictions `[M, n]`, group `[n]`.

    Half of the variance of a group's effect is shared and half a model's own, and models agree on half of the
    rows.

    Args:
        setting: The world.
        intercept: Of each model and class `[M, C]`; see `intercepts`.
        rng: What is drawn from.
    """
    target, group = draw_rows(setting, rng)
    n = group.max() + 1
    own = rng.standard_normal((len(intercept), n))
    effect = setting.effect * np.sqrt(0.5) * (rng.standard_normal(n) + own)  # [M, G]
    alone = rng.random((len(intercept), len(target)))
    draw = np.where(rng.random(len(target)) < 0.5, rng.random(len(target)), alone)
    right = draw < expit(intercept[:, target] + effect[:, group])
    return target, Drawn(target, right, group, intercept[0]).predictions(rng), group


def intercepts_of(setting: Setting, uars: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Intercepts `[M, C]` of models of these true UARs, and their true recalls `[M, C]`."""
    truth = np.array([chances(uar, setting.classes) for uar in uars])
    return intercepts(truth, setting.effect), truth
