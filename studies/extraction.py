"""`fs extract` in a terminal: progress while it runs, then what each model's run did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from studies.console import extract_progress, print_extract_summary

if TYPE_CHECKING:
    from extractors.config import ExtractConfig


def run_extraction(configs: Sequence[ExtractConfig], *, quiet: bool) -> None:
    """Extract with every model and print the summaries."""
    from extractors.pipeline import extract_all

    with extract_progress(quiet=quiet) as on_progress:
        summaries = extract_all(configs, on_progress)
    for summary in summaries:
        print_extract_summary(summary, configs[0].store)
