"""How sure the scores are, in words, from the intervals and comparisons that were made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.findings.mislabelled import MEASURE
from probes.report.methods.wording import cite, name, names
from probes.results.selection import R2
from probes.statistics import NOT_CONTAINED
from probes.statistics.comparison import ALPHA, POWER
from probes.statistics.interval import FLAWLESS, NONE

if TYPE_CHECKING:
    from probes.report.data import ReportData


def sentences(data: ReportData) -> Iterator[str]:
    """Intervals, where there is none, comparisons, corrections, and how firmly layers are chosen."""
    judged = [(q, m, j) for q in data.questions for m, j in data.findings[q.name].judged_answers.items()]
    given = [j.interval for _, _, j in judged if j.interval is not None and not j.interval.reason]
    for level, method in dict.fromkeys((i.level, i.method) for i in given):
        papers = ("clopper1934",) if method == FLAWLESS else ("bell2002", "pustejovsky2018")
        groups = sorted({i.n_groups for i in given if i.method == method})
        tested = str(groups[0]) if len(groups) == 1 else f"{groups[0]} to {groups[-1]}"
        yield (
            f"Intervals of {100 * level:g} % are over groups of test clips ({tested} groups): {method}"
            f"{cite(*papers)}."
        )
    if given:
        yield NOT_CONTAINED
    for reason in dict.fromkeys(j.reason for _, _, j in judged if j.reason):
        which = dict.fromkeys(f"{m}, {q.title}" for q, m, j in judged if j.reason == reason)
        yield f"No interval is given for {names(which)}: {name(reason)}."
    yield from _comparisons(data)
    if any(q.metric != R2 for q in data.questions):
        yield f"Likely mislabelled clips: {MEASURE[0].lower()}{MEASURE[1:-1]}{cite('northcutt2021')}."


def _comparisons(data: ReportData) -> Iterator[str]:
    results = [c.result for _, c in data.comparisons if c.result.method != NONE]
    for level, method in dict.fromkeys((r.level, r.method) for r in results):
        yield (
            f"Differences are between the same test clips, paired by group, with intervals of "
            f"{100 * level:g} %: {method}{cite('bell2002', 'pustejovsky2018')}."
        )
    if results:
        families = dict.fromkeys(c.contrast for _, c in data.comparisons if c.result.method != NONE)
        yield (
            f"p-values are two-sided, corrected by Holm's procedure{cite('holm1979')} within a question's "
            f"comparisons of one kind ({names(families)}), at {ALPHA:g}; the smallest difference that could "
            f"have been shown is that found in {100 * POWER:g} % of such test parts."
        )
    shares = [c for f in data.findings.values() for c in f.choices.values() if not c.reason]
    if shares:
        yield (
            "How firmly a layer is chosen is its share of 10,000 resamples of the validation groups; layers "
            "are compared with the chosen one in the same way."
        )
