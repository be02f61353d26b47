"""AVES: the conversion against the layer equations that torchaudio publishes, and strict loading."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from extractors import find_model
from featurestore.errors import ModelError
from tests.extractors.models.test_conformance import RELATIVE, embed, make_clips, worst
from tests.models import AVES_CONFIG, N_LAYERS, aves_state, save_aves

LENGTHS = (12_001, 5000, 5000, 9001, 800)
LAYER_NORM = {
    "extractor_mode": "layer_norm",
    "extractor_conv_bias": True,
    "encoder_layer_norm_first": True,
}


def published_forward(
    config: dict[str, Any], state: dict[str, torch.Tensor], clip: np.ndarray
) -> list[np.ndarray]:
    """Inputs of the first block and outputs of all, `[t, d]`, from the equations of the HuBERT paper.

    Written against the parameters' names in torchaudio, with none of its code or of transformers'.
    """

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = torch.from_numpy(clip)[None]  # [channels, t]
    for i, (_, _, stride) in enumerate(config["extractor_conv_layer_config"]):
        layer = f"feature_extractor.conv_layers.{i}"
        x = F.conv1d(x[None], state[f"{layer}.conv.weight"], state.get(f"{layer}.conv.bias"), stride)[0]
        if config["extractor_mode"] == "layer_norm":
            x = norm(x.T, f"{layer}.layer_norm").T
        elif i == 0:  # one group per channel: mean and variance over time
            centred = x - x.mean(1, keepdim=True)
            x = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-5)
            x = x * state[f"{layer}.layer_norm.weight"][:, None]
            x = x + state[f"{layer}.layer_norm.bias"][:, None]
        x = F.gelu(x)
    x = norm(x.T, "encoder.feature_projection.layer_norm")
    x = linear(x, "encoder.feature_projection.projection")  # [t, d]

    position = "encoder.transformer.pos_conv_embed.conv"
    v = state[f"{position}.weight_v"]
    # Weight normalisation over all but the last dimension.
    weight = state[f"{position}.weight_g"] * v / v.square().sum((0, 1), keepdim=True).sqrt()
    half = config["encoder_pos_conv_kernel"] // 2
    groups = config["encoder_pos_conv_groups"]
    y = F.conv1d(x.T[None], weight, state[f"{position}.bias"], padding=half, groups=groups)[0]
    x = x + F.gelu(y[:, : len(x)].T)  # an even kernel gives one frame too many
    if not config["encoder_layer_norm_first"]:
        x = norm(x, "encoder.transformer.layer_norm")

    def attention(x: torch.Tensor, name: str) -> torch.Tensor:
        heads = config["encoder_num_heads"]
        q, k, v = (
            linear(x, f"{name}.{p}_proj").reshape(len(x), heads, -1).transpose(0, 1) for p in ("q", "k", "v")
        )
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)
        return linear((weights @ v).transpose(0, 1).reshape(len(x), -1), f"{name}.out_proj")

    def feed_forward(x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(F.gelu(linear(x, f"{name}.intermediate_dense")), f"{name}.output_dense")

    outputs = [x]
    for i in range(config["encoder_num_layers"]):
        block = f"encoder.transformer.layers.{i}"
        if config["encoder_layer_norm_first"]:
            x = x + attention(norm(x, f"{block}.layer_norm"), f"{block}.attention")
            x = x + feed_forward(norm(x, f"{block}.final_layer_norm"), f"{block}.feed_forward")
        else:
            x = norm(x + attention(x, f"{block}.attention"), f"{block}.layer_norm")
            x = norm(x + feed_forward(x, f"{block}.feed_forward"), f"{block}.final_layer_norm")
        outputs.append(x)
    return [o.numpy() for o in outputs]


@pytest.mark.parametrize("changes", [{}, LAYER_NORM], ids=["group-norm", "layer-norm"])
@pytest.mark.parametrize("deep", [False, True], ids=["base", "large"])
def test_every_layer_equals_the_published_equations(
    tmp_path: Path, changes: dict[str, Any], deep: bool
) -> None:
    # BirdAVES large: more and wider blocks, the same norms.
    size = {"encoder_num_layers": 6, "encoder_embed_dim": 32, "encoder_num_heads": 4} if deep else {}
    config: dict[str, Any] = AVES_CONFIG | changes | size
    source = find_model(str(save_aves(tmp_path / "m", **changes, **size)))
    clips = make_clips(LENGTHS)
    found = embed(source.load("cpu", "fp32"), clips)
    state = aves_state(config)
    for i, clip in enumerate(clips):
        expected = published_forward(config, state, clip)
        assert len(expected) == source.card.n_layers == config["encoder_num_layers"] + 1
        for layer, frames in enumerate(expected):
            assert worst([found[layer][i]], [frames]) < RELATIVE, (layer, i)


def test_every_layer_equals_torchaudio(tmp_path: Path) -> None:
    try:
        from torchaudio.models import wav2vec2_model
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio does not import here ({type(error).__name__})")
    for changes in ({}, LAYER_NORM):
        config: dict[str, Any] = AVES_CONFIG | changes
        folder = save_aves(tmp_path / config["extractor_mode"], **changes)
        reference = wav2vec2_model(**config, aux_num_out=None).eval()
        state = aves_state(config)
        names = reference.state_dict().keys()
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            key = f"encoder.transformer.pos_conv_embed.conv.{old}"
            if key not in names:
                state[f"encoder.transformer.pos_conv_embed.conv.parametrizations.weight.{new}"] = state.pop(
                    key
                )
        reference.load_state_dict(state)
        clips = make_clips(LENGTHS)
        found = embed(find_model(str(folder)).load("cpu", "fp32"), clips)
        for i, clip in enumerate(clips):
            with torch.no_grad():
                outputs, _ = reference.extract_features(torch.from_numpy(clip)[None])
            for k, frames in enumerate(outputs):  # torchaudio's output k is hidden state k + 1
                assert worst([found[k + 1][i]], [frames[0].numpy()]) < RELATIVE


def test_newer_names_of_weight_normalisation_are_read_too(tmp_path: Path) -> None:
    folder = save_aves(tmp_path / "m")
    before = embed(find_model(str(folder)).load("cpu", "fp32"), make_clips([5000]))
    state = aves_state(AVES_CONFIG)
    conv = "encoder.transformer.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        state[f"{conv}.parametrizations.weight.{new}"] = state.pop(f"{conv}.{old}")
    torch.save(state, folder / "aves-tiny.torchaudio.pt")
    after = embed(find_model(str(folder)).load("cpu", "fp32"), make_clips([5000]))
    for layer in before:
        np.testing.assert_array_equal(after[layer][0], before[layer][0])


def test_the_export_is_found_by_folder_by_weights_and_by_config(tmp_path: Path) -> None:
    folder = save_aves(tmp_path / "my-aves", name="aves-base-bio")
    weights = folder / "aves-base-bio.torchaudio.pt"
    sources = [
        find_model(str(p)) for p in (folder, weights, folder / "aves-base-bio.torchaudio.model_config.json")
    ]
    assert [s.card.name for s in sources] == ["my-aves", "aves-base-bio", "aves-base-bio"]
    assert all(s.fingerprint() == sources[0].fingerprint() for s in sources)
    card = sources[1].card
    assert (card.n_layers, card.n_features, card.hop_samples) == (N_LAYERS, 24, 320)
    assert (card.normalisation, card.normalisation_source) == ("none", "AVES was trained on raw audio")
    # A tiny model of that name is not the published one.
    assert card.model_id is None


def test_a_folder_with_several_exports_asks_for_one(tmp_path: Path) -> None:
    folder = save_aves(tmp_path / "m", name="aves-base-bio")
    save_aves(folder, name="aves-base-all", seed=1)
    with pytest.raises(
        ModelError, match=r"2 torchaudio exports.*aves-base-all, aves-base-bio.*give the path"
    ):
        find_model(str(folder))
    assert find_model(str(folder / "aves-base-all.torchaudio.pt")).card.name == "aves-base-all"


def without(key: str) -> Any:
    def spoil(state: dict[str, torch.Tensor]) -> object:
        del state[key]
        return state

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("encoder.transformer.pos_conv_embed.conv.weight_g"), "Missing key.*pos_conv_embed"),
        (without("encoder.transformer.layers.1.attention.q_proj.bias"), "Missing key.*q_proj.bias"),
        (lambda s: s | {"encoder.surprise": torch.zeros(2)}, "Unexpected key.*surprise"),
        (lambda s: s | {"encoder.transformer.layer_norm.bias": torch.zeros(5)}, "size mismatch"),
        (lambda s: {"model": s, "cfg": {}}, "not the fairseq checkpoint"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = save_aves(tmp_path / "m")
    torch.save(spoil(aves_state(AVES_CONFIG)), folder / "aves-tiny.torchaudio.pt")
    with pytest.raises(ModelError, match=message) as error:
        find_model(str(folder)).load("cpu", "fp32")
    assert "\n" not in str(error.value)


class Malicious:
    """A pickle that would make a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    folder = save_aves(tmp_path / "m")
    torch.save(
        {"x": Malicious(tmp_path / "ran"), "y": torch.zeros(20_000)}, folder / "aves-tiny.torchaudio.pt"
    )
    with pytest.raises(ModelError, match="cannot be loaded"):
        find_model(str(folder)).load("cpu", "fp32")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "aves-tiny.torchaudio.pt").unlink(), r"aves-tiny\.torchaudio\.pt is missing"),
        (
            lambda d: (d / "aves-tiny.torchaudio.model_config.json").unlink(),
            r"aves-tiny\.torchaudio\.model_config\.json is missing",
        ),
        (
            lambda d: (d / "aves-tiny.torchaudio.model_config.json").write_text("{"),
            "model_config.json cannot be read",
        ),
        (
            lambda d: (d / "aves-tiny.torchaudio.model_config.json").write_text(json.dumps({"a": 1})),
            "not that of torchaudio's wav2vec2_model",
        ),
    ],
)
def test_incomplete_exports_are_refused_before_loading(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = save_aves(tmp_path / "m")
    spoil(folder)
    with pytest.raises(ModelError, match=message) as error:
        find_model(str(folder))
    assert "\n" not in str(error.value)
