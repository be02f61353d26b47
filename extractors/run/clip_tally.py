"""What happened to the clips of a run on their way to the model, counted: what is worth telling of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import PreparedClip
from featurestore.audio.blocks import APART, FULL_SCALE
from featurestore.audio.segment import AudioError
from featurestore.printable import counted

# A clip that loses more than this is another sound after resampling.
MUCH = 0.5


@dataclass(kw_only=True)
class Heard:
    """What is counted of clips.

    Attributes:
        above_nyquist: of every clip, see `PreparedClip.above_nyquist`.
        agreements: of those that are the mean of several channels that sound, see `PreparedClip.agreement`.
        peaks: of those beyond `FULL_SCALE`.
        n_repeated: clips that were repeated to the least length.
        rates: of the files.
    """

    above_nyquist: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    n_repeated: int = 0
    rates: set[int] = field(default_factory=set)

    def add(self, clips: Iterable[PreparedClip | AudioError | None], policy: AudioPolicy) -> None:
        """Count clips; what is none is passed over."""
        heard = [clip for clip in clips if isinstance(clip, PreparedClip)]
        self.above_nyquist += [clip.above_nyquist for clip in heard]
        self.agreements += [clip.agreement for clip in heard if not math.isnan(clip.agreement)]
        self.peaks += [clip.peak for clip in heard if clip.peak > FULL_SCALE]
        self.rates |= {clip.rate_hz for clip in heard}
        if policy.short_policy == "repeat":
            ratios = {rate: policy.ratio(rate) for rate in self.rates}
            n_samples = [round(clip.duration_s * clip.rate_hz * ratios[clip.rate_hz]) for clip in heard]
            self.n_repeated += sum(n < policy.min_samples for n in n_samples)

    def merge(self, other: Heard) -> None:
        """Count what was counted elsewhere."""
        self.above_nyquist += other.above_nyquist
        self.agreements += other.agreements
        self.peaks += other.peaks
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
        n_apart = sum(agreement < APART for agreement in self.agreements)
        if n_apart:
            notes.append(
                f"channels differ in {n_apart:,} of {counted(len(self.agreements), 'clip')} that are their "
                f"mean (correlation below {APART:g}, lowest {min(self.agreements):.2f}): that is "
                "another sound than any of them; --channel 0 takes the first, --channel each all"
            )
        if self.peaks:
            notes.append(
                f"{counted(len(self.peaks), 'clip')} beyond full scale, up to {max(self.peaks):,.6g} where 1 "
                "is full scale: integers that were saved as fractions? Divide them (by 32,768 for 16 bits)"
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
