"""What is measured of every clip and file: one pass, block by block, in several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from featurestore.arrays import FloatArray
from featurestore.audio.blocks import Agreement, Header, SoundError, mono_blocks, read_header
from featurestore.audio.containers import missing_part
from featurestore.audio.levels import Levels
from featurestore.audio.recorder_header import read_recorder_header
from featurestore.audio.segment import SampleHash
from featurestore.audio.spectrum import EnergyAbove
from featurestore.duplicates.recoded_clips import Painter, Portrait
from featurestore.duplicates.waveform_sketch import Sketch, no_sketch, sketch
from featurestore.manifest.location import UNKNOWN, Location, stamp_of

TAIL_FRAMES = 64
FLAT_RUN = 3  # equal extreme samples in a row
IN_FLIGHT = 8  # tasks per thread that may wait: bounds memory whatever the length of the manifest

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One clip. Levels are fractions of full scale.

    Attributes:
        n_samples: Decoded samples at the file's own rate.
        peak: Largest magnitude.
        rms: Root mean square about the mean.
        dc: Mean.
        n_flat_runs: Runs of `FLAT_RUN` or more samples at the highest or the lowest value.
        above: Share of the energy above the model's Nyquist frequency; NaN where the file has none there.
        agreement: Of the channels that it is the mean of, see `featurestore.audio.blocks.Agreement`; NaN for
            others.
        cancels: Whether its channels cancel out in their mean.
        audio_hash: As stored by `fs extract`.
        sketch: See `featurestore.duplicates.waveform_sketch`.
        portrait: See `featurestore.duplicates.recoded_clips`; None of silence.
        error: Why it could not be read, or "".
    """

    n_samples: int = 0
    peak: float = 0.0
    rms: float = 0.0
    dc: float = 0.0
    n_flat_runs: int = 0
    above: float = float("nan")
    agreement: float = float("nan")
    cancels: bool = False
    audio_hash: str = ""
    sketch: Sketch = field(default_factory=no_sketch)
    portrait: Portrait | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class MeasuredFile:
    """One file: what its header says, where it can be read, and in a clause what is wrong with it, or "".

    `time_expansion` says how many times slower it plays than it sounded, as its recorder wrote; "" of others.
    """

    rate_hz: int = 0
    n_channels: int = 0
    subtype: str = ""
    file_frames: int = 0
    file_problem: str = ""
    time_expansion: str = ""


def measure_clip(place: Location, rate_hz: int, model_rate_hz: int) -> Measured:
    """Decode one clip of a file at this rate and measure it; errors become `Measured.error`."""
    if rate_hz == 0:
        return Measured(error="its file cannot be opened")
    meter = _LevelMeter(rate_hz, model_rate_hz)
    agreement = Agreement()
    try:
        hashes = sketch(meter.pass_on(mono_blocks(*place, agreement)))
    except (SoundError, OSError) as error:
        return Measured(error=str(error))
    found = meter.result(hashes)
    return replace(found, agreement=agreement.value, cancels=found.peak == 0 and not agreement.is_silent)


class _LevelMeter:
    """Sums over the blocks of one clip."""

    def __init__(self, rate_hz: int, model_rate_hz: int) -> None:
        self._hash = SampleHash(rate_hz)  # as `fs extract` hashes, so that both can be compared
        self._above = EnergyAbove(rate_hz, model_rate_hz / 2)
        self._painter = Painter(rate_hz)
        self._n = 0
        self._levels = Levels()
        self._extremes, self._n_flat = [0.0, 0.0], [0, 0]
        self._finite = True

    def pass_on(self, blocks: Iterator[FloatArray]) -> Iterator[FloatArray]:
        for block in blocks:
            self._hash.add(block)
            self._n += len(block)
            self._finite &= bool(np.isfinite(block).all())
            if not self._finite:
                continue
            x = block.astype(np.float64)
            self._levels.add(x)
            for side, extreme in enumerate((float(block.max()), -float(block.min()))):
                # 16 bits reach farther down than up: each side has an extreme of its own.
                if extreme > self._extremes[side]:
                    self._extremes[side], self._n_flat[side] = extreme, 0
                if extreme == self._extremes[side] > 0:
                    self._n_flat[side] += _flat_runs(block, extreme if side == 0 else -extreme)
            self._above.add(x)
            self._painter.add(block)
            yield block

    def result(self, hashes: Sketch) -> Measured:
        if not self._finite:
            return Measured(n_samples=self._n, sketch=hashes, error="holds NaN or infinite samples")
        peak = self._levels.peak
        return Measured(
            n_samples=self._n,
            peak=peak,
            rms=self._levels.rms,
            dc=self._levels.mean,
            n_flat_runs=sum(
                n for n, extreme in zip(self._n_flat, self._extremes, strict=True) if extreme > 0.9 * peak
            ),
            above=self._above.share,
            audio_hash=self._hash.text,
            sketch=hashes,
            portrait=self._painter.portrait(),
        )


def _flat_runs(x: FloatArray, value: float) -> int:
    """Runs of `FLAT_RUN` or more samples of this value."""
    at = np.flatnonzero(x == np.float32(value))
    if len(at) < FLAT_RUN:
        return 0
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(at) != 1, [True]])))
    return int((lengths >= FLAT_RUN).sum())


def measure_file(path: str) -> MeasuredFile:
    """Read the header, compare it with what is there, and decode the end of the file."""
    if stamp_of(path)[0] == UNKNOWN:
        return MeasuredFile(file_problem="no such file")
    try:
        header = read_header(path, entire=True)
    except (SoundError, OSError) as error:
        return MeasuredFile(file_problem=str(error))
    return MeasuredFile(
        rate_hz=header.sample_rate_hz,
        n_channels=header.n_channels,
        subtype=header.subtype,
        file_frames=header.n_frames,
        file_problem=missing_part(path, header.n_frames) or _problem_of_end(path, header),
        time_expansion=_time_expansion(path),
    )


def _time_expansion(path: str) -> str:
    notes = read_recorder_header(path)
    return "" if notes is None or notes.expansion == 1 else notes.time_expansion


def _problem_of_end(path: str, header: Header) -> str:
    try:
        tail = max(0, header.n_frames - TAIL_FRAMES) / header.sample_rate_hz
        read = sum(len(b) for b in mono_blocks(path, tail, float("nan"), None))
    except (SoundError, OSError) as error:
        return f"its end {error}"
    return "cut short: its last frames cannot be decoded" if read < min(TAIL_FRAMES, header.n_frames) else ""


def in_threads(
    work: Callable[[Argument], Result],
    items: Sequence[Argument],
    n_threads: int,
    on_done: Callable[[int], None] | None = None,
) -> Iterator[Result]:
    """``map(work, items)`` in threads, in order, with a bounded number of tasks under way."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for done, item in enumerate(items):
            waiting.append(pool.submit(work, item))
            if len(waiting) >= IN_FLIGHT * n_threads:
                yield waiting.popleft().result()
                if on_done is not None:
                    on_done(done + 1 - len(waiting))
        while waiting:
            yield waiting.popleft().result()
            if on_done is not None:
                on_done(len(items) - len(waiting))
