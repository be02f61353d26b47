"""Contrasts that were declared beforehand, on every question, corrected for each other in their families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from probes.findings.question_findings import Compared, same_rows
from probes.statistics import contrast, holm

if TYPE_CHECKING:
    from probes.findings.question_findings import QuestionFindings
    from probes.results.declared_contrasts import DeclaredContrast, ModelSet

Q = TypeVar("Q")


def declared_comparisons(
    findings: Mapping[Q, QuestionFindings], declared: Sequence[DeclaredContrast]
) -> dict[Q, list[Compared]]:
    """Every contrast on every question that has models of both sides, all on the same rows.

    p-values are corrected by Holm over a whole family: all its contrasts, on all questions. Who declared two
    contrasts for five labels asked ten questions.
    """
    found: list[tuple[Q, str, Compared]] = []
    for question, of in findings.items():
        for one in declared:
            if (result := _compared(of, one)) is not None:
                found.append((question, one.family, result))
    families: dict[str, list[int]] = {}
    for i, (_, family, _result) in enumerate(found):
        families.setdefault(family, []).append(i)
    adjusted: dict[int, Any] = {}
    for members in families.values():
        adjusted |= dict(zip(members, holm([found[i][2].result.p for i in members]), strict=True))
    by_question: dict[Q, list[Compared]] = {question: [] for question in findings}
    for i, (question, _, result) in enumerate(found):
        by_question[question].append(replace(result, p_holm=float(adjusted[i])))
    return by_question


def _compared(of: QuestionFindings, one: DeclaredContrast) -> Compared | None:
    judged = {m: j for m, j in of.judged_answers.items() if j.influence is not None}
    sides = [[m for m in side.models if m in judged] for side in (one.a, one.b)]
    if not all(sides) or not same_rows([judged[m].rows for side in sides for m in side]):
        return None
    scores = [[i for m in side if (i := judged[m].influence) is not None] for side in sides]
    return Compared(
        contrast=one.title,
        a=_side_name(one.a, sides[0]),
        b=_side_name(one.b, sides[1]),
        result=contrast(scores[0], scores[1]),
        declared=True,
    )


def _side_name(side: ModelSet, here: Sequence[str]) -> str:
    """What a side is called: its facts and models; how many of them, where not all were asked."""
    listed = ", ".join(here)
    few = f" ({len(here)} of {len(side.models)} models)" if len(here) < len(side.models) else ""
    return f"{side.name}: {listed}{few}" if side.name else f"{listed}{few}"
