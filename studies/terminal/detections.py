"""What `fs detect` prints."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from featurestore.printable import counted
from studies.terminal.command import say_error
from studies.terminal.console import format_duration, print_remarks
from studies.terminal.screen import console

if TYPE_CHECKING:
    from studies.detection.detection import Detections

MOST_NAMED = 10


def print_detections(found: Detections) -> bool:
    """What was found where, and what could not be read; False if no recording has results."""
    out, plan = console(), found.plan
    print_remarks(plan.notes)
    _print_thresholds(found)
    for path, reason in list(found.failed.items())[:MOST_NAMED]:
        say_error(f"failed: {path}: {reason}")
    if len(found.failed) > MOST_NAMED:
        say_error(f"and {len(found.failed) - MOST_NAMED} more failed")
    for name in found.changed[:MOST_NAMED]:
        out.print(f"note: {name} was changed since it was written, and is left as it is", style="yellow")
    if not found.records:
        reasons = Counter(found.failed.values()).most_common(1)
        why = f": {reasons[0][0]}" if reasons else ""
        say_error(f"error: none of {counted(len(found.failed), 'recording')} could be read{why}")
        return False
    n_events = sum(len(r.events) for r in found.records)
    there = len(found.records) - found.n_done
    kept = f" ({there:,} done before)" if there else ""
    seconds = sum(r.duration_s for r in found.records)
    out.print(
        f"{counted(len(found.records), 'recording')}{kept}, {format_duration(seconds)}, "
        f"{counted(sum(r.n_windows for r in found.records), 'window')} of {plan.grid.window_s:.4g} s every "
        f"{plan.grid.hop_s:.4g} s: {counted(n_events, 'event')}"
    )
    counts = Counter(e.label for r in found.records for e in r.events)
    if counts:
        out.print("  " + ", ".join(f"{name} {n:,}" for name, n in counts.most_common()))
    if silent := sum(r.n_silent for r in found.records):
        out.print(f"  {counted(silent, 'window')} without any sound")
    if lost := sum(r.n_failed for r in found.records):
        out.print(f"  {counted(lost, 'window')} that the model could not embed", style="yellow")
    out.print(f"events: {found.out / 'events.csv'}")
    return True


def _print_thresholds(found: Detections) -> None:
    """Of ``--precision``: each class's threshold, and what the validation rows say of it."""
    out = console()
    for name, t in found.plan.chosen.items():
        if t.value == t.value:
            out.print(
                f"  {name}: from {t.value:.3f} on, precision {t.precision:.2f} and recall {t.recall:.2f} of "
                f"{counted(t.n_rows, 'validation row')} there"
            )
