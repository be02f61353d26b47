"""What the store costs against raw files, h5py, and the all-layers npz of the study.

    python benchmarks/store.py [--small] [--rows N …] [--layers 13] [--keys 1000] [--folder DIR] [--out DIR]

Every number is a ratio of medians measured in one run, alternately, on the same values, read from the page
cache; `fs ls` is timed once. Results go to DIR as JSON, and as lines of `store.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from machine import describe

from featurestore import open_store
from featurestore.backends.storage import open_storage
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.plan import DEFAULT_UNIT_ROWS
from featurestore.store.writer import UnitRows, open_key

N_FUNCTIONALS, N_FEATURES = 2, 768
N_SPARSE = 1000
# Whatever is quick is measured more often: a read of 20 ms varies by half of that.
REPEATS, MOST_REPEATS, REPEAT_S = 7, 51, 2.0
WRITES = 3
WANTED = {
    "layer_of_np_load": "<= 1.3",
    "npz_over_layer": ">= 20",
    "write_of_raw_fsync": "<= 2",
    "random_rows_of_h5py": "<= 3",
    "objects_beyond_layers_times_units": "constant",
    "fs_ls_seconds": "< 2",
}


def seconds(*actions: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each action, run in turn so that drift hits all alike.

    Args:
        actions: run once before, uncounted.
        repeats: turns at least; more, up to `MOST_REPEATS`, until the first action took `REPEAT_S` in all.
    """
    taken: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    while len(taken[0]) < repeats or (len(taken[0]) < MOST_REPEATS and sum(taken[0]) < REPEAT_S):
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


def measure(rows: int, layers: int, folder: Path) -> dict[str, float]:
    """Ratios of one size, by the name they are printed under."""
    store, raw, hdf5, npz = folder / "store", folder / "raw", folder / "x.h5", folder / "x.npz"
    # Alternately, medians: a disk's rate drifts by more than what is asked here.
    writers = {store: write_store, raw: write_raw, hdf5: write_hdf5}
    taken: dict[Path, list[float]] = {path: [] for path in writers}
    for turn in range(WRITES):
        for path, write in writers.items():
            if turn:
                path.unlink() if path.is_file() else shutil.rmtree(path)
            taken[path].append(write(path, rows, layers))
    written = {path: statistics.median(times) for path, times in taken.items()}
    found = {
        "write_of_raw_fsync": written[store] / written[raw],
        "write_of_h5py": written[store] / written[hdf5],
    }
    os.sync()  # what the system still writes would run beside what is timed
    layer = open_store(store).features("m", "d").layer(layers // 2)
    middle = f"layer_{layers // 2:02d}"

    def from_hdf5(rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        with h5py.File(hdf5) as file:
            return np.asarray(file[middle][rows])

    assert np.array_equal(layer.numpy(), np.load(raw / f"{layers // 2}.npy"))
    ours, plain, h5 = seconds(layer.numpy, lambda: np.load(raw / f"{layers // 2}.npy"), from_hdf5)
    found |= {"layer_of_np_load": ours / plain, "layer_of_h5py": ours / h5}
    dasked, _ = seconds(lambda: layer.dask().compute(scheduler="threads"), lambda: None, repeats=3)
    found["dask_layer_of_np_load"] = dasked / plain
    some = np.sort(np.random.default_rng(0).choice(rows, min(N_SPARSE, rows), replace=False))
    ours_rows, h5_rows = seconds(lambda: layer.numpy(some), lambda: from_hdf5(some))
    found["random_rows_of_h5py"] = ours_rows / h5_rows

    data = {f"layer_{k}": values(rows, k) for k in range(layers)}
    np.savez(npz, **data)
    del data

    def study() -> np.ndarray:
        with np.load(npz) as file:
            everything = {name: file[name] for name in file.files}
        return everything[f"layer_{layers // 2}"]

    ours_again, paper = seconds(layer.numpy, study, repeats=1)
    found["npz_over_layer"] = paper / ours_again
    objects = [Path(d) / n for d, _, names in os.walk(store) for n in names]
    found["objects_beyond_layers_times_units"] = len(objects) - layers * -(-rows // DEFAULT_UNIT_ROWS)
    found["bytes_of_raw"] = sum(p.stat().st_size for p in objects) / sum(
        p.stat().st_size for p in raw.iterdir()
    )
    return found


def listing_seconds(n_keys: int, folder: Path) -> float:
    """Seconds of ``fs ls``, start of Python included, on a store of so many keys."""
    root = folder / "many"
    write_store(root, 8, 1)
    for i in range(n_keys - 1):
        model = root / f"model-{i // 20}"
        shutil.copytree(root / "m" / "d", model / f"data-{i % 20}")
        shutil.copy(root / "m" / "zarr.json", model)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cli", "ls", str(root)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def show(rows: int, layers: int, found: dict[str, float]) -> None:
    print(f"\n{rows} rows × {layers} layers × {N_FUNCTIONALS * N_FEATURES} float32")
    for name, value in found.items():
        wanted = WANTED.get(name)
        print(f"  {name:36}{value:9.3f}{f'   (wanted: {wanted})' if wanted else ''}")


def write_results(found: dict[str, Any], folder: Path) -> None:
    """All numbers as JSON, and a line per size in ``store.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "store.json").write_text(json.dumps(found, indent=1) + "\n")
    page = folder / "store.md"
    names = list(WANTED)
    if not page.exists():
        head = [
            "# Store: ratios measured in one run",
            "",
            "`python benchmarks/store.py`; columns as it prints.",
            "",
        ]
        wanted = f"| wanted | | {' | '.join(WANTED.values())} | |"
        page.write_text(
            "\n".join(
                [*head, f"| rows | layers | {' | '.join(names)} | machine |", "|" + "---|" * (len(names) + 3)]
            )
            + f"\n{wanted}\n"
        )
    with page.open("a") as file:
        for rows, ratios in found["sizes"].items():
            cells = [f"{ratios.get(n, found.get(n, float('nan'))):.2f}" for n in names]
            file.write(f"| {rows} | {found['layers']} | {' | '.join(cells)} | {found['machine']} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[16_384, 72_920])
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--keys", type=int, default=1000, help="keys of the store that fs ls lists")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--small", action="store_true", help="a smoke run; its numbers say nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.small:
        options.rows, options.layers, options.keys = [1500], 2, 20
    found: dict[str, Any] = {"machine": describe(), "layers": options.layers, "sizes": {}}
    print(found["machine"])
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found["fs_ls_seconds"] = listing_seconds(options.keys, Path(folder))
    print(f"fs ls of {options.keys} keys: {found['fs_ls_seconds']:.2f} s (wanted: {WANTED['fs_ls_seconds']})")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found["sizes"][rows] = measure(rows, options.layers, Path(folder))
        show(rows, options.layers, found["sizes"][rows])
    if not options.small:
        write_results(found, options.out)


if __name__ == "__main__":
    main()
