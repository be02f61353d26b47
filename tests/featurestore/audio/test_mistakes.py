"""A mistake in a program is no broken file: it ends a run, whatever decoders say of damaged bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import soundfile

from extractors import ExtractConfig, extract
from featurestore.audio import blocks, segment
from featurestore.audio.blocks import SoundError, open_sound
from featurestore.audio.segment import hash_clip
from tests.conftest import write_clips

KINDS = [
    *("WAV/PCM_16", "WAV/FLOAT", "WAV/IMA_ADPCM", "WAV/ULAW", "WAVEX/PCM_24", "AIFF/PCM_16", "AU/PCM_16"),
    *("CAF/PCM_16", "CAF/ALAC_16", "W64/PCM_16", "RF64/PCM_16", "NIST/PCM_16", "FLAC/PCM_16"),
    *("OGG/VORBIS", "OGG/OPUS", "MP3/MPEG_LAYER_III"),
]


def raising(error: Exception) -> Callable[..., NoReturn]:
    def mistaken(*_args: Any, **_options: Any) -> NoReturn:
        raise error

    return mistaken


MISTAKEN = [
    TypeError("'int' object is not iterable"),
    AttributeError("no 'n_frame'"),
    NameError("name 'framez' is not defined"),
    KeyError("frames"),
    AssertionError(),
]


@pytest.mark.parametrize("mistake", MISTAKEN, ids=lambda e: type(e).__name__)
def test_a_mistake_on_the_way_to_the_samples_is_raised_as_it_is(
    clips: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    path = str(clips([4000]).parent / "clip000.wav")
    with pytest.raises(type(mistake)), open_sound(path):
        raise mistake  # in what the samples are read for
    for module, name in ((blocks, "streams_of"), (blocks, "read_at"), (segment, "read_mono")):
        with monkeypatch.context() as changed:
            changed.setattr(module, name, raising(mistake))
            with pytest.raises(type(mistake)):
                hash_clip(path, math.nan, math.nan, None)
    assert hash_clip(path, math.nan, math.nan, None)


@pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_mistake_ends_a_run_and_a_fault_of_a_decoder_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decode: str
) -> None:
    config = ExtractConfig(
        manifest=write_clips(tmp_path / "audio", [4000, 5000, 6000]),
        dataset="noise",
        model="logmel",
        store=str(tmp_path / "s"),
        decode=decode,  # type: ignore[arg-type]
        workers=1,
    )
    (tmp_path / "audio" / "clip001.wav").write_bytes(b"RIFF no audio" * 100)
    read = blocks.read_mono
    if decode == "threads":  # a process has its own
        monkeypatch.setattr(segment, "read_mono", raising(AttributeError("no 'n_frame'")))
        with pytest.raises(AttributeError, match="n_frame"):
            extract(config)
        monkeypatch.setattr(segment, "read_mono", read)
    failed = dict(extract(config).failed)
    assert list(failed) == ["clip001"]
    assert failed["clip001"].startswith("cannot be decoded")


@pytest.mark.parametrize(
    "error", [soundfile.LibsndfileError(1), ValueError("x"), OverflowError(), IndexError()]
)
def test_what_decoders_raise_is_the_file_s_fault(
    clips: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = str(clips([4000]).parent / "clip000.wav")
    monkeypatch.setattr(segment, "read_mono", raising(error))
    with pytest.raises(SoundError, match="cannot be decoded"):
        hash_clip(path, math.nan, math.nan, None)


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_of_a_file_looks_like_a_mistake(tmp_path: Path, kind: str) -> None:
    """Bytes that are others, cut off or left out: a sound, or the reason why there is none."""
    container, subtype = kind.split("/")
    rng = np.random.default_rng(KINDS.index(kind))
    buffer = io.BytesIO()
    samples = 0.1 * rng.standard_normal(6000)
    soundfile.write(buffer, samples, 16_000, format=container, subtype=subtype)
    whole, n_failed = buffer.getvalue(), 0
    for i in range(40):
        data = bytearray(whole)
        for at in rng.integers(0, len(data) if i % 3 else min(160, len(data)), 1 + i % 4):
            data[at] = rng.integers(256)
        if i % 5 == 0:
            data = data[: rng.integers(len(data))]
        if i % 7 == 0:
            del data[(at := rng.integers(len(data) + 1)) : at + 50]
        (tmp_path / "x").write_bytes(data)
        for start_s, end_s in ((math.nan, math.nan), (0.1, 0.2)):
            try:
                hash_clip(str(tmp_path / "x"), start_s, end_s, None)
            except SoundError:
                n_failed += 1
    assert n_failed
