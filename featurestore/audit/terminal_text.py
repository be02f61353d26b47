"""An audit in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from featurestore.audit.findings import AuditReport

STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}
SHOWN = 4


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
    if report.labels:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("label", "classes", "smallest class", "clips", "largest", "chance %", "1 test clip ="):
            table.add_column(name, justify="left" if name in ("label", "smallest class") else "right")
        for row in report.labels:
            if row["is_class"]:
                cells = (
                    row["label"],
                    f"{row['n_classes']}",
                    row["smallest"],
                    f"{row['n_smallest']:,}",
                    f"{row['n_largest']:,}",
                    f"{100 * row['chance']:.1f}",
                    f"{row['worth_points']:.2f} points",
                )
                table.add_row(*map(plain, cells))
        if table.row_count:
            out.append(table)
    if len(report.rates) > 1:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("rate, Hz", "files", "clips", "lost %, median", "95th percentile"):
            table.add_column(name, justify="right")
        for row in report.rates:
            table.add_row(
                f"{row['rate_hz']:,}",
                f"{row['n_files']:,}",
                f"{row['n_clips']:,}",
                f"{100 * row['median_lost']:.1f}",
                f"{100 * row['p95_lost']:.1f}",
            )
        out.append(table)
    return out
