"""From clips to functionals: cut into windows, run the model, reduce each layer, join windows of a clip."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from extractors.audio.spill import scratch
from extractors.audio.waveform import PreparedClip
from extractors.forward.batching import Budget
from extractors.forward.functionals import (
    Parts,
    QueuedParts,
    Transfer,
    finish,
    frame_quantiles,
    merge,
    quantile_names,
    reduce_frames,
    select,
    send,
)
from extractors.forward.unit_result import UnitResult
from extractors.forward.windows import ClipWindow, LongClips
from extractors.models.arithmetic import products_in
from extractors.models.interface import Extractor, NormalisesOverTime, Precision, StacksClips
from featurestore.audio.segment import AudioError
from featurestore.format.row_arrays import STATUS_OK

if TYPE_CHECKING:
    import torch

# Clips of a batch: each, why it has none, or None for a row without an utterance.
Clips = Sequence["PreparedClip | AudioError | None"]


@dataclass(frozen=True)
class ClipBatch:
    """Clips that go through a model together.

    Attributes:
        clips: one for each row.
        stacked: the samples of all that can be used, in order, put together for the device; None where they
            are not.
    """

    clips: Clips
    stacked: Sequence[np.ndarray] | None = None


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
        self._min_samples = next(n for n in itertools.count(1) if extractor.n_frames(n) > 0)
        # To ask this of a protocol takes as long as to reduce a layer.
        self._normaliser = extractor if isinstance(extractor, NormalisesOverTime) else None
        stacker = extractor if isinstance(extractor, StacksClips) else None
        self._stacker = stacker if stacker is not None and stacker.sends_batches else None
        self._on_its_way: _Sent | None = None

    @property
    def stacks(self) -> bool:
        """Whether `stack` does anything, which another thread than the one that embeds may do then."""
        return self._stacker is not None

    def stack(self, clips: Clips) -> ClipBatch:
        """Clips put together as the device takes them, so that `queue` need not; to the bit what they were.

        Those that go to the device in parts, or not all at once, are left as they are.
        """
        usable = [clip.samples for clip in clips if isinstance(clip, PreparedClip)]
        if self._stacker is None or not usable or not self._goes_at_once([len(own) for own in usable]):
            return ClipBatch(clips)
        stacked = self._stacker.stack(usable)
        if stacked is None:
            return ClipBatch(clips)
        samples = iter(stacked)
        # What they were copied from may go.
        moved = [replace(c, samples=next(samples)) if isinstance(c, PreparedClip) else c for c in clips]
        return ClipBatch(moved, stacked)

    def _goes_at_once(self, lengths: Sequence[int]) -> bool:
        window = self._long_clips.window_samples
        return (window is None or max(lengths) <= window) and self.budget.first(lengths) == len(lengths)

    def embed(self, rows: Sequence[int], clips: Clips, result: UnitResult) -> float:
        """Embed clips together and put their values into `result`; see `queue`."""
        seconds = self.queue(rows, ClipBatch(clips), result)
        self.settle()
        return seconds

    def settle(self) -> None:
        """Wait for what was queued last, and put it into its result."""
        if self._on_its_way is not None:
            arriving, self._on_its_way = self._on_its_way, None
            arriving.settle()

    def queue(self, rows: Sequence[int], batch: ClipBatch, result: UnitResult) -> float:
        """Embed clips together; their values are in `result` when the next are queued, or after `settle`.

        A GPU then begins with the next clips while the values of these come over and are put away.

        Args:
            rows: positions within the unit.
            batch: the clips of these rows; see `stack`.
            result: of the unit.

        Returns:
            Seconds of audio embedded.
        """
        windows: list[ClipWindow] = []
        waveforms = _Waveforms(batch.stacked)
        # Counting frames and taking a long clip's statistics run parts of the model too.
        with products_in(self._precision):
            for row, clip in zip(rows, batch.clips, strict=True):
                if isinstance(clip, AudioError):
                    result.fail(row, str(clip))
                elif clip is not None and (pieces := self._cut(row, clip, result)):
                    windows.extend(pieces)
                    waveforms[row] = clip.samples
                    result.status[row] = STATUS_OK
                    result.audio_hash[row] = clip.audio_hash
                    result.stamps[row] = clip.stamp
            before = self._on_its_way
            if windows:
                self._forward(windows, waveforms, result)
            if self._on_its_way is before:  # no clip of these was embedded
                self.settle()
        return float(sum(result.duration_s[row] for row in waveforms))

    def _cut(self, row: int, clip: PreparedClip, result: UnitResult) -> list[ClipWindow]:
        """The windows of a clip; none where it fails."""
        result.duration_s[row] = clip.duration_s
        n_samples = len(clip.samples)
        pieces = self._long_clips.cut(row, n_samples, self._min_samples)
        try:
            n_frames = sum(self.extractor.n_frames(w.n_samples) for w in pieces)
        except (RuntimeError, MemoryError) as error:
            from extractors.models.torch_tools import free_caches, is_out_of_memory

            # Models of whose frames nothing else is known are run to count them.
            if not is_out_of_memory(error):
                raise
            free_caches()
            result.fail(row, self._too_large(n_samples))
            return []
        if n_frames < self._min_frames:
            result.fail(row, f"too short: {n_samples} samples give fewer than {self._min_frames} frames")
            return []
        return pieces

    def _too_large(self, n_samples: int) -> str:
        seconds = n_samples / self.extractor.card.sample_rate_hz
        return f"out of memory: {seconds:.1f} s of audio do not fit this device"

    def _forward(self, windows: Sequence[ClipWindow], waveforms: _Waveforms, result: UnitResult) -> None:
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
            group = left[: self.budget.first([w.n_samples for w in left])]
            sent = self._run(group, waveforms, statistics, joiner)
            # Those before, while the device is at work on these; and before any of their clips is given up.
            self.settle()
            if sent is not None:
                self._on_its_way = sent
                left = left[len(group) :]
                again = True
                continue
            if len(group) > 1:
                self.budget.halve([w.n_samples for w in group])
            elif again:
                again = False
            else:
                row = group[0].row
                result.fail(row, self._too_large(group[0].n_samples))
                left = [w for w in left if w.row != row]
                again = True

    def _statistics(self, windows: Sequence[ClipWindow], waveforms: _Waveforms) -> dict[int, Any]:
        """Row → what windows of its clip must know of the whole clip, where windows are to be as the clip."""
        if not self._long_clips.hop_samples or self._normaliser is None:
            return {}
        rows = {w.row for w in windows if not w.is_whole}
        return {row: self._normaliser.clip_statistics(waveforms[row]) for row in rows}

    def _run(
        self,
        group: Sequence[ClipWindow],
        waveforms: _Waveforms,
        statistics: dict[int, Any],
        joiner: WindowJoiner,
    ) -> _Sent | None:
        """What is kept of a group of windows, on its way; None where memory does not suffice."""
        from extractors.models.torch_tools import free_caches, is_out_of_memory

        queued: dict[int, Queued] = {}

        def on_layer(layer: int, frames: Any, n_valid: Sequence[int]) -> None:
            queued[layer] = joiner.reduce(group, frames, n_valid)

        try:
            clips = waveforms.of(group)
            given = [statistics.get(w.row) for w in group]
            if self._normaliser is not None and any(g is not None for g in given):
                self._normaliser.forward_windows(clips, given, self.layers, on_layer)
            else:
                self.extractor.forward(clips, self.layers, on_layer)
            # The frames that are kept were sent before, layer by layer: they are here when these are.
            parts = send([layer.parts for layer in queued.values()])
            return _Sent(joiner, group, parts, {layer: kept.frames for layer, kept in queued.items()})
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        free_caches()  # not before: the error held on to the tensors of the pass
        return None


class _Waveforms(dict[int, np.ndarray]):
    """Row → samples of its clip.

    Args:
        stacked: see `ClipBatch`.
    """

    def __init__(self, stacked: Sequence[np.ndarray] | None) -> None:
        super().__init__()
        self._stacked = stacked

    def of(self, group: Sequence[ClipWindow]) -> Sequence[np.ndarray]:
        """The samples of windows; put together already where these are the clips that were."""
        stacked = self._stacked
        if stacked is not None and len(stacked) == len(group):
            pairs = zip(group, stacked, strict=True)
            if all(w.is_whole and self[w.row] is samples for w, samples in pairs):
                return stacked
        return [np.asarray(self[w.row][w.start : w.start + w.n_samples]) for w in group]


@dataclass(frozen=True)
class Queued:
    """`Reduced` that the device may still be at work on."""

    parts: Parts | QueuedParts
    frames: Mapping[int, torch.Tensor]


@dataclass(frozen=True)
class Reduced:
    """Of one layer of a group of windows: statistics, and frames `[t, d]` of those that need them later."""

    parts: Parts
    frames: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class _Sent:
    """A group of windows whose statistics and frames, by layer, are on their way to the host."""

    joiner: WindowJoiner
    group: Sequence[ClipWindow]
    parts: Transfer
    frames: Mapping[int, Mapping[int, torch.Tensor]]

    def settle(self) -> None:
        """Wait for them, and put them into the result."""
        parts = self.parts.wait()
        reduced = {
            layer: Reduced(found, {i: own.numpy() for i, own in self.frames[layer].items()})
            for layer, found in zip(self.frames, parts, strict=True)
        }
        self.joiner.collect(self.group, reduced)


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
        windows: Sequence[ClipWindow],
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

    def reduce(self, group: Sequence[ClipWindow], frames: torch.Tensor, n_valid: Sequence[int]) -> Queued:
        """What is kept of one layer of windows that were embedded together; see `OnLayer`."""
        first = [w.first_frame for w in group]
        stop = [n if w.stop_frame is None else w.stop_frame for w, n in zip(group, n_valid, strict=True)]
        # Quantiles of a part are of no use.
        names = self._names if any(w.is_whole for w in group) else self._mergeable
        parts = reduce_frames(frames, stop, names, first)
        kept: dict[int, torch.Tensor] = {}
        wanted = [i for i, w in enumerate(group) if self._result.keeps_frames or w.row in self._frames]
        if wanted:
            import torch

            from extractors.models.torch_tools import queued_copy

            # One after the other in one tensor: one copy, not one for every clip.
            packed = queued_copy(torch.cat([frames[i, first[i] : stop[i]] for i in wanted]).float())
            kept = dict(zip(wanted, torch.split(packed, parts.count[wanted].tolist()), strict=True))
        return Queued(parts, kept)

    def collect(self, group: Sequence[ClipWindow], reduced: Mapping[int, Reduced]) -> None:
        """Put what `reduce` gave for every layer of a group into the unit's result."""
        result = self._result
        whole = [i for i, w in enumerate(group) if w.is_whole]
        others = [(i, w) for i, w in enumerate(group) if not w.is_whole]
        rows = [group[i].row for i in whole]
        # Neighbours, as they mostly are, are put in place at once.
        place = slice(rows[0], rows[-1] + 1) if rows and rows == list(range(rows[0], rows[-1] + 1)) else None
        for layer, found in reduced.items():
            if rows:
                parts = select(found.parts, whole) if others else found.parts
                values = result.values[layer]
                if place is None:
                    values[rows] = finish(parts, self._names)
                else:
                    finish(parts, self._names, values[place])
                result.n_frames[rows] = parts.count
            for i, frames in found.frames.items():
                result.add_frames(layer, group[i].row, frames)
            for i, w in others:
                if i in found.frames and w.row in self._frames:
                    self._keep(layer, w.row, found.frames[i])
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


def _frames_of_cut_clips(windows: Sequence[ClipWindow], extractor: Extractor) -> dict[int, int]:
    """Row → frames that will be kept, for clips of several windows."""
    counts: dict[int, int] = {}
    for w in windows:
        if not w.is_whole:
            stop = extractor.n_frames(w.n_samples) if w.stop_frame is None else w.stop_frame
            counts[w.row] = counts.get(w.row, 0) + stop - w.first_frame
    return counts
