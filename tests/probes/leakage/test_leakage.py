"""A planted leak of each kind is found, a clean corpus has none, and everybody is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import probes.leakage.alike_clips
from extractors import ExtractConfig, extract
from probes import ProbeConfig, run_probe
from probes.leakage.kinds import LeakageReport, find_leaks, sentences
from probes.report import load_report_data
from probes.report.caveats import leakage_of
from probes.splits import Split

RATE_HZ = 16_000
NOTHING = np.zeros((0, 2), dtype=np.int64)
Plant = Callable[[pd.DataFrame, Path], pd.DataFrame]


def call(seed: int, n: int, pitch_hz: float) -> np.ndarray:
    """A harmonic call with vibrato in noise, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / RATE_HZ
    wobble = np.cumsum(1 + 0.1 * np.sin(2 * np.pi * rng.uniform(3, 9) * t + rng.uniform(0, 6)))
    tone = sum(rng.uniform(0.2, 1) * np.sin(2 * np.pi * k * pitch_hz * wobble / RATE_HZ) for k in (1, 2, 3))
    envelope = np.interp(t, np.linspace(0, t[-1], 8), rng.uniform(0.1, 1, 8))
    return (0.2 * envelope * tone + 0.02 * rng.standard_normal(n)).astype(np.float32)


def corpus(folder: Path, plant: Plant | None = None) -> Path:
    """60 clips of two classes, a group and a file for each, with a split column."""
    folder.mkdir()
    rows = []
    for i in range(60):
        path = folder / f"clip{i:02d}.wav"
        kind = "ab"[i % 2]
        soundfile.write(
            path, call(i, 8000 + 37 * (i * 29 % 60), 300 if kind == "a" else 700), RATE_HZ, "FLOAT"
        )
        part = "train" if i < 36 else "val" if i < 48 else "test"
        rows.append(
            {
                "utterance_id": f"u{i:02d}",
                "path": path.name,
                "start_s": "",
                "end_s": "",
                "split": part,
                "group": f"g{i}",
                "kind": kind,
            }
        )
    table = pd.DataFrame(rows)
    if plant is not None:
        table = plant(table, folder)
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def probed(manifest: Path, tmp_path: Path, *, refresh: bool = False) -> list[LeakageReport]:
    config = ExtractConfig(
        manifest=manifest, dataset="calls", model="logmel", store=str(tmp_path / "s"), refresh=refresh
    )
    extract(config)
    return probed_again(tmp_path)


