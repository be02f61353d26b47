"""Small keys with everything in them that an interchange format may lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.backends.storage import open_storage
from featurestore.manifest.table import Manifest, from_table, to_text
from featurestore.store.key_request import KeyRequest
from featurestore.store.reader import Features, open_store
from featurestore.store.writer import KeyWriter, UnitRows, open_key
from featurestore.upkeep.verification import verify_key

FUNCTIONALS = ("mean", "std")
LAYERS = (0, 1, 3)
FINGERPRINT = {
    "model": {"weights_sha256": "ab" * 32, "name": "ñandú"},
    "input": {"normalisation": "peak", "min_samples": 5000},
    "functionals": list(FUNCTIONALS),
    "dtype": "float32",
}
AWKWARD = ["007", "a,b", "ñu", "line\nbreak", 'it\'s "so"', " led and trailed ", "", "NA", "tab\there", "1e5"]


def manifest_of(n: int) -> Manifest:
    """Ids with separators, commas, ñ and leading zeros; labels with line breaks; times, channels, splits."""
    table = pd.DataFrame(
        {
            "utterance_id": [f"00{i}/ñ,{i}.{i}" for i in range(n)],
            "path": [f"/audio/año {i}.wav" for i in range(n)],
            "start_s": [["", "0.1", "1.5"][i % 3] for i in range(n)],
            "end_s": [["", "0.30000000000000004", "2"][i % 3] for i in range(n)],
            "channel": [["", "0", "1"][i % 3] for i in range(n)],
            "split": [["train", "train", "val", "test"][i % 4] for i in range(n)],
            "group": [f"g{i % 5}" for i in range(n)],
            "call type": [AWKWARD[i % len(AWKWARD)] for i in range(n)],
            "a/b%.": [f"{i:03d}" for i in range(n)],
            "species": [["AMRE|OVEN", "|", "", "OVEN"][i % 4] for i in range(n)],
        }
    )
    return from_table(table, source="m.csv", base=Path("/"), check_files=False)


def values_of(layer: int, n: int, n_features: int = 6) -> np.ndarray:
    """Random float32 `[n, 2, n_features]` with extremes: the smallest, the largest, negative zero."""
    values = np.random.default_rng([layer, n]).standard_normal((n, 2, n_features)).astype(np.float32)
    values[0, 0, :3] = np.array([np.finfo(np.float32).tiny / 2, np.finfo(np.float32).max, -0.0])
    return values


def write_key(
    url: str | Path,
    *,
    n: int = 23,
    unit_rows: int = 8,
    n_features: int = 6,
    dtype: str = "float32",
    failed: tuple[int, ...] = (4, 10),
    units: tuple[int, ...] | None = None,
    shuffled: bool = True,
    manifest: Manifest | None = None,
    prune: bool = False,
    **changes: Any,
) -> KeyWriter:
    """Make (or grow) key tiny/calls; failed rows are counted in the store's order."""
    manifest = manifest_of(n) if manifest is None else manifest
    fingerprint = {**FINGERPRINT, "dtype": dtype}
    options: dict[str, Any] = {
        "model": "tiny",
        "dataset": "calls",
        "fingerprint": fingerprint,
        "functionals": FUNCTIONALS,
        "layers": LAYERS,
        "n_features": n_features,
        "unit_rows": unit_rows,
        "dtype": dtype,
        "versions": {"python": "3.11", "torch": "2.13"},
        "model_card": {"licence": "MIT", "width": n_features},
    } | changes
    ids = manifest.table["utterance_id"].to_numpy(object)
    if shuffled:
        ids = ids[np.random.default_rng(0).permutation(len(ids))]
    writer, _ = open_key(open_storage(url), KeyRequest(**options), manifest, ids, prune=prune)
    for unit in writer.pending_units(options["layers"]):
        if units is not None and unit.index not in units:
            continue
        rows = range(unit.first_row, unit.stop_row)
        ok = np.array([r not in failed for r in rows])
        layers = []
        for layer in options["layers"]:
            part = values_of(layer, unit.stop_row, n_features)[unit.first_row :]
            if dtype == "float16":
                part = np.clip(part, -100, 100)
            part[~ok] = np.nan
            layers.append((layer, part))
        n_frames = np.where(ok, np.arange(unit.n_rows) + 15, 0)
        frames = np.ones((n_frames.sum(), n_features), dtype=np.float32)
        facts = UnitRows(
            status=["ok" if o else "failed: año, cut\nshort" for o in ok],
            n_frames=n_frames,
            duration_s=np.where(ok, 1 / (np.arange(unit.n_rows) + 3), np.nan),
            audio_hash=[f"{r:08x}" if o else "" for r, o in zip(rows, ok, strict=True)],
            frames=None if "frames" not in changes else dict.fromkeys(options["layers"], frames),
        )
        writer.write_unit(unit, layers, facts, audio_s=1.0, elapsed_s=0.1, versions={})
    writer.finish()
    return writer


def read_key(url: str | Path, model: str = "tiny", dataset: str = "calls") -> Features:
    """The key, opened."""
    return open_store(url).features(model, dataset)


def assert_same_rows(got: Features, expected: Features, layers: tuple[int, ...] = LAYERS) -> None:
    """Same ids in the same order, same facts, same labels, same bits."""
    pd.testing.assert_frame_equal(got.index.drop(columns="row"), expected.index.drop(columns="row"))
    assert tuple(got.layers) == layers
    for k in layers:
        a, b = got.layer(k), expected.layer(k)
        assert a.dtype == b.dtype
        assert a.numpy().tobytes() == b.numpy().tobytes()


def findings(url: str | Path, model: str = "tiny", dataset: str = "calls") -> list[str]:
    """What `verify_key` says of the key."""
    return [str(f) for f in verify_key(open_storage(url), model, dataset).findings]


def manifest_text(features: Features, ids: list[str] | None = None) -> pd.DataFrame:
    """The stored manifest as text, or its rows of these ids."""
    table = to_text(features.manifest.table)
    if ids is not None:
        table = table[table["utterance_id"].isin(ids)]
    return table.reset_index(drop=True)
