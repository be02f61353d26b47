"""`fs report` of a large results folder: seconds of processor time, and the size of the page.

    python benchmarks/report.py [--models N] [--layers N] [--seeds N] [--labels N] [--rows N | --small]
                                [--folder FOLDER] [--record] [--serve]

The predictions are made: right with a probability that depends on model, layer and group, else another class
at random. No audio, no embedding and no training is behind them; the folder is written as `fs probe` writes
it. The target is 60 s on two cores and a page under 15 MB for the numbers that are the defaults. Processor
seconds are those of the process that reports, its threads and its children. ``--record`` keeps what is
printed in ``benchmarks/results/report.md``.

``--serve`` measures `fs serve` instead, over 100,000 test rows of 3 models, 7 layers, 3 seeds and a label
unless told otherwise: seconds until the first page is there, and how long filters take to be answered over
the connection, once the predictions are read and the report is made. Each filter is one that was not asked
before, so that none is answered from memory. The targets are 5 s and 0.3 s. ``--record`` keeps it in
``benchmarks/results/serve.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import pandas as pd
from machine import describe

from featurestore.printable import counted
from probes import metrics
from probes.results import fit_tables, results_folder

RESULTS = Path(__file__).parent / "results" / "report.md"
SERVED_RESULTS = RESULTS.with_name("serve.md")
# What is made unless told otherwise, for `fs report` and for `fs serve`.
SIZES = ("models", "layers", "seeds", "labels", "rows")
REPORTED, SERVED = (10, 13, 5, 4, 20_000), (3, 7, 3, 1, 100_000)
SERVED_S, FILTER_S = 5.0, 0.3
TARGET_S, TARGET_MB = 60.0, 15.0
N_CLASSES = (12, 10, 32, 3)
ROWS_OF_GROUP = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--labels", type=int)
    parser.add_argument("--rows", type=int, help="test rows, and as many validation rows")
    parser.add_argument("--serve", action="store_true", help="measure fs serve")
    parser.add_argument(
        "--small", action="store_true", help="2 models, 3 layers, 500 rows, to see that it runs"
    )
    parser.add_argument("--folder", type=Path, help="make the results here, or report on those made before")
    parser.add_argument("--record", action="store_true", help="keep the results with the machine")
    options = parser.parse_args()
    if options.small:
        options.models, options.layers, options.rows = 2, 3, 500
    for name, value in zip(SIZES, SERVED if options.serve else REPORTED, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "results"
        if not folder.exists():
            sizes = (options.models, options.layers, options.seeds, options.labels)
            made_results(folder, *sizes, options.rows)
        if options.serve:
            measure_serving(folder, options)
            return
        out = Path(temporary) / "report"
        command = [sys.executable, "-c", "import cli; cli.main()", "report", str(folder), "--out", str(out)]
        before, start = _children_s(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
        cpu_s, wall_s = _children_s() - before, time.perf_counter() - start
        page_mb = (out / "index.html").stat().st_size / 1e6
        all_mb = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    lines = (
        f"fs report            {cpu_s:7.1f} s of processor   {_within(cpu_s, TARGET_S)} {TARGET_S:.0f} s",
        f"                     {wall_s:7.1f} s on the clock",
        f"index.html           {page_mb:7.2f} MB   {_within(page_mb, TARGET_MB)} {TARGET_MB:.0f} MB",
        f"all files            {all_mb:7.2f} MB",
    )
    tell(options, RESULTS, "A report of a large results folder", lines)


def tell(options: argparse.Namespace, path: Path, title: str, lines: Sequence[str]) -> None:
    """Print what was measured of what, on what; and keep it where that is asked for."""
    head = (
        f"{options.models} models, {options.layers} layers, {options.seeds} seeds, "
        f"{counted(options.labels, 'label')}, {options.rows:,} test and {options.rows:,} validation rows; "
        "predictions are made"
    )
    machine = describe("pandas", "pyarrow", "altair", "vl-convert-python")
    load = f"Other work on the machine at the end: load average {os.getloadavg()[0]:.1f}."
    print(head, machine, load, *lines, sep="\n")
    if options.record:
        text = "\n".join(lines)
        path.write_text(f"# {title}\n\n{head}. {machine}\n\n{load}\n\n```\n{text}\n```\n")


def measure_serving(folder: Path, options: argparse.Namespace) -> None:
    """Start `fs serve`, ask it for its page and for filtered clips, and end it."""
    command = [sys.executable, "-c", "import cli; cli.main()", "serve", str(folder)]
    before, start = _children_s(), time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as server:
        try:
            assert server.stdout is not None
            url = urlsplit(server.stdout.readline().split()[0])
            connection = HTTPConnection(str(url.hostname), url.port, timeout=600)
            _asked(connection, url.path)
            first_s, used_s = time.perf_counter() - start, _used_s(server.pid)
            while True:
                state = json.loads(_asked(connection, f"{url.path}state"))
                if state["isReady"] and state["nRead"] == state["nBatches"]:
                    break
                time.sleep(0.5)
            made_s, peak_mb = time.perf_counter() - start, _resident_mb(server.pid)
            times = []
            for query in _filters(options):
                at = time.perf_counter()
                _asked(connection, f"{url.path}utterances?{urlencode(query)}")
                times.append(time.perf_counter() - at)
        finally:
            server.send_signal(signal.SIGINT)
    all_s = _children_s() - before
    worst, median = max(times), float(np.median(times))
    lines = (
        f"first page           {first_s:7.2f} s on the clock, {used_s:.2f} s of processor   "
        f"{_within(first_s, SERVED_S)} {SERVED_S:.0f} s",
        f"whole report         {made_s:7.1f} s on the clock",
        f"processor            {all_s:7.1f} s, with all that was asked",
        f"a filter, median     {1000 * median:7.0f} ms of {len(times)}   {_within(median, FILTER_S)} "
        f"{1000 * FILTER_S:.0f} ms",
        f"a filter, worst      {1000 * worst:7.0f} ms   {_within(worst, FILTER_S)} {1000 * FILTER_S:.0f} ms",
        f"memory               {peak_mb:7.0f} MB, the most that the server held",
    )
    tell(options, SERVED_RESULTS, "A large results folder, served", lines)


def _asked(connection: HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    return text


def _filters(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Forty filters, no two alike: by model, layers, class, other class, right or wrong, and text."""
    for n in range(40):
        query: dict[str, object] = {"layers": "every", "answer": ("wrong", "right", "all")[n % 3]}
        query["text"] = ("", f"clip_{n:03d}", f"{n:02d}.WAV", f"0{n}")[n % 4]
        if n % 2:
            query["models"] = ",".join(str(m) for m in range(options.models) if m != n % options.models)
        if n % 5:
            query |= {"lowest": n % 5 % options.layers, "highest": options.layers - 1 - n % 2}
        if n % 3 == 1:
            query["class"] = f"class-{n % 12:02d}"
        if n % 4 == 2:
            query["taken"] = f"class-{(n + 1) % 12:02d}"
        yield {**query, "order": ("hardest", "id")[n % 2], "page": 1 + n}


