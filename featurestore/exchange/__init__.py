"""Stores to and from files of other tools: HDF5, Parquet, npz, and raw arrays for HEAR's evaluation kit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.lazy_names import lazy_names

if TYPE_CHECKING:
    from featurestore.exchange.key_export import ExportSummary, export
    from featurestore.exchange.key_import import ImportSummary, import_
    from featurestore.exchange.registry import format_names

__all__ = ["ExportSummary", "ImportSummary", "export", "format_names", "import_"]

# The command line asks for the names of formats long before anything heavy is needed.
__getattr__ = lazy_names(
    __name__,
    {
        "key_export": ("ExportSummary", "export"),
        "key_import": ("ImportSummary", "import_"),
        "registry": ("format_names",),
    },
)
