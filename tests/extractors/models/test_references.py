"""Hidden states against each family's own reference at batch 1; the extractor sees all clips at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    ASTFeatureExtractor,
    ASTModel,
    AutoModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertModel,
    Wav2Vec2Model,
)

from extractors import ExtractConfig, extract, find_model
from extractors.models.huggingface.kaldi_fbank import KaldiFilterBank
from featurestore import open_store
from tests.conftest import write_clips
from tests.extractors import hear_tiny
from tests.extractors.models.test_conformance import RELATIVE, embed, make_clips, worst

LENGTHS = (12_001, 5000, 9001, 15_000, 1200)


def states_of(model: Any, **inputs: Any) -> list[np.ndarray]:
    """Hidden states `[t, d]` of one clip."""
    with torch.no_grad():
        return [h[0].numpy() for h in model(**inputs, output_hidden_states=True).hidden_states]


def test_attention_adapters_are_part_of_their_blocks(model_spec: Callable[[str], str]) -> None:
    folder = model_spec("mms")
    reference = Wav2Vec2Model.from_pretrained(folder).eval()
    clips = make_clips(LENGTHS)
    found = embed(find_model(folder).load("cpu", "fp32"), clips)
    for i, clip in enumerate(clips):
        expected = states_of(reference, input_values=torch.from_numpy(clip)[None])
        for layer, state in enumerate(expected):
            assert worst([found[layer][i]], [state]) < RELATIVE, layer
    with torch.no_grad():
        for block in reference.encoder.layers:
            block.adapter_layer.linear_2.weight.zero_()
    without = states_of(reference, input_values=torch.from_numpy(clips[0])[None])
    assert worst([found[1][0]], [without[1]]) > 1e-3


@pytest.mark.parametrize(
    "kind", ["unispeech-large", "conformer-relative", "conformer-rotary", "sew", "sew-layer-norm", "sew-d"]
)
def test_further_families_are_as_transformers_gives_each_clip_alone(
    kind: str, model_spec: Callable[[str], str]
) -> None:
    folder = model_spec(kind)
    reference = AutoModel.from_pretrained(folder).eval()
    # Conv frames of SEW: odd and even numbers, and ones that differ while its blocks' do not.
    clips = make_clips((*LENGTHS, 12_160, 1040, 1360))
    found = embed(find_model(folder).load("cpu", "fp32"), clips)
    for i, clip in enumerate(clips):
        states = states_of(reference, input_values=torch.from_numpy(clip)[None])
        assert len(states) == len(found)
        for layer, state in enumerate(states):
            assert worst([found[layer][i]], [state]) < RELATIVE, (layer, i)


@pytest.mark.parametrize("kind", ["wav2vec2-bert", "wav2vec2-bert-relative", "wav2vec2-bert-rotary"])
def test_wav2vec2_bert_equals_its_published_feature_extractor_and_model(
    kind: str, model_spec: Callable[[str], str]
) -> None:
    folder = model_spec(kind)
    reference = Wav2Vec2BertModel.from_pretrained(folder).eval()
    published = SeamlessM4TFeatureExtractor(padding_value=1)
    # Even and odd numbers of mel frames: with an odd one the published extractor pads, and masks.
    clips = make_clips((*LENGTHS, 720, 880))
    found = embed(find_model(folder).load("cpu", "fp32"), clips)
    for i, clip in enumerate(clips):
        inputs = published(clip, sampling_rate=16_000, return_tensors="pt")
        n_valid = int(inputs["attention_mask"].sum())
        assert n_valid == len(found[0][i])
        # Three times what is allowed elsewhere: the published extractor rounds on its way.
        for layer, state in enumerate(states_of(reference, **inputs)):
            assert worst([found[layer][i]], [state[:n_valid]]) < 3 * RELATIVE, (layer, i)


def test_ast_equals_its_published_feature_extractor_and_model(model_spec: Callable[[str], str]) -> None:
    folder = model_spec("ast")
    reference = ASTModel.from_pretrained(folder).eval()
    features = ASTFeatureExtractor.from_pretrained(folder)
    clips = make_clips((*LENGTHS, 400, 15_600))
    source = find_model(folder)
    assert source.card.max_samples == 15_600  # 96 of 100 mel frames lie in a patch: 400 + 95 · 160 samples
    found = embed(source.load("cpu", "fp32"), clips)
    for i, clip in enumerate(clips):
        inputs = features(clip, sampling_rate=16_000, return_tensors="pt")
        mel_frames = (len(clip) - 400) // 160 + 1
        expected_frames = min(-(-mel_frames // 10), 9)
        for layer, tokens in enumerate(states_of(reference, **inputs)):
            assert tokens.shape == (2 + 3 * 9, 24)
            # Token 2 + 9 f + t is the patch of frequency f and time t.
            in_time = np.stack([tokens[[2 + 9 * f + t for f in range(3)]].mean(0) for t in range(9)])
            assert worst([found[layer][i]], [in_time[:expected_frames]]) < RELATIVE, (layer, i)


# The published AST has bands that hold no bin of the FFT, and transformers says so at every use.
@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(
    ("window", "scale", "n_mels"), [("povey", 2.0**15, 80), ("hann", 1.0, 128)], ids=["seamless", "ast"]
)
def test_the_filter_bank_is_that_of_the_published_extractors(window: Any, scale: float, n_mels: int) -> None:
    [clip] = make_clips([7001])
    if window == "povey":
        reference = SeamlessM4TFeatureExtractor()._extract_fbank_features(clip)
    else:
        reference = ASTFeatureExtractor()._extract_fbank_features(clip, max_length=42)
    bank = KaldiFilterBank(n_mels=n_mels, window=window, scale=scale, device=torch.device("cpu"))
    [bands] = bank(torch.from_numpy(clip)[None]).numpy()
    assert bands.shape == reference.shape == (42, n_mels)
    np.testing.assert_allclose(bands, reference, rtol=2e-5, atol=2e-5)


def test_layers_come_from_their_blocks(model_spec: Callable[[str], str]) -> None:
    """Spoiling block 2 leaves layers 0 and 1 as they were and changes layer 2, in every family."""
    clips = make_clips([5000, 6000])
    for kind in ("hubert-base", "unispeech-sat-base", "mms", "wav2vec2-bert", "whisper", "ast", "aves"):
        extractor: Any = find_model(model_spec(kind)).load("cpu", "fp32")
        before = embed(extractor, clips)
        network = extractor.encoder if kind == "whisper" else extractor.model
        block = (network.encoder if hasattr(network, "encoder") else network).layers[1]
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.add_(0.1)
        after = embed(extractor, clips)
        for layer in (0, 1):
            np.testing.assert_array_equal(after[layer][0], before[layer][0])
        assert worst(after[2], before[2]) > 1e-3, kind


def test_hear_frames_are_those_of_the_module() -> None:
    clips = make_clips([5000, 3000, 5000])
    source = find_model("hear:tests.extractors.hear_tiny")
    card = source.card
    assert (card.sample_rate_hz, card.n_features, card.hop_samples, card.n_layers) == (8_000, 12, 80, 1)
    found = embed(source.load("cpu", "fp32"), clips)
    model = hear_tiny.load_model()
    for i, clip in enumerate(clips):
        with torch.no_grad():
            frames, _ = hear_tiny.get_timestamp_embeddings(torch.from_numpy(clip)[None], model)
        assert worst([found[0][i]], [frames[0].numpy()]) < RELATIVE


def test_a_hear_module_that_looks_at_the_whole_batch_runs_clip_by_clip() -> None:
    extractor: Any = find_model("hear:tests.extractors.hear_batchwise").load("cpu", "fp32")
    assert not extractor.runs_together
    well_behaved: Any = find_model("hear:tests.extractors.hear_tiny").load("cpu", "fp32")
    assert well_behaved.runs_together


def test_clips_longer_than_ast_takes_are_embedded_to_their_end(
    tmp_path: Path, model_spec: Callable[[str], str]
) -> None:
    n = 2 * 15_600 + 5000
    manifest = write_clips(tmp_path / "audio", (n,))
    folder = model_spec("ast")
    extract(
        ExtractConfig(manifest=manifest, dataset="d", model=folder, name="ast", store=str(tmp_path / "store"))
    )
    features = open_store(tmp_path / "store").features("ast", "d")
    assert features.index["n_frames"].tolist() == [9 + 9 + 3]
    signal, _ = soundfile.read(tmp_path / "audio" / "clip000.wav", dtype="float32")
    extractor = find_model(folder).load("cpu", "fp32")
    parts = [embed(extractor, [signal[a:b]]) for a, b in ((0, 15_600), (15_600, 31_200), (31_200, n))]
    for layer in features.layers:
        frames = np.concatenate([part[layer][0] for part in parts])
        expected = np.stack([frames.mean(0), frames.std(0, ddof=1)])
        assert worst([features.layer(layer).numpy()[0]], [expected]) < RELATIVE
