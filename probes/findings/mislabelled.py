"""Utterances that are likely mislabelled, by probes that had not seen them.

Each answer about a test utterance speaks for the class that it names and for the label, as probable as it
says they are; what it leaves for all other classes is not kept, and counts as none. Answers without
probabilities speak for the class that they name, fully. `probes.geometry.suspects.judge` then says, after
Northcutt, Jiang & Chuang 2021, where another class gets at least what it gets on average where it is the
label, and more than the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from featurestore.printable import counted
from probes.geometry.suspects import LEAST_AGREEMENT, OTHER_CLASS, Votes, class_codes, judge
from probes.metrics import uar

# Why an utterance is suspected; the same columns stand in ``suspects.csv``.
EVIDENCE = ("label", "suggested", "margin", "p_label", "p_suggested", "n_answers", "n_suggest", "group")
COLUMNS = ("suspect_rank", "utterance_id", *EVIDENCE)
MEASURE = (
    "How probable probes that had not seen the clip say its label and another class are, each less what is "
    "usual where it is the label; margin: the other class less the label (confident learning, Northcutt, "
    "Jiang & Chuang 2021)."
)


@dataclass(frozen=True, kw_only=True)
class Mislabelled:
    """Suspects of one question.

    Attributes:
        table: Columns `COLUMNS`, the likeliest first; `p_label` and `p_suggested` are means over answers,
            `n_suggest` of them name the suggested class.
        n_judged: Utterances that were tested.
        reason: Why nobody is suspected, or "".
    """

    table: pd.DataFrame
    n_judged: int
    reason: str = ""


def mislabelled(answers: pd.DataFrame) -> Mislabelled:
    """Suspects among the utterances of `probes.findings.mistakes.answers_of`, of single labels."""
    nobody = pd.DataFrame(columns=list(COLUMNS))
    firsts = answers.drop_duplicates("utterance_id")
    ids, label = (firsts[name].to_numpy(dtype=object) for name in ("utterance_id", "target"))
    classes = sorted({*answers["target"], *answers["prediction"]})
    if len(classes) < 2 or not len(ids):
        return Mislabelled(table=nobody, n_judged=len(ids), reason="there is one class only")
    agreement = uar(answers["target"], answers["prediction"])
    if agreement < LEAST_AGREEMENT:
        said = f"{100 * agreement:.0f} % of the clips (mean over classes)"
        reason = f"the answers name the label of {said} only, so what they say elsewhere is no evidence"
        return Mislabelled(table=nobody, n_judged=len(ids), reason=reason)
    y = class_codes(label, classes)
    votes, n_suggest = _votes(answers, ids, classes)
    judged = judge([votes], y)
    at = np.flatnonzero(judged.kind == OTHER_CLASS)
    at = at[np.lexsort((ids[at].astype(str), -judged.margin[at]))]
    suggested = judged.suggested[at]
    table = {
        "suspect_rank": np.arange(1, len(at) + 1),
        "utterance_id": ids[at],
        "label": label[at],
        "suggested": np.array(classes, dtype=object)[suggested],
        "margin": judged.margin[at],
        "p_label": votes.share[at, y[at]],
        "p_suggested": votes.share[at, suggested],
        "n_answers": votes.n[at],
        "n_suggest": n_suggest[at, suggested],
        "group": firsts["group"].to_numpy(dtype=object)[at],
    }
    reason = "" if len(at) else f"in none of {counted(len(ids), 'clip')} the answers agree on another class"
    return Mislabelled(table=pd.DataFrame(table)[list(COLUMNS)], n_judged=len(ids), reason=reason)


def _votes(answers: pd.DataFrame, ids: np.ndarray, classes: list[str]) -> tuple[Votes, np.ndarray]:
    """What the answers say of each utterance, and how often each class is named `[n, C]`."""
    row = pd.Index(ids).get_indexer(pd.Index(answers["utterance_id"])).astype(np.int64)
    said, given = (class_codes(answers[c].to_numpy(dtype=object), classes) for c in ("prediction", "target"))
    p_said, p_given = (answers[c].to_numpy(dtype=np.float64) for c in ("p_prediction", "p_target"))
    is_known = np.isfinite(p_said) & np.isfinite(p_given)
    is_other = is_known & (said != given)
    votes = Votes.weighed(
        row,
        np.concatenate([row, row[is_other]]),
        np.concatenate([said, given[is_other]]),
        np.concatenate([np.where(is_known, p_said, 1.0), p_given[is_other]]),
        len(ids),
        len(classes),
    )
    named = np.bincount(row * len(classes) + said, minlength=len(ids) * len(classes))
    return votes, named.reshape(len(ids), len(classes))
