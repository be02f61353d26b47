"""Tiny models of every family, saved as Hugging Face folders, with seeded random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    ConvNextConfig,
    ConvNextForImageClassification,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    HubertConfig,
    HubertModel,
    SEWConfig,
    SEWDConfig,
    SEWDModel,
    SEWModel,
    UniSpeechConfig,
    UniSpeechModel,
    UniSpeechSatConfig,
    UniSpeechSatModel,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerModel,
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
    "unispeech": (UniSpeechConfig, UniSpeechModel),
    "unispeech-sat": (UniSpeechSatConfig, UniSpeechSatModel),
    "wav2vec2-conformer": (Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel),
}
SQUEEZED: dict[str, tuple[type[Any], type[Any]]] = {
    "sew": (SEWConfig, SEWModel),
    "sew-d": (SEWDConfig, SEWDModel),
}
N_LAYERS = 4  # hidden states: three blocks and their input
N_FEATURES = 24


def ssl_config(family: str, flavour: str, n_blocks: int = N_LAYERS - 1) -> Any:
    """Configuration of a tiny model; `flavour` is ``base`` (group norm, post-LN) or ``large``."""
    config_class, _ = FAMILIES[family]
    options: dict[str, Any] = {
        "hidden_size": N_FEATURES,
        "num_hidden_layers": n_blocks,
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
    folder: Path,
    family: str,
    flavour: str,
    *,
    do_normalize: bool | None = False,
    seed: int = 0,
    n_blocks: int = N_LAYERS - 1,
) -> Path:
    """Save a tiny model; with `do_normalize` also its preprocessor_config.json."""
    torch.manual_seed(seed)
    model = FAMILIES[family][1](ssl_config(family, flavour, n_blocks))
    model.save_pretrained(folder)
    if do_normalize is not None:
        Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(folder)
    return folder


def save_conformer(folder: Path, *, positions: str, flavour: str = "large", seed: int = 0) -> Path:
    """Save a tiny wav2vec2-conformer with ``relative`` or ``rotary`` positions."""
    torch.manual_seed(seed)
    config = ssl_config("wav2vec2-conformer", flavour)
    config.position_embeddings_type = positions
    config.conv_depthwise_kernel_size = 7
    move_statistics(scramble(Wav2Vec2ConformerModel(config))).save_pretrained(folder)
    return folder


def save_sew(folder: Path, family: str, flavour: str, *, squeeze: int = 2, seed: int = 0) -> Path:
    """Save a tiny SEW or SEW-D."""
    torch.manual_seed(seed)
    config_class, model_class = SQUEEZED[family]
    options: dict[str, Any] = {
        "hidden_size": N_FEATURES,
        "num_hidden_layers": N_LAYERS - 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "squeeze_factor": squeeze,
        "conv_dim": [16] * 7,
        "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
        "conv_stride": (5, 2, 2, 2, 2, 2, 2),
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 4,
        "feat_extract_norm": "group" if flavour == "base" else "layer",
    }
    if family == "sew-d":
        options |= {"position_buckets": 8, "max_position_embeddings": 32}
    scramble(model_class(config_class(**options))).save_pretrained(folder)
    return folder


def save_mms(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny wav2vec 2.0 as MMS has it: large flavour, an attention adapter in every block."""
    torch.manual_seed(seed)
    config = ssl_config("wav2vec2", "large")
    config.adapter_attn_dim = 6
    scramble(Wav2Vec2Model(config)).save_pretrained(folder)
    return folder


def save_w2v_bert(folder: Path, *, positions: str = "relative_key", seed: int = 0) -> Path:
    """Save a tiny wav2vec2-BERT; `positions` as in the published model, or ``relative`` or ``rotary``."""
    torch.manual_seed(seed)
    config = Wav2Vec2BertConfig(
        hidden_size=N_FEATURES,
        num_hidden_layers=N_LAYERS - 1,
        num_attention_heads=2,
        intermediate_size=48,
        position_embeddings_type=positions,
        conv_depthwise_kernel_size=7,
        output_hidden_size=N_FEATURES,
    )
    scramble(Wav2Vec2BertModel(config)).save_pretrained(folder)
    return folder


def save_ast(folder: Path, *, mean: float = -3.0, std: float = 3.5, seed: int = 0) -> Path:
    """Save a tiny AST with its spectrogram's scaling: 40 bands, 100 mel frames, 3 × 9 patches."""
    torch.manual_seed(seed)
    config = ASTConfig(
        hidden_size=N_FEATURES,
        num_hidden_layers=N_LAYERS - 1,
        num_attention_heads=2,
        intermediate_size=48,
        num_mel_bins=40,
        max_length=100,
    )
    scramble(ASTModel(config)).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=40, max_length=100, mean=mean, std=std).save_pretrained(folder)
    return folder


CLAP_RATE_HZ = CLAP_WINDOW_SAMPLES = 16_000
# 251 frames of 32 mel bands a second.
PICTURE: dict[str, Any] = {
    "sample_rate_hz": 16_000,
    "window_samples": 16_000,
    "n_fft": 256,
    "hop_samples": 64,
    "n_mels": 32,
    "top_db": 60.0,
    "mean": -4.268,
    "std": 4.569,
}


