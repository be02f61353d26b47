from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from transformers import AutoModel

from extractors import ExtractConfig, extract, find_model
from extractors.forward.windows import long_clips
from featurestore import open_store
from featurestore.errors import ConfigError, FingerprintMismatch
from tests.models import save_aves, save_ssl, save_whisper

RATE = 44_100


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
    (tmp_path / "m.csv").write_text("path\ncall.wav\nstereo.wav\nlong.wav\n")
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
        signal, _ = soundfile.read(corpus / f"{name}.wav", dtype="float32", always_2d=True)
        x = soxr.resample(signal.mean(axis=1), RATE, 16_000, quality="HQ")
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
