"""What a run tells of its audio: channels that differ, scale, repetition, rates and ends."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from extractors import ExtractConfig, extract
from extractors.audio.headers import end_with_files
from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import load_clip
from extractors.run.clip_tally import Heard
from featurestore import open_store
from featurestore.audio.blocks import Agreement
from featurestore.audio.decoder_noise import HUSH
from featurestore.audio.segment import AudioError, hash_clip
from featurestore.audit import AuditConfig, run_audit
from featurestore.manifest.table import read_manifest
from tests.featurestore.audio.decoded import decode

NAN = math.nan
RATE = 16_000
POLICY = AudioPolicy(sample_rate_hz=RATE, normalisation="none")
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (12_000, 3)).astype(np.float32)


def agreement(block: np.ndarray) -> float:
    found = Agreement()
    for part in np.array_split(block, 3):
        found.add(part)
    return found.value


def test_agreement_is_the_correlation_of_channels() -> None:
    a, b, c = NOISE.T
    assert agreement(np.stack([a, 0.1 * a + 0.3], 1)) == pytest.approx(1)  # a copy at another gain and offset
    assert agreement(np.stack([a, -a], 1)) == pytest.approx(-1)
    assert agreement(np.stack([a, b], 1)) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-3)
    both = np.stack([a, a + b], 1)
    assert agreement(both) == pytest.approx(np.corrcoef(both.T)[0, 1], abs=1e-6)
    assert agreement(np.stack([a, a, c], 1)) == pytest.approx(1 / 3, abs=0.02)  # one pair of three
    assert math.isnan(agreement(np.stack([a, 0 * a], 1)))  # one channel that sounds agrees with itself


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    a, b, _ = NOISE.T
    files = {
        "alike": np.stack([a, 0.5 * a], 1),
        "apart": np.stack([a, b], 1),
        "cancel": np.stack([a, -a], 1),
        "integers": np.round(a * 32_768),
        "short": a[:300],
    }
    for name, samples in files.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "m.csv").write_text("path\n" + "\n".join(f"{name}.wav" for name in files) + "\n")
    return tmp_path / "m.csv"


def test_a_run_tells_what_it_heard(odd: Path, tmp_path: Path) -> None:
    summary = extract(ExtractConfig(manifest=odd, dataset="d", model="logmel", store=str(tmp_path / "s")))
    assert summary.failed == {
        "cancel": "all samples are zero: its 2 channels cancel out in their mean; choose one"
    }
    assert summary.notes[-3].startswith(
        "channels differ in 1 of 2 clips that are their mean (correlation below"
    )
    assert summary.notes[-2].startswith("1 clip beyond full scale, up to 16,3")
    assert summary.notes[-1].startswith("1 of 4 clips repeated up to 5,000 samples (0.312 s)")


def test_the_audit_finds_what_the_run_tells(odd: Path) -> None:
    found = {
        f.kind: (f.severity, [e.name for e in f.examples])
        for f in run_audit(AuditConfig(manifest=odd)).findings
    }
    assert found["channels-differ"] == ("warning", ["apart"])
    assert found["channels-cancel-out"] == ("fault", ["cancel"])
    assert found["beyond-full-scale"] == ("warning", ["integers"])
    assert found["no-frame"] == ("warning", ["short"])  # it is repeated and embedded
    assert "silent" not in found


def test_a_channel_that_was_chosen_is_no_mean(odd: Path) -> None:
    path = str(odd.parent / "cancel.wav")
    for read in (lambda: hash_clip(path, NAN, NAN, None), lambda: load_clip(path, NAN, NAN, None, POLICY)):
        with pytest.raises(AudioError, match="2 channels cancel out"):
            read()
    clip = load_clip(path, NAN, NAN, 1, POLICY)
    assert math.isnan(clip.agreement)
    np.testing.assert_array_equal(clip.samples, -NOISE[:, 0])


def test_expansion_over_several_rates_is_a_warning(tmp_path: Path) -> None:
    for i, rate in enumerate((250_000, 192_000)):
        soundfile.write(tmp_path / f"{rate}.wav", NOISE[:4000, i], rate)
    (tmp_path / "m.csv").write_text("path\n250000.wav\n192000.wav\n")
    heard = Heard()
    expand = AudioPolicy(sample_rate_hz=RATE, normalisation="none", rate_policy="expand", min_samples=1)
    heard.add([load_clip(str(p), NAN, NAN, None, expand) for p in sorted(tmp_path.glob("*.wav"))], expand)
    assert heard.notes(expand)[-1].startswith("--rate-policy expand over files at 192,000 and 250,000 Hz: ")

    def kinds(rate_policy: str) -> dict[str, str]:
        report = run_audit(AuditConfig(manifest=tmp_path / "m.csv", rate_policy=rate_policy))
        return {f.kind: f.severity for f in report.findings}

    # 4,000 samples are 16 ms of sound, and 250 ms for the model.
    assert kinds("expand") == {"mixed-rates": "warning"}
    assert kinds("resample").keys() == {"mixed-rates", "no-frame", "above-nyquist", "rate-loses-energy"}


def test_last_windows_end_with_the_file_when_asked(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE[:, 0], RATE)  # 0.75 s
    joined = tmp_path / "b.flac"
    soundfile.write(joined, NOISE[:, 1], RATE)
    joined.write_bytes(2 * joined.read_bytes())  # 1.5 s, of which its header says half
    rows = ["a.wav,0,0.5", "a.wav,0.5,1", "a.wav,0.8,1.2", "a.wav,0.5,0.78", "b.flac,1,1.4", "b.flac,1.4,1.9"]
    (tmp_path / "m.csv").write_text("path,start_s,end_s\n" + "\n".join(rows) + "\n")
    clipped, n = end_with_files(read_manifest(tmp_path / "m.csv"), 2)
    assert n == 2
    assert clipped.table["end_s"].tolist() == [0.5, 0.75, 1.2, 0.78, 1.4, 1.5]

    config = {"manifest": tmp_path / "m.csv", "dataset": "d", "model": "logmel", "store": str(tmp_path / "s")}
    summary = extract(ExtractConfig(**config, clip_to_file=True))  # type: ignore[arg-type]
    assert list(summary.failed.values()) == ["starts at 0.8 s, after the file's end at 0.75 s"]
    assert "--clip-to-file: 2 clips ended with the file, before end_s" in summary.notes
    index = open_store(tmp_path / "s").features("logmel", "d").index
    assert sorted(index["duration_s"].dropna()) == pytest.approx([0.1, 0.25, 0.25, 0.4, 0.5])


def test_libmpg123_does_not_write_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, NOISE[:, 0], RATE)
    path.write_bytes(path.read_bytes() + bytes(3000))
    said = []
    for is_on in (False, True):
        monkeypatch.setattr(HUSH, "is_on", is_on)
        assert len(decode(str(path), NAN, NAN, None)[0]) == 12_000
        os.write(2, b"heard again\n")
        said.append(capfd.readouterr().err)
    assert "Xing stream size off" in said[0]
    assert said[1] == "heard again\n"
