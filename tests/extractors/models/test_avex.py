"""`avex:NAME` against a stand-in with avex's documented interface.

avex itself asks for torchaudio and torchvision builds that match the installed PyTorch; where those do not
exist (CPU builds of the newest PyTorch) it does not import. The stand-in has its two functions, a BEATs-like
stack whose blocks hand on `[t, b, d]`, and an EfficientNet-like feature map.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extractors import find_model
from featurestore.errors import ModelError
from tests.extractors.models.test_conformance import RELATIVE, embed, make_clips, worst

PACKAGE = """
from types import SimpleNamespace
import torch
from torch import nn

RATE = 16_000


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x, self_attn_padding_mask=None):
        mixed = torch.tanh(self.linear(x)) + x.mean(0, keepdim=True)  # over time: padding would be seen
        return mixed, None, None


class Beats(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv1d(1, 10, 400, 320)
        self.other = nn.ModuleList(nn.Linear(3, 3) for _ in range(9))  # longer, never run
        self.layers = nn.ModuleList(Block(10) for _ in range(3))

    def forward(self, wav, padding_mask=None):
        if wav.shape[-1] < 400:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        x = self.patches(wav[:, None]).permute(2, 0, 1)  # [t, b, d]
        for layer in self.layers:
            x, _, _ = layer(x, self_attn_padding_mask=padding_mask)
        return x.transpose(0, 1)


class EfficientNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 7, (2, 3))

    def forward(self, wav, padding_mask=None):
        spectrum = torch.stft(wav, 256, 128, window=torch.hann_window(256), return_complex=True).abs()
        return self.features(spectrum[:, None])  # [b, d, frequency, t]


def get_model_spec(name):
    if name not in ("beats", "efficientnet", "forgetful"):
        return None
    return SimpleNamespace(audio_config=SimpleNamespace(sample_rate=RATE, target_length_seconds=10))


def load_model(model, device="cpu", return_features_only=False):
    assert return_features_only
    made = {"beats": Beats, "forgetful": Beats, "efficientnet": EfficientNet}[model]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if model != "forgetful" or name != "layers.1.linear.weight":
                p.copy_(torch.randn(p.shape, generator=generator) / 5)
    return made.to(device)
"""


@pytest.fixture
def avex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in as an installed package."""
    site = tmp_path / "site"
    (site / "avex").mkdir(parents=True)
    (site / "avex" / "__init__.py").write_text(PACKAGE)
    (site / "avex-1.4.0.dist-info").mkdir()
    (site / "avex-1.4.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: avex\nVersion: 1.4.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "avex", raising=False)
    import avex

    yield avex
    monkeypatch.delitem(sys.modules, "avex", raising=False)


def test_layers_are_the_inputs_and_outputs_of_the_blocks(avex: Any) -> None:
    source = find_model("avex:beats")
    card = source.card
    assert (card.name, card.n_layers, card.n_features, card.sample_rate_hz) == ("beats", 4, 10, 16_000)
    assert (card.max_samples, card.hop_samples) == (160_000, 320)
    extractor: Any = source.load("cpu", "fp32")
    assert extractor.runs_together
    clips = make_clips((9000, 5000, 9000, 1300))
    found = embed(extractor, clips)
    model = avex.load_model("beats", return_features_only=True).eval()
    for i, clip in enumerate(clips):
        with torch.no_grad():
            wav = torch.from_numpy(clip)[None]
            x = model.patches(wav[:, None]).permute(2, 0, 1)
            states = [x]
            for layer in model.layers:
                states.append(layer(states[-1])[0])
            assert torch.equal(states[-1].transpose(0, 1), model(wav))
        assert extractor.n_frames(len(clip)) == len(states[0])
        for layer, state in enumerate(states):
            assert worst([found[layer][i]], [state[:, 0].numpy()]) < RELATIVE, layer


def test_feature_maps_are_averaged_over_frequency(avex: Any) -> None:
    source = find_model("avex:efficientnet")
    assert (source.card.n_layers, source.card.n_features) == (1, 7)
    clips = make_clips((9000, 5000))
    found = embed(source.load("cpu", "fp32"), clips)
    model = avex.load_model("efficientnet", return_features_only=True).eval()
    for i, clip in enumerate(clips):
        with torch.no_grad():
            [maps] = model(torch.from_numpy(clip)[None]).numpy()
        assert worst([found[0][i]], [maps.mean(1).T]) < RELATIVE


def test_parameters_that_no_checkpoint_sets_are_refused(avex: Any) -> None:
    with pytest.raises(ModelError, match=r"1 parameters differ.*layers\.1\.linear\.weight"):
        find_model("avex:forgetful")


def test_a_name_avex_does_not_know_is_one_line(avex: Any) -> None:
    with pytest.raises(ModelError, match=r"avex 1\.4\.0 has no such model") as error:
        find_model("avex:nope")
    assert "\n" not in str(error.value)


def test_too_short_clips_are_foretold(avex: Any) -> None:
    extractor = find_model("avex:beats").load("cpu", "fp32")
    assert [extractor.n_frames(n) for n in (0, 1, 399, 400, 719, 720)] == [0, 0, 0, 1, 1, 2]


def test_fingerprints_name_the_package_and_hash_the_weights(avex: Any) -> None:
    content = find_model("avex:beats").fingerprint()
    assert (content["family"], content["model"], content["avex"]) == ("avex", "beats", "1.4.0")
    assert content["state_sha256"] != find_model("avex:efficientnet").fingerprint()["state_sha256"]


def test_order_and_subset_of_layers(avex: Any) -> None:
    extractor = find_model("avex:beats").load("cpu", "fp32")
    clips = make_clips((9000, 5000))
    every, some = embed(extractor, clips), embed(extractor, clips, [1, 3])
    assert list(some) == [1, 3]
    for layer in some:
        np.testing.assert_array_equal(some[layer][1], every[layer][1])
