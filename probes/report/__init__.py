"""Reports on a results directory; names load on first use (pandas, matplotlib, jinja2 are heavy)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.report.load import ReportData, load_report_data
    from probes.report.tables import terminal_tables
    from probes.report.write import ReportPaths, write_report

__all__ = ["ReportData", "ReportPaths", "load_report_data", "terminal_tables", "write_report"]

_HOMES = {
    "ReportData": "load",
    "ReportPaths": "write",
    "load_report_data": "load",
    "terminal_tables": "tables",
    "write_report": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
