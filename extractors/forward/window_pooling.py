"""Frames to functionals: clips embedded at once, and clips whose windows come one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from extractors.audio.spill import scratch
from extractors.forward.batching import Window
from extractors.forward.functionals import (
    Parts,
    finish,
    frame_quantiles,
    merge,
    quantile_names,
    reduce_frames,
    select,
)
from extractors.models.interface import Extractor
from extractors.results import UnitResult

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reduced:
    """Of one layer of a group of windows: statistics, and frames `[t, d]` where they are needed later."""

    parts: Parts
    frames: list[np.ndarray | None]


class WindowJoiner:
    """Takes the frames of windows layer by layer and puts functionals into a unit's result.

    Args:
        windows: those that will come, in the order in which they will come.
        extractor: whose frames.
        layers: layers that will come.
        names: functionals to keep, in stored order.
        result: of the unit.

    Raises:
        OSError: frames of a long clip are needed for its quantiles, and fit neither memory nor disk.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        extractor: Extractor,
        layers: Sequence[int],
        names: Sequence[str],
        result: UnitResult,
    ) -> None:
        self._names = names
        self._mergeable = [n for n in names if n not in quantile_names(names)]
        self._result = result
        self._layer_index = {layer: i for i, layer in enumerate(layers)}
        self._parts: dict[tuple[int, int], list[Parts]] = {}  # layer, row → windows so far
        self._frames: dict[int, np.ndarray] = {}  # row → [layers, frames, features]
        self._n_done: dict[tuple[int, int], int] = {}
        if len(self._mergeable) < len(names):
            for row, n_frames in _frames_of_cut_clips(windows, extractor).items():
                self._frames[row] = scratch((len(layers), n_frames, extractor.card.n_features))

    def reduce(self, group: Sequence[Window], frames: torch.Tensor, n_valid: Sequence[int]) -> Reduced:
        """What is kept of one layer of windows that were embedded together; see `OnLayer`."""
        first = [w.first_frame for w in group]
        stop = [n if w.stop_frame is None else w.stop_frame for w, n in zip(group, n_valid, strict=True)]
        # Quantiles of a part are of no use.
        names = self._names if any(w.is_whole for w in group) else self._mergeable
        keep = self._result.frames is not None
        return Reduced(
            reduce_frames(frames, stop, names, first),
            [
                frames[i, first[i] : stop[i]].float().cpu().numpy() if keep or w.row in self._frames else None
                for i, w in enumerate(group)
            ],
        )

    def collect(self, group: Sequence[Window], reduced: Mapping[int, Reduced]) -> None:
        """Put what `reduce` gave for every layer of a group into the unit's result."""
        result = self._result
        whole = [i for i, w in enumerate(group) if w.is_whole]
        rows = [group[i].row for i in whole]
        for layer, found in reduced.items():
            if rows:
                result.values[layer][rows] = finish(select(found.parts, whole), self._names)
                result.n_frames[rows] = found.parts.count[whole]
            for i, (w, frames) in enumerate(zip(group, found.frames, strict=True)):
                if frames is not None and result.frames is not None:
                    result.frames.add(layer, w.row, frames)
                if w.is_whole:
                    continue
                if frames is not None and w.row in self._frames:
                    self._keep(layer, w.row, frames)
                self._parts.setdefault((layer, w.row), []).append(select(found.parts, [i]))
                if w.is_last:
                    self._join(layer, w.row)

    def _keep(self, layer: int, row: int, own: np.ndarray) -> None:
        n = self._n_done.get((layer, row), 0)
        self._frames[row][self._layer_index[layer], n : n + len(own)] = own
        self._n_done[layer, row] = n + len(own)

    def _join(self, layer: int, row: int) -> None:
        joined = merge(self._parts.pop((layer, row)))
        if row in self._frames:
            joined.values.update(frame_quantiles(self._frames[row][self._layer_index[layer]], self._names))
        self._result.values[layer][row] = finish(joined, self._names)[0]
        self._result.n_frames[row] = joined.count[0]


def _frames_of_cut_clips(windows: Sequence[Window], extractor: Extractor) -> dict[int, int]:
    """Row → frames that will be kept, for clips of several windows."""
    counts: dict[int, int] = {}
    for w in windows:
        if not w.is_whole:
            stop = extractor.n_frames(w.n_samples) if w.stop_frame is None else w.stop_frame
            counts[w.row] = counts.get(w.row, 0) + stop - w.first_frame
    return counts
