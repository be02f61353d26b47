"""How embeddings are questioned: probes of layers, their splits, metrics and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes import earlier_names

if TYPE_CHECKING:
    from probes.classifiers.mlp_estimator import MLPProbe
    from probes.questions.tasks import ProbeConfig
    from probes.results.results_folder import read_predictions, read_results
    from probes.results.selection import answers, summarise
    from probes.run.probing import ProbeProgress, ProbeSummary, run_probe

__all__ = [
    "MLPProbe",
    "ProbeConfig",
    "ProbeProgress",
    "ProbeSummary",
    "answers",
    "read_predictions",
    "read_results",
    "run_probe",
    "summarise",
]

_HOME = {
    "MLPProbe": "probes.classifiers.mlp_estimator",
    "answers": "probes.results.selection",
    "ProbeConfig": "probes.questions.tasks",
    "ProbeProgress": "probes.run.probing",
    "ProbeSummary": "probes.run.probing",
    "read_predictions": "probes.results.results_folder",
    "read_results": "probes.results.results_folder",
    "run_probe": "probes.run.probing",
    "summarise": "probes.results.selection",
}

earlier_names.install()


def __getattr__(name: str) -> Any:
    # Lazy: importing the package must not load torch, pandas or scikit-learn.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
