"""What `fs detect` holds does not grow with the recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.detection.planted import World
from tests.studies.detection.watched import peak_bytes, write_noise

HOURS = 2


@pytest.mark.slow
def test_two_hours_take_no_more_memory_than_two_minutes(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    peaks = []
    for name, minutes in (("short", 2), ("long", 60 * HOURS)):
        write_noise(tmp_path / f"{name}.wav", minutes)
        peaks.append(peak_bytes(world, tmp_path / f"{name}.wav", tmp_path / name, "--scores"))
    # The samples of two hours are 1.4 GB as the model's numbers.
    assert peaks[1] - peaks[0] < 150e6
    assert peaks[1] < 1.5e9
