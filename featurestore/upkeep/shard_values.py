"""What is wrong with the values of a shard, given what its unit's record says of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurestore.format import layer_arrays
from featurestore.format.row_arrays import STATUS_OK
from featurestore.store.key import KeyInfo


def wrong_values(
    info: KeyInfo, name: str, data: bytes, rows: Mapping[str, Sequence[Any]], owned: np.ndarray
) -> str | None:
    """Decode a shard, and compare its values with the statuses of the rows.

    Args:
        info: the key.
        name: the shard's, below the key.
        data: its bytes.
        rows: column → one value per row of its unit, as in the unit's record.
        owned: bool `[n_rows]`, which rows of the unit are somebody's: the others may hold anything.

    Returns:
        The complaint; None where there is none.

    Raises:
        Exception: whatever a decoder raises over damaged bytes.
    """
    ok = np.array(rows["status"], dtype=object) == STATUS_OK
    if info.frames is not None and name.startswith("frames_"):
        total = sum(n or 0 for n in rows["n_frames"])
        frames = layer_arrays.decode_frames(info.frames, data)[:total]
        if len(frames) < total or not np.isfinite(frames).all():
            return "frames are missing or not finite"
        return None
    values = layer_arrays.decode_layer(info.shape, data)[: len(ok)]
    finite = np.isfinite(values).all(axis=(1, 2))
    if (ok & owned & ~finite).any():
        return f"{int((ok & owned & ~finite).sum())} rows with status ok hold values that are not finite"
    if (~ok & owned & ~np.isnan(values).all(axis=(1, 2))).any():
        return "failed rows hold values"
    return None
