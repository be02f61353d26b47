"""Static shares of the units of a key, for job arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featurestore.errors import ConfigError
from featurestore.store.plan import Unit


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
    if not (index.isdecimal() and count.isdecimal()) or not 1 <= int(index) <= int(count):
        raise ConfigError(f"--share: expected i/n with i from 1 to n, such as 2/8, got {text!r}")
    return Share(index=int(index), count=int(count))


def share_of_job_array(environment: Mapping[str, str] = os.environ) -> Share | None:
    """This task's share of a SLURM job array, or None outside one.

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