def _used_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    """The most memory that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _within(value: float, target: float) -> str:
    return "within" if value <= target else "beyond"


def made_results(out: Path, models: int, layers: int, seeds: int, labels: int, rows: int) -> None:
    """A results folder of `models` times `layers` times `seeds` times `labels` fits."""
    results_folder.prepare(out)
    parts = {part: _rows_of(part, rows, labels) for part in ("test", "val")}
    at = [
        (label, model, layer) for label in range(labels) for model in range(models) for layer in range(layers)
    ]
    for n, (label, model, layer) in enumerate(at):
        rng = np.random.default_rng([label, model, layer])
        skill = 0.35 + 0.02 * model + 0.4 * np.sin(np.pi * (layer + 1) / (layers + 4))
        fits, said = [], {"test": [], "val": []}
        for seed in range(seeds):
            fingerprint = f"{n * seeds + seed:064x}"
            scores: dict[str, Any] = {}
            for part, table in parts.items():
                target = table[f"label-{label}"].to_numpy(dtype=object)
                guess = _guesses(table, target, skill, rng)
                said[part].append(_predictions(fingerprint, table, target, guess))
                scores |= {
                    f"uar_{part}": metrics.uar(target, guess),
                    f"accuracy_{part}": float((guess == target).mean()),
                }
            fits.append(_fit(label, model, layer, seed, fingerprint, rows, scores))
        tables = {part: pd.concat(tables, ignore_index=True) for part, tables in said.items()}
        results_folder.write_task(out, f"task-{n:05d}", fits, tables["test"], tables["val"])
    results_folder.consolidate(out)
    results_folder.write_run(out, _run(out, parts, models, labels))


def _rows_of(part: str, n: int, labels: int) -> pd.DataFrame:
    """Ids, groups and classes of the rows of a part."""
    rng = np.random.default_rng(len(part))
    table = {
        "utterance_id": [f"{part}/recording_{i // ROWS_OF_GROUP:05d}/clip_{i:06d}.wav" for i in range(n)],
        "group": [f"{part}_recording_{i // ROWS_OF_GROUP:05d}" for i in range(n)],
    }
    for label in range(labels):
        n_classes = N_CLASSES[label % len(N_CLASSES)]
        names = np.array([f"class-{c:02d}" for c in range(n_classes)], dtype=object)
        table[f"label-{label}"] = names[np.minimum(rng.geometric(2 / n_classes, n) - 1, n_classes - 1)]
    return pd.DataFrame(table)


def _guesses(table: pd.DataFrame, target: np.ndarray, skill: float, rng: np.random.Generator) -> np.ndarray:
    n_groups = table["group"].nunique()
    of_group = np.clip(skill + 0.15 * rng.standard_normal(n_groups), 0, 1)
    right = rng.random(len(table)) < of_group[pd.factorize(table["group"])[0]]
    return np.where(right, target, rng.permutation(target))


def _predictions(
    fingerprint: str, table: pd.DataFrame, target: np.ndarray, guess: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fingerprint": fingerprint,
            "utterance_id": table["utterance_id"],
            "group": table["group"],
            "target": target,
            "prediction": guess,
        }
    )


def _fit(
    label: int, model: int, layer: int, seed: int, fingerprint: str, rows: int, scores: dict[str, Any]
) -> dict[str, Any]:
    texts = ("layer_weights", "data", "clips")
    unknown = (*fit_tables.MAP_COLUMNS, *fit_tables.OWN_MEASURES)
    return {
        **dict.fromkeys(fit_tables.FIT_COLUMNS, 0.0),
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(unknown, float("nan")),
        "model": f"model-{model}",
        "dataset": "made",
        "label": f"label-{label}",
        "layer": layer,
        "layers": str(layer),
        "combine": "each",
        "classifier": "linear",
        "device": "cpu",
        "split": "group",
        "seed": seed,
        "hparams": '{"max_epochs":100}',
        "n_train": 5 * rows,
        "n_val": rows,
        "n_test": rows,
        "n_classes": N_CLASSES[label % len(N_CLASSES)],
        "chance": 1 / N_CLASSES[label % len(N_CLASSES)],
        "majority_uar": 1 / N_CLASSES[label % len(N_CLASSES)],
        "split_seed": 0,
        "fold": 0,
        "finished_at": "2026-01-01T00:00:00",
        "fingerprint": fingerprint,
        "uar_val": scores["uar_val"],
        "uar_test": scores["uar_test"],
        "accuracy_test": scores["accuracy_test"],
    }


def _run(out: Path, parts: dict[str, pd.DataFrame], models: int, labels: int) -> dict[str, Any]:
    def described(table: pd.DataFrame, label: int) -> dict[str, Any]:
        per_class = table[f"label-{label}"].value_counts().sort_index().to_dict()
        groups = sorted(table["group"].unique())
        return {"rows": len(table), "per_class": per_class, "groups": groups, "classes_missing": []}

    splits = [
        {
            "model": f"model-{model}",
            "dataset": "made",
            "label": f"label-{label}",
            "split": "group",
            "split_seed": 0,
            "fold": 0,
            "parts": {
                "train": {**described(parts["val"], label), "groups": ["training_recording"]},
                "val": described(parts["val"], label),
                "test": described(parts["test"], label),
            },
        }
        for model in range(models)
        for label in range(labels)
    ]
    names: Sequence[str] = [f"label-{label}" for label in range(labels)]
    config = {"store": "made.zarr", "labels": names, "layers": None, "n_seeds": 5, "split": "group"}
    config |= {"models": [], "datasets": [], "classifiers": ["linear"], "out": str(out)}
    return {"config": config, "versions": {"featurestore-audio": "made"}, "splits": splits}


if __name__ == "__main__":
    main()