def save_clap(folder: Path, *, fusion: bool = False, padding: str = "repeatpad", seed: int = 0) -> Path:
    """Save a tiny CLAP, both towers: 1 s at 16 kHz, 8 mel bands, two stages of two blocks and one."""
    torch.manual_seed(seed)
    audio = ClapAudioConfig(
        window_size=4,
        num_mel_bins=8,
        spec_size=32,
        hidden_size=N_FEATURES,
        patch_embeds_hidden_size=N_FEATURES // 2,
        depths=[2, 1],
        num_attention_heads=[2, 4],
        enable_fusion=fusion,
        fusion_type="aff_2d" if fusion else None,
    )
    text = ClapTextConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=10)
    move_statistics(scramble(ClapModel(config))).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=8,
        sampling_rate=CLAP_RATE_HZ,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=7000,
        truncation="fusion" if fusion else "rand_trunc",
        padding=padding,
    ).save_pretrained(folder)
    return folder


def save_convnext(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny ConvNeXt over spectrograms of a second: two stages of two blocks and one."""
    torch.manual_seed(seed)
    config = ConvNextConfig(
        num_channels=1,
        num_stages=2,
        hidden_sizes=[12, N_FEATURES],
        depths=[2, 1],
        layer_scale_init_value=0.5,
        num_labels=3,
    )
    scramble(ConvNextForImageClassification(config)).save_pretrained(folder)
    (folder / "spectrogram.json").write_text(json.dumps(PICTURE))
    return folder


def save_efficientnet(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny EfficientNet over spectrograms of a second: three stages of one, two and three blocks."""
    torch.manual_seed(seed)
    config = EfficientNetConfig(
        num_channels=1,
        width_coefficient=0.25,
        depth_coefficient=1.0,
        in_channels=[32, 64, 32],
        out_channels=[64, 32, 96],
        kernel_sizes=[3, 5, 3],
        strides=[1, 2, 2],
        num_block_repeats=[1, 2, 3],
        expand_ratios=[1, 2, 2],
        depthwise_padding=[1],
        hidden_dim=320,
        initializer_range=0.3,
        num_labels=3,
    )
    move_statistics(scramble(EfficientNetForImageClassification(config))).save_pretrained(folder)
    (folder / "spectrogram.json").write_text(json.dumps(PICTURE))
    return folder


def move_statistics(model: Any) -> Any:
    """Running means and variances as after training: neither 0 nor 1."""
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    return model


def scramble(model: Any) -> Any:
    """Move biases, norms and positions off their initial zeros and ones, where they would hide bugs."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or not parameter.any():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


AVES_CONFIG = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": N_FEATURES,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 32,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": N_LAYERS - 1,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 48,
    "encoder_ff_interm_dropout": 0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
}


def aves_state(config: dict[str, Any], *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random parameters under torchaudio's names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    width, inner = config["encoder_embed_dim"], config["encoder_ff_interm_features"]
    shapes: dict[str, tuple[int, ...]] = {}
    before = 1
    for i, (channels, kernel, _) in enumerate(config["extractor_conv_layer_config"]):
        layer = f"feature_extractor.conv_layers.{i}"
        shapes[f"{layer}.conv.weight"] = (channels, before, kernel)
        if config["extractor_conv_bias"]:
            shapes[f"{layer}.conv.bias"] = (channels,)
        if i == 0 or config["extractor_mode"] == "layer_norm":
            shapes |= {f"{layer}.layer_norm.{p}": (channels,) for p in ("weight", "bias")}
        before = channels
    kernel, groups = config["encoder_pos_conv_kernel"], config["encoder_pos_conv_groups"]
    position = "encoder.transformer.pos_conv_embed.conv"
    shapes[f"{position}.bias"] = (width,)
    shapes[f"{position}.weight_g"] = (1, 1, kernel)
    shapes[f"{position}.weight_v"] = (width, width // groups, kernel)
    linears = {"encoder.feature_projection.projection": (width, before)}
    norms = {"encoder.feature_projection.layer_norm": before, "encoder.transformer.layer_norm": width}
    for i in range(config["encoder_num_layers"]):
        block = f"encoder.transformer.layers.{i}"
        linears |= {f"{block}.attention.{p}_proj": (width, width) for p in ("q", "k", "v", "out")}
        linears[f"{block}.feed_forward.intermediate_dense"] = (inner, width)
        linears[f"{block}.feed_forward.output_dense"] = (width, inner)
        norms |= {f"{block}.{n}": width for n in ("layer_norm", "final_layer_norm")}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, size in norms.items():
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 25
        values = values / fan_in**0.5
        scales = name.endswith(("norm.weight", "weight_g"))
        state[name] = values + 1.0 if scales else values
    return state


def save_aves(folder: Path, *, name: str = "aves-tiny", seed: int = 0, **changes: Any) -> Path:
    """Save a tiny torchaudio export: parameters and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config = AVES_CONFIG | changes
    torch.save(aves_state(config, seed=seed), folder / f"{name}.torchaudio.pt")
    (folder / f"{name}.torchaudio.model_config.json").write_text(json.dumps(config))
    return folder


def save_whisper(folder: Path, *, seed: int = 0, n_blocks: int = 2) -> Path:
    """Save a tiny Whisper."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        d_model=N_FEATURES,
        encoder_layers=n_blocks,
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
