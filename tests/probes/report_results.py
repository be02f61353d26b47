"""A small results directory with known numbers, written as `fs probe` writes it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from probes import metrics
from probes.report.charts.page_data import libraries
from probes.results import fit_tables, results_folder

CLASSES = ("<script>alert(1)</script>", "ñeñe, Phee", "trill & 'peep' \"x\"", "$x_1$")
MODELS = {"logmel": (0,), "_tiny<b>": (0, 1, 2), "other": (0, 1, 2)}
SETTINGS = ('{"C":1.0}', '{"C":10.0}')
SEEDS = (0, 1, 2)
LABEL = "call_type"
# Chance that a prediction is right: validation and test disagree about the best layer on purpose.
SKILL = {
    ("logmel", 0): (0.5, 0.5),
    ("_tiny<b>", 0): (0.1, 0.1),
    ("_tiny<b>", 1): (0.9, 0.6),
    ("_tiny<b>", 2): (0.3, 0.99),
    ("other", 0): (0.2, 0.2),
    ("other", 1): (0.2, 0.3),
    ("other", 2): (0.7, 0.5),
}


def write_results(
    out: Path,
    *,
    seeds: tuple[int, ...] = SEEDS,
    predictions: bool = True,
    label: str | None = None,
    first: int = 0,
) -> Path:
    """Probes of all `MODELS` with both `SETTINGS`, the second one worse on validation.

    Several labels stand in one folder where `first`, the number of the first fit, is far enough apart.
    """
    label = LABEL if label is None else label
    results_folder.prepare(out)
    rng = np.random.default_rng(0)
    test = np.repeat(np.array(CLASSES, dtype=object), (20, 10, 6, 2))
    number = itertools.count(first)
    for model, layers in MODELS.items():
        for layer in layers:
            rows, parts = [], []
            for hparams, seed in itertools.product(SETTINGS, seeds):
                good_val, good_test = SKILL[model, layer]
                guess = np.where(rng.random(len(test)) < good_test, test, rng.choice(CLASSES, len(test)))
                fingerprint = f"{next(number):064x}"
                worse = 0.05 * SETTINGS.index(hparams)
                rows.append(
                    {
                        **dict.fromkeys(fit_tables.FIT_COLUMNS, 0.0),
                        "model": model,
                        "dataset": "demo",
                        "label": label,
                        "layer": layer,
                        "layers": str(layer),
                        "combine": "each",
                        **dict.fromkeys(("layer_weights", "data", "clips", "device"), ""),
                        **dict.fromkeys(fit_tables.OWN_MEASURES, float("nan")),
                        "classifier": "mlp",
                        "split": "group",
                        "seed": seed,
                        "hparams": hparams,
                        "uar_train": 0.97,
                        "uar_val": good_val - worse + 0.01 * seed,
                        "uar_test": metrics.uar(test, guess),
                        "accuracy_test": metrics.accuracy(test, guess),
                        "f1_macro_test": metrics.f1_macro(test, guess),
                        "chance": 0.25,
                        "n_classes": 4,
                        "split_seed": 0,
                        "fold": 0,
                        "finished_at": "2026-01-01T00:00:00",
                        "fingerprint": fingerprint,
                    }
                )
                parts.append(
                    pd.DataFrame(
                        {
                            "fingerprint": fingerprint,
                            "utterance_id": [f"u{i}" for i in range(len(test))],
                            "group": [f"g{i // 4}" for i in range(len(test))],
                            "target": test,
                            "prediction": guess,
                        }
                    )
                )
            kept = pd.concat(parts) if predictions else parts[0].head(0)
            results_folder.write_task(out, f"task{next(number)}", rows, kept)
    results_folder.consolidate(out)
    results_folder.write_run(out, _run(label))
    return out


def without_libraries(source: str) -> str:
    """A page without Vega, whose source names addresses that are never asked for."""
    assert source.count(libraries()) == 1
    return source.replace(libraries(), "")


def _run(label: str) -> dict[str, object]:
    def part(counts: tuple[int, ...], groups: list[str]) -> dict[str, object]:
        per_class = {c: n for c, n in zip(CLASSES, counts, strict=True) if n}
        return {
            "rows": sum(counts),
            "per_class": per_class,
            "groups": groups,
            "classes_missing": [c for c in CLASSES if c not in per_class],
        }

    splits = [
        {
            "model": model,
            "dataset": "demo",
            "label": label,
            "split": "group",
            "split_seed": 0,
            "fold": 0,
            "parts": {
                "train": part((70, 35, 20, 8), ["r1", "r2", "<i>r3</i>"]),
                "val": part((20, 10, 6, 0), ["r4"]),
                "test": part((20, 10, 6, 2), ["r5", "r2"]),
            },
        }
        for model in MODELS
    ]
    config = {"store": "my store.zarr", "labels": [label], "layers": None, "n_seeds": 3, "split": None}
    config |= {"models": [], "datasets": [], "classifiers": []}
    return {
        "config": json.loads(json.dumps(config)),
        "versions": {"featurestore-audio": "9.9.9", "torch": "<2>"},
        "splits": splits,
    }
