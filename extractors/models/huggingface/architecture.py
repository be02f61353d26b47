"""The numbers of a model's configuration, looked at before a model is made of them.

A `config.json` of a few bytes can ask for any number of layers of any width. What it asks for has to be in
ranges that no published model comes near, and to fit what the weight files hold, or this machine's memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurestore.compute.memory import available_bytes, format_size
from featurestore.errors import ModelError, UserError
from featurestore.untrusted.document_shape import (
    Check,
    anything,
    by_name,
    either,
    fields,
    many,
    nothing_or,
    number,
    text,
    whole,
    yes_or_no,
)
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.tensor_files import read_tensor_header

# XLS-R of two billion parameters has 48 layers of 1,920 features, 16 heads, and seven convolutions.
MOST_LAYERS = 1000
MOST_WIDTH = 65_536
MOST_INNER = 4 * MOST_WIDTH
MOST_HEADS = 1024
MOST_CONVOLUTIONS = 64
MOST_STAGES = 16
# Words of Whisper: 51,866.
MOST_WORDS = 1_000_000
# What other whole numbers count: mel bands, positions, token ids, frames of a mask.
MOST_OF_ANY = 10_000_000
_FLOAT32_BYTES = 4
_convolutions = many(whole(1, MOST_WIDTH), 1, MOST_CONVOLUTIONS)


def _of_stages(most: int) -> Check:
    """A whole number from 1 for each stage."""
    return many(whole(1, most), 1, MOST_STAGES)


_RANGES: Mapping[str, Check] = {
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers"), whole(1, MOST_LAYERS)),
    **dict.fromkeys(("hidden_size", "d_model", "adapter_attn_dim"), whole(1, MOST_WIDTH)),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim"), whole(1, MOST_INNER)),
    "num_attention_heads": either(
        "a whole number from 1 to 1,024, or one for each stage", whole(1, MOST_HEADS), _of_stages(MOST_HEADS)
    ),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), whole(1, MOST_HEADS)),
    # Of networks in stages.
    **dict.fromkeys(("depths", "num_block_repeats"), _of_stages(MOST_LAYERS)),
    **dict.fromkeys(("hidden_sizes", "in_channels", "out_channels"), _of_stages(MOST_WIDTH)),
    **dict.fromkeys(("kernel_sizes", "strides", "expand_ratios"), _of_stages(MOST_HEADS)),
    **dict.fromkeys(
        (
            "patch_embeds_hidden_size",
            "projection_dim",
            "hidden_dim",
            "num_channels",
            "spec_size",
            "window_size",
            "depth_divisor",
            "aff_block_r",
        ),
        whole(1, MOST_WIDTH),
    ),
    **dict.fromkeys(("num_stages", "patch_embed_input_channels"), whole(1, MOST_STAGES)),
    "depthwise_padding": many(whole(0, MOST_LAYERS), most=MOST_LAYERS),
    "patch_stride": either(
        "a whole number from 1, or several", whole(1, MOST_WIDTH), many(whole(1, MOST_WIDTH), 1, 2)
    ),
    **dict.fromkeys(("width_coefficient", "depth_coefficient", "mlp_ratio"), number(1e-3, 100)),
    **dict.fromkeys(("conv_dim", "conv_kernel", "conv_stride"), _convolutions),
    "vocab_size": whole(1, MOST_WORDS),
    **dict.fromkeys(
        (
            "conv_bias",
            "do_stable_layer_norm",
            "feat_proj_layer_norm",
            "qkv_bias",
            "scale_embedding",
            "conv_pos_batch_norm",
            "enable_fusion",
            "flatten_patch_embeds",
            "enable_patch_layer_norm",
        ),
        yes_or_no,
    ),
    **dict.fromkeys(("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"), whole(1, MOST_WIDTH)),
    **dict.fromkeys(("num_mel_bins", "max_length"), whole(1, MOST_WIDTH)),
    **dict.fromkeys(("frequency_stride", "time_stride"), whole(1, MOST_WIDTH)),
    "patch_size": either(
        "a whole number from 1, or several", whole(1, MOST_WIDTH), many(whole(1, MOST_WIDTH), 1, 2)
    ),
    "layer_norm_eps": number(0, 1),
}
_ANY = either(
    "a text, a number from -10,000,000 to 10,000,000, true or false, or a list or an object of these",
    yes_or_no,
    text,
    number(-MOST_OF_ANY, MOST_OF_ANY),
    many(anything, most=10_000),
    by_name(anything),
)
_PREPROCESSOR = fields(
    {},
    {
        "do_normalize": yes_or_no,
        "sampling_rate": whole(1000, 1_000_000),
        "mean": number(),
        "std": number(1e-12),
        **dict.fromkeys(("max_length", "num_mel_bins"), whole(1, MOST_OF_ANY)),
    },
)


def check_architecture(said: Mapping[str, Any]) -> None:
    """Refuse numbers of a configuration that no model has; what is null stands for the default.

    Raises:
        DocumentError: which, and what was expected.
    """
    for name, value in said.items():
        nothing_or(_RANGES.get(name, _ANY))(value, name)


def check_preprocessor(said: Mapping[str, Any], where: str) -> None:
    """Refuse a front end that cannot be: texts for numbers, rates out of range.

    Raises:
        ModelError: which, and what was expected.
    """
    try:
        _PREPROCESSOR({k: v for k, v in said.items() if v is not None}, "")
    except DocumentError as error:
        raise ModelError(f"{where}: {error}") from error


def least_parameters(config: Mapping[str, Any]) -> int:
    """Parameters that a model of this full configuration has at least."""

    def one(*names: str) -> int:
        return next((int(config[n]) for n in names if isinstance(config.get(n), int)), 0)

    layers, width = one("encoder_layers", "num_hidden_layers"), one("d_model", "hidden_size")
    inner = one("encoder_ffn_dim", "intermediate_size")
    dims, kernels = ([1, *(config.get("conv_dim") or ())], config.get("conv_kernel") or ())
    convolutions: int = sum(a * b * k for a, b, k in zip(dims, dims[1:], kernels, strict=False))
    # attention and feed-forward
    return layers * (4 * width * width + 2 * width * inner) + convolutions


@contextmanager
def making(what: str) -> Iterator[None]:
    """Make a model of a configuration: what no range tells of it, as an activation's name, is said here.

    Raises:
        ModelError: it makes no model.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # whatever libraries raise over what they never expected
        if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, of a device
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{what}: no model can be made of its config.json ({reason})") from error


def require_room(n_parameters: int, files: Sequence[Path] | None, what: str) -> None:
    """Refuse a configuration that asks for more than its weights hold, or this machine does.

    Args:
        n_parameters: see `least_parameters`.
        files: the weight files; None: weights are random.
        what: for the message.

    Raises:
        ModelError: there is no room for it; or a weight file that is not whole.
    """
    if files is None:
        needed, free = n_parameters * _FLOAT32_BYTES, available_bytes()
        if needed > free:
            raise ModelError(
                f"{what}: config.json asks for at least {n_parameters:,} parameters, {format_size(needed)}; "
                f"this machine has {format_size(free)} of memory for them"
            )
        return
    held = 0
    for file in files:
        if file.suffix == ".safetensors":
            try:
                header = read_tensor_header(file)
            except DocumentError as error:
                raise ModelError(f"{what}: {file.name} cannot be loaded ({error})") from error
            held += sum(math.prod(tensor.shape) for tensor in header.values())
        else:
            held += file.stat().st_size  # no number takes less than a byte
    if n_parameters > held:
        raise ModelError(
            f"{what}: config.json asks for at least {n_parameters:,} parameters, the weights have {held:,}; "
            "one of the two is of another model"
        )
