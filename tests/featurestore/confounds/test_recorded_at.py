from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from featurestore.confounds.recorded_at import recorded_at

DAY = date(2024, 1, 31)
LATE = 23 + 59 / 60


@pytest.mark.parametrize(
    "name",
    [
        "20240131_235900.WAV",
        "20240131-235900.wav",
        "20240131T235900.wav",
        "20240131T235900+1000_bird.wav",
        "20240131235900.flac",
        "SMA01234_20240131_235900.wav",
        "/data/20200101_000000/site2_20240131_235900_003.wav",
        "2024-01-31T23-59-00.wav",
        "2024-01-31_23:59:00.wav",
        "2024-01-31 23.59.00.wav",
        "2024_01_31_23_59_00_mic1.wav",
        "rec_2024-01-31T235900Z.ogg",
    ],
)
def test_names_that_tell_date_and_time(name: str) -> None:
    found = recorded_at(name)
    assert found.day == DAY
    assert found.hour == pytest.approx(LATE)


def test_a_clip_within_a_file_was_recorded_later_also_on_the_next_day() -> None:
    found = recorded_at("20240131_235900.wav", 90.0)
    assert found.day == date(2024, 2, 1)
    assert found.hour == pytest.approx(0.5 / 60)


def test_names_of_early_audiomoths_are_seconds_since_1970_in_utc() -> None:
    at = datetime(2020, 4, 10, 17, 30, 15, tzinfo=UTC)
    found = recorded_at(f"{int(at.timestamp()):08X}.WAV")
    assert found.day == at.date()
    assert found.hour == pytest.approx(17 + 30 / 60 + 15 / 3600)


@pytest.mark.parametrize("name", ["20240131.wav", "2024-01-31_caller3.wav", "x_20240131_12.wav"])
def test_a_date_alone_has_no_hour(name: str) -> None:
    found = recorded_at(name)
    assert found.day == DAY
    assert np.isnan(found.hour)


@pytest.mark.parametrize(
    "name",
    [
        "clip012.wav",
        "20241331_120000.wav",  # no such month
        "20230229_1.wav",  # no such day
        "DEADBEEF.WAV",  # 2088
        "00000001.WAV",  # 1970
        "5e90a4d4.wav",  # lower case: a hash
        "120240131_2359001.wav",  # longer numbers
        "/data/20240131_235900/call.wav",
    ],
)
def test_other_names_tell_nothing(name: str) -> None:
    found = recorded_at(name)
    assert found.day is None
    assert np.isnan(found.hour)
