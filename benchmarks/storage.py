"""What each codec saves, what it costs to write and to read, and what it does to the answer.

    python benchmarks/storage.py                       # the demo's corpus under its untrained network
    python benchmarks/storage.py --store S --model M --dataset D --label L [--group COLUMN] [--layer K]
    options: [--repeats 5] [--without-times] [--record]

The layer's values are written again under each codec, as a key of their own in a folder. Bytes are those of
the layer's shards over those of its values, of so many rows that no inner chunk is filled up; times are
medians of turns taken alternately, as ratios to `fast` in the same run, with files in the page cache. UAR is
that of scikit-learn's logistic regression on standardised rows, folds by group; its difference from `fast`
has the interval of `probes.statistics.compare_uar`, by group.
`--without-times` leaves times out, for a machine that has other work; bytes and UAR do not depend on it.
`--record` appends the table to benchmarks/results/storage.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe
from made import write_units
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurestore import open_store
from featurestore.backends.storage import open_storage
from featurestore.format.layer_arrays import layer_name
from featurestore.format.number_types import DTypeName
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.reader import Features
from featurestore.store.writer import open_key
from probes.statistics import compare_uar, uar_interval

# Name in the table, codec, dtype.
CHOICES: tuple[tuple[str, str, DTypeName], ...] = (
    ("fast", "fast", "float32"),
    ("small", "small", "float32"),
    ("pcodec", "pcodec", "float32"),
    ("half", "fast", "float16"),
    *((f"bitround{n}", f"bitround{n}", "float32") for n in (12, 10, 8, 6, 4, 2)),
)
N_FOLDS = 5


def made_key(folder: Path) -> Features:
    """The demo's corpus under the demo's untrained network, embedded now."""
    from extractors import ExtractConfig, extract
    from featurestore.corpora.synthetic import write_corpus
    from studies.demo import save_untrained_hubert

    manifest, model = write_corpus(folder / "corpus"), save_untrained_hubert(folder / "model")
    extract(ExtractConfig(manifest=manifest, dataset="demo", model=str(model), store=str(folder / "demo")))
    return open_store(folder / "demo").features("model", "demo")


def write(folder: Path, name: str, codec: str, dtype: DTypeName, values: np.ndarray) -> float:
    """Seconds to write the layer, `[n, functionals, features]`, as a key of its own, committed."""
    ids = np.array([f"{i:07d}" for i in range(len(values))], dtype=object)
    table = pd.DataFrame({"utterance_id": ids, "path": "x.wav"})
    manifest = from_table(table, source="m", base=folder, check_files=False)
    request = KeyRequest(
        model=name,
        dataset="d",
        fingerprint={"made": "for a benchmark"},
        functionals=tuple(f"f{i}" for i in range(values.shape[1])),
        layers=(0,),
        n_features=values.shape[2],
        dtype=dtype,
        codec=codec,
    )
    start = time.perf_counter()
    writer, _ = open_key(open_storage(folder), request, manifest, ids)
    write_units(writer, lambda unit: values[unit.first_row : unit.stop_row])
    writer.finish()
    return time.perf_counter() - start


def read(folder: Path, name: str) -> tuple[float, np.ndarray]:
    """Seconds to read the layer whole, and its values."""
    layer = open_store(folder).features(name, "d").layer(0)
    start = time.perf_counter()
    values = layer.numpy()
    return time.perf_counter() - start, values


def stored_share(folder: Path, name: str, codec: str, dtype: DTypeName, values: np.ndarray) -> float:
    """Bytes of the shards over those of the values, of as many rows as fill inner chunks."""
    whole = values[: next(n for n in (len(values) // k * k for k in (512, 256, 64, 1)) if n)]
    write(folder, name, codec, dtype, whole)
    shards = (folder / name / "d" / layer_name(0) / "c").rglob("*")
    return sum(p.stat().st_size for p in shards if p.is_file()) / whole.nbytes


def predictions(values: np.ndarray, target: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Out-of-fold predictions of every row, `[n]`."""
    found = np.empty_like(target)
    folds = StratifiedKFold(N_FOLDS) if group is None else StratifiedGroupKFold(N_FOLDS)
    flat = values.reshape(len(values), -1)
    for train, test in folds.split(flat, target, group):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        found[test] = model.fit(flat[train], target[train]).predict(flat[test])
    return found


def measure(values: np.ndarray, target: np.ndarray, group: np.ndarray | None, repeats: int) -> list[str]:
    """The table's lines, in Markdown; times are left out where nothing is repeated."""
    lines = [
        "| codec | bytes | write | read | largest change | UAR | difference (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    written: dict[str, list[float]] = {name: [] for name, *_ in CHOICES}
    was_read: dict[str, list[float]] = {name: [] for name, *_ in CHOICES}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(max(1, repeats)):
            root = Path(folder) / str(turn)
            for name, codec, dtype in CHOICES:
                written[name].append(write(root, name, codec, dtype, values))
            for name, *_ in CHOICES:
                was_read[name].append(read(root, name)[0])
        of = {name: statistics.median(t) for name, t in written.items()}
        rate = {name: statistics.median(t) for name, t in was_read.items()}
        base = predictions(values, target, group)
        for name, codec, dtype in CHOICES:
            share = stored_share(Path(folder) / "whole", name, codec, dtype, values)
            stored = read(root, name)[1]
            change = np.abs(stored - values).max() / values.std()
            found = base if not change else predictions(stored, target, group)
            score, c = uar_interval(target, found, group), compare_uar(target, found, base, group)
            difference = "0" if not change else f"{100 * c.difference:+.2f} ({_interval(c.low, c.high)})"
            times = [f"{t[name] / t['fast']:.2f}" if repeats else "–" for t in (of, rate)]
            told = f"{change:.1e} | {100 * score.estimate:.2f} | {difference}"
            lines.append(f"| {name} | {share:.3f} | {' | '.join(times)} | {told} |")
    return lines


def _interval(low: float, high: float) -> str:
    return f"{100 * low:+.2f} to {100 * high:+.2f}" if np.isfinite([low, high]).all() else "no interval"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("--store", "--model", "--dataset"):
        parser.add_argument(option)
    parser.add_argument("--label", default="call_type")
    parser.add_argument("--group", default="group")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-times", action="store_true")
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.store is None:
            features = made_key(Path(folder))
        else:
            features = open_store(asked.store).features(asked.model, asked.dataset)
        index = features.index
        has = ((index["status"] == "ok") & index[asked.label].notna()).to_numpy()
        values = features.layer(asked.layer).numpy()[has]
        rows = index[has]
        repeats = 0 if asked.without_times else max(1, asked.repeats)
        group = rows[asked.group].astype(str).to_numpy(object) if asked.group in rows else None
        lines = measure(values, rows[asked.label].astype(str).to_numpy(object), group, repeats)
    said = f"{features.model}/{features.dataset}, layer {asked.layer}, {asked.label}, {len(values):,} rows"
    text = "\n".join([f"{said} of {values[0].size} float32", "", *lines, ""])
    print(text)
    if asked.record:
        path = Path(__file__).parent / "results" / "storage.md"
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"\n## {describe('numcodecs', 'pcodec')}\n\n{text}")


if __name__ == "__main__":
    main()
