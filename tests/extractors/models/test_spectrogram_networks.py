"""CLAP, and BirdSet's ConvNeXt and EfficientNet: each clip alone by transformers, on others' spectrograms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ClapFeatureExtractor,
    ClapModel,
    ConvNextForImageClassification,
    EfficientNetForImageClassification,
)

from extractors import ExtractConfig, extract, find_model
from extractors.models.huggingface.birdset import PRESETS, PUBLISHED, pictures
from featurestore import open_store
from featurestore.errors import ModelError
from tests.conftest import write_clips
from tests.extractors.models.test_conformance import RELATIVE, embed, make_clips, worst
from tests.models import CLAP_WINDOW_SAMPLES, PICTURE, save_clap, save_convnext, save_efficientnet

# A whole window; one that is repeated once and a bit, so that zeros stand behind; short ones.
LENGTHS = (16_000, 9001, 15_999, 7000, 1200, 37)


@cache
def loaded(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(folder).eval()


def of_clap(folder: Path, clip: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Layers of the embedding and both stages, of one clip by the published code, over all of the window."""
    model = loaded(ClapModel, folder)
    front_end = ClapFeatureExtractor.from_pretrained(folder)
    inputs = front_end(clip, sampling_rate=16_000, return_tensors="pt")
    encoder = model.audio_model.audio_encoder
    with torch.no_grad():
        embedding = model.get_audio_features(**inputs).pooler_output
        shrunk = encoder(**inputs, output_hidden_states=True)
        whole = encoder(**inputs, output_hidden_states=True, output_hidden_states_before_downsampling=True)
        # `[1, d, rows, columns]` as tokens, through the first block of stage 1
        entering = whole.hidden_states[0].flatten(2).transpose(1, 2)
        between = encoder.layers[0].blocks[0](entering, (8, 8))[0]
    between = between.transpose(1, 2).reshape(whole.hidden_states[0].shape)
    # `[1, d, frequency, time]`, which its pooled output is the mean of
    last = shrunk.last_hidden_state[0].mean(1).T.numpy()
    np.testing.assert_allclose(last.mean(0), shrunk.pooler_output[0].numpy(), atol=1e-6)
    return {
        "": [embedding.numpy()],
        "stage-1:": [unfolded(s) for s in (whole.hidden_states[0], between, whole.hidden_states[1])],
        "stage-2:": [unfolded(shrunk.hidden_states[1]), last],
    }


def unfolded(square: torch.Tensor) -> np.ndarray:
    """`[1, d, rows, columns]` → `[t, d]`: four quarters of the time under each other, each in frequencies."""
    _, _, n_rows, n_columns = square.shape
    quarter = n_rows // 4
    return np.stack(
        [
            square[0, :, q * quarter : (q + 1) * quarter, column].mean(1).numpy()
            for q in range(4)
            for column in range(n_columns)
        ]
    )


@pytest.mark.parametrize("kind", ["clap", "clap-fused-stage"])
def test_clap_equals_its_published_feature_extractor_and_model(
    kind: str, model_spec: Callable[[str], str]
) -> None:
    folder = Path(model_spec(kind).removeprefix("stage-2:"))
    clips = make_clips(LENGTHS)
    expected = [of_clap(folder, clip) for clip in clips]
    for prefix, positions in (("", 64), ("stage-1:", 32), ("stage-2:", 16)):
        # The published code marks one clip of a batch at random.
        np.random.seed(len(prefix))  # noqa: NPY002
        found = embed(find_model(f"{prefix}{folder}").load("cpu", "fp32"), clips)
        for i, clip in enumerate(clips):
            n_frames = -(-len(clip) * positions // CLAP_WINDOW_SAMPLES)
            assert len(found) == len(expected[i][prefix])
            for layer, states in enumerate(expected[i][prefix]):
                states = np.repeat(states, 64, 0) if prefix == "" else states
                assert len(states) == positions
                assert worst([found[layer][i]], [states[:n_frames]]) < RELATIVE, (prefix, layer, i)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["repeat", "pad"])
def test_clap_fills_its_window_as_its_front_end_says(tmp_path: Path, padding: str) -> None:
    folder = save_clap(tmp_path / "m", padding=padding)
    [clip] = make_clips([7000])
    [found] = embed(find_model(str(folder)).load("cpu", "fp32"), [clip])[0]
    assert worst([found[:1]], of_clap(folder, clip)[""]) < RELATIVE


