"""From clips to functionals: cut into windows, run the model, reduce each layer, join windows of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from extractors.audio import AudioError, Clip
from extractors.base import Extractor
from extractors.batching import Window, cut_windows
from extractors.functionals import Parts, finish, merge, reduce_frames, select
from extractors.results import STATUS_OK, UnitResult


class Embedder:
    """A loaded model with the layers and functionals asked of it.

    Args:
        extractor: the model.
        layers: layers to keep, increasing.
        functionals: statistics to keep, in stored order.
    """

    def __init__(self, extractor: Extractor, layers: Sequence[int], functionals: Sequence[str]) -> None:
        self.extractor = extractor
        self.layers = list(layers)
        self.functionals = tuple(functionals)
        self._min_frames = 2 if "std" in self.functionals else 1
        self._min_samples = _samples_for(extractor, 1)

    def embed(
        self, rows: Sequence[int], clips: Sequence[Clip | AudioError | None], result: UnitResult
    ) -> float:
        """Embed clips together and put their values into `result`.

        Args:
            rows: positions within the unit.
            clips: for each row its clip, why it has none, or None for a row without an utterance.
            result: of the unit.

        Returns:
            Seconds of audio embedded.
        """
        windows: list[Window] = []
        waveforms: dict[int, np.ndarray] = {}
        audio_s = 0.0
        for row, clip in zip(rows, clips, strict=True):
            if clip is None:
                continue
            if isinstance(clip, AudioError):
                result.fail(row, str(clip))
                continue
            result.duration_s[row] = clip.duration_s
            n_samples = len(clip.samples)
            pieces = cut_windows(row, n_samples, self.extractor.card.max_samples, self._min_samples)
            if sum(self.extractor.n_frames(w.n_samples) for w in pieces) < self._min_frames:
                result.fail(row, f"too short: {n_samples} samples give fewer than {self._min_frames} frames")
                continue
            windows.extend(pieces)
            waveforms[row] = clip.samples
            result.status[row] = STATUS_OK
            result.audio_hash[row] = clip.audio_hash
            audio_s += clip.duration_s
        if windows:
            self._forward(windows, waveforms, result)
        return audio_s

    def _forward(
        self, windows: Sequence[Window], waveforms: dict[int, np.ndarray], result: UnitResult
    ) -> None:
        """Run windows in groups no larger than the batch was planned to be; join those of one clip."""
        names = self.functionals
        parts: dict[int, dict[int, list[Parts]]] = {}  # layer → row → windows so far
        size = max(len(waveforms), 4)
        for start in range(0, len(windows), size):
            group = windows[start : start + size]

            def on_layer(
                layer: int, frames: Any, n_valid: Sequence[int], group: Sequence[Window] = group
            ) -> None:
                reduced = reduce_frames(frames, n_valid, names)
                if result.frames is not None:
                    for i, w in enumerate(group):
                        result.frames.add(layer, w.row, frames[i, : n_valid[i]].float().cpu().numpy())
                whole = [i for i, w in enumerate(group) if w.start == 0 and w.is_last]
                rows = [group[i].row for i in whole]
                if rows:
                    result.values[layer][rows] = finish(select(reduced, whole), names)
                    result.n_frames[rows] = reduced.count[whole]
                for i, w in enumerate(group):
                    if w.start == 0 and w.is_last:
                        continue
                    collected = parts.setdefault(layer, {}).setdefault(w.row, [])
                    collected.append(select(reduced, [i]))
                    if w.is_last:
                        joined = merge(collected)
                        result.values[layer][w.row] = finish(joined, names)[0]
                        result.n_frames[w.row] = joined.count[0]

            clips = [waveforms[w.row][w.start : w.start + w.n_samples] for w in group]
            self.extractor.forward(clips, self.layers, on_layer)


def _samples_for(extractor: Extractor, n_frames: int) -> int:
    """Fewest samples that give this many frames."""
    n = 1
    while extractor.n_frames(n) < n_frames:
        n += 1
    return n
