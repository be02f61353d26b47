from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from transformers import AutoModel

from extractors import ExtractConfig, extract, find_model
from extractors.forward.windows import long_clips
from featurestore import open_store
from featurestore.errors import ConfigError, FingerprintMismatch, ManifestError
from tests.librosa_rule import librosa_load
from tests.models import save_aves, save_ssl, save_whisper

RATE = 44_100
# Times that round to other samples than they truncate to.
SEGMENTS = {
    f"stereo:{start}-{end}": (start, end)
    for start, end in ((0.123456, 0.234567), (0.31, 0.379999), (0.5, 0.58))
}


def config(folder: Path, **changes: object) -> ExtractConfig:
    options = {
        "manifest": folder / "m.csv",
        "dataset": "d",
        "model": str(folder / "tiny"),
        "store": str(folder / "s"),
        "preset": "sarkar2025",
    }
    return ExtractConfig(**(options | changes))  # type: ignore[arg-type]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A call, a stereo recording, and one longer than the study's window for HuBERT."""
    rng = np.random.default_rng(0)
    for name, shape in (("call", (4000,)), ("stereo", (30_000, 2)), ("long", (20 * RATE,))):
        soundfile.write(tmp_path / f"{name}.wav", 0.2 * rng.standard_normal(shape), RATE, subtype="FLOAT")
    segments = "".join(f"stereo.wav,{start},{end}\n" for start, end in SEGMENTS.values())
    (tmp_path / "m.csv").write_text(f"path,start_s,end_s\ncall.wav,,\nstereo.wav,,\nlong.wav,,\n{segments}")
    save_ssl(tmp_path / "tiny", "hubert", "base", do_normalize=True)
    return tmp_path