def test_long_clips_of_clap_are_windows_and_nothing_is_drawn(tmp_path: Path) -> None:
    folder = save_clap(tmp_path / "m", fusion=True)
    manifest = write_clips(tmp_path / "audio", (20_000,))
    for name in ("a", "b"):
        np.random.seed(ord(name))  # noqa: NPY002
        extract(
            ExtractConfig(
                manifest=manifest, dataset="d", model=str(folder), name=name, store=str(tmp_path / "store")
            )
        )
    import soundfile

    clip, _ = soundfile.read(tmp_path / "audio" / "clip000.wav", dtype="float32")
    parts = [of_clap(folder, part)[""][0][0] for part in (clip[:16_000], clip[16_000:])]
    # A window of 64 parts, and a quarter of one.
    expected = (64 * parts[0] + 16 * parts[1]) / 80
    store = open_store(tmp_path / "store")
    for name in ("a", "b"):
        np.testing.assert_allclose(store.features(name, "d").layer(0).numpy()[0, 0], expected, atol=1e-5)


def plain_picture(clip: np.ndarray, said: dict[str, Any]) -> np.ndarray:
    """What torchaudio's `Spectrogram` and `MelScale` and BirdSet's `PowerToDB` do: `[mels, t]`."""
    rate, n_fft, hop, n_mels = (said[k] for k in ("sample_rate_hz", "n_fft", "hop_samples", "n_mels"))
    window = np.zeros(said["window_samples"])
    window[: len(clip)] = clip
    around = np.pad(window, n_fft // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(window) + 1, hop)
    power = np.abs(np.fft.rfft([hann * around[s : s + n_fft] for s in starts])) ** 2
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, n_mels + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    bank = np.stack(
        [
            np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
            for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    )
    decibels = 10 * np.log10(np.maximum(bank @ power.T, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - said["top_db"])
    return (decibels - said["mean"]) / said["std"]


PUBLISHED_SETTINGS = {
    "birdset-convnext": (1024, 320, 128, 501),
    "birdset-efficientnet": (2048, 256, 256, 626),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_picture_is_made_as_birdset_makes_it(preset: str) -> None:
    n_fft, hop, n_mels, n_frames = PUBLISHED_SETTINGS[preset]
    said = {
        "sample_rate_hz": 32_000,
        "window_samples": 160_000,
        "n_fft": n_fft,
        "hop_samples": hop,
        "n_mels": n_mels,
        "top_db": 80.0,
        "mean": -4.268,
        "std": 4.569,
    }
    # One of another loudness beside it, and zeros behind: each is cut 80 dB below its own loudest.
    loud, quiet = make_clips([160_000, 50_000])
    both = np.zeros((2, 160_000), dtype=np.float32)
    both[0], both[1, :50_000] = loud, 0.01 * quiet
    made = pictures(PRESETS[preset], "cpu")(torch.from_numpy(both)).numpy()
    assert made.shape == (2, 1, n_mels, n_frames)
    for clip, picture in zip(both, made[:, 0], strict=True):
        np.testing.assert_allclose(picture, plain_picture(clip, said), atol=1e-5)


def of_convnext(folder: Path, clip: np.ndarray) -> dict[str, list[np.ndarray]]:
    model = loaded(ConvNextForImageClassification, folder).convnext
    picture = torch.tensor(plain_picture(clip, PICTURE), dtype=torch.float32)[None, None]
    found = {}
    with torch.no_grad():
        found[""] = [model(picture).pooler_output.numpy()]
        maps = model.embeddings(picture)
        for k, stage in enumerate(model.encoder.stages, start=1):
            for layer in stage.downsampling_layer:
                maps = layer(maps)
            states = [maps]
            for block in stage.layers:
                states.append(block(states[-1]))
            maps = states[-1]
            found[f"stage-{k}:"] = [s[0].mean(1).T.numpy() for s in states]
    return found


def of_efficientnet(folder: Path, clip: np.ndarray) -> dict[str, list[np.ndarray]]:
    model = loaded(EfficientNetForImageClassification, folder).efficientnet
    picture = torch.tensor(plain_picture(clip, PICTURE), dtype=torch.float32)[None, None]
    with torch.no_grad():
        out = model(picture, output_hidden_states=True)
    blocks = [s[0].mean(1).T.numpy() for s in out.hidden_states[1:]]
    return {
        "": [out.pooler_output.numpy()],
        "stage-1:": blocks[:1],
        "stage-2:": blocks[1:3],
        "stage-3:": blocks[3:],
    }


@pytest.mark.parametrize(
    ("kind", "reference"), [("convnext", of_convnext), ("efficientnet", of_efficientnet)]
)
def test_networks_for_images_are_as_transformers_gives_each_clip_alone(
    kind: str,
    reference: Callable[[Path, np.ndarray], dict[str, list[np.ndarray]]],
    model_spec: Callable[[str], str],
) -> None:
    folder = Path(model_spec(kind))
    clips = make_clips(LENGTHS)
    expected = [reference(folder, clip) for clip in clips]
    for prefix in expected[0]:
        source = find_model(f"{prefix}{folder}")
        found = embed(source.load("cpu", "fp32"), clips)
        assert len(found) == source.card.n_layers == len(expected[0][prefix])
        for i, clip in enumerate(clips):
            for layer, states in enumerate(expected[i][prefix]):
                n_frames = -(-len(clip) * 64 // 16_000)
                if prefix:  # positions that begin within the clip
                    n_frames = min(len(states), -(-len(clip) // source.card.hop_samples))
                else:
                    states = np.repeat(states, 64, 0)
                assert worst([found[layer][i]], [states[:n_frames]]) < RELATIVE, (prefix, layer, i)


@pytest.mark.parametrize(("model_id", "preset"), PUBLISHED.items())
def test_published_folders_are_known_by_their_names(tmp_path: Path, model_id: str, preset: str) -> None:
    make = save_convnext if preset == "birdset-convnext" else save_efficientnet
    folder = make(tmp_path / model_id.rpartition("/")[2])
    (folder / "spectrogram.json").write_text(json.dumps({"preset": preset}))
    said = dict(find_model(str(folder)).fingerprint()["preprocessor"])
    (folder / "spectrogram.json").unlink()
    assert find_model(str(folder)).fingerprint()["preprocessor"] == said
    assert (said["n_fft"], said["hop_samples"], said["n_mels"]) == PUBLISHED_SETTINGS[preset][:3]


def refusal(spec: str) -> str:
    with pytest.raises(ModelError) as caught:
        find_model(spec).load("cpu", "fp32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(source: str, folder: Path, file: str, **values: Any) -> str:
    """A copy of a model folder with other values in one of its files; None takes a key out."""
    shutil.copytree(source, folder)
    said = json.loads((folder / file).read_text())
    for key, value in values.items():
        said[key] = value
    (folder / file).write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    return str(folder)


def test_what_cannot_be_known_of_a_network_is_refused(
    tmp_path: Path, model_spec: Callable[[str], str]
) -> None:
    clap, convnext, ast = (model_spec(kind) for kind in ("clap", "convnext", "ast"))
    said = "preprocessor_config.json"
    assert "expected one of stage-1, stage-2, got stage-3" in refusal(f"stage-3:{clap}")
    assert "a hubert has no stages" in refusal(f"stage-1:{model_spec('hubert-base')}")
    assert "expected stage-1:MODEL" in refusal("stage-1:")
    assert "expected stage-1:MODEL" in refusal("stage-1:logmel")
    mixed = changed(clap, tmp_path / "a", said, truncation="fusion")
    assert "enable_fusion is False, truncation in preprocessor_config.json 'fusion'" in refusal(mixed)
    assert "feature_size: expected a whole number" in refusal(
        changed(clap, tmp_path / "b", said, feature_size="many")
    )
    assert "num_channels" not in refusal(changed(clap, tmp_path / "c", said, hop_length=100))
    coloured = changed(convnext, tmp_path / "d", "config.json", num_channels=3)
    assert "expected a network of one channel" in refusal(coloured)
    assert "top_db: expected a finite number" in refusal(
        changed(convnext, tmp_path / "e", "spectrogram.json", top_db="loud")
    )
    for i, (model, file, expected) in enumerate(
        (
            (clap, said, "no preprocessor_config.json"),
            (convnext, "spectrogram.json", '{"preset": "birdset-convnext"}'),
            (ast, said, "nothing says which spectrogram"),
        )
    ):
        folder = tmp_path / f"without{i}"
        shutil.copytree(model, folder)
        (folder / file).unlink()
        assert expected in refusal(str(folder))


def test_a_stage_reads_nothing_that_comes_after_it(tmp_path: Path, model_spec: Callable[[str], str]) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "m"
    shutil.copytree(model_spec("clap"), folder)
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("audio_projection.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert "the weights lack 4 parameters" in refusal(str(folder))
    clips = make_clips([5000])
    [[got]] = embed(find_model(f"stage-2:{folder}").load("cpu", "fp32"), clips, [1]).values()
    [[expected]] = embed(find_model(f"stage-2:{model_spec('clap')}").load("cpu", "fp32"), clips, [1]).values()
    np.testing.assert_array_equal(got, expected)


def test_random_weights_stand_under_a_name_of_their_own(model_spec: Callable[[str], str]) -> None:
    folder = model_spec("clap")
    names = [find_model(f"untrained:{s}{folder}").card.name for s in ("", "stage-1:", "3:stage-1:")]
    assert names == ["m-untrained", "m-stage-1-untrained", "m-stage-1-untrained-3"]
    clips = make_clips([5000])

    def layers(spec: str) -> Sequence[np.ndarray]:
        return [frames for [frames] in embed(find_model(spec).load("cpu", "fp32"), clips).values()]

    first, again, other = (layers(f"untrained:{s}stage-1:{folder}") for s in ("", "0:", "1:"))
    assert worst(first, again) == 0.0
    assert worst(first, other) > 0.1
