"""Every stored value equals a batch-1 forward of transformers, whatever the batch, unit and file order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from transformers import AutoModel, WhisperFeatureExtractor, WhisperModel

from extractors import ExtractConfig, extract
from featurestore import open_store
from tests.conftest import write_clips
from tests.models import FAMILIES, N_LAYERS, save_ssl, save_whisper

RELATIVE = 1e-5
# Compared clip by clip in test_references.py too.
SLOW = ("unispeech", "wav2vec2-conformer")
# Not sorted, with repeats (equal lengths share a batch without a mask), one below 5,000 samples.
LENGTHS = (16001, 5000, 9001, 31999, 5000, 9000, 1200, 16000, 9001, 6100)


def prepared(path: Path, *, normalise: bool) -> np.ndarray:
    """The documented input convention, written out again: repeat to 5,000 samples, then normalise."""
    signal, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    while len(signal) < 5000:
        signal = np.concatenate([signal, signal[: 5000 - len(signal)]])
    if normalise:
        signal = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
    return signal


def mean_std(frames: torch.Tensor) -> np.ndarray:
    """Mean and unbiased std over the frames `[t, d]`."""
    return torch.stack([frames.mean(0), frames.std(0)]).numpy()


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest deviation against the largest expected magnitude."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def check(store: Path, model: str, references: dict[str, list[np.ndarray]]) -> None:
    features = open_store(store).features(model, "noise")
    assert sorted(features.index["utterance_id"]) == sorted(references)
    assert set(features.index["status"]) == {"ok"}
    for layer in features.layers:
        values = features.layer(layer).numpy()
        for row, utterance in enumerate(features.index["utterance_id"]):
            assert relative_error(values[row], references[utterance][layer]) < RELATIVE, (layer, utterance)


def alone(folder: Path, audio: Path, *, normalise: bool) -> dict[str, list[np.ndarray]]:
    """By clip, mean and std of every layer, by transformers and one clip at a time."""
    reference = AutoModel.from_pretrained(folder).eval()
    references = {}
    for path in sorted(audio.glob("*.wav")):
        with torch.no_grad():
            states = reference(
                torch.from_numpy(prepared(path, normalise=normalise))[None], output_hidden_states=True
            ).hidden_states
        references[path.stem] = [mean_std(h[0]) for h in states]
        assert len(states) == N_LAYERS
    return references


@pytest.mark.parametrize("flavour", ["base", "large"])
@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[pytest.mark.slow] * (f in SLOW)) for f in sorted(FAMILIES)],
)
def test_ssl_families_equal_batch_one(tmp_path: Path, family: str, flavour: str) -> None:
    normalise = flavour == "large"
    folder = save_ssl(tmp_path / "tiny", family, flavour, do_normalize=normalise)
    manifest = write_clips(tmp_path / "audio", LENGTHS)
    references = alone(folder, tmp_path / "audio", normalise=normalise)
    shuffled = tmp_path / "audio" / "shuffled.csv"
    pd.read_csv(manifest).sample(frac=1, random_state=3).to_csv(shuffled, index=False)
    # Two clips a batch in units of three; everything in one batch, from another file order; for one family
    # also batch 1, and small batches in that order.
    few, one = ("few", manifest, 3, 4.1), ("one", shuffled, 1024, 60.0)
    more = (("single", manifest, 4, 0.1), ("shuffled", shuffled, 5, 2.5))
    for name, table, unit_rows, batch_seconds in (few, one, *(more if family == "hubert" else ())):
        extract(
            ExtractConfig(
                manifest=table,
                dataset="noise",
                model=str(folder),
                name=name,
                store=str(tmp_path / "store"),
                unit_rows=unit_rows,
                batch_seconds=batch_seconds,
            )
        )
        check(tmp_path / "store", name, references)


@pytest.mark.slow  # processes are started
@pytest.mark.parametrize(("family", "flavour"), [("hubert", "base"), ("wavlm", "large")])
def test_they_do_with_decoder_processes(tmp_path: Path, family: str, flavour: str) -> None:
    normalise = flavour == "large"
    folder = save_ssl(tmp_path / "tiny", family, flavour, do_normalize=normalise)
    manifest = write_clips(tmp_path / "audio", LENGTHS)
    for workers, batch_seconds in ((1, 4.1), (3, 60.0)):
        extract(
            ExtractConfig(
                manifest=manifest, dataset="noise", model=str(folder), name=f"by{workers}",
                store=str(tmp_path / "store"), unit_rows=4, batch_seconds=batch_seconds,
                decode="processes", workers=workers,
            )
        )  # fmt: skip
        check(tmp_path / "store", f"by{workers}", alone(folder, tmp_path / "audio", normalise=normalise))


def test_whisper_equals_batch_one_over_the_frames_that_cover_the_clip(tmp_path: Path) -> None:
    folder = save_whisper(tmp_path / "tiny")
    manifest = write_clips(tmp_path / "audio", (16001, 5000, 1200, 40_320))
    reference = WhisperModel.from_pretrained(folder).eval().encoder
    mel = WhisperFeatureExtractor(feature_size=20)
    references = {}
    for path in sorted((tmp_path / "audio").glob("*.wav")):
        signal = prepared(path, normalise=False)
        features = mel(signal, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            states = reference(features, output_hidden_states=True).hidden_states
        covered = -(-len(signal) // 320)
        references[path.stem] = [mean_std(h[0, :covered]) for h in states]
    extract(
        ExtractConfig(
            manifest=manifest, dataset="noise", model=str(folder), name="w", store=str(tmp_path / "store")
        )
    )
    check(tmp_path / "store", "w", references)


def test_whisper_embeds_all_of_a_clip_longer_than_its_window(tmp_path: Path) -> None:
    folder = save_whisper(tmp_path / "tiny")
    n = 480_000 + 48_000
    manifest = write_clips(tmp_path / "audio", (n,))
    reference = WhisperModel.from_pretrained(folder).eval().encoder
    mel = WhisperFeatureExtractor(feature_size=20)
    signal, _ = soundfile.read(tmp_path / "audio" / "clip000.wav", dtype="float32")
    states: list[list[torch.Tensor]] = [[] for _ in range(3)]
    for part in (signal[:480_000], signal[480_000:]):
        features = mel(part, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            hidden = reference(features, output_hidden_states=True).hidden_states
        for collected, h in zip(states, hidden, strict=True):
            collected.append(h[0, : -(-len(part) // 320)])
    extract(
        ExtractConfig(
            manifest=manifest, dataset="noise", model=str(folder), name="w", store=str(tmp_path / "store")
        )
    )
    check(tmp_path / "store", "w", {"clip000": [mean_std(torch.cat(s)) for s in states]})
    index = open_store(tmp_path / "store").features("w", "noise").index
    assert index["n_frames"].tolist() == [1500 + 150]


def test_layers_are_block_outputs(tmp_path: Path) -> None:
    """Zeroing what block 2 adds makes layer 2 equal layer 1 and leaves layers 0 and 1 as they were."""
    from transformers import Wav2Vec2Model

    manifest = write_clips(tmp_path / "audio", (9000, 7000))
    folder = save_ssl(tmp_path / "whole", "wav2vec2", "large")
    model = Wav2Vec2Model.from_pretrained(folder)
    block = model.encoder.layers[1]
    with torch.no_grad():
        for linear in (block.attention.out_proj, block.feed_forward.output_dense):
            linear.weight.zero_()
            linear.bias.zero_()
    model.save_pretrained(tmp_path / "zeroed")
    values = {}
    for name in ("whole", "zeroed"):
        extract(
            ExtractConfig(
                manifest=manifest, dataset="d", model=str(tmp_path / name), store=str(tmp_path / "store")
            )
        )
        features = open_store(tmp_path / "store").features(name, "d")
        values[name] = [features.layer(k).numpy() for k in range(4)]
    for k in (0, 1):
        np.testing.assert_array_equal(values["zeroed"][k], values["whole"][k])
    np.testing.assert_array_equal(values["zeroed"][2], values["zeroed"][1])
    assert not np.allclose(values["whole"][2], values["whole"][1])


def test_asking_for_some_layers_stores_those_alone_with_the_same_values(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "tiny", "hubert", "base")
    manifest = write_clips(tmp_path / "audio", (9000, 7000, 5000))
    common = {"manifest": manifest, "dataset": "d", "model": str(folder), "store": str(tmp_path / "store")}
    extract(ExtractConfig(**common, name="all"))
    extract(ExtractConfig(**common, name="some", layers="1-2"))
    store = open_store(tmp_path / "store")
    some = store.features("some", "d")
    assert some.layers == [1, 2]
    for k in (1, 2):
        np.testing.assert_array_equal(some.layer(k).numpy(), store.features("all", "d").layer(k).numpy())
    # Adding layers later keeps what is there and fills in the rest.
    summary = extract(ExtractConfig(**common, name="some"))
    assert "layers 0, 3 added to some/d" in summary.notes
    some = open_store(tmp_path / "store").features("some", "d")
    for k in range(4):
        np.testing.assert_array_equal(some.layer(k).numpy(), store.features("all", "d").layer(k).numpy())
