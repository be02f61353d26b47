"""What happened to the clips of a run on their way to the model, counted: what is worth telling of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.audio.waveform import AudioPolicy, PreparedClip
from featurestore.audio.blocks import APART, FULL_SCALE
from featurestore.printable import counted

# A clip that loses more than this is another sound after resampling.
MUCH = 0.5


@dataclass(kw_only=True)
class Heard:
    """What is counted of clips.

    Attributes:
        above_nyquist: of every clip, see `PreparedClip.above_nyquist`.
        n_mixed: clips that are the mean of several channels that sound.
        n_apart: those of them whose channels differ, see `APART`.
        least_agreement: the lowest of them.
        n_beyond: clips beyond `FULL_SCALE`.
        peak: the largest.
        n_repeated: clips that were repeated to the least length.
        rates: of the files.
    """

    above_nyquist: list[float] = field(default_factory=list)
    n_mixed: int = 0
    n_apart: int = 0
    least_agreement: float = 1.0
    n_beyond: int = 0
    peak: float = 0.0
    n_repeated: int = 0
    rates: set[int] = field(default_factory=set)

    def add(self, clip: PreparedClip, policy: AudioPolicy) -> None:
        """Count a clip."""
        n_samples = round(clip.duration_s * clip.rate_hz * policy.ratio(clip.rate_hz))
        is_mixed = clip.agreement == clip.agreement
        self.merge(
            Heard(
                above_nyquist=[clip.above_nyquist],
                n_mixed=int(is_mixed),
                n_apart=int(is_mixed and clip.agreement < APART),
                least_agreement=clip.agreement if is_mixed else 1.0,
                n_beyond=int(clip.peak > FULL_SCALE),
                peak=clip.peak,
                n_repeated=int(policy.short_policy == "repeat" and n_samples < policy.min_samples),
                rates={clip.rate_hz},
            )
        )

    def merge(self, other: Heard) -> None:
        """Count what was counted elsewhere."""
        self.above_nyquist += other.above_nyquist
        self.n_mixed += other.n_mixed
        self.n_apart += other.n_apart
        self.least_agreement = min(self.least_agreement, other.least_agreement)
        self.n_beyond += other.n_beyond
        self.peak = max(self.peak, other.peak)
        self.n_repeated += other.n_repeated
        self.rates |= other.rates

    def notes(self, policy: AudioPolicy) -> list[str]:
        """Lines for the user; none where there is nothing to tell."""
        notes = energy_note(self.above_nyquist, policy)
        if policy.rate_policy == "expand" and len(self.rates) > 1:
            *others, last = [f"{rate:,}" for rate in sorted(self.rates)]
            notes.append(
                f"--rate-policy expand over files at {', '.join(others)} and {last} Hz: the same sound has "
                "another pitch and length at each rate, which can pass for a class; embed each rate alone"
            )
        if self.n_apart:
            notes.append(
                f"channels differ in {self.n_apart:,} of {counted(self.n_mixed, 'clip')} that are their mean "
                f"(correlation below {APART:g}, lowest {self.least_agreement:.2f}): that is "
                "another sound than any of them; --channel 0 takes the first, --channel each all"
            )
        if self.n_beyond:
            notes.append(
                f"{counted(self.n_beyond, 'clip')} beyond full scale, up to {self.peak:,.6g} where 1 is full "
                "scale: integers that were saved as fractions? Divide them (by 32,768 for 16 bits)"
            )
        if self.n_repeated:
            seconds = policy.min_samples / policy.sample_rate_hz
            notes.append(
                f"{self.n_repeated:,} of {counted(len(self.above_nyquist), 'clip')} repeated up to "
                f"{policy.min_samples:,} samples ({seconds:.3g} s); --short-clips none leaves them short"
            )
        return notes


def energy_note(above_nyquist: Sequence[float], policy: AudioPolicy) -> list[str]:
    """A line on the energy above the model's Nyquist frequency; none where no file was recorded above it.

    Args:
        above_nyquist: of every clip, see `PreparedClip.above_nyquist`.
        policy: what was done to the clips.
    """
    shares = np.asarray(above_nyquist, dtype=np.float64)
    shares = shares[~np.isnan(shares)]
    if not len(shares):
        return []
    verb = "kept by --rate-policy expand" if policy.rate_policy == "expand" else "lost to resampling"
    much = int((shares > MUCH).sum())
    have = "has more than half of its" if much == 1 else "have more than half of theirs"
    return [
        f"energy above {policy.sample_rate_hz / 2:,g} Hz, {verb}: {100 * np.median(shares):.1f} % (median) "
        f"and {100 * shares.max():.1f} % (most) of {counted(len(shares), 'clip')} recorded above the model's "
        f"rate; {much:,} of them {have} there"
    ]
