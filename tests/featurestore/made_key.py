"""A key with given values, for tests of what is read from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.backends.storage import open_storage
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.reader import Features, open_store
from featurestore.store.writer import UnitRows, open_key


def key(folder: Path, values: np.ndarray) -> Features:
    """A key whose layer 0 holds `values` `[n, d]`."""
    n = len(values)
    ids = np.array([f"u{i:04d}" for i in range(n)], dtype=object)
    table = pd.DataFrame({"utterance_id": ids, "path": [f"{i}.wav" for i in range(n)]})
    request = KeyRequest(
        model="m",
        dataset="d",
        fingerprint={},
        functionals=("mean",),
        layers=(0,),
        n_features=values.shape[1],
        unit_rows=64,
    )
    manifest = from_table(table, source="made", base=folder, check_files=False)
    writer, _ = open_key(open_storage(folder), request, manifest, ids)
    for unit in writer.info.units:
        rows = slice(unit.first_row, unit.stop_row)
        block = values[rows].astype(np.float32)[:, None]
        facts = UnitRows(
            status=["ok"] * len(block),
            n_frames=np.full(len(block), 9),
            duration_s=np.full(len(block), 1.0),
            audio_hash=[f"h{i}" for i in range(unit.first_row, unit.stop_row)],
        )
        writer.write_unit(unit, [(0, block)], facts, audio_s=1.0, elapsed_s=1.0, versions={})
    return open_store(folder).features("m", "d")
