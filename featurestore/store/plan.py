"""Pure planning: durations → order → units → shares of them for job arrays. Integers in and out, no I/O.

A *unit* is a run of rows extracted, written, committed and resumed together, and exactly one shard of
every array of a key. Rows are ordered by duration once, longest first: batches cut from neighbouring
rows then hold clips of nearly one length, and the largest batch, with the peak of memory, comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featurestore.errors import ConfigError
from featurestore.names import is_whole_number

DEFAULT_UNIT_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A run of rows: ``first_row <= row < first_row + n_rows``; `index` is its place in the shard grid."""

    index: int
    first_row: int
    n_rows: int

    @property
    def stop_row(self) -> int:
        """One past the last row."""
        return self.first_row + self.n_rows


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows planned together. Growth adds a segment; each starts on a shard boundary."""

    first_row: int
    n_rows: int


def order_rows(durations_s: Sequence[float] | np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Row order of a plan: longest first, equal durations by id, unknown durations (NaN) last.

    The order depends on the set of utterances only, not on the order of the manifest.

    Returns:
        int64 positions `[n]` into the given rows.
    """
    durations = np.asarray(durations_s, dtype=np.float64)
    key = np.where(np.isnan(durations), -1.0, durations)
    names = np.asarray(ids, dtype=np.str_)
    return np.lexsort((names, -key)).astype(np.int64)


def units_of(segments: Sequence[Segment], unit_rows: int) -> list[Unit]:
    """All units of a key, in shard order; the last unit of a segment may be short.

    Raises:
        ConfigError: `unit_rows` is below 1.
        ValueError: a segment does not start on a shard boundary.
    """
    if unit_rows < 1:
        raise ConfigError(f"expected unit_rows of at least 1, got {unit_rows}")
    units = []
    for segment in segments:
        if segment.first_row % unit_rows:
            raise ValueError(f"segment at row {segment.first_row} is not on a boundary of {unit_rows}")
        stop = segment.first_row + segment.n_rows
        for first in range(segment.first_row, stop, unit_rows):
            units.append(Unit(index=first // unit_rows, first_row=first, n_rows=min(unit_rows, stop - first)))
    return units


def next_segment(segments: Sequence[Segment], n_rows: int, unit_rows: int) -> Segment:
    """Where `n_rows` further rows go: after the last segment, on the next shard boundary."""
    end = max((s.first_row + s.n_rows for s in segments), default=0)
    return Segment(first_row=-(-end // unit_rows) * unit_rows, n_rows=n_rows)


@dataclass(frozen=True, kw_only=True)
class Share:
    """Part `index` (from 1) of `count`: every count-th unit, so that long and short clips spread evenly."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """The units of this share. Shares 1/n … n/n are disjoint and cover all."""
        return [u for u in units if u.index % self.count == self.index - 1]


def parse_share(text: str) -> Share:
    """``"2/8"`` → part 2 of 8.

    Raises:
        ConfigError: not of that form, or outside 1 … n.
    """
    index, _, count = text.partition("/")
    if not (is_whole_number(index) and is_whole_number(count)) or not 1 <= int(index) <= int(count):
        raise ConfigError(f"--share: expected i/n with i from 1 to n, such as 2/8, got {text!r}")
    return Share(index=int(index), count=int(count))


def share_of_job_array(environment: Mapping[str, str]) -> Share | None:
    """A task's share of a SLURM job array, from its environment; None outside one.

    Reads SLURM_ARRAY_TASK_ID, _MIN, _STEP and _COUNT. An array with gaps (``--array=1,4,9``) has no even
    shares; dynamic claims divide its work.
    """
    try:
        task = int(environment["SLURM_ARRAY_TASK_ID"])
        first = int(environment["SLURM_ARRAY_TASK_MIN"])
        count = int(environment["SLURM_ARRAY_TASK_COUNT"])
        step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
        last = int(environment["SLURM_ARRAY_TASK_MAX"])
    except (KeyError, ValueError):
        return None
    if count < 2 or step < 1 or (last - first) != (count - 1) * step or (task - first) % step:
        return None
    return Share(index=(task - first) // step + 1, count=count)
