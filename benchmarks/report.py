"""`fs report` of a large results folder: seconds of processor time, and the size of the page.

    python benchmarks/report.py [--models N] [--layers N] [--seeds N] [--labels N] [--rows N | --small]
                                [--folder FOLDER] [--record]

The predictions are made: right with a probability that depends on model, layer and group, else another class
at random. No audio, no embedding and no training is behind them; the folder is written as `fs probe` writes
it. The target is 60 s on two cores and a page under 15 MB for the numbers that are the defaults. Processor
seconds are those of the process that reports, its threads and its children. ``--record`` keeps what is
printed in ``benchmarks/results/report.md``.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe

from probes import metrics
from probes.results import fit_tables, results_folder

RESULTS = Path(__file__).parent / "results" / "report.md"
TARGET_S, TARGET_MB = 60.0, 15.0
N_CLASSES = (12, 10, 32, 3)
ROWS_OF_GROUP = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=4)
    parser.add_argument("--rows", type=int, default=20_000, help="test rows, and as many validation rows")
    parser.add_argument(
        "--small", action="store_true", help="2 models, 3 layers, 500 rows, to see that it runs"
    )
    parser.add_argument("--folder", type=Path, help="make the results here, or report on those made before")
    parser.add_argument("--record", action="store_true", help="keep the results with the machine")
    options = parser.parse_args()
    if options.small:
        options.models, options.layers, options.rows = 2, 3, 500
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "results"
        if not folder.exists():
            sizes = (options.models, options.layers, options.seeds, options.labels)
            made_results(folder, *sizes, options.rows)
        out = Path(temporary) / "report"
        command = [sys.executable, "-c", "import cli; cli.main()", "report", str(folder), "--out", str(out)]
        before, start = _children_s(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
        cpu_s, wall_s = _children_s() - before, time.perf_counter() - start
        page_mb = (out / "index.html").stat().st_size / 1e6
        all_mb = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    head = (
        f"{options.models} models, {options.layers} layers, {options.seeds} seeds, {options.labels} labels, "
        f"{options.rows:,} test and {options.rows:,} validation rows; predictions are made"
    )
    lines = (
        f"fs report            {cpu_s:7.1f} s of processor   {_within(cpu_s, TARGET_S)} {TARGET_S:.0f} s",
        f"                     {wall_s:7.1f} s on the clock",
        f"index.html           {page_mb:7.2f} MB   {_within(page_mb, TARGET_MB)} {TARGET_MB:.0f} MB",
        f"all files            {all_mb:7.2f} MB",
    )
    machine = describe("pandas", "pyarrow", "altair", "vl-convert-python")
    print(head, machine, *lines, sep="\n")
    if options.record:
        text = "\n".join(lines)
        RESULTS.write_text(f"# A report of a large results folder\n\n{head}. {machine}\n\n```\n{text}\n```\n")


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