def test_sarkar2025_is_what_the_study_did(corpus: Path) -> None:
    summary = extract(config(corpus))
    assert any(n.startswith("preset sarkar2025: every clip is repeated to 5,000") for n in summary.notes)
    features = open_store(corpus / "s").features("tiny", "d")
    assert features.attrs["functionals"] == ["mean", "std"]
    assert features.attrs["fingerprint"]["input"]["preset"] == "sarkar2025"
    reference = AutoModel.from_pretrained(corpus / "tiny").eval()
    for position, name in enumerate(features.index["utterance_id"]):
        path = str(corpus / f"{name.split(':')[0]}.wav")
        start, end = SEGMENTS.get(name, (0.0, soundfile.info(path).duration))
        x = librosa_load(path, start, end - start)
        x = np.tile(x, -(-5000 // len(x)))[: max(5000, len(x))] if len(x) < 5000 else x
        x = x / np.abs(x).max()
        with torch.no_grad():
            chunks = [
                reference(torch.from_numpy(x[i : i + 300_000])[None], output_hidden_states=True).hidden_states
                for i in range(0, len(x), 300_000)
            ]
        assert len(chunks) == (2 if name == "long" else 1)
        for layer in range(4):
            frames = torch.cat([c[layer][0] for c in chunks])
            expected = torch.stack([frames.mean(0), frames.std(0)]).numpy()
            got = features.layer(layer).numpy()[position]
            assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def test_windows_are_those_of_the_study_and_never_longer_than_a_model_takes(tmp_path: Path) -> None:
    found = {}
    for name, folder in {
        "hubert": save_ssl(tmp_path / "h", "hubert", "base"),
        "wavlm": save_ssl(tmp_path / "w", "wavlm", "base"),
        "aves": save_aves(tmp_path / "a"),
        "whisper": save_whisper(tmp_path / "o"),
    }.items():
        found[name] = long_clips(find_model(str(folder)).card, None, None, "sarkar2025").window_samples
    assert found == {"hubert": 300_000, "wavlm": 2_000_000, "aves": 2_000_000, "whisper": 480_000}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalisation": "none"}, "--preset sarkar2025 means peak and --normalise says none; leave one"),
        ({"short_policy": "none"}, "means repeat and --short-clips says none"),
        ({"min_samples": 4000}, "means 5000 and --min-samples says 4000"),
        ({"functionals": ("mean",)}, "means mean,std and --functionals says mean;"),
        ({"segments": "nearest"}, "means librosa and --segments says nearest"),
        ({"window_s": 10.0}, "means windows of its own and --window-s says 10.0"),
        ({"rate_policy": "expand"}, "means resample and --rate-policy says expand"),
        ({"codec": "half"}, "means float32 and --dtype says float16"),
        ({"preset": "sarkar2024"}, "--preset: expected one of sarkar2025, got 'sarkar2024'"),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_agrees_with_it_is_not(tmp_path: Path) -> None:
    said = config(tmp_path, normalisation="peak", functionals=("mean", "std"), min_samples=5000)
    assert said == config(tmp_path)


def test_it_is_for_models_with_frames_and_part_of_the_key(corpus: Path) -> None:
    (corpus / "m.csv").write_text("path\ncall.wav\n")
    with pytest.raises(ConfigError, match="mfcc gives one vector per clip; the preset is for models with"):
        extract(config(corpus, model="mfcc"))
    extract(config(corpus))
    with pytest.raises(FingerprintMismatch, match=r"input.preset: stored sarkar2025, requested \(absent\)"):
        extract(config(corpus, preset=None, normalisation="peak"))


@pytest.fixture
def with_empty_rows(tmp_path: Path) -> Path:
    """Thirty calls of one recording, of which two end before, or where, they start."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.2 * rng.standard_normal(4 * RATE), RATE, subtype="FLOAT")
    lines = [f"a.wav,{0.1 * i + 0.01234},{0.1 * i + 0.12345},{'xy'[i % 2]}" for i in range(30)]
    lines[7], lines[11] = "a.wav,1.5,1.2,x", "a.wav,2.25,2.25,y"
    (tmp_path / "m.csv").write_text("path,start_s,end_s,call\n" + "\n".join(lines) + "\n")
    save_ssl(tmp_path / "tiny", "hubert", "base")
    return tmp_path


def test_rows_without_a_sample_are_kept_and_count_in_the_split(with_empty_rows: Path) -> None:
    from probes.questions.labelled_rows import labelled
    from probes.splits import make_splits, sarkar2025

    folder = with_empty_rows
    with pytest.raises(ManifestError, match=r"row 9: end_s 1.2 is not after start_s 1.5; swap"):
        extract(config(folder, preset=None))
    summary = extract(config(folder))
    assert any(n.startswith("2 rows without a sample between start and end: kept") for n in summary.notes)
    features = open_store(folder / "s").features("tiny", "d")
    ids = features.manifest.table["utterance_id"].tolist()
    assert len(ids) == 30
    index = features.index.set_index("utterance_id")
    bad = [ids[7], ids[11]]
    assert index.loc[bad, "status"].tolist() == ["failed: no samples in the segment"] * 2
    assert (index["status"] == "ok").sum() == 28
    rows = labelled(features, "call", "sarkar2025").rows
    (split,) = make_splits("sarkar2025", rows, 0)
    got = {name: {rows.utterance_id[i] for i in where} for name, where in split.parts()}
    for name, where in zip(("train", "val", "test"), sarkar2025(30), strict=True):
        assert got[name] == {ids[i] for i in where} - set(bad)


def test_labels_can_be_replaced_and_rows_proved_from_their_audio(with_empty_rows: Path) -> None:
    """Also by a manifest with the times of before, and by one with those of the key."""
    from click.testing import CliRunner

    from cli import main

    folder = with_empty_rows
    extract(config(folder))
    stored = open_store(folder / "s").features("tiny", "d").manifest.table
    given = pd.read_csv(folder / "m.csv", dtype=str)
    given.assign(call="new").to_csv(folder / "before.csv", index=False)
    stored.assign(call="newer").to_csv(folder / "of_key.csv", index=False)
    for name, label in (("before.csv", "new"), ("of_key.csv", "newer")):
        done = CliRunner().invoke(main, ["manifest", "attach", str(folder / "s"), str(folder / name)])
        assert done.exit_code == 0, (done.output, done.exception)
        index = open_store(folder / "s").features("tiny", "d").index
        assert set(index["call"]) == {label}
        assert "same audio" not in done.output, "nothing moved"
    done = CliRunner().invoke(main, ["verify", str(folder / "s"), "--audio"])
    assert done.exit_code == 0, done.output
    again = extract(config(folder))
    assert again.n_embedded == 0


def test_an_audit_hears_of_a_key_what_was_embedded(corpus: Path) -> None:
    from featurestore.audit import AuditConfig, run_audit

    extract(config(corpus))
    report = run_audit(
        AuditConfig(manifest=corpus / "m.csv", store=str(corpus / "s"), model="tiny", dataset="d")
    )
    assert "changed-audio" not in [f.kind for f in report.findings]
