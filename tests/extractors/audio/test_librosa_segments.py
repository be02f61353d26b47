"""Segments as `librosa.load` reads them: against its rule written out, and that against librosa itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from extractors.audio import waveform
from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import load_clip
from featurestore.audio.librosa_times import as_librosa_cuts
from featurestore.manifest.table import Manifest, from_table
from tests.librosa_rule import librosa_load

MODEL_HZ = 16_000


def manifest(folder: Path, rows: list[tuple[str, object, object]]) -> Manifest:
    table = pd.DataFrame([[str(c) for c in row] for row in rows], columns=["path", "start_s", "end_s"])
    table["utterance_id"] = [f"u{i}" for i in range(len(rows))]
    return from_table(table, source="m.csv", base=folder, allow_empty=True)


def policy(**changes: object) -> AudioPolicy:
    given = {
        "sample_rate_hz": MODEL_HZ,
        "normalisation": "none",
        "short_policy": "none",
        "segments": "librosa",
    }
    return AudioPolicy(**(given | changes))  # type: ignore[arg-type]


def noise(folder: Path, rate: int, n: int, channels: int = 1) -> str:
    x = np.random.default_rng(n).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)
    soundfile.write(folder / f"{rate}-{n}.wav", x, rate, subtype="FLOAT")
    return f"{rate}-{n}.wav"


def loaded(rows: Manifest, **changes: object) -> list[np.ndarray]:
    columns = (rows.table[c] for c in ("path", "start_s", "end_s"))
    return [load_clip(p, s, e, None, policy(**changes)).samples for p, s, e in zip(*columns, strict=True)]


def short_segments(rate: int, seconds: float) -> list[tuple[float, float]]:
    """Times as an annotator's table has them: six decimals, clips of 20 to 400 ms."""
    rng = np.random.default_rng(rate)
    start = rng.uniform(0, seconds - 0.5, 80).round(6)
    return list(zip(start, (start + rng.uniform(0.02, 0.4, 80)).round(6), strict=True))


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000, 250_000])
def test_segments_are_librosas_to_the_sample(tmp_path: Path, rate: int) -> None:
    name = noise(tmp_path, rate, int(2.2 * rate), channels=2)
    times = short_segments(rate, 2.2)
    rows = manifest(tmp_path, [(name, *t) for t in times])
    cut = as_librosa_cuts(rows, 1)
    expected = [librosa_load(str(tmp_path / name), s, e - s) for s, e in times]
    for got, want in zip(loaded(cut), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    nearest = loaded(rows, segments="nearest")
    differ = [len(a) != len(b) or not np.array_equal(a, b) for a, b in zip(nearest, expected, strict=True)]
    assert sum(differ) > 20, "rounding is another rule"


def test_a_zero_is_appended_where_the_resampler_gives_one_sample_less(tmp_path: Path) -> None:
    shorter = 0
    for n in range(1000, 1040):
        name = noise(tmp_path, 44_100, n)
        x, _ = soundfile.read(tmp_path / name, dtype="float32")
        bare = soxr.resample(x, 44_100, MODEL_HZ, quality="HQ")
        (got,) = loaded(manifest(tmp_path, [(name, "", "")]))
        assert len(got) == math.ceil(n * MODEL_HZ / 44_100)
        shorter += len(bare) < len(got)
        if len(bare) < len(got):
            np.testing.assert_array_equal(got, np.append(bare, 0))
    assert shorter > 5


@pytest.mark.parametrize("n", [1001, 5000, 77_777])
def test_clips_too_long_for_memory_have_the_same_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    rows = manifest(tmp_path, [(noise(tmp_path, 44_100, n), "", "")])
    (whole,) = loaded(rows)
    monkeypatch.setattr(waveform, "STREAM_SAMPLES", 100)
    (streamed,) = loaded(rows)
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_an_open_end_is_the_files_duration_in_seconds(tmp_path: Path) -> None:
    """As the study's data set classes have it: frames / rate, times the rate, truncated."""
    lengths = [*[n for n in range(3000, 3400) if int(n / 44100 * 44100) < n][:3], 3001]
    rows = manifest(tmp_path, [(noise(tmp_path, 44_100, n), "", "") for n in lengths])
    cut = as_librosa_cuts(rows, 2).table
    n_samples = np.where(cut["end_s"].isna(), lengths, cut["end_s"] * 44_100).round()
    assert n_samples.tolist() == [int(n / 44_100 * 44_100) for n in lengths]
    assert cut["end_s"].isna().tolist() == [False, False, False, True]


def test_rows_without_a_sample_end_where_they_start_and_unreadable_ones_stay(tmp_path: Path) -> None:
    name = noise(tmp_path, 44_100, 9000)
    (tmp_path / "text.wav").write_text("no audio")
    given = [(name, 0.1, 0.1), (name, 0.15, 0.02), (name, 0.1, 0.10001), ("text.wav", 0.1, 0.2)]
    cut = as_librosa_cuts(manifest(tmp_path, given), 1).table
    assert (cut["start_s"][:3] == cut["end_s"][:3]).all()
    assert cut.loc[3, ["start_s", "end_s"]].tolist() == [0.1, 0.2]


def test_a_file_that_is_cut_short_still_fails(tmp_path: Path) -> None:
    n = next(n for n in range(3000, 3400) if int(n / 44_100 * 44_100) < n)
    name = noise(tmp_path, 44_100, 2 * n)
    data = (tmp_path / name).read_bytes()
    header = len(data) - 4 * 2 * n
    (tmp_path / name).write_bytes(data[: header + 4 * n])
    cut = as_librosa_cuts(manifest(tmp_path, [(name, "", "")]), 1)
    with pytest.raises(waveform.AudioError, match="cut short"):
        loaded(cut)


def test_the_rule_is_librosas(tmp_path: Path) -> None:
    librosa = pytest.importorskip("librosa")
    for rate in (8000, 16_000, 44_100, 166_600):
        path = tmp_path / noise(tmp_path, rate, int(1.3 * rate), channels=2)
        for start, end in short_segments(rate, 1.3)[:40]:
            theirs, _ = librosa.load(path, sr=MODEL_HZ, mono=True, offset=start, duration=end - start)
            np.testing.assert_array_equal(librosa_load(str(path), start, end - start), theirs)
