"""A manifest of a million rows: write, read, validate, plan and split; seconds and peak memory.

    python benchmarks/manifest.py [--rows N | --small] [--split NAME ...] [--parquet] [--record]

The target is 30 s and 2 GB for read, validate (every audio file is looked for), plan and one split. The
peer is `pandas.read_csv` of the same file, in the same run. ``--record`` keeps what is printed in
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

from featurestore.manifest import read_manifest
from featurestore.plan import Segment, order_rows, units_of
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
    options = parser.parse_args()
    if options.inner is not None:
        measure(options.inner, options.split)
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
        arguments = [sys.executable, __file__, "--inner", str(path), "--split", *options.split]
        done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    head = f"{n_rows:,} rows, {files:,} files, {path.suffix}"
    print(f"{head}\n{describe('pandas')}\n{done.stdout}", end="")
    if options.record:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            f"# A manifest of a million rows\n\n{head}. {describe('pandas')}\n\n```\n{done.stdout}```\n"
        )


def measure(path: Path, splits: list[str]) -> None:
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
    timed("plan: order_rows", lambda: order_rows(durations, ids))
    timed("plan: units_of", lambda: units_of([Segment(first_row=0, n_rows=len(table))], 1024))
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
