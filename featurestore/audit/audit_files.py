"""An audit as files: JSON and CSV for programs, text, and one self-contained page with spectrograms."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.audit.findings import MAX_EXAMPLES, AuditReport
from featurestore.audit.terminal_text import audit_text
from featurestore.audit.thumbnails import thumbnail
from featurestore.manifest.audio_places import Places
from featurestore.manifest.table import Manifest, read_manifest
from featurestore.outputs import put_file, require_replaceable, writing
from featurestore.printable import counted, json_text, on_page, printable
from featurestore.spreadsheet import spreadsheet_csv

TEXT_WIDTH = 110
# Spectrograms are about 8 kB each: the page stays under a megabyte.
MAX_THUMBNAILS = 80
# What every page of an audit says of itself, and what no other JSON has.
MARK = b'<meta name="generator" content="fs audit">'
JSON_MARK = b'"model_rate_hz"'
CSV_COLUMNS = ("severity", "audit_finding", "name", "other", "detail")
CSV_MARK = b"audit_finding"


@dataclass(frozen=True, kw_only=True)
class AuditPaths:
    """Files of a written audit."""

    html: Path
    json: Path
    text: Path
    csv: Path


def audit_paths(out: Path) -> AuditPaths:
    """Where an audit in a folder is."""
    return AuditPaths(
        html=out / "index.html", json=out / "audit.json", text=out / "audit.txt", csv=out / "findings.csv"
    )


def check_audit_folder(out: Path) -> None:
    """Refuse a folder that holds a page, or another file of these names, that is no audit.

    Raises:
        ConfigError: it would be lost.
    """
    paths = audit_paths(out)
    require_replaceable(paths.html, MARK, "page of an audit")
    require_replaceable(paths.json, JSON_MARK, "audit")
    # The text says nothing of itself that another text might not: it goes with the others.
    if paths.text.exists() and not (paths.html.exists() or paths.json.exists()):
        require_replaceable(paths.text, None, "audit")
    require_replaceable(paths.csv, CSV_MARK, "audit")


def write_audit(report: AuditReport, out: Path) -> AuditPaths:
    """Write all forms of an audit into a folder, each whole or not at all; those of an audit are replaced.

    Raises:
        ConfigError: the folder holds something else under one of the names.
        StoreError: the folder cannot be written.
    """
    paths = audit_paths(out)
    check_audit_folder(out)
    forms = {
        paths.html: render_page(report),
        paths.json: json_text(report.to_json(), indent=2) + "\n",
        paths.text: _plain(report),
        paths.csv: _csv(report),
    }
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        for path, text in forms.items():
            put_file(text.encode(), path)
    return paths


def _csv(report: AuditReport) -> str:
    """One line for each example of each finding."""
    rows = [
        (f.severity, f.kind, e.name, e.other_name, e.detail.removeprefix(f"= {e.other_name}").lstrip(", "))
        for f in report.findings
        for e in f.examples
    ]
    return spreadsheet_csv(pd.DataFrame(rows, columns=list(CSV_COLUMNS)))


def _plain(report: AuditReport) -> str:
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(
        file=buffer, width=TEXT_WIDTH, color_system=None, highlight=False, markup=False, emoji=False
    )
    for part in audit_text(report):
        console.print(part)
    return buffer.getvalue()


def render_page(report: AuditReport) -> str:
    """The page as text; it needs no other file and makes no request."""
    from jinja2 import Environment, StrictUndefined

    manifest = read_manifest(report.manifest, check_files=False, allow_empty=True)
    source = files("featurestore.audit").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=on_page
    )
    environment.filters["breakable"] = breakable
    pictures = _pictures(report, manifest)
    findings = [
        {
            "kind": f.kind,
            "severity": f.severity,
            "text": f.text,
            "examples": [
                {
                    "name": e.name,
                    "detail": e.detail,
                    "pictures": [p for p in (pictures.get(e.row, ""), pictures.get(e.other, "")) if p],
                }
                for e in f.examples[:MAX_EXAMPLES]
            ],
            "n_more": max(0, len(f.examples) - MAX_EXAMPLES),
        }
        for f in report.findings
    ]
    return environment.from_string(source).render(
        report=report,
        findings=findings,
        counts=", ".join(counted(n, severity) for severity, n in report.counts().items()),
        labels=[row for row in report.labels if row["is_class"]],
    )


def breakable(text: str) -> Any:
    """Text of a page that may go on in a new line after ``/``, ``_`` and ``:``, as long names must."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([/_:]+)", r"\1<wbr>", str(escape(printable(text)))))


def _pictures(report: AuditReport, manifest: Manifest) -> dict[int | None, str]:
    shown = (row for f in report.findings for e in f.examples[:MAX_EXAMPLES] for row in (e.row, e.other))
    rows = dict.fromkeys(row for row in shown if row is not None)
    places = Places.of_table(manifest.table)
    return {i: thumbnail(*places.location(i)) for i in list(rows)[:MAX_THUMBNAILS]}
