"""Test UAR under a sound protocol, and with single differences of the published one switched on.

Sound: groups are held out, each clip is embedded alone, clips without sound are left out, the epoch and the
layer are chosen on validation rows, and the rows tested are those that were held out when the probe was
trained. The differences are those of the code released with Sarkar & Magimai-Doss (ICASSP 2025),
github.com/idiap/ssl-human-animal; which file does what stands in `docs/as_published.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student
from torch.utils.data import random_split

from featurestore.arrays import Float64Array, FloatArray, IntArray, TextArray
from featurestore.errors import LabelError
from probes.metrics import uar
from probes.splits import PARTS, Rows, make_splits
from probes.training.mlp import FittedMLP, fit_mlps
from probes.training.mlp_config import Keep, MLPConfig
from probes.training.standardise import Standardiser

# Added to the seed of a draw for the split that is drawn again.
REDRAW = 1_000_000
LEVEL = 0.95
KEPT: tuple[Keep, ...] = ("best", "last")


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of one data set, in the order of its files.

    Attributes:
        alone: Features of each clip embedded by itself `[n, L, d]`.
        batched: Features of each clip embedded with its neighbours in the batch `[n, L, d]`, see
            `studies.as_published.batch_repeats`.
        target: Classes 0 … C-1 `[n]`.
        group: What is held out together `[n]`.
        silent: Clips whose features are not a number `[n]`; what stands in their rows is not used.
    """

    alone: FloatArray
    batched: FloatArray
    target: IntArray
    group: TextArray
    silent: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Differences that are switched on.

    Attributes:
        redrawn_split: Rows to test are drawn anew after training, so most of them were trained on.
        batch_repeats: Clips are repeated to the length of the longest in their batch.
        previous_row: Clips without features get those of the clip before, with their own label.
        last_epoch: The last epoch's weights are tested, not those of the best on validation.
        layer_by_test: The layer with the best test UAR is reported, not the best on validation.
        clip_split: Clips are split at random, not groups.
    """

    redrawn_split: bool = False
    batch_repeats: bool = False
    previous_row: bool = False
    last_epoch: bool = False
    layer_by_test: bool = False
    clip_split: bool = False


SOUND = Protocol()
#: What is switched on, by the name that tables give it.
DIFFERENCES: Mapping[str, Protocol] = {
    "(a) split redrawn at test": Protocol(redrawn_split=True),
    "(b) repeats to the longest of the batch": Protocol(batch_repeats=True),
    "(c) silent clips get the previous clip's features": Protocol(previous_row=True),
    "(d) last epoch": Protocol(last_epoch=True),
    "(e) layer chosen on test": Protocol(layer_by_test=True),
    "(f) random split by clip": Protocol(clip_split=True),
    "(b) to (f) together": Protocol(
        batch_repeats=True, previous_row=True, last_epoch=True, layer_by_test=True, clip_split=True
    ),
    "all together": Protocol(
        redrawn_split=True,
        batch_repeats=True,
        previous_row=True,
        last_epoch=True,
        layer_by_test=True,
        clip_split=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one protocol gives.

    Attributes:
        uar: Test UAR of each split `[K]`, the mean over seeds.
        sound: That of the sound protocol with the same draws `[K]`.
        trained_on: Share of the test rows that the probe was trained on, mean over splits.
        test_share: Test rows of each training row, for the interval.
    """

    uar: Float64Array
    sound: Float64Array
    trained_on: float
    test_share: float

    @property
    def difference(self) -> float:
        """Mean difference from the sound protocol."""
        return float((self.uar - self.sound).mean())

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Of the difference over draws of split and weights: Student's t with the corrected variance.

        Random splits of one data set share rows; Nadeau & Bengio (Machine Learning 52, 2003) add the ratio of
        test to training rows to 1/K. It says nothing of other data sets. NaN for a single split.
        """
        apart = self.uar - self.sound
        n = len(apart)
        if n < 2:
            return float("nan"), float("nan")
        error = float(apart.std(ddof=1)) * (1 / n + self.test_share) ** 0.5
        reach = float(student.ppf((1 + level) / 2, n - 1)) * error
        return self.difference - reach, self.difference + reach


def differences(
    clips: Clips,
    protocols: Mapping[str, Protocol] = DIFFERENCES,
    *,
    n_splits: int,
    n_seeds: int,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Outcome]:
    """What each protocol gives, next to the sound one on the same draws.

    Args:
        clips: The data.
        protocols: Differences by name.
        n_splits: Draws of the split.
        n_seeds: Draws of the initial weights on each.
        settings: Of `MLPConfig`, for all fits.

    Raises:
        LabelError: the clips cannot be split by group, or a class has no training row.
    """
    if clips.silent.all() or clips.silent[:1].any():
        raise LabelError("the first clip is silent: there is no clip before it to take features from")
    found: dict[str, list[float]] = {name: [] for name in (*protocols, "")}
    trained_on: dict[str, list[float]] = {name: [] for name in protocols}
    ratios: list[float] = []
    for draw in range(n_splits):
        trial = _Trial(clips, draw, n_seeds, dict(settings or {}))
        found[""].append(trial.uar(SOUND))
        for name, protocol in protocols.items():
            found[name].append(trial.uar(protocol))
            trained_on[name].append(trial.trained_on(protocol))
        parts = trial.parts(SOUND)
        ratios.append(len(parts["test"]) / len(parts["train"]))
    return {
        name: Outcome(
            uar=np.array(found[name]),
            sound=np.array(found[""]),
            trained_on=float(np.mean(trained_on[name])),
            test_share=float(np.mean(ratios)),
        )
        for name in protocols
    }


def with_previous_rows(x: FloatArray, silent: npt.NDArray[np.bool_]) -> FloatArray:
    """The features `[n, …]` with those of the last clip that has any in rows of clips that have none."""
    source = np.maximum.accumulate(np.where(silent, 0, np.arange(len(x))))
    return x[source]


@dataclass
class _Trial:
    """All protocols on one draw; those that train alike share their fits."""

    clips: Clips
    draw: int
    n_seeds: int
    settings: dict[str, Any]
    _fits: dict[tuple[bool, bool, bool], list[tuple[Standardiser, list[FittedMLP]]]] = field(
        default_factory=dict
    )

    def parts(self, protocol: Protocol, seed: int | None = None) -> dict[str, IntArray]:
        """Rows of each part; silent clips are in none, unless they have features."""
        drawn = _draw(self.clips, self.draw if seed is None else seed, by_clip=protocol.clip_split)
        if protocol.previous_row:
            return drawn
        return {name: rows[~self.clips.silent[rows]] for name, rows in drawn.items()}

    def tested(self, protocol: Protocol) -> IntArray:
        """Rows that are scored."""
        return self.parts(protocol, self.draw + REDRAW if protocol.redrawn_split else None)["test"]

    def trained_on(self, protocol: Protocol) -> float:
        """Share of the rows scored that were trained on."""
        return float(np.isin(self.tested(protocol), self.parts(protocol)["train"]).mean())

    def uar(self, protocol: Protocol) -> float:
        """Test UAR of the chosen layer, the mean over seeds."""
        x, rows, y = self._features(protocol), self.tested(protocol), self.clips.target
        keep = "last" if protocol.last_epoch else "best"
        chosen_by: list[float] = []
        test: list[float] = []
        for layer, (standardise, fits) in enumerate(self._trained(protocol)):
            kept = [f for f in fits if f.config.keep == keep]
            values = standardise(x[rows, layer])
            scores = [uar(y[rows], f.logits(values).argmax(axis=1)) for f in kept]
            test.append(float(np.mean(scores)))
            epochs = [f.n_epochs if protocol.last_epoch else f.best_epoch for f in kept]
            of_val = [f.val_uar[epoch - 1] for f, epoch in zip(kept, epochs, strict=True)]
            chosen_by.append(float(np.mean(of_val)))
        return test[int(np.argmax(test if protocol.layer_by_test else chosen_by))]

    def _features(self, protocol: Protocol) -> FloatArray:
        x = self.clips.batched if protocol.batch_repeats else self.clips.alone
        return with_previous_rows(x, self.clips.silent) if protocol.previous_row else x

    def _trained(self, protocol: Protocol) -> list[tuple[Standardiser, list[FittedMLP]]]:
        """For each layer its scale and its fits: every seed with the best and the last epoch's weights."""
        key = (protocol.batch_repeats, protocol.previous_row, protocol.clip_split)
        if key not in self._fits:
            x, y, rows = self._features(protocol), self.clips.target, self.parts(protocol)
            configs = [
                MLPConfig(**self.settings, seed=1000 * self.draw + s, order_seed=self.draw, keep=keep)
                for keep in KEPT
                for s in range(self.n_seeds)
            ]
            out = []
            for layer in range(x.shape[1]):
                scale = Standardiser.fit(x[rows["train"], layer])
                train, val = (scale(x[rows[part], layer]) for part in ("train", "val"))
                n_classes = int(y.max()) + 1
                fits = fit_mlps(train, y[rows["train"]], val, y[rows["val"]], n_classes, configs)
                out.append((scale, fits))
            self._fits[key] = out
        return self._fits[key]


def _draw(clips: Clips, seed: int, *, by_clip: bool) -> dict[str, IntArray]:
    """Rows of train, val and test."""
    n = len(clips)
    if by_clip:
        sizes = [int(0.7 * n), int(0.2 * n)]
        sizes.append(n - sum(sizes))
        generator = torch.Generator().manual_seed(seed)
        subsets: Sequence[Any] = random_split(range(n), sizes, generator)  # type: ignore[arg-type]
        return {name: np.array(part.indices) for name, part in zip(PARTS, subsets, strict=True)}
    names = np.array([f"{i:09d}" for i in range(n)], dtype=object)
    rows = Rows(
        utterance_id=names,
        label=clips.target.astype(str).astype(object),
        group=clips.group.astype(object),
        part=np.full(n, "", dtype=object),
        n_manifest=n,
    )
    (split,) = make_splits("group", rows, seed)
    return dict(split.parts())
