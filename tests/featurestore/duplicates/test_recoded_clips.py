"""Copies under other codings are found whatever their share, and what is no copy is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from featurestore.audio.blocks import mono_blocks, read_header
from featurestore.duplicates.recoded_clips import Painter, Portrait, Recoded, recoded, same_sound
from featurestore.manifest.audio_places import Places
from featurestore.manifest.location import Location
from tests.featurestore.audit.conftest import call

RATE_HZ = 16_000
N = 14
Clips = tuple[list[Location], list[Location]]
CODINGS = (("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))


def place(path: Path) -> Location:
    return str(path), 0.0, float("nan"), None


def portrait(where: Location) -> Portrait | None:
    painter = Painter(read_header(where[0]).sample_rate_hz)
    for block in mono_blocks(*where):
        painter.add(block)
    return painter.portrait()


def found_in(places: list[Location], hashes: list[str]) -> Recoded:
    return recoded([portrait(p) for p in places], Places.of_locations(places), hashes, workers=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Calls as WAV, and each of them in one of three lossy codings."""
    folder = tmp_path_factory.mktemp("clips")
    own, copies = [], []
    for i in range(N):
        x = call(i, 5000 + 300 * i)
        soundfile.write(folder / f"{i}.wav", x, RATE_HZ, "PCM_16")
        container, subtype = CODINGS[i % len(CODINGS)]
        soundfile.write(folder / f"{i}.x", x, RATE_HZ, format=container, subtype=subtype)
        own.append(place(folder / f"{i}.wav"))
        copies.append(place(folder / f"{i}.x"))
    return own, copies


@pytest.mark.parametrize("n_copies", [0, 1, N // 2, N])
def test_copies_are_found_whatever_their_share(clips: Clips, n_copies: int) -> None:
    places = clips[0] + clips[1][:n_copies]
    found = found_in(places, [f"h{i}" for i in range(len(places))])
    assert found.pairs.tolist() == [[i, N + i] for i in range(n_copies)]
    assert found.n_left == 0


def test_all_copies_of_one_sound_are_paired_and_equal_hashes_are_left_to_others(
    clips: Clips, tmp_path: Path
) -> None:
    x, _ = soundfile.read(clips[0][0][0], dtype="float32")
    places = list(clips[0])
    for i, (container, subtype) in enumerate(CODINGS):
        soundfile.write(tmp_path / f"{i}.x", x, RATE_HZ, format=container, subtype=subtype)
        places.append(place(tmp_path / f"{i}.x"))
    soundfile.write(tmp_path / "same.flac", x, RATE_HZ)
    places.append(place(tmp_path / "same.flac"))
    hashes = [f"h{i}" for i in range(len(places) - 1)] + ["h0"]
    found = found_in(places, hashes).pairs.tolist()
    sound = [0, N, N + 1, N + 2, N + 3]
    wanted = [[i, j] for k, i in enumerate(sound) for j in sound[k + 1 :] if (i, j) != (0, N + 3)]
    assert found == wanted


def test_clips_of_one_file_are_not_compared(clips: Clips) -> None:
    window = (clips[0][0][0], 0.01, float("nan"), None)
    places = [*clips[0], window]
    assert not len(found_in(places, [""] * len(places)).pairs)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.concatenate(
            [np.zeros(900, np.float32), x, np.zeros(500, np.float32)]
        ),  # an encoder's delay
        lambda x: -0.2 * x,
        lambda x: x[len(x) // 8 :],
        lambda x: soxr.resample(soxr.resample(x, 16_000, 11_025), 11_025, 16_000),
        lambda x: x + 0.05 * x.std() * np.random.default_rng(9).standard_normal(len(x)).astype(np.float32),
    ],
    ids=["delayed", "softer and upside down", "cut", "low-passed", "noisier"],
)
def test_one_sound_changed(change: object) -> None:
    x = call(3, 8000)
    assert same_sound(x, np.asarray(change(x), dtype=np.float32), RATE_HZ)  # type: ignore[operator]


def test_other_rates_are_compared_at_the_lower(tmp_path: Path) -> None:
    places = []
    for i in range(4):
        x = call(i, 24_000, 44_100)
        soundfile.write(tmp_path / f"{i}.wav", x, 44_100)
        places.append(place(tmp_path / f"{i}.wav"))
    y = soxr.resample(x, 44_100, 48_000)
    soundfile.write(tmp_path / "3.opus", y, 48_000, format="OGG", subtype="OPUS")
    places.append(place(tmp_path / "3.opus"))
    assert found_in(places, [""] * 5).pairs.tolist() == [[3, 4]]


def tone(hz: float, seed: int, noise: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(8000) / RATE_HZ
    x = 0.3 * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6)) + noise * rng.standard_normal(len(t))
    return x.astype(np.float32)


def click(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = 0.002 * rng.standard_normal(8000)
    t = np.arange(80)
    x[4000:4080] += 0.5 * np.exp(-t / 15) * np.sin(t)
    return x.astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (call(1, 8000), call(2, 8000)),
        (tone(700, 1), tone(700, 2)),
        (tone(3000, 1, 0.002), tone(3000, 2, 0.002)),
        (click(1), click(2)),
        (call(1, 8000), np.zeros(8000, np.float32)),
    ],
    ids=["two calls", "tones", "clean tones", "clicks", "silence"],
)
def test_what_is_no_copy(a: np.ndarray, b: np.ndarray) -> None:
    assert not same_sound(a, b, RATE_HZ)


def test_portraits_do_not_depend_on_blocks_and_silence_has_none() -> None:
    x = call(5, 20_000)
    whole, parts = Painter(RATE_HZ), Painter(RATE_HZ)
    whole.add(x)
    for start in range(0, len(x), 777):
        parts.add(x[start : start + 777])
    a, b = whole.portrait(), parts.portrait()
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a.bands, b.bands, atol=2e-3)
    assert a.duration_s == b.duration_s == 1.25
    assert 0 < a.middle_s < 1.25
    silent = Painter(RATE_HZ)
    silent.add(np.zeros(5000, np.float32))
    assert silent.portrait() is None
    assert Painter(RATE_HZ).portrait() is None


def test_long_clips_keep_few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.concatenate([call(i, 16_000) for i in range(8)])
    exact = Painter(RATE_HZ)
    exact.add(x)
    monkeypatch.setattr("featurestore.duplicates.recoded_clips.MAX_FRAMES", 64)
    few = Painter(RATE_HZ)
    for start in range(0, len(x), 16_000):
        few.add(x[start : start + 16_000])
    assert sum(map(len, few._frames)) <= 128
    a, b = exact.portrait(), few.portrait()
    assert a is not None
    assert b is not None
    assert a.middle_s == pytest.approx(b.middle_s, abs=0.1)
    assert float(a.bands.astype(float) @ b.bands.astype(float)) > 0.995 * float(
        np.sum(a.bands.astype(float) ** 2)
    )
