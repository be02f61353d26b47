"""From clips to functionals: cut into windows, run the model, reduce each layer, join windows of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from extractors.audio.waveform import Clip
from extractors.forward.batch_budget import Budget, free_caches, is_out_of_memory
from extractors.forward.batching import Window
from extractors.forward.window_pooling import Reduced, WindowJoiner
from extractors.forward.windows import LongClips
from extractors.models.arithmetic import products_in
from extractors.models.interface import Extractor, NormalisesOverTime, Precision
from extractors.results import UnitResult
from featurestore.audio.segment import AudioError
from featurestore.format.row_arrays import STATUS_OK


class Embedder:
    """A loaded model with the layers and functionals asked of it.

    Args:
        extractor: the model.
        layers: layers to keep, increasing.
        functionals: statistics to keep, in stored order.
        budget: most samples of one forward pass; halved when memory runs out.
        long_clips: how long clips are cut.
        precision: arithmetic of every forward pass, whatever the process was told since the model was loaded.
    """

    def __init__(
        self,
        extractor: Extractor,
        layers: Sequence[int],
        functionals: Sequence[str],
        budget: Budget,
        long_clips: LongClips,
        precision: Precision,
    ) -> None:
        self.extractor = extractor
        self._precision = precision
        self.budget = budget
        self._long_clips = long_clips
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
        # Counting frames and taking a long clip's statistics run parts of the model too.
        with products_in(self._precision):
            return self._embed(rows, clips, result)

    def _embed(
        self, rows: Sequence[int], clips: Sequence[Clip | AudioError | None], result: UnitResult
    ) -> float:
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
            pieces = self._long_clips.cut(row, n_samples, self._min_samples)
            try:
                n_frames = sum(self.extractor.n_frames(w.n_samples) for w in pieces)
            except (RuntimeError, MemoryError) as error:
                # Models of whose frames nothing else is known are run to count them.
                if not is_out_of_memory(error):
                    raise
                free_caches()
                seconds = n_samples / self.extractor.card.sample_rate_hz
                result.fail(row, f"out of memory: {seconds:.1f} s of audio do not fit this device")
                continue
            if n_frames < self._min_frames:
                result.fail(row, f"too short: {n_samples} samples give fewer than {self._min_frames} frames")
                continue
            windows.extend(pieces)
            waveforms[row] = clip.samples
            result.status[row] = STATUS_OK
            result.audio_hash[row] = clip.audio_hash
            result.stamps[row] = clip.stamp
            audio_s += clip.duration_s
        if windows:
            self._forward(windows, waveforms, result)
        return audio_s

    def _forward(
        self, windows: Sequence[Window], waveforms: dict[int, np.ndarray], result: UnitResult
    ) -> None:
        """Run windows in groups within the budget; join those of one clip."""
        left = list(windows)
        statistics = self._statistics(windows, waveforms)
        try:
            joiner = WindowJoiner(windows, self.extractor, self.layers, self.functionals, result)
        except OSError as error:
            for row in {w.row for w in windows if not w.is_whole}:
                result.fail(row, f"too long for quantiles: no room for its frames ({error.strerror})")
            left = [w for w in windows if w.is_whole]
            joiner = WindowJoiner(left, self.extractor, self.layers, self.functionals, result)
        again = True  # a lone window gets a second chance with all caches freed
        while left:
            group = left[: len(self.budget.regroup([w.n_samples for w in left])[0])]
            reduced = self._run(group, waveforms, statistics, joiner)
            if reduced is not None:
                joiner.collect(group, reduced)
                left = left[len(group) :]
                again = True
                continue
            free_caches()
            if len(group) > 1:
                self.budget.halve([w.n_samples for w in group])
            elif again:
                again = False
            else:
                row = group[0].row
                seconds = group[0].n_samples / self.extractor.card.sample_rate_hz
                result.fail(row, f"out of memory: {seconds:.1f} s of audio do not fit this device")
                left = [w for w in left if w.row != row]
                again = True

    def _statistics(self, windows: Sequence[Window], waveforms: dict[int, np.ndarray]) -> dict[int, Any]:
        """Row → what windows of its clip must know of the whole clip, where windows are to be as the clip."""
        if not self._long_clips.hop_samples or not isinstance(self.extractor, NormalisesOverTime):
            return {}
        rows = {w.row for w in windows if not w.is_whole}
        return {row: self.extractor.clip_statistics(waveforms[row]) for row in rows}

    def _run(
        self,
        group: Sequence[Window],
        waveforms: dict[int, np.ndarray],
        statistics: dict[int, Any],
        joiner: WindowJoiner,
    ) -> dict[int, Reduced] | None:
        """Layer → what is kept of a group of windows; None where memory does not suffice."""
        found: dict[int, Reduced] = {}

        def on_layer(layer: int, frames: Any, n_valid: Sequence[int]) -> None:
            found[layer] = joiner.reduce(group, frames, n_valid)

        try:
            clips = [np.asarray(waveforms[w.row][w.start : w.start + w.n_samples]) for w in group]
            given = [statistics.get(w.row) for w in group]
            if isinstance(self.extractor, NormalisesOverTime) and any(g is not None for g in given):
                self.extractor.forward_windows(clips, given, self.layers, on_layer)
            else:
                self.extractor.forward(clips, self.layers, on_layer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return found


def _samples_for(extractor: Extractor, n_frames: int) -> int:
    """Fewest samples that give this many frames."""
    n = 1
    while extractor.n_frames(n) < n_frames:
        n += 1
    return n
