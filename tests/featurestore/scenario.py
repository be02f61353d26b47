"""A small key and its values, for tests that need a filled store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.backends.storage import Storage
from featurestore.manifest.table import Manifest, from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.writer import KeyWriter, UnitRows, open_key

N_ROWS, UNIT_ROWS, N_FEATURES = 23, 8, 6
LAYERS = (0, 1, 3)


def manifest_of(n: int, first: int = 0) -> Manifest:
    table = pd.DataFrame(
        {"path": [f"f{i:03d}.wav" for i in range(first, first + n)], "kind": [f"k{i % 3}" for i in range(n)]}
    )
    return from_table(table, source="m.csv", base=Path("/audio"), check_files=False)


def request(**changes: object) -> KeyRequest:
    options: dict[str, object] = {
        "model": "tiny",
        "dataset": "calls",
        "fingerprint": {"model": {"weights_sha256": "00"}, "dtype": "float32"},
        "functionals": ("mean", "std"),
        "layers": LAYERS,
        "n_features": N_FEATURES,
        "unit_rows": UNIT_ROWS,
    }
    return KeyRequest(**(options | changes))  # type: ignore[arg-type]


def values_of(layer: int, n: int = N_ROWS) -> np.ndarray:
    return np.random.default_rng(layer).standard_normal((n, 2, N_FEATURES)).astype(np.float32)


def read_everything(url: str) -> None:
    features = open_store(url).features("tiny", "calls")
    assert len(features.index) == N_ROWS
    for k in features.layers:
        features.layer(k).numpy()


def facts_of(n: int, status: list[str] | None = None) -> UnitRows:
    return UnitRows(
        status=status or ["ok"] * n,
        n_frames=np.arange(n) + 15,
        duration_s=np.linspace(0.5, 0.1, n),
        audio_hash=[f"h{i}" for i in range(n)],
    )


def write(writer: KeyWriter, values: dict[int, np.ndarray], only: list[int] | None = None) -> None:
    for unit in writer.pending_units(list(values)):
        if only is None or unit.index in only:
            part = [(k, v[unit.first_row : unit.stop_row]) for k, v in values.items()]
            writer.write_unit(unit, part, facts_of(unit.n_rows), audio_s=1.0, elapsed_s=0.1, versions={})
    writer.finish()


def fill(storage: Storage) -> None:
    """Create the key and commit all of its units."""
    manifest = manifest_of(N_ROWS)
    writer, notes = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    assert notes == []
    write(writer, {k: values_of(k) for k in LAYERS})
