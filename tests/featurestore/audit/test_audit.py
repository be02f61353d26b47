"""Each planted fault is found, with its name; a sound corpus raises no alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featurestore.audit import AuditConfig, AuditReport, run_audit
from featurestore.audit.terminal_text import audit_text
from featurestore.errors import ConfigError, KeyNotFound, ManifestError
from tests.command_line import fs
from tests.featurestore.audit.conftest import RATE_HZ, N, call

Plant = Callable[[Path], None]


def audited(manifest: Path, **options: object) -> AuditReport:
    return run_audit(AuditConfig(manifest=manifest, workers=2, **options))  # type: ignore[arg-type]


def alarms(report: AuditReport) -> dict[str, int]:
    """Counts of what is no mere note, by kind."""
    return {f.kind: f.count for f in report.findings if f.severity != "note"}


def test_a_sound_corpus_raises_no_alarm(corpus: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = run_audit(AuditConfig(manifest=corpus), lambda done, n: seen.append((done, n)))
    assert alarms(report) == {}
    assert report.facts["clips"] == report.facts["files"] == N
    assert report.facts["groups"] == 6
    seconds = sum(soundfile.info(p).duration for p in corpus.parent.glob("*.wav"))
    assert report.facts["hours"] == pytest.approx(seconds / 3600)
    head = f"{N} clips of {N} files, {seconds / 60:.1f} minutes"
    assert str(audit_text(report)[0]).endswith(head)
    one = replace(report, facts={**report.facts, "clips": 1, "files": 1, "hours": 2})
    assert str(audit_text(one)[0]).endswith("1 clip of 1 file, 2.00 hours")
    assert seen[-1] == (N, N)
    (call_, caller) = report.labels
    assert (call_["n_classes"], call_["n_smallest"], caller["n_classes"]) == (3, 20, 2)
    assert call_["worth_points"] == pytest.approx(100 / (3 * 2))  # a tenth of 20 clips is two


def test_what_annotations_and_recorders_keep_of_themselves_is_no_label(corpus: Path) -> None:
    before = run_audit(AuditConfig(manifest=corpus))
    table = pd.read_csv(corpus, dtype=str, keep_default_na=False)
    table["selection"], table["low_hz"], table["high_hz"] = [str(i) for i in range(N)], "2000", "6000"
    table["recorded_at"] = [f"2024-05-01T04:{i:02d}:00Z" for i in range(N)]
    table["latitude"], table["longitude"] = [["42.5", "42.6"][i % 2] for i in range(N)], "-71.2"
    table["recorder"], table["recorder_serial"], table["time_expansion"] = "AudioMoth", "7", "1"
    table.to_csv(corpus, index=False)
    report = run_audit(AuditConfig(manifest=corpus))
    assert [row["label"] for row in report.labels] == ["call", "caller"]
    assert report.facts["labels"] == 2
    assert report.findings == before.findings


def test_rows_that_end_where_they_start_are_named_and_the_others_looked_at(
    corpus: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(corpus, dtype=str, keep_default_na=False).assign(start_s="", end_s="")
    table.to_csv(corpus, index=False)
    edit(corpus, 3, start_s="0.2", end_s="0.2")
    edit(corpus, 4, start_s="0.3", end_s="0.1")
    edit(corpus, 5, start_s="900", end_s="899")
    silent(corpus)
    report = audited(corpus)
    assert alarms(report) == {"end-before-start": 3, "silent": 1}
    (found,) = [f for f in report.findings if f.kind == "end-before-start"]
    assert (found.severity, report.n_faults) == ("fault", 2)
    assert [(e.row, e.detail) for e in found.examples] == [
        (3, "0.2 to 0.2 s"),
        (4, "0.3 to 0.1 s"),
        (5, "900 to 899 s"),
    ]
    result = fs("audit", corpus, "--out", tmp_path / "audit", "--group-copies", tmp_path / "g.csv", "--quiet")
    assert result.exit_code == 1
    assert "3 clips: no sample between start and end" in (tmp_path / "audit" / "audit.txt").read_text()
    assert len(pd.read_csv(tmp_path / "g.csv")) == N


def edit(manifest: Path, row: int, **cells: str) -> None:
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    for name, value in cells.items():
        table.loc[row, name] = value
    table.to_csv(manifest, index=False)


def put(manifest: Path, i: int, x: np.ndarray, rate_hz: int = RATE_HZ) -> None:
    soundfile.write(manifest.parent / f"clip{i:02d}.wav", x, rate_hz)


def duplicate(m: Path) -> None:
    put(m, 9, soundfile.read(m.parent / "clip05.wav", dtype="float32")[0])


def shifted(m: Path) -> None:
    put(m, 9, soundfile.read(m.parent / "clip05.wav", dtype="float32")[0][1500:])


def silent(m: Path) -> None:
    put(m, 9, np.zeros(9000, np.float32))


def constant(m: Path) -> None:
    put(m, 9, np.full(9000, 0.25, np.float32))


def nearly_silent(m: Path) -> None:
    put(m, 9, 0.0005 * call(9))


def loud(seed: int) -> np.ndarray:
    x = call(seed)
    return 3 * x / np.abs(x).max()


def clipped(m: Path) -> None:
    put(m, 9, np.clip(loud(9), -1, 1))


def clipped_and_turned_down(m: Path) -> None:
    put(m, 9, 0.3 * np.clip(loud(9), -1, 1))


def no_frame(m: Path) -> None:
    put(m, 9, call(9, 390))


def too_short(m: Path) -> None:
    put(m, 9, call(9, 600))


def dc_offset(m: Path) -> None:
    put(m, 9, call(9) + 0.05)


def ultrasound(m: Path) -> None:
    t = np.arange(48_000) / 96_000
    put(
        m,
        9,
        (0.01 * call(9, 48_000, 96_000) + 0.3 * np.sin(2 * np.pi * 30_000 * t)).astype(np.float32),
        96_000,
    )


def cut_short(m: Path) -> None:
    path = m.parent / "clip09.wav"
    path.write_bytes(path.read_bytes()[:-6000])


def cut_short_flac(m: Path) -> None:
    soundfile.write(m.parent / "clip09.flac", call(9, 40_000), RATE_HZ)
    data = (m.parent / "clip09.flac").read_bytes()
    (m.parent / "clip09.flac").write_bytes(data[: len(data) // 2])
    edit(m, 9, path="clip09.flac")


def no_audio(m: Path) -> None:
    (m.parent / "clip09.wav").write_text("not audio")


def missing(m: Path) -> None:
    (m.parent / "clip09.wav").unlink()


def beyond(m: Path) -> None:
    edit(m, 9, start_s="0.1", end_s="7.5")


def no_channel(m: Path) -> None:
    edit(m, 9, channel="1")


def not_finite(m: Path) -> None:
    soundfile.write(m.parent / "clip09.wav", np.full(9000, np.nan, np.float32), RATE_HZ, subtype="FLOAT")


@pytest.mark.parametrize(
    ("plant", "expected", "says"),
    [
        (duplicate, {"duplicate": 1}, "= u09 (call: 'twitter' and 'phee')"),
        (shifted, {"shifted-copy": 1}, "= u09"),
        (silent, {"silent": 1}, "all zeros"),
        (constant, {"constant": 1}, "constant 0.25"),
        (nearly_silent, {"nearly-silent": 1}, "dBFS"),
        (clipped, {"clipped": 1}, "flat runs at 0.0 dBFS"),
        (clipped_and_turned_down, {"clipped": 1}, "flat runs at -10.5 dBFS"),
        (no_frame, {"no-frame": 1}, "24.4 ms"),
        (too_short, {"too-short": 1}, "37.5 ms"),
        (dc_offset, {"dc-offset": 1}, "mean +0.05"),
        (ultrasound, {"above-nyquist": 1, "rate-loses-energy": 1}, "100 % lost"),
        (cut_short, {"damaged-file": 1}, "cut short: its header promises 9,200 frames"),
        (cut_short_flac, {"damaged-file": 1}, ""),
        (no_audio, {"damaged-file": 1}, "cannot be decoded"),
        (missing, {"damaged-file": 1}, "no such file"),
        (beyond, {"past-end": 1}, "0.1 to 7.5 s in a file of"),
        (no_channel, {"unreadable": 1}, "has 1 channel, none numbered 1"),
        (not_finite, {"unreadable": 1}, "NaN"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_fault_is_found_and_nothing_else(
    corpus: Path, plant: Plant, expected: dict[str, int], says: str
) -> None:
    plant(corpus)
    report = audited(corpus)
    found = alarms(report)
    assert found == expected
    finding = next(f for f in report.findings if f.kind in expected)
    assert any(
        e.name in ("u09", "u05") or e.name.endswith(("clip09.wav", "clip09.flac")) for e in finding.examples
    )
    assert any(says in e.detail for e in finding.examples)


def test_the_truth_about_energy_above_nyquist(tmp_path: Path) -> None:
    """Two tones of known power, one on either side of 8 kHz."""
    folder = tmp_path / "audio"
    folder.mkdir()
    t = np.arange(96_000) / 48_000
    x = 0.4 * np.sin(2 * np.pi * 1000 * t) + 0.2 * np.sin(2 * np.pi * 12_000 * t)
    soundfile.write(folder / "a.wav", x, 48_000)
    soundfile.write(folder / "b.wav", x[:16_000], 48_000)
    pd.DataFrame({"path": ["a.wav", "b.wav"], "kind": ["a", "b"]}).to_csv(folder / "m.csv", index=False)
    report = audited(folder / "m.csv")
    (rate,) = report.rates
    assert rate["rate_hz"] == 48_000
    assert rate["median_lost"] == pytest.approx(0.2**2 / (0.2**2 + 0.4**2), abs=1e-3)
    assert audited(folder / "m.csv", model_rate_hz=32_000).rates[0]["median_lost"] == pytest.approx(
        0, abs=1e-3
    )


def test_windows_of_one_recording_are_no_copies(corpus: Path) -> None:
    soundfile.write(corpus.parent / "long.wav", call(700, 160_000), RATE_HZ)
    rows = [
        {
            "path": "long.wav",
            "start_s": f"{s / 2:g}",
            "end_s": f"{s / 2 + 2:g}",
            "call": "phee",
            "caller": "ana",
        }
        for s in range(12)
    ]
    table = pd.read_csv(corpus, dtype=str, keep_default_na=False)
    table = pd.concat([table.drop(columns="utterance_id"), pd.DataFrame(rows)]).fillna("")
    table.to_csv(corpus, index=False)
    assert alarms(audited(corpus)) == {}


def test_a_manifest_that_breaks_its_contract_is_an_error(corpus: Path) -> None:
    edit(corpus, 9, end_s="soon")
    with pytest.raises(ManifestError, match="end_s 'soon'"):
        audited(corpus)


def test_mistakes_in_options(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="give --store too"):
        AuditConfig(manifest=corpus, model="logmel")
    with pytest.raises(ConfigError, match="workers: expected at least 1"):
        AuditConfig(manifest=corpus, workers=0)


def embedded(manifest: Path, store: Path, model: str = "logmel", **options: object) -> str:
    from extractors import ExtractConfig, extract

    extract(ExtractConfig(manifest=manifest, dataset="calls", model=model, store=str(store), **options))  # type: ignore[arg-type]
    return str(store)


def test_the_store_agrees_with_a_sound_corpus_and_tells_of_changed_audio(
    corpus: Path, tmp_path: Path
) -> None:
    store = embedded(corpus, tmp_path / "s.zarr")
    report = audited(corpus, store=store)
    assert report.key == "logmel/calls"
    assert alarms(report) == {}
    put(corpus, 9, call(99))
    assert alarms(audited(corpus, store=store)) == {"changed-audio": 1}
    with pytest.raises(KeyNotFound, match="no such key, it holds logmel/calls"):
        audited(corpus, store=store, model="hubert")
    with pytest.raises(KeyNotFound, match="has layers 0, not 7"):
        audited(corpus, store=store, layers=(7,))
    embedded(corpus, tmp_path / "s.zarr", name="other")
    with pytest.raises(KeyNotFound, match="several keys fit, it holds logmel/calls, other/calls"):
        audited(corpus, store=store)


def make_stereo(manifest: Path, i: int, right: int) -> None:
    left = soundfile.read(manifest.parent / f"clip{i:02d}.wav", dtype="float32", always_2d=True)[0][:, 0]
    put(manifest, i, np.stack([left, call(right, len(left))], axis=1))


@pytest.mark.parametrize("channel", ["0", "each", "mix"])
def test_the_channel_that_was_embedded_is_the_one_compared(
    corpus: Path, tmp_path: Path, channel: str
) -> None:
    for i in range(0, N, 2):
        make_stereo(corpus, i, 200 + i)
    edit(corpus, 8, channel="1", utterance_id="u08")  # named by the manifest: stands whatever the key says
    store = embedded(corpus, tmp_path / "s.zarr", channel=channel)
    report = audited(corpus, store=store)
    assert not {"changed-audio", "not-embedded"} & {f.kind for f in report.findings}
    # A new right channel is another sound for each and mix only; a new left one for all.
    make_stereo(corpus, 4, 999)
    put(corpus, 6, soundfile.read(corpus.parent / "clip06.wav", dtype="float32")[0][:, ::-1])
    put(corpus, 9, call(99))
    found = {f.kind: f for f in audited(corpus, store=store).findings}["changed-audio"]
    names = {e.name for e in found.examples}
    assert (
        names
        == {
            "0": {"u06", "u09"},
            "each": {"u04#1", "u06#0", "u06#1", "u09#0"},
            "mix": {"u04", "u09"},
        }[channel]
    )
    assert found.count == len(names)


def test_rows_of_each_channel_that_are_not_embedded_are_told_by_their_names(
    corpus: Path, tmp_path: Path
) -> None:
    store = embedded(corpus, tmp_path / "s.zarr", channel="each")
    make_stereo(corpus, 3, 300)
    (corpus.parent / "clip05.wav").unlink()  # missing is a finding of its own
    found = {f.kind: f for f in audited(corpus, store=store).findings}
    assert [e.name for e in found["not-embedded"].examples] == ["u03#1"]
    assert found["not-embedded"].text == "1 clip of the manifest is not in the store."
    assert "changed-audio" not in found


def test_coinciding_constant_and_outlying_embeddings(tmp_path: Path) -> None:
    from featurestore.audit.embeddings import embedding_findings
    from tests.featurestore.made_key import key

    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 40)) + 10

    def found(name: str, values: np.ndarray) -> dict[str, tuple[str, int]]:
        features = key(tmp_path / name, values)
        return {f.kind: (f.severity, f.count) for f in embedding_findings(features, [0])}

    assert found("clean", x) == {}
    two = x.copy()
    two[30] = two[10]
    assert found("two", two) == {"coinciding-embeddings": ("warning", 2)}
    most = x.copy()
    most[:390] = most[0] + 1e-7 * rng.standard_normal((390, 40))
    kinds = found("most", most)
    assert kinds["coinciding-embeddings"] == ("fault", 390)
    flat = x.copy()
    flat[:, 5] = 3.0
    assert found("flat", flat) == {"constant-feature": ("note", 1)}
    near = x.copy()
    near[30] = near[10] + 0.005 * rng.standard_normal(40)
    assert found("near", near) == {"near-identical": ("warning", 1)}
    far = x.copy()
    far[77] += 30 * rng.standard_normal(40)
    assert found("far", far) == {"outlying-embedding": ("note", 1)}


def test_the_report_is_json_and_the_same_twice(corpus: Path) -> None:
    first, second = (json.dumps(audited(corpus).to_json(), allow_nan=False) for _ in range(2))
    assert first == second


@pytest.mark.slow
@pytest.mark.shared
def test_what_is_really_there_in_spoken_digits(shared: Path) -> None:
    """3,000 clean clips, but one speaker's recorder had a DC offset."""
    manifest = shared / "data" / "fsdd" / "manifest.csv"
    report = audited(manifest)
    assert set(alarms(report)) == {"dc-offset"}
    (dc,) = [f for f in report.findings if f.kind == "dc-offset"]
    expected = set()
    for row in pd.read_csv(manifest, dtype=str).itertuples():
        x, _ = soundfile.read(manifest.parent / row.path)
        if abs(x.mean()) > max(0.001, 0.1 * x.std()):
            expected.add(row.utterance_id)
    assert dc.count == len(expected)
    assert {e.name for e in dc.examples} <= expected
    assert {f.kind for f in report.findings if f.severity == "note"} == {"rate-below-model"}


def test_time_expanded_files_are_named(corpus: Path) -> None:
    path = corpus.parent / "clip03.wav"
    content = path.read_bytes() + b"guan" + (20).to_bytes(4, "little") + b"GUANO|Version:1\nTE:8"[:20]
    path.write_bytes(content)
    pd.read_csv(corpus, dtype=str, keep_default_na=False).head(4).to_csv(corpus, index=False)
    found = [f for f in audited(corpus).findings if f.kind == "time-expanded"]
    assert [(f.severity, e.name, e.detail) for f in found for e in f.examples] == [
        ("warning", str(path), "plays 8 times slower")
    ]
    assert "time-expanded" not in alarms(audited(corpus, rate_policy="expand"))
