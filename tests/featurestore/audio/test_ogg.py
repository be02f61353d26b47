"""Ogg files under another serial number are the same sound, and whole files."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from featurestore.audio.ogg import with_serial


def written(subtype: str) -> bytes:
    buffer = io.BytesIO()
    sound = 0.1 * np.random.default_rng(0).standard_normal(80_000)
    soundfile.write(buffer, sound, 16_000, subtype, format="OGG")
    return buffer.getvalue()


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_two_files_of_a_sound_become_one(subtype: str) -> None:
    first, second = written(subtype), written(subtype)
    assert with_serial(first) == with_serial(second)
    assert with_serial(first) != with_serial(first, 2)
    # libsndfile, which checks the sums of pages, reads the same samples.
    mine, _ = soundfile.read(io.BytesIO(with_serial(first)))
    theirs, _ = soundfile.read(io.BytesIO(first))
    assert np.array_equal(mine, theirs)
    # The number that it has already gives the file back, sums of libogg included.
    assert with_serial(first, struct.unpack("<I", first[14:18])[0]) == first
