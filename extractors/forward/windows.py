"""Long clips: how they are cut into windows, and which frames of each window are kept.

Two ways. *On one grid*, where a model's frames lie `hop` samples apart and rest on `receptive` samples each:
windows overlap, each starts at a frame of the whole clip, and every frame is taken from exactly one window,
where it has its context on both sides; what a model normalises over time is normalised as in the whole clip
(`NormalisesOverTime`). *End to end*, for models that take no more than so much at once:
every sample is in exactly one window and all frames count.
"""

from __future__ import annotations

from dataclasses import dataclass

from extractors.models.interface import ModelCard
from extractors.presets import preset_windows
from featurestore.errors import ConfigError

# Speech models were trained on at most 15 to 20 s; attention and convolutions over 30 s fit any device.
DEFAULT_WINDOW_S = 30.0
DEFAULT_OVERLAP_S = 2.0


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
    """A stretch of one clip that is embedded at once.

    Attributes:
        row: position of the clip in its unit.
        start: first sample, at the model's rate.
        n_samples: length.
        is_last: whether the clip ends here.
        first_frame: first frame of the window that counts; those before it are context.
        stop_frame: the frame after the last that counts; None: all.
    """

    row: int
    start: int
    n_samples: int
    is_last: bool
    first_frame: int = 0
    stop_frame: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its clip."""
        return self.start == 0 and self.is_last


def cut_windows(row: int, n_samples: int, max_samples: int | None, min_samples: int) -> list[ClipWindow]:
    """Split a clip into windows of at most `max_samples`, end to end, nothing left out.

    A rest shorter than `min_samples` cannot be embedded alone; the last two windows then share their
    samples evenly, so that no sample is dropped.
    """
    if max_samples is None or n_samples <= max_samples:
        return [ClipWindow(row=row, start=0, n_samples=n_samples, is_last=True)]
    starts = list(range(0, n_samples, max_samples))
    if n_samples - starts[-1] < min_samples:
        starts[-1] = starts[-2] + (n_samples - starts[-2]) // 2
    stops = [*starts[1:], n_samples]
    return [
        ClipWindow(row=row, start=a, n_samples=b - a, is_last=b == n_samples)
        for a, b in zip(starts, stops, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class LongClips:
    """What happens to clips longer than a window.

    Attributes:
        window_samples: longest stretch that is embedded at once; None: clips are never cut.
        context_frames: frames of context on each side of what is kept of a window.
        hop_samples: from one frame to the next; 0 where windows stand end to end.
        receptive_samples: samples under one frame; 0 where windows stand end to end.
    """

    window_samples: int | None = None
    context_frames: int = 0
    hop_samples: int = 0
    receptive_samples: int = 0

    @property
    def fingerprint(self) -> str:
        """One line for the key's fingerprint."""
        if self.window_samples is None:
            return "whole"
        if not self.hop_samples:
            return f"windows of {self.window_samples} samples, frames joined"
        return (
            f"windows of {self.window_samples} samples with {self.context_frames} frames of context on each "
            "side, frames joined, norms over time from the whole clip"
        )

    def cut(self, row: int, n_samples: int, min_samples: int) -> list[ClipWindow]:
        """The windows of a clip, in order; one that holds all of it if it is no longer than a window.

        Args:
            row: position of the clip in its unit.
            n_samples: its length.
            min_samples: fewest samples that can be embedded alone.
        """
        if self.window_samples is None or n_samples <= self.window_samples or not self.hop_samples:
            return cut_windows(row, n_samples, self.window_samples, min_samples)
        hop, context = self.hop_samples, self.context_frames
        n_frames = (n_samples - self.receptive_samples) // hop + 1
        per_window = (self.window_samples - self.receptive_samples) // hop + 1
        length = (per_window - 1) * hop + self.receptive_samples
        windows: list[ClipWindow] = []
        kept = 0
        while kept < n_frames:
            # The last window begins earlier rather than being short.
            first = min(max(0, kept - context), n_frames - per_window)
            is_last = first + per_window == n_frames
            stop = n_frames if is_last else first + per_window - context
            windows.append(
                ClipWindow(
                    row=row,
                    start=first * hop,
                    n_samples=length,
                    is_last=is_last,
                    first_frame=kept - first,
                    stop_frame=stop - first,
                )
            )
            kept = stop
        return windows


def long_clips(
    card: ModelCard, window_s: float | None, overlap_s: float | None, preset: str | None = None
) -> LongClips:
    """What a model does with long clips.

    Args:
        card: of the model.
        window_s: seconds; 0: whole clips, however long; None: the default.
        overlap_s: seconds of context on each side of what is kept of a window; None: the default.
        preset: whose windows to use instead.

    Raises:
        ConfigError: the model cannot be cut so.
    """
    if preset is not None:
        samples = preset_windows(preset, card)
        return LongClips(window_samples=min(samples, card.max_samples or samples))
    asked = window_s is not None or overlap_s is not None
    if card.receptive_samples is None:
        if asked:
            if card.max_samples:
                why = f"takes windows of {card.max_samples / card.sample_rate_hz:g} s, end to end, by itself"
            elif card.pooled:
                why = "gives one vector per clip, of all of it"
            else:
                why = "is given whole clips: where its frames lie in a longer clip is not known"
            raise ConfigError(f"--window-s and --overlap-s: {card.name} {why}; leave these options out")
        return LongClips(window_samples=card.max_samples)
    if window_s == 0:
        return LongClips()
    window_s = DEFAULT_WINDOW_S if window_s is None else window_s
    overlap_s = min(DEFAULT_OVERLAP_S, window_s / 8) if overlap_s is None else overlap_s
    rate, hop = card.sample_rate_hz, card.hop_samples
    window = round(window_s * rate)
    context = -(-round(overlap_s * rate) // hop)
    fewest = card.receptive_samples + 2 * context * hop
    if window_s < 0 or overlap_s < 0 or window < fewest:
        raise ConfigError(
            f"--window-s {window_s:g} --overlap-s {overlap_s:g}: a window must hold its context on both "
            f"sides and at least one frame of {card.name}; give a window of {fewest / rate:.2f} s or more"
        )
    return LongClips(
        window_samples=window,
        context_frames=context,
        hop_samples=hop,
        receptive_samples=card.receptive_samples,
    )
