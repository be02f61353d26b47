"""`fs extract` in a terminal: progress while it runs, then what each model's run did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from studies.terminal.command import say_error
from studies.terminal.console import (
    format_bytes,
    format_duration,
    print_extract_summary,
    reasons,
)
from studies.terminal.progress import extract_progress
from studies.terminal.screen import console

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.results import ExtractSummary


def run_extraction(configs: Sequence[ExtractConfig], *, quiet: bool) -> bool:
    """Extract with every model and print the summaries.

    Returns:
        False where nothing came of a key (see `failed_throughout`), or a key turned out suspect.
    """
    from extractors.run.extraction import extract_all

    with extract_progress(quiet=quiet) as on_progress:
        summaries = extract_all(configs, on_progress)
    for summary in summaries:
        print_extract_summary(summary, configs[0].store)
    suspect = [s for s in summaries if s.selfcheck is not None and s.selfcheck.beyond is not None]
    for summary in suspect:
        print_suspect(summary)
    lost = [line for s in summaries if (line := failed_throughout(s, configs[0].store))]
    for line in lost:
        say_error(f"error: {line}")
    return not suspect and not lost


def failed_throughout(summary: ExtractSummary, store: str) -> str | None:
    """One line where nothing came of a key, with the reasons counted; None where something did.

    That is where every clip that the run embedded failed. Where it had none to embed, what earlier runs left
    decides: a run that only finds failures is no better for being the second.
    """
    if summary.n_embedded:
        failed, n, when = summary.failed, summary.n_embedded, "of this run failed"
    else:
        failed, n = _failed_earlier(summary, store)
        when = "in the store failed earlier, and there was no other to embed"
    if not n or len(failed) < n:
        return None
    clips = "the only clip" if n == 1 else f"all {n:,} clips"
    return (
        f"{summary.key}: {clips} {when}: {reasons(failed)}; mend the audio, or how it is asked for, and run "
        "again with --refresh"
    )


def _failed_earlier(summary: ExtractSummary, store: str) -> tuple[dict[str, str], int]:
    """Utterance id → reason of the clips of a key that failed, and how many clips are committed."""
    from featurestore.store.reader import open_store

    model, _, dataset = summary.key.partition("/")
    facts = open_store(store).features(model, dataset).facts
    failed = facts[facts["status"] != "ok"]
    return dict(zip(failed["utterance_id"], failed["status"].str.removeprefix("failed: "), strict=True)), len(
        facts
    )


def print_estimates(configs: Sequence[ExtractConfig]) -> None:
    """What a run would do and cost; the store is left as it is."""
    from extractors.run.dry_run import dry_run

    out = console()
    for e in dry_run(configs):
        unreadable = f", {len(e.unreadable)} whose header cannot be read" if e.unreadable else ""
        lines = [
            f"{e.key}: {e.n_clips} clips, {e.n_to_do} to embed{unreadable}",
            f"  {e.n_units} units, {e.n_batches} batches; {format_duration(e.audio_s)} of audio as the model "
            f"sees it, {100 * e.padding:.1f} % padding",
            f"  {format_bytes(e.n_bytes)} of values in {e.n_objects} files, before compression",
        ]
        if e.n_units:
            work = f"{e.flops / 1e9:.4g} GFLOP, " if e.flops else ""
            lines.append(
                f"  {work}about {format_duration(e.seconds)} on {', '.join(e.devices)} "
                f"(from {e.n_measured} batches measured; decoding alone {format_duration(e.decode_s)})"
            )
        if e.unreadable:
            lines.append(f"  cannot be read: {e.unreadable[0]!r}{' …' if len(e.unreadable) > 1 else ''}")
        for line in [*lines, *(f"  note: {note}" for note in e.notes)]:
            out.print(line)


def print_suspect(summary: ExtractSummary) -> None:
    """One line on standard error: a clip alone gives other values than those stored."""
    check = summary.selfcheck
    if check is None or check.beyond is None:
        return
    utterance, layer, found = check.beyond
    say_error(
        f"error: {summary.key}: the self-check got other values than are stored for clip {utterance!r} at "
        f"layer {layer}: {found:.2g} of its largest value, allowed {check.tolerance:.2g}; this key is "
        "suspect: the model does not treat clips of a batch apart, or the audio changed meanwhile; embed it "
        "again with --overwrite --batch-seconds 0.001"
    )
