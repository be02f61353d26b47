"""Modules under the names that pickles of earlier versions know: a fitted `MLPProbe` names its classes so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "probes.estimator": "probes.classifiers.mlp_estimator",  # MLPProbe
    "probes.fused": "probes.training.fused_networks",  # Shape
    "probes.mlp": "probes.training.mlp",  # FittedMLP, MLPConfig
    "probes.standardise": "probes.training.standardise",  # Standardiser
}


class _Earlier(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Let `import` find them; called once, by `probes` itself."""
    sys.meta_path.append(_Earlier())
