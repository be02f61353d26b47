"""What `fs detect` prints."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table

from featurestore.printable import counted, plain
from studies.terminal.command import say_error
from studies.terminal.console import format_duration, print_remarks
from studies.terminal.screen import console

if TYPE_CHECKING:
    from probes.statistics import Interval
    from studies.detection.detection import Detections

MOST_NAMED = 10


_OF_TRUTH = {
    "truth": "table",
    "truth_format": "format",
    "truth_label": "label",
    "truth_audio": "audio",
    "iou": "iou",
    "collar_s": "collar_s",
    "segment_s": "segment_s",
}


def annotations_of(options: dict[str, Any]) -> dict[str, Any]:
    """What of a `DetectRequest` is about annotated events; its options of `fs detect` are taken out.

    Returns:
        ``truth``, a `TruthRequest`, and ``events_of``, an `EventsRequest`; None without the option.

    Raises:
        ConfigError: options about the truth, and no truth.
    """
    from featurestore.errors import ConfigError
    from studies.detection.event_thresholds import EventsRequest
    from studies.detection.truth import TruthRequest

    folder = options.pop("events_of")
    given = {theirs: options.pop(ours) for ours, theirs in _OF_TRUTH.items()}
    given = {name: value for name, value in given.items() if value is not None}
    alike = {name: given[name] for name in ("iou", "collar_s") if name in given}
    if len(alike) == 2:
        raise ConfigError("--iou and --collar: each says when two events are one; give one")
    if "table" not in given and (folder is None or set(given) - set(alike)) and given:
        raise ConfigError(
            "--iou, --collar, --segment and --truth-… are for --truth, the first two for --events-of as "
            "well; give that too"
        )
    return {
        "truth": TruthRequest(**given) if "table" in given else None,
        "events_of": None if folder is None else EventsRequest(folder=folder, **alike),
    }


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
    _print_scores(found)
    out.print(f"events: {found.out / 'events.csv'}")
    return True


def _print_scores(found: Detections) -> None:
    """How right it was, by class, with intervals over recordings."""
    from studies.detection.agreement import EVENTS, MEAN

    out = console()
    if found.unnamed:
        n = counted(len(found.unnamed), "recording")
        out.print(f"note: the truth names nothing in {n}, left out of the scores", style="yellow")
    if found.strange:
        ours = [c for c in found.plan.classes if c != found.plan.background]
        classes = [", ".join(names[:MOST_NAMED]) for names in (found.strange, ours)]
        out.print(
            plain(
                f"note: no class of the truth ({classes[0]}) is one that the probe finds ({classes[1]}), so "
                "no event can be right; --truth-label says which column of --truth holds the classes"
            ),
            style="yellow",
        )
    if not found.scores:
        return
    for of in dict.fromkeys(s.of for s in found.scores):
        table = Table(box=None, pad_edge=False, title=f"{of}, %", title_justify="left", title_style="")
        for i, name in enumerate(
            ("class", "precision", "recall", "F1", "95 % interval", "right", "false", "missed")
        ):
            table.add_column(name, justify="right" if i else "left")
        for s in (s for s in found.scores if s.of == of):
            values = [_percent(s.intervals.get(m), "estimate") for m in ("precision", "recall", "f1")]
            ends = [_percent(s.intervals.get("f1"), end) for end in ("low", "high")]
            between = " to ".join(ends) if "–" not in ends else "–"
            table.add_row(plain(s.label), *values, between, f"{s.tp:,}", f"{s.fp:,}", f"{s.fn:,}")
        out.print(table)
    total = [s for s in found.scores if s.of == EVENTS and s.label == MEAN]
    for s in total if found.plan.chosen or found.plan.chosen_by_events else ():
        if s.tp + s.fp:
            out.print(f"of {counted(s.tp + s.fp, 'event')} here {100 * s.tp / (s.tp + s.fp):.1f} % are right")
    reasons = {i.reason for s in found.scores for n, i in s.intervals.items() if n == "f1" and i.reason}
    for reason in sorted(reasons)[:1]:
        out.print(f"no interval: {reason}", style="yellow")


def _percent(interval: Interval | None, what: str) -> str:
    value = float("nan") if interval is None else float(getattr(interval, what))
    return f"{100 * value:.1f}" if value == value else "–"


def _print_thresholds(found: Detections) -> None:
    """Of ``--precision``: each class's threshold, and what validation rows or annotated events say of it."""
    out = console()
    for name, by in found.plan.chosen_by_events.items():
        if by.value == by.value:
            elsewhere = (
                f"; of recordings that it was not chosen by {by.elsewhere:.2f}"
                if by.elsewhere == by.elsewhere
                else ""
            )
            out.print(
                f"  {name}: from {by.value:.3f} on, precision {by.precision:.2f}{elsewhere}, and recall "
                f"{by.recall:.2f} of {counted(by.n_true, 'annotated event')} in "
                f"{counted(by.n_recordings, 'recording')}"
            )
    for name, t in found.plan.chosen.items():
        if t.value == t.value:
            out.print(
                f"  {name}: from {t.value:.3f} on, precision {t.precision:.2f} and recall {t.recall:.2f} of "
                f"{counted(t.n_rows, 'validation row')} there"
            )
