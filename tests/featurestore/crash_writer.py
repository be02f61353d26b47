"""A writer process for the crash tests: commits units of a known key until all are committed.

``python crash_writer.py URL N_ROWS UNIT_ROWS PAUSE_S``
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.backends.storage import open_storage
from featurestore.errors import UserError
from featurestore.manifest.table import from_table
from featurestore.store.claims import WAITING, Claims, Work, renewing, work_through
from featurestore.store.key_request import KeyRequest
from featurestore.store.writer import UnitRows, open_key

LAYERS = (0, 1, 2)
N_FEATURES = 64


def values(layer: int, rows: range) -> np.ndarray:
    """What row r of a layer holds: drawn from a generator of its own, so units may be done in any order."""
    return np.stack(
        [np.random.default_rng((layer, r)).standard_normal((2, N_FEATURES)) for r in rows]
    ).astype(np.float32)


def main(url: str, n_rows: int, unit_rows: int, pause_s: float) -> None:
    table = pd.DataFrame({"path": [f"f{i:05d}.wav" for i in range(n_rows)], "kind": "k"})
    manifest = from_table(table, source="m.csv", base=Path("/audio"), check_files=False)
    request = KeyRequest(
        model="tiny",
        dataset="calls",
        fingerprint={"made": "for crash tests"},
        functionals=("mean", "std"),
        layers=LAYERS,
        n_features=N_FEATURES,
        unit_rows=unit_rows,
    )
    storage = open_storage(url)
    writer, _ = open_key(storage, request, manifest, manifest.table["utterance_id"].to_numpy(object))
    claims = Claims(storage, writer.info.path)
    with renewing(claims, every_s=0.2):
        work = Work(
            claims=claims,
            units=writer.pending_units(LAYERS),
            is_committed=lambda u: writer.is_committed(u, LAYERS),
        )
        for claimed in work_through([work]):
            if claimed is WAITING:
                continue
            unit, _ = claimed
            rows = range(unit.first_row, unit.stop_row)
            layers = []
            for k in LAYERS:
                layers.append((k, values(k, rows)))
                time.sleep(pause_s)
            facts = UnitRows(
                status=["ok"] * len(rows),
                n_frames=np.full(len(rows), 15),
                duration_s=np.full(len(rows), 0.3),
                audio_hash=[f"{r:032x}" for r in rows],
            )
            claims.persist(
                unit.index,
                partial(
                    writer.write_unit,
                    unit,
                    layers,
                    facts,
                    audio_s=1.0,
                    elapsed_s=0.1,
                    versions={},
                    is_held=partial(claims.holds, unit.index),
                ),
                partial(writer.is_committed, unit, LAYERS),
            )
            claims.release(unit.index)
    writer.finish()


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
