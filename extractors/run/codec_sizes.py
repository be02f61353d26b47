"""What the values of a model take under each codec, from those of one batch: how well they pack is theirs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featurestore.errors import ConfigError
from featurestore.format.layer_arrays import LayerShape, choose_chunk_rows, encode_layer
from featurestore.format.number_types import DTypeName

# What stands after --codec → codec and dtype of the layers.
CODECS: Mapping[str, tuple[str, DTypeName]] = {
    "fast": ("fast", "float32"),
    "small": ("small", "float32"),
    "half": ("fast", "float16"),
    "bitround10": ("bitround10", "float32"),
}


def row_bytes(layers: Mapping[int, np.ndarray], unit_rows: int) -> dict[str, float]:
    """Bytes of a row of all layers, by codec; of those that can hold these values.

    Args:
        layers: layer → values `[n, functionals, features]`, the same rows of each; of no more than an inner
            chunk, which is packed by itself.
        unit_rows: rows of a unit of the key.
    """
    found: dict[str, float] = {}
    for name, (codec, dtype) in CODECS.items():
        try:
            found[name] = sum(_packed(values, codec, dtype, unit_rows) for values in layers.values())
        except ConfigError:  # beyond what float16 holds
            continue
    return found


def _packed(values: np.ndarray, codec: str, dtype: DTypeName, unit_rows: int) -> float:
    """Bytes of a row of one layer."""
    _, n_functionals, n_features = values.shape
    whole = n_functionals * n_features * np.dtype(dtype).itemsize
    some = values[: choose_chunk_rows(unit_rows, whole)]
    shape = LayerShape(
        n_functionals=n_functionals,
        n_features=n_features,
        unit_rows=len(some),
        dtype=dtype,
        codec=codec,
        chunk_rows=len(some),
    )
    return len(encode_layer(shape, some)) / len(some)
