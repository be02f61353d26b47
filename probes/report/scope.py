"""What the scores of a question are of: what is held out, in how many groups, and if of the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurestore.printable import counted
from probes.splits import KINDS, held_out, parse_split

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a question's scores are of.

    Attributes:
        held_out: In words, such as "bird held out".
        n_groups: Groups of the rows in all parts; 0 where they are not known or none are held out.
        n_groups_tested: Those of them that are tested in some fold.
        other_clips: Models with fits about other clips, labels or groups than those of the answer.
    """

    held_out: str
    n_groups: int = 0
    n_groups_tested: int = 0
    other_clips: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if not self.n_groups:
            return self.held_out
        some = f", {self.n_groups_tested} tested" if self.n_groups_tested < self.n_groups else ""
        return f"{self.held_out}: {counted(self.n_groups, 'group')}{some}"


def scope_of(fits: pd.DataFrame, answers: pd.DataFrame, splits: Sequence[Mapping[str, Any]]) -> Scope:
    """The scope of one question.

    Args:
        fits: Rows of the results behind its summary.
        answers: Its answers, with `best_model`.
        splits: All splits of ``_run.json``.
    """
    model = str(answers.loc[answers["best_model"], "model"].iloc[0])
    first = fits.iloc[0]
    text = str(first["split"])
    described = [
        s["parts"]
        for s in splits
        if (s["model"], s["dataset"], s["label"], s["split"])
        == (model, first["dataset"], first["label"], text)
    ]
    n = n_tested = 0
    if KINDS[parse_split(text).kind].grouped:
        n = len({g for parts in described for part in parts.values() for g in part["groups"]})
        n_tested = len({g for parts in described for g in parts["test"]["groups"]})
    other = frozenset(_of_other_clips(fits, model))
    return Scope(held_out=held_out(text), n_groups=n, n_groups_tested=n_tested, other_clips=other)


def _of_other_clips(fits: pd.DataFrame, reference: str) -> set[str]:
    """Models with fits about other clips than most of those of the reference."""
    n_rows = (fits["n_train"] + fits["n_val"] + fits["n_test"]).round().astype(int)
    # Rows of earlier versions do not say what they are about: then only the number of clips is compared.
    known = fits["clips"].map(bool).all()
    about = fits["clips"] if known else n_rows.astype(str)
    most = about[fits["model"] == reference].mode().iloc[0]
    return set(fits.loc[about != most, "model"])


def with_baselines(table: pd.DataFrame, splits: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Fits of earlier versions with the chance and the majority's UAR that later ones record.

    Those counted the classes of the test rows as chance, also where the probe knew others. What a fold's
    parts hold is in ``_run.json``; where it is not, the fits stay as they are.
    """
    lacking = table["majority_uar"].isna() & table["uar_test"].notna()
    if not lacking.any():
        return table
    from probes.results.results_folder import SPLIT, split_name

    found = {split_name(s): _baselines(s["parts"]) for s in splits}
    names = list(zip(*(table[c] for c in SPLIT), strict=True))
    out = table.copy()
    for column, at in (("chance", 0), ("majority_uar", 1)):
        values = [
            found[name][at] if name in found else old for name, old in zip(names, out[column], strict=True)
        ]
        out[column] = out[column].where(~lacking, values)
    return out


def _baselines(parts: Mapping[str, Any]) -> tuple[float, float]:
    """Chance, and UAR of always saying the most frequent class of training (the first of equals)."""
    train, test = ({c: n for c, n in parts[part]["per_class"].items() if n} for part in ("train", "test"))
    if not train or not test:
        return float("nan"), float("nan")
    majority = max(sorted(train), key=lambda c: train[c])
    return len(test.keys() & train.keys()) / len(test) / len(train), (majority in test) / len(test)
