"""What is wrong with the values of a shard, given what its unit's record says of the rows."""

from __future__ import annotations

import numpy as np

from featurestore import layout
from featurestore.key import KeyInfo
from featurestore.ledger import Record


def wrong_values(info: KeyInfo, name: str, data: bytes, record: Record, owned: np.ndarray) -> str | None:
    """Decode a shard, and compare its values with the statuses of the rows.

    Args:
        info: the key.
        name: the shard's, below the key.
        data: its bytes.
        record: of its unit.
        owned: bool `[n_rows]`, which rows of the unit are somebody's: the others may hold anything.

    Returns:
        The complaint; None where there is none.

    Raises:
        Exception: whatever a decoder raises over damaged bytes.
    """
    ok = record.column("status") == "ok"
    if info.frames is not None and name.startswith("frames_"):
        total = int(record.column("n_frames").sum())
        frames = layout.decode_frames(info.frames, data)[:total]
        if len(frames) < total or not np.isfinite(frames).all():
            return "frames are missing or not finite"
        return None
    values = layout.decode_layer(info.shape, data)[: record.n_rows]
    finite = np.isfinite(values).all(axis=(1, 2))
    if (ok & owned & ~finite).any():
        return f"{int((ok & owned & ~finite).sum())} rows with status ok hold values that are not finite"
    if (~ok & owned & ~np.isnan(values).all(axis=(1, 2))).any():
        return "failed rows hold values"
    return None
