"""`fs extract` in a terminal: progress while it runs, then what each model's run did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from studies.console import extract_progress, print_extract_summary

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.results import ExtractSummary


def run_extraction(configs: Sequence[ExtractConfig], *, quiet: bool) -> bool:
    """Extract with every model and print the summaries; False where a key turned out suspect."""
    from extractors.pipeline import extract_all

    with extract_progress(quiet=quiet) as on_progress:
        summaries = extract_all(configs, on_progress)
    for summary in summaries:
        print_extract_summary(summary, configs[0].store)
    suspect = [s for s in summaries if s.selfcheck is not None and s.selfcheck.beyond is not None]
    for summary in suspect:
        print_suspect(summary)
    return not suspect


def print_suspect(summary: ExtractSummary) -> None:
    """One line on standard error: a clip alone gives other values than those stored."""
    check = summary.selfcheck
    if check is None or check.beyond is None:
        return
    utterance, layer, found = check.beyond
    click.secho(
        f"error: {summary.key}: the self-check got other values than are stored for clip {utterance!r} at "
        f"layer {layer}: {found:.2g} of its largest value, allowed {check.tolerance:.2g}; this key is "
        "suspect: the model does not treat clips of a batch apart, or the audio changed meanwhile; embed it "
        "again with --overwrite --batch-seconds 0.001",
        fg="red",
        err=True,
    )
