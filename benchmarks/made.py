"""A made key of any size: one layer, eleven classes of the sizes of marmoset calls, values per class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.backends.storage import open_storage
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.plan import Unit
from featurestore.store.writer import KeyWriter, UnitRows, open_key

# InfantMarmosetsVox has these many clips of each of its eleven call types.
CLASS_SIZES = np.array([1283, 27977, 36582, 1408, 728, 686, 1676, 23, 293, 2064, 202])
MODEL, DATASET, LABEL = "made", "calls", "call"
N_FUNCTIONALS = 2
CENTRES_SCALE = 0.06  # hard enough that probes do not reach 100 %


def classes(n: int, seed: int = 0) -> np.ndarray:
    """Labels `[n]`; every class occurs at least three times."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(CLASS_SIZES), n, p=CLASS_SIZES / CLASS_SIZES.sum())
    y[: 3 * len(CLASS_SIZES)] = np.repeat(np.arange(len(CLASS_SIZES)), 3)
    return y


def values(y: np.ndarray, n_features: int, seed: int = 0) -> np.ndarray:
    """Rows float32 `[n, n_features]` of labels `[n]`; the same centres whatever the seed."""
    centres = np.random.default_rng(99).standard_normal((len(CLASS_SIZES), n_features), dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal((len(y), n_features), dtype=np.float32)
    return noise + np.float32(CENTRES_SCALE) * centres[y]


def write_key(root: Path, rows: int, n_features: int) -> np.ndarray:
    """Write the key unit by unit and return its labels; one unit is in memory at a time."""
    y = classes(rows)
    names = np.array([f"call-{c:02d}" for c in range(len(CLASS_SIZES))], dtype=object)
    table = pd.DataFrame({"path": [f"{i:07d}.wav" for i in range(rows)], LABEL: names[y]})
    manifest = from_table(table, source="m", base=Path("/"), check_files=False)
    request = KeyRequest(
        model=MODEL,
        dataset=DATASET,
        fingerprint={"made": "for a benchmark"},
        functionals=("mean", "std"),
        layers=(0,),
        n_features=n_features // N_FUNCTIONALS,
    )
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(open_storage(root), request, manifest, ids)

    def block(unit: Unit) -> np.ndarray:
        part = values(y[unit.first_row : unit.stop_row], n_features, unit.index)
        return part.reshape(unit.n_rows, N_FUNCTIONALS, -1)

    write_units(writer, block)
    return y


def write_units(writer: KeyWriter, block: Callable[[Unit], np.ndarray]) -> None:
    """Write layer 0 of every unit; `block` gives its values `[rows, functionals, features]`."""
    for unit in writer.info.units:
        facts = UnitRows(
            status=["ok"] * unit.n_rows,
            n_frames=np.full(unit.n_rows, 15),
            duration_s=np.full(unit.n_rows, 0.3),
            audio_hash=[f"{i:032x}" for i in range(unit.first_row, unit.stop_row)],
        )
        writer.write_unit(unit, [(0, block(unit))], facts, audio_s=0, elapsed_s=0, versions={})
