"""An audit in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from featurestore.audit.findings import AuditReport

STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}
SHOWN = 4
LABEL_COLUMNS = ("label", "classes", "smallest class", "clips", "largest", "chance %", "1 test clip =")
RATE_COLUMNS = ("rate, Hz", "files", "clips", "lost %, median", "95th percentile")


def audit_text(report: AuditReport) -> list[RenderableType]:
    """What to print, in order: a line of facts, the findings, a table of labels and one of rates."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from featurestore.printable import counted, plain, printable

    f = report.facts
    of_key = f", embeddings of {report.key}" if report.key else ""
    hours = f["hours"]
    long = f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    sound = f"{counted(f['clips'], 'clip')} of {counted(f['files'], 'file')}, {long}"
    out: list[RenderableType] = [plain(f"{report.manifest}: {sound}{of_key}")]
    if not report.findings:
        out.append(Text("nothing found", style="green"))
    for finding in report.findings:
        line = Text.assemble((f"{finding.severity:8}", STYLES[finding.severity]), printable(finding.text))
        for example in finding.examples[:SHOWN]:
            line.append(f"\n           {printable(example.name)}  {printable(example.detail)}", style="dim")
        if len(finding.examples) > SHOWN:
            line.append(f"\n           and {len(finding.examples) - SHOWN:,} more", style="dim")
        out.append(line)
    labels = [
        (
            row["label"],
            f"{row['n_classes']}",
            row["smallest"],
            f"{row['n_smallest']:,}",
            f"{row['n_largest']:,}",
            f"{100 * row['chance']:.1f}",
            f"{row['worth_points']:.2f} points",
        )
        for row in report.labels
        if row["is_class"]
    ]
    rates = [
        (
            *(f"{row[name]:,}" for name in ("rate_hz", "n_files", "n_clips")),
            *(f"{100 * row[name]:.1f}" for name in ("median_lost", "p95_lost")),
        )
        for row in report.rates
    ]
    for columns, rows, least in ((LABEL_COLUMNS, labels, 1), (RATE_COLUMNS, rates, 2)):
        if len(rows) >= least:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for name in columns:
                table.add_column(name, justify="left" if name in ("label", "smallest class") else "right")
            for cells in rows:
                table.add_row(*map(plain, cells))
            out.append(table)
    return out
