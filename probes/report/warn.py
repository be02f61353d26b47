"""What a careful reader has to know before quoting a number of the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.report.run_info import distinct_splits, shared_groups

if TYPE_CHECKING:
    from probes.report.load import Question, ReportData

# Points of UAR that one test clip may weigh before it is worth a warning: differences between
# layers and models of the size of one clip are then as large as those people report.
WORTH_POINTS = 1.0


def warnings_of(data: ReportData) -> list[str]:
    """Sentences: what limits all numbers first, then what limits single questions."""
    found = [
        *_of_spread(data),
        *_of_splits(data),
        *(sentence for question in data.questions for sentence in _of_support(data, question)),
    ]
    return list(dict.fromkeys(found))


def _of_spread(data: ReportData) -> Iterator[str]:
    single = [q for q in data.questions if (q.summary["n_fits"] == 1).any()]
    repeated = [q for q in data.questions if (q.summary["n_fits"] > 1).any()]
    if single:
        names = ", ".join(dict.fromkeys(q.classifier for q in single))
        yield (f"One fit per layer ({names}): no spread is shown, which does not mean that there is none.")
    if repeated and all(_one_split(q) for q in repeated):
        yield (
            "± is one standard deviation over seeds of training on one split. It leaves out the "
            "larger uncertainty of which clips happened to be in the test part."
        )
    uneven = [q for q in data.questions if q.summary["n_fits"].nunique() > 1]
    for question in uneven:
        low, high = question.summary["n_fits"].min(), question.summary["n_fits"].max()
        yield f"{question.title}: layers rest on {low} to {high} fits, so compare them with care."


def _one_split(question: Question) -> bool:
    return len(question.fits[["split_seed", "fold"]].drop_duplicates()) == 1


def _of_splits(data: ReportData) -> Iterator[str]:
    for split, _ in distinct_splits(data):
        name = f"{split['label']} · {split['dataset']} · split: {split['split']}"
        shared, n_test = shared_groups(split)
        if shared:
            yield (
                f"{name}: {shared} of {n_test} groups in the test part also occur in training. "
                "Part of the score may come from recognising the group, such as the recording; "
                "compare with a split by group."
            )
        parts = split["parts"]
        for part, consequence in (
            ("test", "they do not count in the test UAR"),
            ("val", "the choice of layer ignores them"),
        ):
            missing = parts[part].get("classes_missing", [])
            if missing:
                yield f"{name}: no {part} clips of {', '.join(missing)}; {consequence}."


def _of_support(data: ReportData, question: Question) -> Iterator[str]:
    table = data.predictions
    fits = question.answer_fits["fingerprint"]
    table = table[table["fingerprint"].isin(fits)]
    if table.empty:
        yield f"{question.title}: no predictions were saved, so classes cannot be looked at."
        return
    support = table.groupby("target").size() / table["fingerprint"].nunique()
    worth = 100.0 / (len(support) * support)
    heavy = worth[worth >= WORTH_POINTS]
    if len(heavy):
        rarest = str(worth.idxmax())
        which = "every class" if len(heavy) == len(support) else f"{len(heavy)} of {len(support)} classes"
        yield (
            f"{question.title}: few test clips in {which}. One clip of {rarest} "
            f"({support[rarest]:.4g} in the test part) is worth {worth[rarest]:.1f} points of UAR."
        )
