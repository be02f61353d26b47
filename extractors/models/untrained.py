"""``untrained:MODEL``: the architecture with seeded random weights.

What a layer curve of a trained model is worth shows beside the same architecture untrained. Weights come
from the architecture's own initialiser, on the CPU whatever the device, so a seed gives the same model
everywhere. Versions of PyTorch and transformers are part of the fingerprint: either may change an
initialiser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from extractors.models.weights import hash_weights

_SEEDED = re.compile(r"(?:(\d{1,9}):)?(.+)", re.DOTALL)


def split_seed(argument: str) -> tuple[int, str]:
    """``"3:facebook/wav2vec2-base"`` → ``(3, "facebook/wav2vec2-base")``; without a number the seed is 0."""
    match = _SEEDED.fullmatch(argument)
    if match is None:
        return 0, argument
    return int(match[1] or 0), match[2]


def untrained_name(name: str, seed: int) -> str:
    """Name of the model in the store, beside that of the trained one."""
    return f"{name}-untrained" if seed == 0 else f"{name}-untrained-{seed}"


def weights_fingerprint(files: Sequence[Path], seed: int | None) -> Mapping[str, Any]:
    """What decides the weights: their files, or the seed and what initialises by it."""
    if seed is None:
        return {"weights_sha256": hash_weights(files)}
    # Without the build (+cpu, +cu128): the CPU's generator is the same in all of them.
    torch = version("torch").partition("+")[0]
    return {"untrained": {"seed": seed, "torch": torch, "transformers": version("transformers")}}


def random_model(config: Any, seed: int) -> Any:
    """A transformers model of this configuration, float32, on the CPU.

    The process's own random state is left as it was.
    """
    import torch
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config, dtype=torch.float32)
