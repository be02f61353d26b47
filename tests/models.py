"""Tiny models of every family, saved as Hugging Face folders, with seeded random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

transformers.logging.disable_progress_bar()

FAMILIES: dict[str, tuple[type[Any], type[Any]]] = {
    "hubert": (HubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "wavlm": (WavLMConfig, WavLMModel),
    "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel),
}
N_LAYERS = 4  # hidden states: three blocks and their input
N_FEATURES = 24


def ssl_config(family: str, flavour: str) -> Any:
    """Configuration of a tiny model; `flavour` is ``base`` (group norm, post-LN) or ``large``."""
    config_class, _ = FAMILIES[family]
    options: dict[str, Any] = {
        "hidden_size": N_FEATURES,
        "num_hidden_layers": N_LAYERS - 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": [16] * 7,
        "num_conv_pos_embedding_groups": 4,
    }
    if family == "data2vec-audio":
        options["num_conv_pos_embeddings"] = 5
        options["conv_pos_kernel_size"] = 19
    else:
        options["num_conv_pos_embeddings"] = 32
    if flavour == "large":
        options |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    return config_class(**options)


def save_ssl(
    folder: Path, family: str, flavour: str, *, do_normalize: bool | None = False, seed: int = 0
) -> Path:
    """Save a tiny model; with `do_normalize` also its preprocessor_config.json."""
    torch.manual_seed(seed)
    model = FAMILIES[family][1](ssl_config(family, flavour))
    model.save_pretrained(folder)
    if do_normalize is not None:
        Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
    return folder


def save_whisper(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny Whisper (encoder of two blocks)."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        d_model=N_FEATURES,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=20,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperModel(config).save_pretrained(folder)
    return folder
