"""A results folder with all that a report can show: combinations, curves, inspection, confounds, audit."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from probes.confounds.comparison import SCORES_COLUMNS
from probes.geometry import InspectConfig, inspect_store, write_inspection
from probes.questions.tasks import ProbeConfig
from probes.results.results_folder import RUN_NAME
from probes.run.probing import run_probe
from tests.probes.conftest import manifest_table, write_store

MODELS = ("model-a", "model-bb")
LEAK = {
    "kind": "group",
    "parts": ["train", "test"],
    "n_shared": 2,
    "n_rows": 30,
    "n_of": 40,
    "examples": ["session-1", "session-2"],
}


def write_whole(root: Path, n_clips: int = 480) -> Path:
    """Probe two models and two labels, and put confounds, an inspection and an audit beside the results."""
    store, results = root / "s.zarr", root / "results"
    table = manifest_table(n_clips)
    table["group"] = [f"bird-{i % 40}" for i in range(len(table))]
    for model in MODELS:
        write_store(store, table, model=model)
    asked = {"store": str(store), "out": results, "split": "group", "n_seeds": 2}
    run_probe(
        ProbeConfig(
            **asked,
            labels=("call", "caller"),
            classifiers=("linear",),
            combine=("each", "concat", "weighted"),
        )
    )
    curve = {"curves": ("groups",), "curve_draws": 3, "curve_shares": "25,50"}
    run_probe(ProbeConfig(**asked, labels=("call",), classifiers=("logreg",), **curve))
    _inspect(store, results)
    write_confounds(results)
    findings = [
        {"kind": "clipped", "severity": "warning", "text": "12 clips are <b>clipped</b>."},
        {"kind": "rates", "severity": "note", "text": "All clips have one rate."},
    ]
    (results / "audit").mkdir()
    audit = {"manifest": "m.csv", "findings": findings}
    (results / "audit" / "audit.json").write_text(json.dumps(audit))
    run = json.loads((results / RUN_NAME).read_text())
    for split in run["splits"]:
        split["leakage"] = {"leaks": [LEAK], "notes": [], "complete": True}
    (results / RUN_NAME).write_text(json.dumps(run))
    return results


def _inspect(store: Path, results: Path) -> None:
    for layers, models in ((None, ()), ("2", ("model-a",))):
        asked = InspectConfig(store=str(store), label="call", layers=layers, models=models)
        found = inspect_store(asked)
        if layers is None:
            write_inspection(found, results / "inside")
        elif found.plane is not None:
            found.plane.to_csv(results / "inside" / "map.csv", index=False)


def write_confounds(
    results: Path, duration: float = 0.9, dataset: str = "calls", label: str = "call"
) -> None:
    """The tables of `fs confounds`, with a label that duration explains as well as one says."""
    scores = [
        {
            **dict.fromkeys(SCORES_COLUMNS, 0),
            "dataset": dataset,
            "label": label,
            "split": "group",
            "models": "model-a, model-bb",
            "confound": name,
            "uar": uar,
            "chance": 0.25,
            "guessing_error": 0.02,
            "ci_low": uar - 0.04,
            "ci_high": uar + 0.04,
            "n_groups": 8,
            "explains": uar > 0.6,
            "best_probe_uar": float("nan"),
            "best_probe": "",
            "n_test": 48,
        }
        for name, uar in (("duration", duration), ("level", 0.31), ("f0", 0.42))
    ]
    folder = results / "confounds"
    folder.mkdir(exist_ok=True)
    pd.DataFrame(scores).to_csv(folder / "confound_scores.csv", index=False)
    layers = [
        {
            "model": model,
            "dataset": dataset,
            "label": label,
            "split": "group",
            "layer": layer,
            "confound": name,
            "measure": measure,
            "balanced_accuracy_or_r2": 0.2 + 0.2 * layer,
            "chance": 0.0,
        }
        for model in MODELS
        for layer in range(3)
        for name, measure in (("duration", "r2"), ("level", "r2"), ("recorder", "balanced_accuracy"))
    ]
    pd.DataFrame(layers).to_csv(folder / "confound_layers.csv", index=False)
