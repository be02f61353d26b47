"""From what a user writes after ``--model`` to a model: a built-in name, a folder, or a hub id."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extractors.base import Extractor, ModelCard, ModelSource, Normalisation, Precision
from extractors.weights import hash_weights, weight_files
from featurestore.errors import ModelError

# Families by `model_type` in config.json.
SSL_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
WHISPER_TYPE = "whisper"
BUILT_IN = ("logmel",)
# Parameters that inference never reads; a checkpoint may lack them.
OPTIONAL_WEIGHTS = ("masked_spec_embed",)


def find_model(spec: str) -> ModelSource:
    """Find a model without loading its weights.

    Args:
        spec: ``logmel``, a folder holding ``config.json`` and safetensors weights, or a hub id.

    Raises:
        ModelError: there is no such model, its family is not supported, or it has no usable weights.
    """
    if spec == "logmel":
        from extractors.spectral import LogMelSource

        return LogMelSource()
    path = Path(spec).expanduser()
    if path.exists() or spec.startswith((".", "/", "~")):
        return _from_folder(spec, path)
    return _from_hub(spec)


def _from_folder(spec: str, path: Path) -> ModelSource:
    if not path.is_dir():
        raise ModelError(
            f"--model {spec}: expected a model folder, a hub id, or one of {', '.join(BUILT_IN)}"
        )
    if not (path / "config.json").is_file():
        raise ModelError(
            f"--model {spec}: no config.json in this folder; expected a Hugging Face model folder"
        )
    return TransformersSource(
        name=path.resolve().name, location=str(path), files=weight_files(path), folder=path
    )


def _from_hub(spec: str) -> ModelSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # Configuration and safetensors only: nothing that could run code is ever fetched.
        folder = Path(snapshot_download(spec, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"--model {spec}: not a folder here, not one of {', '.join(BUILT_IN)}, and the hub gave no such "
            f"model ({type(error).__name__}: {reason}); check the id, or download it and give its folder"
        ) from error
    if not (folder / "config.json").is_file():
        raise ModelError(f"--model {spec}: the hub repository has no config.json")
    return TransformersSource(
        name=spec.rsplit("/", 1)[-1], location=spec, files=weight_files(folder, spec), folder=folder
    )


class TransformersSource:
    """A Hugging Face model folder (a hub id is downloaded to one)."""

    def __init__(self, *, name: str, location: str, files: list[Path], folder: Path) -> None:
        self.location = location
        self._folder = folder
        self._files = files
        self._config = _read_json(folder / "config.json", location)
        self.card = _card(name, location, folder, self._config)

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        architecture = {
            k: v
            for k, v in self._config.items()
            # What changes no hidden state: bookkeeping, training-only rates, heads, decoding.
            if k in _ARCHITECTURE_KEYS
        }
        return {
            "family": self.card.family,
            "weights_sha256": hash_weights(self._files),
            "config": architecture,
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`."""
        import torch
        import transformers
        from safetensors import SafetensorError

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        try:
            model, info = transformers.AutoModel.from_pretrained(
                self._folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"--model {self.location}: cannot be loaded ({reason})") from error
        used = "encoder." if self.card.family == WHISPER_TYPE else ""
        lacking = [
            k
            for k in info["missing_keys"]
            if k.startswith(used) and not k.endswith(OPTIONAL_WEIGHTS) and "adapter" not in k
        ]
        if lacking or info["mismatched_keys"]:
            which = sorted(lacking or [str(k) for k in info["mismatched_keys"]])
            raise ModelError(
                f"--model {self.location}: the weights lack {len(which)} parameters of the architecture "
                f"(first {which[0]!r}); they would be random, so the model is refused"
            )
        if self.card.family == WHISPER_TYPE:
            from extractors.whisper import WhisperExtractor

            features = transformers.WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
            encoder = model.encoder.to(device).eval()
            return WhisperExtractor(encoder, features, self.card, device, precision)
        from extractors.ssl import SslExtractor

        return SslExtractor(model.to(device).eval(), self.card, device, precision)


_ARCHITECTURE_KEYS = frozenset(
    {
        "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "hidden_act", "layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "conv_dim",
        "conv_stride", "conv_kernel", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
        "conv_pos_kernel_size", "conv_pos_batch_norm", "do_stable_layer_norm", "num_buckets",
        "max_bucket_distance", "feat_proj_layer_norm", "d_model", "encoder_layers", "encoder_attention_heads",
        "encoder_ffn_dim", "activation_function", "num_mel_bins", "max_source_positions", "scale_embedding",
    }
)  # fmt: skip


def _card(name: str, location: str, folder: Path, config: Mapping[str, Any]) -> ModelCard:
    family = config.get("model_type")
    if family not in (*SSL_TYPES, WHISPER_TYPE):
        raise ModelError(
            f"--model {location}: config.json says model_type {family!r}; "
            f"supported are {', '.join((*SSL_TYPES, WHISPER_TYPE))}"
        )
    try:
        if family == WHISPER_TYPE:
            return ModelCard(
                name=name,
                family=family,
                n_layers=config["encoder_layers"] + 1,
                n_features=config["d_model"],
                sample_rate_hz=16_000,
                hop_samples=320,
                normalisation="none",
                normalisation_source="Whisper takes raw audio",
                max_samples=480_000,
                fixed_samples=480_000,
            )
        # Keys that equal the architecture's default may be left out of config.json.
        from transformers import AutoConfig

        full = AutoConfig.for_model(family, **{k: v for k, v in config.items() if k != "model_type"})
        hop = 1
        for stride in full.conv_stride:
            hop *= stride
        normalisation, rate, why = _input_convention(folder)
        return ModelCard(
            name=name,
            family=family,
            n_layers=full.num_hidden_layers + 1,
            n_features=full.hidden_size,
            sample_rate_hz=rate,
            hop_samples=hop,
            normalisation=normalisation,
            normalisation_source=why,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"--model {location}: config.json is not that of a {family} model ({error})"
        ) from error


def _input_convention(folder: Path) -> tuple[Normalisation, int, str]:
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return "none", 16_000, "the folder has no preprocessor_config.json, so none is applied"
    config = _read_json(file, str(folder))
    normalise = config.get("do_normalize", True)
    return (
        "zero-mean-unit-variance" if normalise else "none",
        int(config.get("sampling_rate", 16_000)),
        f"preprocessor_config.json says do_normalize={str(bool(normalise)).lower()}",
    )


def _read_json(file: Path, location: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError) as error:
        raise ModelError(f"--model {location}: {os.path.basename(file)} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"--model {location}: {os.path.basename(file)} is not a JSON object")
    return content
