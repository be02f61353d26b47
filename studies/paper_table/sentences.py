"""What both halves of a study say of the paper's two questions, and where they disagree on the best model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from featurestore.printable import counted, enumerated
from probes.findings.sentences import ALPHA, comparison_sentence
from studies.paper_table.halves import HALVES, Answer, Half, half_of

if TYPE_CHECKING:
    from probes.findings.question_findings import Compared
    from probes.report.data import ReportData
    from probes.results.declared_contrasts import DeclaredContrast
    from studies.paper_table.published import Paper
    from studies.study_file.reading import StudyFile
    from studies.study_run.facts import Facts

#: The paper's questions, and the fact of models that the sides of their contrasts differ in.
QUESTIONS = {
    "Does pre-training on animal sounds beat pre-training on speech?": ("domain", "animal", "speech"),
    "Does fine-tuning for speech recognition help?": ("fine_tuning", "ASR", "none"),
}


def question_sentences(
    data: ReportData, file: StudyFile, facts: Mapping[str, Facts], paper: Paper
) -> dict[str, list[str]]:
    """For each of the paper's questions one sentence that counts, then one for every comparison behind it.

    Args:
        data: the results.
        file: the study.
        facts: of its models.
        paper: what was published.
    """
    found = {}
    for question, (fact, first, second) in QUESTIONS.items():
        of_half: dict[Half, list[tuple[str, Compared]]] = {half: [] for half in HALVES}
        for one in data.contrasts:
            trained = [m for side in (one.a, one.b) for m in side.models]
            asks = (
                all(facts.get(m, {}).get("trained") == "true" for m in trained)
                and {facts[m].get(fact) for m in one.a.models} == {first}
                and {facts[m].get(fact) for m in one.b.models} == {second}
            )
            if asks:
                for half, where, compared in _compared(data, file, one, paper):
                    of_half[half].append((where, compared))
        counts = [f"{half}, {_count([c for _, c in those])}" for half, those in of_half.items()]
        found[question] = [
            f"{question} {_sentence('; '.join(counts))}",
            *(
                f"{half}, {where}: {comparison_sentence(c)}"
                for half, those in of_half.items()
                for where, c in those
            ),
        ]
    return found


def _compared(
    data: ReportData, file: StudyFile, one: DeclaredContrast, paper: Paper
) -> Iterator[tuple[Half, str, Compared]]:
    """The answers to one contrast, with the half and the question that they are of."""
    for question in data.questions:
        if question.dataset not in file.study.corpora:
            continue
        halves = {half_of(file, (m, question.dataset), paper) for m in (*one.a.models, *one.b.models)}
        for compared in data.declared.get(question.name, []):
            if compared.contrast == one.title and len(halves) == 1:
                yield halves.pop(), question.title, compared


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _count(compared: Sequence[Compared]) -> str:
    """How many comparisons say yes, no, or nothing."""
    if not compared:
        return "nothing was compared"
    known = [c for c in compared if not math.isnan(c.result.low)]
    sure = [c.result.difference for c in known if c.p_holm <= ALPHA]
    yes, no = sum(d > 0 for d in sure), sum(d < 0 for d in sure)
    said = [f"yes in {yes}", f"the contrary in {no}", f"not told apart in {len(known) - yes - no}"]
    if len(known) < len(compared):
        said.append(f"no interval in {len(compared) - len(known)}")
    return f"of {counted(len(compared), 'comparison')}: {', '.join(said)}"


def disagreements(answers: Sequence[Answer], paper: Paper) -> list[str]:
    """One sentence for every corpus and label on which the halves choose another model, then why that may be.

    Only models that both halves asked are looked at, and validation scores choose.
    """
    found = []
    for corpus, label in dict.fromkeys((a.corpus, a.label) for a in answers):
        here = [a for a in answers if (a.corpus, a.label) == (corpus, label)]
        asked = {half: _of_first_question([a for a in here if a.half == half]) for half in HALVES}
        both = set.intersection(*({a.published_name for a in those} for those in asked.values()))
        if len(both) < 2:
            continue
        best = {h: _best([a for a in those if a.published_name in both]) for h, those in asked.items()}
        if not set.intersection(*map(set, best.values())):
            chosen = enumerated([f"{half} it is {' or '.join(names)}" for half, names in best.items()])
            found.append(
                f"{label} of {corpus}: the halves choose another best model by validation: {chosen}."
            )
    return [*found, f"The halves {paper.differences}."] if found else []


def _of_first_question(answers: Sequence[Answer]) -> list[Answer]:
    """Answers with the first one's split and classifier: validation scores of others do not compare."""
    return [a for a in answers if (a.split, a.classifier) == (answers[0].split, answers[0].classifier)]


def _best(answers: Sequence[Answer]) -> list[str]:
    """The models with the highest validation score; several on a tie."""
    highest = max(round(a.uar_val, 9) for a in answers)
    return [a.published_name for a in answers if round(a.uar_val, 9) == highest]
