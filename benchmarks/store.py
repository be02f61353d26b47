"""What the store costs against raw files, h5py, and the all-layers npz of the study.

    python benchmarks/store.py [--rows 16384 72920] [--layers 13] [--folder DIR]

Every number is a ratio of medians measured in one run, alternately, on the same values, read from the page
cache. The npz is measured with as many layers as the folder has room for and stated as measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from machine import describe

from featurestore import open_store
from featurestore.manifest import from_table
from featurestore.storage import open_storage
from featurestore.writer import KeyRequest, UnitRows, open_key

N_FUNCTIONALS, N_FEATURES = 2, 768
N_SPARSE = 1000
REPEATS = 7


def seconds(*actions: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each action, run in turn so that drift hits all alike."""
    taken: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    for _ in range(repeats):
        for times, action in zip(taken, actions, strict=True):
            start = time.perf_counter()
            result = action()
            times.append(time.perf_counter() - start)
            del result
    return [statistics.median(t) for t in taken]


def values(rows: int, layer: int) -> np.ndarray:
    return np.random.default_rng(layer).standard_normal((rows, N_FUNCTIONALS, N_FEATURES), dtype=np.float32)


def write_store(root: Path, rows: int, layers: int, codec: str = "fast") -> float:
    table = pd.DataFrame({"path": [f"{i:06d}.wav" for i in range(rows)]})
    manifest = from_table(table, source="m", base=Path("/"), check_files=False)
    request = KeyRequest(
        model="m",
        dataset="d",
        fingerprint={"made": "for a benchmark"},
        functionals=("mean", "std"),
        layers=tuple(range(layers)),
        n_features=N_FEATURES,
        codec=codec,  # type: ignore[arg-type]
    )
    data = [values(rows, k) for k in range(layers)]
    start = time.perf_counter()
    writer, _ = open_key(
        open_storage(root), request, manifest, manifest.table["utterance_id"].to_numpy(object)
    )
    for unit in writer.info.units:
        part = slice(unit.first_row, unit.stop_row)
        facts = UnitRows(
            status=["ok"] * unit.n_rows,
            n_frames=np.full(unit.n_rows, 15),
            duration_s=np.full(unit.n_rows, 0.3),
            audio_hash=["0" * 32] * unit.n_rows,
        )
        pieces = [(k, data[k][part]) for k in range(layers)]
        writer.write_unit(unit, pieces, facts, audio_s=0, elapsed_s=0, versions={})
    writer.finish()
    return time.perf_counter() - start


def write_raw(folder: Path, rows: int, layers: int) -> float:
    """One np.save file per layer, each flushed to disk."""
    folder.mkdir()
    data = [values(rows, k) for k in range(layers)]
    start = time.perf_counter()
    for k, block in enumerate(data):
        with open(folder / f"{k}.npy", "wb") as file:
            np.save(file, block)
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - start


def write_hdf5(path: Path, rows: int, layers: int) -> float:
    data = [values(rows, k) for k in range(layers)]
    start = time.perf_counter()
    with h5py.File(path, "w") as file:
        for k, block in enumerate(data):
            file.create_dataset(f"layer_{k:02d}", data=block, chunks=(64, N_FUNCTIONALS, N_FEATURES))
        file.flush()
    return time.perf_counter() - start


def measure(rows: int, layers: int, folder: Path) -> None:
    print(f"\n{rows} rows × {layers} layers × {N_FUNCTIONALS * N_FEATURES} float32")
    store, raw, hdf5, npz = folder / "store", folder / "raw", folder / "x.h5", folder / "x.npz"
    written = [write_store(store, rows, layers), write_raw(raw, rows, layers), write_hdf5(hdf5, rows, layers)]
    print(f"  write   store / raw files with fsync    {written[0] / written[1]:6.2f}   (at most 2 wanted)")
    print(f"  write   store / h5py                    {written[0] / written[2]:6.2f}")
    layer = open_store(store).features("m", "d").layer(layers // 2)
    middle = f"layer_{layers // 2:02d}"

    def from_hdf5(rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        with h5py.File(hdf5) as file:
            return np.asarray(file[middle][rows])

    assert np.array_equal(layer.numpy(), np.load(raw / f"{layers // 2}.npy"))
    ours, plain, h5 = seconds(layer.numpy, lambda: np.load(raw / f"{layers // 2}.npy"), from_hdf5)
    print(f"  read    one layer / np.load             {ours / plain:6.2f}   (at most 1.3 wanted)")
    print(f"  read    one layer / h5py                {ours / h5:6.2f}")
    dasked, _ = seconds(lambda: layer.dask().compute(scheduler="threads"), lambda: None, repeats=3)
    print(f"  read    one layer by Dask / np.load     {dasked / plain:6.2f}")
    some = np.sort(np.random.default_rng(0).choice(rows, N_SPARSE, replace=False))
    ours_rows, h5_rows = seconds(lambda: layer.numpy(some), lambda: from_hdf5(some))
    print(f"  read    1,000 random rows / h5py        {ours_rows / h5_rows:6.2f}   (at most 3 wanted)")

    data = {f"layer_{k}": values(rows, k) for k in range(layers)}
    np.savez(npz, **data)
    del data

    def study() -> np.ndarray:
        with np.load(npz) as file:
            everything = {name: file[name] for name in file.files}
        return everything[f"layer_{layers // 2}"]

    ours_again, paper = seconds(layer.numpy, study, repeats=1)
    print(f"  read    the study's npz / one layer     {paper / ours_again:6.1f}   (at least 20 wanted)")
    files = sum(len(names) for _, _, names in os.walk(store))
    units = -(-rows // 1024)
    print(f"  files   {files} = {layers} layers × {units} units + {files - layers * units}")
    size = sum((Path(d) / n).stat().st_size for d, _, names in os.walk(store) for n in names)
    raw_size = sum(p.stat().st_size for p in raw.iterdir())
    print(f"  bytes   store / raw                     {size / raw_size:6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[16_384, 72_920])
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(describe())
    for rows in options.rows:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            measure(rows, options.layers, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
