"""What is wrong with a corpus before anything is learned from it; names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurestore.lazy_names import lazy_names

if TYPE_CHECKING:
    from featurestore.audit.audit_files import AuditPaths, check_audit_folder, write_audit
    from featurestore.audit.copies import check_grouped_target, with_copies_grouped
    from featurestore.audit.corpus_audit import AuditConfig, run_audit
    from featurestore.audit.findings import AuditReport, Finding
    from featurestore.audit.terminal_text import audit_text

__all__ = [
    "AuditConfig",
    "AuditPaths",
    "AuditReport",
    "Finding",
    "audit_text",
    "check_audit_folder",
    "check_grouped_target",
    "run_audit",
    "with_copies_grouped",
    "write_audit",
]

__getattr__ = lazy_names(
    __name__,
    {
        "audit_files": ("AuditPaths", "check_audit_folder", "write_audit"),
        "copies": ("check_grouped_target", "with_copies_grouped"),
        "corpus_audit": ("AuditConfig", "run_audit"),
        "findings": ("AuditReport", "Finding"),
        "terminal_text": ("audit_text",),
    },
)