def group(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table.loc[[3, 50], "group"] = "same night"
    return table


def file(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    x = np.concatenate([call(100, 9000, 300), call(101, 9000, 700)])
    soundfile.write(folder / "long.wav", x, RATE_HZ, "FLOAT")
    table.loc[[4, 51], "path"] = "long.wav"
    table.loc[4, ["start_s", "end_s"]] = ["0", "0.5625"]
    table.loc[51, ["start_s", "end_s"]] = ["0.5625", "1.125"]
    return table


def overlap(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table = file(table, folder)
    table.loc[51, ["start_s", "end_s"]] = ["0.5", "1.125"]
    return table


def identical(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    (folder / "clip52.wav").write_bytes((folder / "clip06.wav").read_bytes())
    return table


def shifted(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    x, _ = soundfile.read(folder / "clip06.wav", dtype="float32")
    soundfile.write(
        folder / "clip52.wav", np.concatenate([np.zeros(700, np.float32), x[400:]]), RATE_HZ, "FLOAT"
    )
    return table


def half_level(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Half the level in 16 bits, cut at both ends: neither samples nor log-mel statistics stay."""
    x, _ = soundfile.read(folder / "clip06.wav", dtype="float32")
    soundfile.write(folder / "clip52.wav", 0.5 * x[1500:-900], RATE_HZ, "PCM_16")
    return table


def recoded(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Vorbis leaves no sample as it was."""
    x, _ = soundfile.read(folder / "clip06.wav", dtype="float32")
    soundfile.write(folder / "clip52.ogg", x, RATE_HZ)
    table.loc[52, "path"] = "clip52.ogg"
    return table


def rescaled(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The same call from 10 ms later on, a little softer: no sample is the same, the embedding nearly is."""
    x, _ = soundfile.read(folder / "clip06.wav", dtype="float32")
    soundfile.write(folder / "clip52.wav", 0.999 * x[160:], RATE_HZ, "FLOAT")
    return table


@pytest.mark.parametrize(
    ("plant", "kinds", "example"),
    [
        pytest.param(group, {"group"}, "same night", marks=pytest.mark.slow),
        (file, {"file"}, "long.wav"),
        pytest.param(overlap, {"file", "overlap"}, "u04 = u51", marks=pytest.mark.slow),
        (identical, {"identical"}, "u06 = u52"),
        pytest.param(shifted, {"similar"}, "u06 = u52", marks=pytest.mark.slow),
        pytest.param(recoded, {"similar"}, "u06 = u52", marks=pytest.mark.slow),
        pytest.param(rescaled, {"similar"}, "u06 = u52", marks=pytest.mark.slow),
        (half_level, {"similar"}, "u06 = u52"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_leak_is_found_before_training_and_reported(
    tmp_path: Path, plant: Plant, kinds: set[str], example: str
) -> None:
    (report,) = probed(corpus(tmp_path / "audio", plant), tmp_path)
    assert {leak.kind for leak in report.leaks} == kinds
    for leak in report.leaks:
        assert leak.parts == ("train", "test")
        assert (leak.n_shared, leak.n_rows, leak.n_of) == (1, 1, 12)
    assert any(example in e for leak in report.leaks for e in leak.examples)
    record = json.loads((tmp_path / "r/_run.json").read_text())
    assert {leak["kind"] for leak in record["splits"][0]["leakage"]["leaks"]} == kinds
    told = leakage_of(load_report_data(tmp_path / "r"))
    assert told is not None
    assert "at worst 1 of 12 test clips" in told.sentence
    assert sum(example in line and "1 of 12 test clips" in line for line in told.lines) >= 1


def test_a_clean_corpus_has_no_leak_and_a_second_call_says_the_same(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "audio")
    (report,) = probed(manifest, tmp_path)
    assert report.leaks == ()
    assert any("cosine of at least" in note for note in report.notes)
    assert sentences([report]) == []
    for wav in (tmp_path / "audio").glob("*.wav"):
        wav.unlink()
    # nothing changed, so the report is taken over although the audio is gone
    assert probed_again(tmp_path) == [report]


@pytest.mark.slow
def test_of_too_much_audio_the_nearest_clips_are_listened_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.leakage.alike_clips.LISTEN_AT_MOST_S", 12.0)
    monkeypatch.setattr("featurestore.duplicates.near_embeddings.SURELY", 0.0)
    monkeypatch.setattr(
        "featurestore.duplicates.near_embeddings.NEARER", 0.0
    )  # embeddings alone flag nothing
    (report,) = probed(corpus(tmp_path / "audio", rescaled), tmp_path)
    assert [leak.kind for leak in report.leaks] == ["similar"]
    (note,) = [n for n in report.notes if "listened" in n]
    heard = int(note.split("in ")[1].split(" of ")[0])
    assert 10 < heard < 30
    assert "`fs audit` listens to all" in note


@pytest.mark.slow
def test_without_the_audio_a_note_says_what_was_not_compared(tmp_path: Path) -> None:
    manifest = corpus(tmp_path / "audio", shifted)
    extract(ExtractConfig(manifest=manifest, dataset="calls", model="logmel", store=str(tmp_path / "s")))
    for wav in (tmp_path / "audio").glob("*.wav"):
        wav.unlink()
    (report,) = probed_again(tmp_path)
    assert any("audio is not at hand" in note for note in report.notes)
    assert report.leaks == ()
    # not remembered as the whole truth: with the audio back the copy is found
    corpus(tmp_path / "again", shifted)
    for wav in (tmp_path / "again").glob("*.wav"):
        wav.rename(tmp_path / "audio" / wav.name)
    (report,) = probed_again(tmp_path)
    assert [leak.kind for leak in report.leaks] == ["similar"]


@pytest.mark.slow
def test_what_sounds_alike_is_looked_for_once_whatever_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another split needs another report, and no second hearing of the corpus."""
    probed(corpus(tmp_path / "audio", shifted), tmp_path)
    asked = []
    real = probes.leakage.alike_clips.likeness
    monkeypatch.setattr("probes.leakage.alike_clips.likeness", lambda *given: asked.append(1) or real(*given))
    seen = probed_again(tmp_path, split="kfold:7")  # which parts the two
    found = {e for report in seen for leak in report.leaks for e in leak.examples}
    assert any("u06" in e and "u52" in e for e in found)
    assert asked == []
    (kept,) = (tmp_path / "r" / "_alike").iterdir()
    good = pd.read_parquet(kept)
    kept.write_bytes(kept.read_bytes()[:50])  # damaged: looked for again
    probed_again(tmp_path, split="kfold:3")
    assert asked == [1]
    assert pd.read_parquet(kept).equals(good)
    # other audio under the same names is another question
    soundfile.write(tmp_path / "audio" / "clip20.wav", call(999, 8000, 500), RATE_HZ, "FLOAT")
    probed(tmp_path / "audio" / "manifest.csv", tmp_path, refresh=True)
    assert asked == [1, 1]


def probed_again(tmp_path: Path, split: str | None = None) -> list[LeakageReport]:
    seen: list[LeakageReport] = []
    config = ProbeConfig(
        store=str(tmp_path / "s"),
        labels=("kind",),
        out=tmp_path / "r",
        classifiers=("centroid",),
        split=split,
    )
    run_probe(config, on_leakage=seen.extend)
    return seen


def table_of(times: list[tuple[float, float]], channel: list[float] | None = None) -> pd.DataFrame:
    n = len(times)
    return pd.DataFrame(
        {
            "utterance_id": [f"u{i}" for i in range(n)],
            "path": ["/a/x.wav"] * n,
            "start_s": [a for a, _ in times],
            "end_s": [b for _, b in times],
            "duration_s": [1.0] * n,
            "channel": pd.array(channel or [None] * n, dtype="Int64"),
            "group": "",
            "audio_hash": [f"h{i}" for i in range(n)],
        }
    )


def split_of(train: list[int], test: list[int]) -> Split:
    return Split(
        train=np.array(train), val=np.zeros(0, dtype=np.int64), test=np.array(test), name="column", seed=0
    )


def test_overlaps_are_those_that_comparing_all_with_all_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        start = rng.integers(0, 40, 24) / 4
        times = [(s, s + d) for s, d in zip(start, rng.integers(1, 12, 24) / 4, strict=True)]
        channel = rng.choice([0, 1, None], 24).tolist()
        table, train, test = table_of(times, channel), list(range(16)), list(range(16, 24))
        found = [x for x in find_leaks(table, split_of(train, test), NOTHING) if x.kind == "overlap"]
        expected = {
            j
            for j in test
            for i in train
            if min(times[i][1], times[j][1]) > max(times[i][0], times[j][0])
            and (channel[i] is None or channel[j] is None or channel[i] == channel[j])
        }
        assert (found[0].n_rows if found else 0) == len(expected)


def test_whole_files_and_open_ends_overlap_and_neighbours_do_not() -> None:
    nan = float("nan")
    leaks = find_leaks(table_of([(nan, nan), (0.2, 0.3)]), split_of([0], [1]), NOTHING)
    assert [x.kind for x in leaks] == ["file", "overlap"]
    leaks = find_leaks(table_of([(0.0, 1.001), (1.0, 2.0)]), split_of([0], [1]), NOTHING)
    assert [x.kind for x in leaks] == ["file"]


def test_folds_are_told_together() -> None:
    table = table_of([(i, i + 0.5) for i in range(6)]).assign(path=[f"/{i}.wav" for i in range(6)])
    table["group"] = ["g", "g", "h", "i", "j", "g"]
    reports = [
        LeakageReport(
            dataset="d", label="l", split="kfold:3", fold=fold, leaks=find_leaks(table, split, NOTHING)
        )
        for fold, split in enumerate([split_of([0, 2], [1, 5]), split_of([0, 2], [1, 3]), split_of([2], [3])])
    ]
    (line,) = sentences(reports)
    assert "2 of 2 test clips of a group that train has too (1 group)" in line
    assert "in fold 0, the worst of 2 with this leak (3 folds)" in line
