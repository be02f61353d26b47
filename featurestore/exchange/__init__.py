"""Stores to and from files of other tools: HDF5, Parquet, npz, and raw arrays for HEAR's evaluation kit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.exchange.exporting import ExportSummary, export
    from featurestore.exchange.importing import ImportSummary, import_
    from featurestore.exchange.registry import format_names

__all__ = ["ExportSummary", "ImportSummary", "export", "format_names", "import_"]

_HOMES = {
    "ExportSummary": "featurestore.exchange.exporting",
    "export": "featurestore.exchange.exporting",
    "ImportSummary": "featurestore.exchange.importing",
    "import_": "featurestore.exchange.importing",
    "format_names": "featurestore.exchange.registry",
}


def __getattr__(name: str) -> Any:
    # Lazy: the command line asks for the names of formats long before anything heavy is needed.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
