"""What a careful reader has to know before quoting a number of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from probes.leakage import Leak, LeakageReport, sentences
from probes.report.run_info import distinct_splits, shared_groups
from probes.selection import MAP

if TYPE_CHECKING:
    from probes.report.load import Question, ReportData

# Points of UAR that one test clip may weigh before it is worth a warning: differences between
# layers and models of the size of one clip are then as large as those people report.
WORTH_POINTS = 1.0
SHOWN_CLASSES = 8
GROUP_ADVICE = (
    "Part of the score may come from recognising the group, such as the recording; "
    "compare with a split by group."
)


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
    if any(not _one_split(q) for q in repeated):
        yield (
            "± of a split in folds is one standard deviation between folds. Folds train on much the same "
            "clips, so they are not independent, and a standard error made from it would be too small "
            "(Bengio & Grandvalet 2004)."
        )
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
    yield from _of_leakage(data)
    left_out: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for split, _ in distinct_splits(data):
        name = f"{split['label']} · {split['dataset']} · split: {split['split']}"
        shared, n_test = shared_groups(split)
        if shared and "leakage" not in split:
            yield (
                f"{name}: {shared} of {n_test} groups in the test part also occur in training. {GROUP_ADVICE}"
            )
        left_out.setdefault((split["label"], split["dataset"], split["split"]), []).append(split)
    for (label, dataset, text), splits in left_out.items():
        yield from _of_classes(f"{label} · {dataset} · split: {text}", splits)


def _of_leakage(data: ReportData) -> Iterator[str]:
    """The leakage report, as `fs probe` showed it before training."""
    reports = [
        LeakageReport(
            dataset=split["dataset"],
            label=split["label"],
            split=split["split"],
            fold=int(split.get("fold", 0)),
            leaks=tuple(Leak(**leak) for leak in split["leakage"]["leaks"]),
        )
        for split, _ in distinct_splits(data)
        if "leakage" in split
    ]
    for sentence in sentences(reports):
        advice = f" {GROUP_ADVICE}" if "of a group that train has" in sentence else ""
        yield sentence + advice


def _of_classes(name: str, splits: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Classes that a part lacks and rows in no part, over the folds of one split."""
    for part, consequence in (
        ("train", "they cannot be recognised and count as recall 0"),
        ("test", "they do not count in the test UAR"),
        ("val", "the choice of layer ignores them"),
    ):
        folds: dict[str, list[int]] = {}
        for split in splits:
            for name_of_class in split["parts"][part].get("classes_missing", []):
                folds.setdefault(name_of_class, []).append(int(split.get("fold", 0)))
        if not folds:
            continue
        if len(splits) == 1:
            yield f"{name}: no {part} clips of {', '.join(folds)}; {consequence}."
            continue
        shown = [f"{c} ({len(set(f))})" for c, f in list(folds.items())[:SHOWN_CLASSES]]
        more = f" and {len(folds) - SHOWN_CLASSES} more" if len(folds) > SHOWN_CLASSES else ""
        n_folds = len({int(s.get("fold", 0)) for s in splits})
        yield (
            f"{name}: some of the {n_folds} folds have no {part} clips of {', '.join(shown)}{more} "
            f"(in brackets: in how many); there {consequence}."
        )
    without = max(int(split.get("rows_left_out", 0)) for split in splits)
    if without:
        yield f"{name}: {without:,} labelled clips are in no part; the column does not place them."


def _of_support(data: ReportData, question: Question) -> Iterator[str]:
    table = data.predictions
    fits = question.answer_fits["fingerprint"]
    table = table[table["fingerprint"].isin(fits)]
    if table.empty:
        yield f"{question.title}: no predictions were saved, so classes cannot be looked at."
        return
    if question.metric == MAP:
        return  # mAP has no clip of one class to weigh
    support = table.groupby("target").size() / question.n_passes
    worth = 100.0 / (len(support) * support)
    heavy = worth[worth >= WORTH_POINTS]
    if len(heavy):
        rarest = str(worth.idxmax())
        which = "every class" if len(heavy) == len(support) else f"{len(heavy)} of {len(support)} classes"
        yield (
            f"{question.title}: few test clips in {which}. One clip of {rarest} "
            f"({support[rarest]:.4g} in the test part) is worth {worth[rarest]:.1f} points of UAR."
        )
