"""What is wrong with a corpus before anything is learned from it; names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.audit.copies import with_copies_grouped
    from featurestore.audit.findings import AuditReport, Finding
    from featurestore.audit.run import AuditConfig, run_audit
    from featurestore.audit.text import audit_text
    from featurestore.audit.write import AuditPaths, check_audit_folder, write_audit

__all__ = [
    "AuditConfig",
    "AuditPaths",
    "AuditReport",
    "Finding",
    "audit_text",
    "check_audit_folder",
    "run_audit",
    "with_copies_grouped",
    "write_audit",
]

_HOMES = {
    "AuditConfig": "run",
    "AuditPaths": "write",
    "AuditReport": "findings",
    "Finding": "findings",
    "audit_text": "text",
    "check_audit_folder": "write",
    "run_audit": "run",
    "with_copies_grouped": "copies",
    "write_audit": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
