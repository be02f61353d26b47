from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from extractors import ExtractConfig, extract, find_model
from extractors.forward.windows import LongClips, long_clips
from featurestore import Features, open_store
from featurestore.errors import ConfigError, FingerprintMismatch
from tests.models import save_aves, save_sew, save_ssl, save_w2v_bert

Clips = Callable[..., Path]
LENGTHS = (5000, 16_000, 16_319, 16_320, 37_003, 90_001)
QUANTILES = ("median", "q05", "q95")


def config(manifest: Path, store: Path, **changes: object) -> ExtractConfig:
    options: dict[str, object] = {
        "manifest": manifest,
        "dataset": "d",
        "model": "logmel",
        "store": str(store),
        "window_s": 1.0,
        "overlap_s": 0.1,
        "batch_seconds": 2.0,
        "frames": True,
        "frames_dtype": "float32",
    }
    return ExtractConfig(**(options | changes))  # type: ignore[arg-type]


def stored(store: Path) -> Features:
    opened = open_store(store)
    return opened.features(*opened.keys()[0])


def by_id(features: Features, layer: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Utterance → functionals and frames."""
    held, values = features.layer(layer), features.layer(layer).numpy()
    return {u: (values[i], held.frames(i)) for i, u in enumerate(features.index["utterance_id"])}


@given(
    st.integers(400, 60_000), st.integers(1, 5), st.integers(0, 4), st.sampled_from([(400, 320), (25, 10)])
)
def test_every_frame_is_kept_once_and_with_its_context(
    n: int, core: int, context: int, shape: tuple[int, int]
) -> None:
    receptive, hop = shape
    longest = receptive + (2 * context + core) * hop
    plan = LongClips(
        window_samples=longest, context_frames=context, hop_samples=hop, receptive_samples=receptive
    )
    windows = plan.cut(3, n, receptive)
    n_frames = (n - receptive) // hop + 1
    assert [w.is_last for w in windows] == [False] * (len(windows) - 1) + [True]
    assert all(w.row == 3 and w.start >= 0 and w.start + w.n_samples <= n for w in windows)
    if n <= longest:
        assert [(w.n_samples, w.first_frame, w.stop_frame) for w in windows] == [(n, 0, None)]
        return
    kept = []
    for w in windows:
        inside = (w.n_samples - receptive) // hop + 1
        first, stop = w.start // hop, w.start // hop + inside
        assert w.start % hop == 0
        assert w.n_samples <= longest
        assert w.stop_frame is not None
        mine = range(first + w.first_frame, first + w.stop_frame)
        kept.extend(mine)
        assert first == 0 or mine[0] - first >= context
        assert stop == n_frames or stop - 1 - mine[-1] >= context
    assert kept == list(range(n_frames))
    assert len({w.n_samples for w in windows}) == 1


def test_windows_of_local_frames_give_the_whole_clips_frames(clips: Clips, tmp_path: Path) -> None:
    manifest = clips(LENGTHS)
    names = ("mean", "std", "min", "max", "first", "last", *QUANTILES)
    extract(config(manifest, tmp_path / "w", functionals=names))
    extract(config(manifest, tmp_path / "x", functionals=names, window_s=0, overlap_s=None))
    cut, whole = by_id(stored(tmp_path / "w"), 0), by_id(stored(tmp_path / "x"), 0)
    for utterance, (values, frames) in whole.items():
        np.testing.assert_allclose(cut[utterance][1], frames, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(cut[utterance][0], values, rtol=1e-4, atol=1e-5)
        reference = [frames[0], frames[-1], *np.quantile(frames, [0.5, 0.05, 0.95], axis=0)]
        np.testing.assert_allclose(values[4:], reference, rtol=1e-5, atol=1e-5)


class _Frozen(torch.nn.Module):
    """The group norm of a whole clip, whatever it is shown."""

    def __init__(self, norm: torch.nn.GroupNorm, whole: torch.Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.variance, self.mean = torch.var_mean(whole.double(), dim=2, keepdim=True, correction=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = (x - self.mean) / torch.sqrt(self.variance + self.norm.eps)
        return (scaled * self.norm.weight[:, None] + self.norm.bias[:, None]).float()


def in_windows(model: torch.nn.Module, signal: np.ndarray, plan: LongClips, layer: int) -> np.ndarray:
    """Frames of a clip by transformers, one window after the other."""
    windows = plan.cut(0, len(signal), 400)
    first = model.feature_extractor.conv_layers[0]
    norm = getattr(first, "layer_norm", None)
    if isinstance(norm, torch.nn.GroupNorm) and len(windows) > 1:
        first.layer_norm = _Frozen(norm, first.conv(torch.from_numpy(signal)[None, None]))
    found = []
    for w in windows:
        window = torch.from_numpy(signal[w.start : w.start + w.n_samples])[None]
        states = model(window, output_hidden_states=True).hidden_states[layer][0].numpy()
        found.append(states[w.first_frame : w.stop_frame])
    if norm is not None:
        first.layer_norm = norm
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("family", "flavour"), [("hubert", "base"), ("wavlm", "large"), ("wav2vec2", "base")]
)
@torch.no_grad()
def test_windows_are_embedded_as_clips_that_know_the_whole_clips_norm(
    clips: Clips, tmp_path: Path, family: str, flavour: str
) -> None:
    manifest = clips(LENGTHS)
    folder = save_ssl(tmp_path / "tiny", family, flavour)
    extract(config(manifest, tmp_path / "s", model=str(folder), functionals=("mean", "std", *QUANTILES)))
    card = find_model(str(folder)).card
    assert (card.receptive_samples, card.hop_samples) == (400, 320)
    reference = AutoModel.from_pretrained(folder).eval()
    for layer in (0, 3):
        for utterance, (values, frames) in by_id(stored(tmp_path / "s"), layer).items():
            signal, _ = soundfile.read(manifest.parent / f"{utterance}.wav", dtype="float32")
            joined = in_windows(reference, signal, long_clips(card, 1.0, 0.1), layer)
            assert len(frames) == len(joined) == (len(signal) - 400) // 320 + 1
            scale = np.abs(joined).max()
            assert np.abs(frames - joined).max() < 1e-5 * scale
            numbers = [joined.mean(0), joined.std(0, ddof=1), *np.quantile(joined, [0.5, 0.05, 0.95], axis=0)]
            assert np.abs(values - numbers).max() < 1e-5 * scale


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-bert", "aves", "sew"])
@torch.no_grad()
def test_before_attention_windows_give_the_whole_clips_frames(tmp_path: Path, kind: str) -> None:
    """Layer 0 reaches 16 frames to each side: with more context than that nothing is missing."""
    save = {
        "hubert": lambda d: save_ssl(d, "hubert", "base", do_normalize=True),
        "wav2vec2-bert": save_w2v_bert,
        "aves": save_aves,
        "sew": lambda d: save_sew(d, "sew", "base"),
    }[kind]
    folder = save(tmp_path / "tiny")
    # Loud at first and quiet later: windows by themselves would be far off.
    signal = np.random.default_rng(0).standard_normal(100_000) * np.linspace(0.3, 0.01, 100_000)
    soundfile.write(tmp_path / "a.wav", signal.astype(np.float32), 16_000, subtype="FLOAT")
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    options = {"model": str(folder), "layers": "0"}
    extract(config(tmp_path / "m.csv", tmp_path / "w", overlap_s=0.4, **options))
    extract(config(tmp_path / "m.csv", tmp_path / "x", window_s=0, overlap_s=None, **options))
    cut, whole = by_id(stored(tmp_path / "w"), 0)["a"], by_id(stored(tmp_path / "x"), 0)["a"]
    for a, b in zip(cut, whole, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()


def test_a_clip_no_longer_than_a_window_has_the_very_same_values(clips: Clips, tmp_path: Path) -> None:
    manifest = clips(LENGTHS[:3])
    folder = save_ssl(tmp_path / "tiny", "hubert", "base")
    found = []
    for name, options in {
        "windows": {"window_s": 1.02},
        "whole": {"window_s": 0, "overlap_s": None},
        "default": {"window_s": None, "overlap_s": None},
    }.items():
        extract(config(manifest, tmp_path / name, model=str(folder), **options))
        found.append(stored(tmp_path / name).layer(2).numpy().tobytes())
    assert found[0] == found[1] == found[2]


def test_clips_in_windows_do_not_depend_on_their_neighbours(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([90_001, 70_000, 9000, 50_000])
    folder = str(save_ssl(tmp_path / "tiny", "wavlm", "base"))
    extract(config(manifest, tmp_path / "a", model=folder, batch_seconds=100.0, functionals=QUANTILES))
    extract(config(manifest, tmp_path / "b", model=folder, batch_seconds=0.1, functionals=QUANTILES))
    for layer in (0, 3):
        a, b = by_id(stored(tmp_path / "a"), layer), by_id(stored(tmp_path / "b"), layer)
        for utterance, (values, _) in a.items():
            np.testing.assert_allclose(b[utterance][0], values, atol=1e-5 * np.abs(values).max())


def test_other_windows_are_other_settings(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([20_000])
    extract(config(manifest, tmp_path / "s"))
    with pytest.raises(FingerprintMismatch, match=r"input.long_clips: stored windows of 16000 samples"):
        extract(config(manifest, tmp_path / "s", overlap_s=0.2))


@pytest.mark.parametrize(
    ("model", "window_s", "overlap_s", "reason"),
    [
        ("logmel", 0.1, 0.05, "give a window of 0.12"),
        ("logmel", -1.0, None, "a window must hold its context"),
        ("hear:tests.extractors.hear_tiny", 5.0, None, "is given whole clips: where its frames lie"),
        ("mfcc", 5.0, None, "mfcc gives one vector per clip, of all of it; leave"),
    ],
)
def test_windows_that_cannot_be_are_refused(
    model: str, window_s: float, overlap_s: float | None, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        long_clips(find_model(model).card, window_s, overlap_s)


def test_quantiles_of_a_clip_that_fits_no_disk_fail_it_alone(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("extractors.forward.embedder.scratch", full)
    manifest = clips([6000, 40_000, 7000])
    summary = extract(config(manifest, tmp_path / "s", functionals=("q25",), batch_seconds=30.0))
    assert summary.failed == {
        "clip001": "too long for quantiles: no room for its frames (No space left on device)"
    }
    assert stored(tmp_path / "s").index["status"].tolist().count("ok") == 2


def test_window_lengths_do_not_exceed_what_was_asked() -> None:
    card = find_model("logmel").card
    plan = long_clips(card, None, None)
    windows = plan.cut(0, 16_000 * 100, 400)
    assert all(w.n_samples <= 30 * 16_000 for w in windows)
    assert len(windows) == 4
