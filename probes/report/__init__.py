"""Reports on a results directory; names load on first use (pandas, altair, jinja2 are heavy)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.report.data import ReportData, load_report_data
    from probes.report.files import ReportPaths, write_report
    from probes.report.tables import terminal_tables

__all__ = ["ReportData", "ReportPaths", "load_report_data", "terminal_tables", "write_report"]

_HOMES = {
    "ReportData": "data",
    "ReportPaths": "files",
    "load_report_data": "data",
    "terminal_tables": "tables",
    "write_report": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
