"""AVES and BirdAVES from their published torchaudio export, as a HuBERT model.

A model is two files: ``NAME.torchaudio.pt``, the parameters of torchaudio's `wav2vec2_model`, and
``NAME.torchaudio.model_config.json``, its arguments. Both are HuBERT under other names, so the parameters
go into a `HubertModel`, every one of them and no other: a load that is not strict leaves the positional
convolution random without a word.

torchaudio's output i is hidden state i+1 here; hidden state 0, the input of the first block, torchaudio
does not give. The paper's AVES layer 0 is something else: the projection before positions and LayerNorm.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from extractors.models.catalogue import facts_for
from extractors.models.huggingface.architecture import (
    MOST_CONVOLUTIONS,
    MOST_INNER,
    check_architecture,
    least_parameters,
    making,
    require_room,
)
from extractors.models.huggingface.families import family_reference, find_family
from extractors.models.huggingface.model_folder import named_line, one_line, read_json
from extractors.models.interface import Extractor, ModelCard, Precision, Reference
from extractors.models.weights import random_model, untrained_name, weights_fingerprint
from featurestore.errors import ModelError
from featurestore.untrusted.document_shape import fields, many, row_of, text, whole, yes_or_no

WEIGHTS_SUFFIX = ".torchaudio.pt"
CONFIG_SUFFIX = ".torchaudio.model_config.json"
_WHOLE = whole(1, MOST_INNER)
_CONFIG = fields(
    {
        "extractor_mode": text,
        "extractor_conv_layer_config": many(row_of(_WHOLE, _WHOLE, _WHOLE), 1, MOST_CONVOLUTIONS),
        "extractor_conv_bias": yes_or_no,
        **dict.fromkeys(
            (
                "encoder_embed_dim",
                "encoder_pos_conv_kernel",
                "encoder_pos_conv_groups",
                "encoder_num_layers",
                "encoder_num_heads",
                "encoder_ff_interm_features",
            ),
            _WHOLE,
        ),
        "encoder_layer_norm_first": yes_or_no,
    }
)
# torchaudio's name → transformers'; the first prefix that fits is replaced.
_PREFIXES = (
    ("encoder.feature_projection.", "feature_projection."),
    ("encoder.transformer.", "encoder."),
)
# Weight normalisation as older versions of PyTorch named it.
_WEIGHT_NORM = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}


def is_aves(path: Path) -> bool:
    """Whether a path is a torchaudio export: one of its files, or a folder with its weights or config."""
    return bool(_exports(path))


def _exports(path: Path) -> set[str]:
    """Names of the exports in a folder, or of that which a file is of."""
    files = path.glob("*") if path.is_dir() else [path]
    return {
        file.name.removesuffix(suffix)
        for file in files
        for suffix in (WEIGHTS_SUFFIX, CONFIG_SUFFIX)
        if file.name.endswith(suffix)
    }


class AvesSource:
    """A torchaudio export.

    Args:
        path: folder with one export, or one of its two files.
        spec: what the user wrote, for messages.
        seed: of random weights; None: the export's.

    Raises:
        ModelError: a file is missing, there are several, or the configuration is not one of torchaudio's.
    """

    def __init__(self, path: Path, *, spec: str, seed: int | None = None) -> None:
        self.spec = spec
        self._seed = seed
        stems = _exports(path)
        if len(stems) != 1:
            raise ModelError(
                f"--model {spec}: {len(stems)} torchaudio exports in this folder "
                f"({', '.join(sorted(stems)[:3])}); give the path of one .torchaudio.pt file"
            )
        stem, folder = stems.pop(), path if path.is_dir() else path.parent
        self._weights = folder / f"{stem}{WEIGHTS_SUFFIX}"
        config_file = folder / f"{stem}{CONFIG_SUFFIX}"
        for file in [config_file] if seed is not None else [config_file, self._weights]:
            if not file.is_file():
                raise ModelError(f"--model {spec}: {file.name} is missing; an export is both of its files")
        self._options = _hubert_options(read_json(config_file, spec), spec)
        fields = find_family("hubert").describe(SimpleNamespace(**self._options), {})
        facts = facts_for(stem, None, "hubert", n_layers=fields["n_layers"], n_features=fields["n_features"])
        name = path.resolve().name if path.is_dir() else stem
        known = {} if facts is None or seed is not None else facts.card_fields()
        if seed is not None:
            name = untrained_name(name, seed)
        self.card = ModelCard(
            name=name,
            family="hubert",
            normalisation="none",
            normalisation_source="AVES was trained on raw audio",
            exported_by="torchaudio",
            trained=seed is None,
            **fields,
            **known,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        self._require_room()
        return {
            "family": "hubert",
            "config": dict(sorted(self._options.items())),
            **weights_fingerprint([self._weights], self._seed),
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`."""
        with making(f"--model {self.spec}"):
            return find_family("hubert").build(self._model(), {}, self.card, device, precision)

    def reference(self) -> Reference | None:
        """See `Referenced.reference`: transformers, on torchaudio's weights as they are read here."""
        return family_reference(find_family("hubert"), self._model(), {})

    def _model(self) -> Any:
        from transformers import HubertConfig, HubertModel

        self._require_room()
        # Without masking in training there is no `masked_spec_embed`, so that nothing at all may be missing.
        with making(f"--model {self.spec}"):
            config = HubertConfig(**self._options, mask_time_prob=0.0, mask_feature_prob=0.0)
            if self._seed is None:
                model = HubertModel(config)
                self._fill(model)
            else:
                model = random_model(config, self._seed)
            return model.eval()

    def _require_room(self) -> None:
        files = [self._weights] if self._seed is None else None
        require_room(least_parameters(self._options), files, f"--model {self.spec}")

    def _fill(self, model: Any) -> None:
        """Put torchaudio's parameters into a `HubertModel`, all of them or none."""
        import torch

        try:
            state = torch.load(self._weights, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(
                f"--model {self.spec}: {self._weights.name} cannot be loaded ({one_line(error)})"
            ) from error
        if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
            raise ModelError(
                f"--model {self.spec}: {self._weights.name} holds no parameters by name; expected the "
                "torchaudio export, not the fairseq checkpoint"
            )
        converted = {_hubert_name(k): v for k, v in state.items() if not k.startswith("aux.")}
        try:
            model.load_state_dict(converted, strict=True)
        except RuntimeError as error:
            raise ModelError(
                f"--model {self.spec}: the weights do not fit the configuration beside them "
                f"({one_line(error, 400)})"
            ) from error


def _hubert_name(name: str) -> str:
    """Torchaudio's name of a parameter → that of transformers' `HubertModel`."""
    for old, new in _PREFIXES:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in _WEIGHT_NORM.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _hubert_options(config: Mapping[str, Any], spec: str) -> dict[str, Any]:
    """Arguments of torchaudio's `wav2vec2_model` → options of `HubertConfig`."""
    try:
        _CONFIG(config, "")
        mode = config["extractor_mode"]
        if mode not in ("group_norm", "layer_norm"):
            raise ValueError(f"extractor_mode {mode!r}")
        convs = config["extractor_conv_layer_config"]
        channels, kernels, strides = (list(column) for column in zip(*convs, strict=True))
        options = {
            "feat_extract_norm": mode.removesuffix("_norm"),
            "conv_dim": channels,
            "conv_kernel": kernels,
            "conv_stride": strides,
            "conv_bias": config["extractor_conv_bias"],
            "hidden_size": config["encoder_embed_dim"],
            "num_conv_pos_embeddings": config["encoder_pos_conv_kernel"],
            "num_conv_pos_embedding_groups": config["encoder_pos_conv_groups"],
            "num_hidden_layers": config["encoder_num_layers"],
            "num_attention_heads": config["encoder_num_heads"],
            "intermediate_size": config["encoder_ff_interm_features"],
            "do_stable_layer_norm": config["encoder_layer_norm_first"],
            "feat_proj_layer_norm": True,
            "layer_norm_eps": 1e-5,  # PyTorch's default, which torchaudio uses throughout
            "hidden_act": "gelu",
            "feat_extract_activation": "gelu",
        }
        check_architecture(options)
        return options
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"--model {spec}: the configuration is not that of torchaudio's wav2vec2_model "
            f"({named_line(error)})"
        ) from error
