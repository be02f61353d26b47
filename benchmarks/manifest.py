"""A manifest of a million rows: write, read, validate, plan, compare with a key, split; seconds and memory.

    python benchmarks/manifest.py [--rows N | --small] [--split NAME ...] [--parquet] [--record]

The target is 30 s and 2 GB for read, validate (every audio file is looked for), plan and one split. Where a
key holds all of it, unchanged, comparing its rows with what was embedded may add a tenth to planning:
manifest, order, and the ledger with the facts of its rows, which a resumed run reads in any case. The peer is
`pandas.read_csv` of the same file, in the same run. ``--record`` keeps what is printed in
``benchmarks/results/manifest.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe, peak_resident_bytes

from featurestore.backends.storage import open_storage
from featurestore.manifest.audio_places import Places
from featurestore.manifest.table import read_manifest
from featurestore.store.key import read_key
from featurestore.store.key_request import KeyRequest
from featurestore.store.plan import Segment, order_rows, units_of
from featurestore.store.reader import Features
from featurestore.store.sound_identity import Sounds, compare
from featurestore.store.writer import UnitRows, open_key
from probes.splits import Rows, make_splits

RESULTS = Path(__file__).parent / "results" / "manifest.md"
TARGET_S, TARGET_GB = 30.0, 2.0


def made_table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    recording = rng.integers(0, max(1, n // 50), n)
    start = np.round(rng.uniform(0, 3000, n), 3)
    return pd.DataFrame(
        {
            "utterance_id": [f"u{i:07d}" for i in rng.permutation(n)],
            "path": [f"audio/2016/recording_{r:06d}.wav" for r in recording],
            "start_s": start,
            "end_s": np.round(start + rng.uniform(0.05, 3, n), 3),
            "group": [f"recording_{r:06d}" for r in recording],
            "call": np.array([f"call-{c}" for c in range(30)])[np.minimum(rng.geometric(0.2, n), 30) - 1],
            "caller": [f"caller-{r % 97}" for r in recording],
        }
    )


def peak_gb() -> float:
    return peak_resident_bytes() / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--split", nargs="*", default=["random", "group", "stratified-group-kfold:5"])
    parser.add_argument("--parquet", action="store_true", help="read Parquet instead of CSV")
    parser.add_argument("--small", action="store_true", help="20,000 rows, to see that it runs")
    parser.add_argument("--record", action="store_true", help="keep the results with the machine")
    parser.add_argument("--inner", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill is not None:
        fill(options.inner, options.fill)
        return
    if options.inner is not None:
        measure(options.inner, options.store, options.split)
        return
    n_rows = 20_000 if options.small else options.rows
    # The table is made in a process of its own: its memory must not count.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("manifest.parquet" if options.parquet else "manifest.csv")
        table = made_table(n_rows)
        (Path(folder) / "audio/2016").mkdir(parents=True)
        for name in table["path"].unique():
            (Path(folder) / name).touch()
        table.to_parquet(path) if options.parquet else table.to_csv(path, index=False)
        files = table["path"].nunique()
        store = str(Path(folder) / "store")
        subprocess.run([sys.executable, __file__, "--fill", store, "--inner", str(path)], check=True)
        arguments = [
            *(sys.executable, __file__, "--inner", str(path), "--store", store),
            *("--split", *options.split),
        ]
        done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    head = f"{n_rows:,} rows, {files:,} files, {path.suffix}"
    print(f"{head}\n{describe('pandas')}\n{done.stdout}", end="")
    if options.record:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            f"# A manifest of a million rows\n\n{head}. {describe('pandas')}\n\n```\n{done.stdout}```\n"
        )


def fill(path: Path, store: str) -> None:
    """A key that holds every row of the manifest; the embeddings are two zeros each."""
    manifest = read_manifest(path)
    table = manifest.table
    ids = table["utterance_id"].to_numpy(dtype=object)
    order = order_rows((table["end_s"] - table["start_s"]).to_numpy(), ids)
    request = KeyRequest(
        model="m", dataset="d", fingerprint={}, functionals=("mean",), layers=(0,), n_features=2
    )
    writer, _ = open_key(open_storage(store), request, manifest, ids[order])
    places = Places.of_table(table, look_at_files=True)[order]
    for unit in writer.pending_units([0]):
        n, rows = unit.n_rows, slice(unit.first_row, unit.stop_row)
        facts = UnitRows(
            status=["ok"] * n,
            n_frames=np.full(n, 15),
            duration_s=np.ones(n),
            audio_hash=[f"{i:032x}" for i in range(unit.first_row, unit.stop_row)],
            places=places[rows],
        )
        values = np.zeros((n, 1, 2), np.float32)
        writer.write_unit(unit, [(0, values)], facts, audio_s=1.0, elapsed_s=1.0, versions={})
    writer.finish()


def measure(path: Path, store: str, splits: list[str]) -> None:
    spent: list[tuple[str, float]] = []

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        out = work()
        spent.append((name, time.perf_counter() - started))
        print(f"{name:36} {spent[-1][1]:7.2f} s   peak {peak_gb():5.2f} GB", flush=True)
        return out

    manifest = timed("read_manifest (and validate)", lambda: read_manifest(path))
    table = manifest.table
    durations = (table["end_s"] - table["start_s"]).to_numpy()
    ids = table["utterance_id"].to_numpy(dtype=object)
    order = timed("plan: order_rows", lambda: order_rows(durations, ids))
    timed("plan: units_of", lambda: units_of([Segment(first_row=0, n_rows=len(table))], 1024))
    # What a run over a key that holds all of it plans with, and what comparing its rows adds.
    made = len(spent)
    key = read_key(open_storage(store), "m", "d")
    features = timed("plan: ledger of the key", lambda: Features(open_storage(store), key))
    timed("plan: ids and facts of its rows", lambda: features.fact_columns)
    plan_s = sum(s for _, s in spent)
    planned = (order, ids[order])
    compared = timed(
        "compare rows with what is embedded", lambda: compare(features, manifest, Sounds(), planned=planned)
    )
    if len(compared.other) or compared.notes:
        raise SystemExit("unchanged rows were taken for others")
    share = spent[-1][1] / plan_s
    verdict = "within" if share < 0.1 else "beyond"
    print(f"{'comparing adds to planning':36} {100 * share:7.1f} %   {verdict} 10 %")
    del spent[made:]
    for name in splits:

        def draw(name: str = name) -> Any:
            rows = Rows(
                utterance_id=ids,
                label=table["call"].to_numpy(dtype=object),
                group=table["group"].to_numpy(dtype=object),
                part=table["split"].to_numpy(dtype=object),
                place=np.arange(len(table)),
                n_manifest=len(table),
            )
            return make_splits(name, rows, 0)

        timed(f"split {name}", draw)
    total = sum(s for name, s in spent if not name.startswith("split")) + max(
        s for name, s in spent if name.startswith("split")
    )
    ok = total <= TARGET_S and peak_gb() <= TARGET_GB
    print(
        f"{'all, with the slowest split':36} {total:7.2f} s   peak {peak_gb():5.2f} GB   "
        f"{'within' if ok else 'beyond'} {TARGET_S:g} s and {TARGET_GB:g} GB"
    )
    if path.suffix == ".csv":
        timed("peer: pandas.read_csv, dtype=str", lambda: pd.read_csv(path, dtype=str, keep_default_na=False))


if __name__ == "__main__":
    main()
