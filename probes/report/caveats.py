"""What a careful reader has to know before quoting a number of the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.printable import counted, enumerated
from probes.leakage.kinds import Leak, LeakageReport, sentences
from probes.questions.number_questions import constant_sentences
from probes.report.run_info import distinct_splits, shared_groups
from probes.report.tables import unlike
from probes.results.selection import UAR
from probes.splits.missing_parts import class_sentences

if TYPE_CHECKING:
    from probes.report.data import ReportData, ReportedQuestion

# Points of UAR that one test clip may weigh before it is worth a warning: differences between
# layers and models of the size of one clip are then as large as those people report.
WORTH_POINTS = 1.0
# A best epoch in the last tenth of those allowed: the fit was stopped, it had not settled.
LATE_SHARE = 0.9
GROUP_ADVICE = (
    "Part of the score may come from recognising the group, such as the recording; "
    "compare with a split by group."
)


@dataclass(frozen=True, kw_only=True)
class Folded:
    """Many findings of one kind: one sentence with what follows of them, and each for who unfolds it."""

    sentence: str
    lines: tuple[str, ...]


def warnings_of(data: ReportData) -> list[str]:
    """Sentences: what limits all numbers first, then what limits single questions.

    What the parts of splits share is told by `leakage_of`, what an audit found by `audit_of`.
    """
    found = [
        *(f"{q.title}: {sentence}" for q in data.questions if (sentence := unlike(q))),
        *data.run.get("replaced", []),
        *_of_spread(data),
        *_of_splits(data),
        *undertrained(data),
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
            "± is one standard deviation over seeds of training on one split. Which clips happened to be "
            "tested is not in it, but in the interval of 95 %, where there is one."
        )
    uneven = [q for q in data.questions if q.summary["n_fits"].nunique() > 1]
    for question in uneven:
        low, high = question.summary["n_fits"].min(), question.summary["n_fits"].max()
        yield f"{question.title}: layers rest on {low} to {high} fits, so compare them with care."


def _one_split(question: ReportedQuestion) -> bool:
    return len(question.fits[["split_seed", "fold"]].drop_duplicates()) == 1


def _of_splits(data: ReportData) -> Iterator[str]:
    left_out: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for split, _ in distinct_splits(data):
        left_out.setdefault((split["label"], split["dataset"], split["split"]), []).append(split)
    for (label, dataset, text), splits in left_out.items():
        name = f"{label} · {dataset} · split: {text}"
        yield from class_sentences(name, splits)
        yield from constant_sentences(name, splits)


def leakage_of(data: ReportData) -> Folded | None:
    """What the parts of splits share: how many questions it touches, the worst of them, what follows."""
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
    lines, worst = sentences(reports), _worst_leak(reports)
    unnamed = []
    for split, _ in distinct_splits(data):
        shared, n_test = shared_groups(split)
        if shared and "leakage" not in split:  # of an earlier version
            name = f"{split['label']} · {split['dataset']} · split: {split['split']}"
            unnamed.append(f"{name}: {shared} of {n_test} groups in the test part also occur in training.")
    if not lines and not unnamed:
        return None
    if worst is None and not unnamed:
        text = (
            "Validation shares sound or groups with training or test: layers and settings may be chosen for "
            "recognising it."
        )
        return Folded(sentence=text, lines=tuple(lines))
    touched = {(r.dataset, r.label, r.split) for r in reports if _worst_leak([r]) is not None}
    n, of = len(touched) + len(set(unnamed)), len({q.name[:2] + q.name[3:] for q in data.questions})
    some = f" in {min(n, of)} of {of} questions" if of > 1 else ""
    at_worst = f": {worst}" if worst else ""
    text = f"Training and test share sound or groups{some}{at_worst}. {GROUP_ADVICE}"
    return Folded(sentence=text, lines=(*lines, *dict.fromkeys(unnamed)))


def _worst_leak(reports: Sequence[LeakageReport]) -> str | None:
    """The largest share of test clips that training gives away: ``38 of 40 test clips (call, ...)``."""
    found = [
        (leak.n_rows / leak.n_of, leak, r)
        for r in reports
        for leak in r.leaks
        if tuple(leak.parts) == ("train", "test") and leak.n_of
    ]
    if not found:
        return None
    _, leak, report = max(found, key=lambda item: item[0])
    named = {"group": "of a group", "file": "from a file", "similar": "near-identical to a clip"}
    what = named.get(leak.kind, "overlapping or the same as a clip")
    return (
        f"at worst {leak.n_rows:,} of {leak.n_of:,} test clips are {what} that trained "
        f"({report.label} · {report.dataset} · split: {report.split})"
    )


def audit_of(data: ReportData) -> Folded | None:
    """Faults and warnings of the audit beside the results; None where there is none of either."""
    found = [f for f in data.beside.audit if f["severity"] != "note"]
    if not found:
        return None
    faults = sum(f["severity"] == "fault" for f in found)
    counts = [counted(n, what) for n, what in ((faults, "fault"), (len(found) - faults, "warning")) if n]
    what_follows = (
        "rows with faults are wrong or fail, and scores rest on the others"
        if faults
        else "scores may rest on what it warns of"
    )
    text = f"The audit of the corpus has {enumerated(counts)}: {what_follows}."
    return Folded(sentence=text, lines=tuple(f"{f['severity']}: {f['text']}" for f in found))


def explained_by_confounds(data: ReportData) -> list[str]:
    """Sentences on labels that a confound alone says about as well as the probes.

    From the table of `fs confounds` beside the results. Compared is the answer of these results, whatever
    probe the table was made with.
    """
    from probes.confounds.explained import QUESTION, explains
    from probes.confounds.explained import sentences as confound_sentences

    table = data.beside.table("confound_scores.csv")
    best = _best_answers(data)
    here = {name[:2] for name in best}
    found = []
    for name, rows in [] if table is None else table.groupby(QUESTION, sort=False):
        dataset, label, split, _ = map(str, name)
        if (dataset, label) not in here:
            continue
        probe = best.get((dataset, label, split))
        if probe is not None:
            numbers = rows[["uar", "chance", "guessing_error", "ci_low"]].itertuples(index=False)
            says = [explains(uar, c, error, probe) and not low <= c for uar, c, error, low in numbers]
            rows = rows.assign(explains=says, best_probe_uar=probe)
        else:
            rows = rows.assign(explains=rows["explains"] == "True")
        of = f"{label} · {dataset} · split: {split}: "
        found += [of + text[0].upper() + text[1:] for text in confound_sentences(rows)]
    return list(dict.fromkeys(found))


def _best_answers(data: ReportData) -> dict[tuple[str, str, str], float]:
    """Test UAR of the classifier that validation prefers, by data set, label and split."""
    best: dict[tuple[str, str, str], tuple[float, float]] = {}
    for q in data.questions:
        if q.metric == UAR:
            scores = float(q.answer["score_val_mean"]), float(q.answer["score_test_mean"])
            name = q.dataset, q.label, q.split
            best[name] = max(best.get(name, scores), scores)
    return {name: test for name, (_, test) in best.items()}


def undertrained(data: ReportData) -> list[str]:
    """A sentence for every question whose fits were still getting better when their epochs were over."""
    found = []
    for question in data.questions:
        fits = question.answers_fits.dropna(subset=["best_epoch"])
        settings = [json.loads(text) for text in fits["hparams"]]
        allowed = np.array([s.get("max_epochs", np.inf) for s in settings])
        late = fits["best_epoch"].to_numpy(dtype=float) >= LATE_SHARE * allowed
        if not late.any() or late.mean() <= 0.5:
            continue
        first = int(late.argmax())
        epochs, batch = int(allowed[first]), settings[first].get("batch_size", 0)
        rows = int(fits["n_train"].iloc[first])
        n = -(-rows // batch) if batch else 0
        steps = f" ({rows} training rows, {counted(n, 'step')} an epoch)" if n else ""
        which = f"{late.sum()} of {len(late)} chosen fits were" if len(late) > 1 else "the chosen fit was"
        found.append(
            f"{question.title}: {which} best at the end of {epochs} epochs{steps}: more may raise the scores "
            "and change which layer is best; try a larger max_epochs or a smaller batch_size with --grid."
        )
    return found


def _of_support(data: ReportData, question: ReportedQuestion) -> Iterator[str]:
    table = data.predictions
    fits = question.answer_fits["fingerprint"]
    table = table[table["fingerprint"].isin(fits)]
    if table.empty:
        yield f"{question.title}: no predictions were saved, so classes cannot be looked at."
        return
    if question.metric != UAR:
        return  # mAP and R² have no clip of one class to weigh
    support = table.groupby("target", observed=True).size() / question.n_passes
    worth = 100.0 / (len(support) * support)
    heavy = worth[worth >= WORTH_POINTS]
    if len(heavy):
        rarest = str(worth.idxmax())
        which = "every class" if len(heavy) == len(support) else f"{len(heavy)} of {len(support)} classes"
        yield (
            f"{question.title}: few test clips in {which}. One clip of {rarest} "
            f"({support[rarest]:.4g} in the test part) is worth {worth[rarest]:.1f} points of UAR."
        )
