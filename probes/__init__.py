"""How embeddings are questioned: probes of layers, their splits, metrics and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.estimator import MLPProbe
    from probes.results import read_predictions, read_results
    from probes.runner import ProbeProgress, ProbeSummary, run_probe
    from probes.selection import answers, summarise
    from probes.tasks import ProbeConfig

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
    "MLPProbe": "probes.estimator",
    "answers": "probes.selection",
    "ProbeConfig": "probes.tasks",
    "ProbeProgress": "probes.runner",
    "ProbeSummary": "probes.runner",
    "read_predictions": "probes.results",
    "read_results": "probes.results",
    "run_probe": "probes.runner",
    "summarise": "probes.selection",
}


def __getattr__(name: str) -> Any:
    # Lazy: importing the package must not load torch, pandas or scikit-learn.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
