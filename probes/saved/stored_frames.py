"""Attention over frames as arrays and plain values, and back; a kind of `probes.saved.stored_arrays`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from featurestore.arrays import FloatArray
from featurestore.untrusted.document_shape import fields, many, one_of, whole
from probes.saved.sklearn_classes import MOST_WIDTH
from probes.training.autograd import OF_CLASSES, OF_NUMBERS, Feed, Trained
from probes.training.frames import FrameRows
from probes.training.networks import AttentivePooling, Head, MultiheadPooling, WeightedFrames

FrameScores = Callable[[Feed], FloatArray]
FramePooler = AttentivePooling | MultiheadPooling | WeightedFrames
# `n_layers` and `heads` are 0 where nothing is summed, and where one query looks at whole frames.
_SETTINGS = fields(
    {
        "sizes": many(whole(1, MOST_WIDTH), 2, 100),
        "n_layers": whole(0, 10_000),
        "heads": whole(0, MOST_WIDTH),
    },
    {"frames_dtype": one_of("float16", "float32")},
)


def taken_apart(network: FramePooler) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Settings as JSON values, and arrays by name."""
    pooling = network.pooling if isinstance(network, WeightedFrames) else network
    settings = {
        "sizes": list(pooling.head.sizes),
        "n_layers": network.n_layers if isinstance(network, WeightedFrames) else 0,
        "heads": pooling.attention.num_heads if isinstance(pooling, MultiheadPooling) else 0,
    }
    return settings, {name: value.numpy() for name, value in network.state_dict().items()}


def put_together(
    settings: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
    n_features: int,
    n_classes: int,
    *,
    of_numbers: bool = False,
) -> FrameScores:
    """From standardised frames (`probes.training.frames`) to class scores `[n, C]`; tried on one frame.

    Args:
        settings: See `taken_apart`.
        arrays: See `taken_apart`.
        n_features: Values of a frame, of all layers.
        n_classes: C; 1 for numbers.
        of_numbers: Scores are numbers, as they come from the network.

    Raises:
        ValueError: they do not fit together; a RuntimeError where arrays lack or have another shape.
    """
    _SETTINGS(dict(settings), "settings")
    sizes, n_layers, heads = settings["sizes"], settings["n_layers"], settings["heads"]
    if max(1, n_layers) * sizes[0] != n_features or sizes[-1] != n_classes:
        raise ValueError(f"expected networks of {n_features} values and {n_classes} classes, got {sizes}")
    if heads and sizes[0] % heads:
        raise ValueError(f"{heads} heads cannot share {sizes[0]} features")
    for name, value in arrays.items():
        if value.dtype != np.float32:
            raise ValueError(f"{name}: expected float32, got {value.dtype}")
    # On no device: what a probe of somebody else says of its sizes must not take memory.
    with torch.device("meta"):
        top = Head(sizes, 0.0, 0)
        pooling = MultiheadPooling(sizes[0], heads, top) if heads else AttentivePooling(sizes[0], top)
        network: nn.Module = WeightedFrames(n_layers, pooling) if n_layers else pooling
    weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    scores = Trained(network, OF_NUMBERS if of_numbers else OF_CLASSES).scores
    one, first = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    tried = scores(FrameRows(np.ones((1, n_features), dtype=np.float32), first, one, max(1, n_layers)))
    if tried.shape != (1, n_classes):
        raise ValueError(f"expected scores of {n_classes} classes, got {tried.shape[1:]}")
    return scores
