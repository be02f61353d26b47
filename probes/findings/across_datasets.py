"""Models over several data sets: mean ranks, critical difference, and how often a difference matters.

One score of each model on each data set. Demšar 2006 (*Statistical comparisons of classifiers over
multiple data sets*, JMLR 7:1-30): two models by Wilcoxon's signed ranks, more by Friedman's test and,
where it rejects, Nemenyi's critical difference of mean ranks. Benavoli, Corani, Demšar & Zaffalon 2017
(*Time for a change*, JMLR 18(77):1-36): the Bayesian signed-rank test with a region of practical
equivalence. Both by autorank (Herbold 2020, JOSS 5(48):2173), of which two things are not taken: its
choice of tests by tests of normality, and its Wilcoxon test, which is one-sided towards what was seen and
so rejects twice as often as it says.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurestore.printable import counted, enumerated
from probes.findings.sentences import ALPHA, p_text

if TYPE_CHECKING:
    import pandas as pd

# With five data sets two models that differ on every one of them have p = 2 / 2^5 > 0.05 by Wilcoxon's test:
# nothing could ever be found. Of equal models Friedman's and Nemenyi's tests together reject 2 to 4 % from
# six on (tests/probes/findings/test_across_datasets.py).
FEWEST_DATASETS = 6
# Differences of scores below one point do not matter in practice (Benavoli et al. 2017, for accuracy).
ROPE = 0.01
# A probability from which one decides, as in that paper.
SURE = 0.95
N_SAMPLES, SEED = 5_000, 0
CHANCES = ("p_better", "p_equal", "p_worse")
#: Of ``across_datasets.csv``.
COLUMNS = (
    "what",
    "n_datasets",
    "datasets",
    "a",
    "b",
    "difference",
    "mean_rank_a",
    "mean_rank_b",
    "test",
    "p",
    "critical_difference",
    "told_apart",
    *CHANCES,
    "rope",
    "reason",
)
INSTALL = "pip install 'featurestore-audio[rank]'"


@dataclass(frozen=True, kw_only=True)
class RankedPair:
    """Two models over all data sets.

    Attributes:
        a, b: The models; `a` has the better mean rank.
        ranks: Their mean ranks, 1 is best.
        difference: Mean score of `a` less that of `b`.
        told_apart: Whether their ranks differ by more than chance at 0.05; None where that was not asked.
        p_better: How probable it is that of the three outcomes, `a` better by more than `ROPE`, a difference
            within it, `b` better by more, the first is the commonest over data sets like these.
        p_equal: The same of the second.
        p_worse: The same of the third.
    """

    a: str
    b: str
    ranks: tuple[float, float]
    difference: float
    told_apart: bool | None = None
    p_better: float = float("nan")
    p_equal: float = float("nan")
    p_worse: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class AcrossDatasets:
    """Models over the data sets of one family of questions.

    Attributes:
        what: Classifier, and the split where all data sets share one.
        datasets: Data sets that all `models` have a score on.
        models: Best mean rank first.
        left_out: Models that lack a score on some data set.
        test: "Friedman" or "Wilcoxon"; "" where none was made.
        p: Its p-value; NaN where none was made.
        critical_difference: Of mean ranks, at 0.05; NaN for two models.
        pairs: Every pair of models.
        reason: Why nothing is tested, or "".
    """

    what: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    test: str = ""
    p: float = float("nan")
    critical_difference: float = float("nan")
    pairs: tuple[RankedPair, ...] = ()
    reason: str = ""

    @property
    def sentences(self) -> list[str]:
        """What there is to read; nothing where there is one data set."""
        n = len(self.datasets)
        if n < 2 or len(self.models) + len(self.left_out) < 2:
            return []
        start = f"Over {counted(n, 'data set')} ({self.what})"
        lacking = f"Left out, not scored on every data set: {enumerated(self.left_out)}."
        left_out = [lacking] if self.left_out else []
        if self.reason:
            return [f"{start}: {self.reason}.", *left_out]
        ranks = {m: r for pair in self.pairs for m, r in zip((pair.a, pair.b), pair.ranks, strict=True)}
        listed = ", ".join(f"{m} {ranks[m]:.2f}" for m in self.models)
        said = [f"{start} mean ranks are {listed} (1 is best; {self.test}'s test, {p_text(self.p)})."]
        apart = [f"{pair.a} is above {pair.b}" for pair in self.pairs if pair.told_apart]
        limit = ""
        if not math.isnan(self.critical_difference):
            limit = f"Ranks are told apart beyond {self.critical_difference:.2f} (Nemenyi, 0.05). "
        said.append(f"{limit}{enumerated(apart) or 'No two models can be told apart'}.")
        point = f"{100 * ROPE:g} point (probability {SURE:g} or more)"
        same = [f"{pair.a} and {pair.b}" for pair in self.pairs if pair.p_equal >= SURE]
        better = [f"{pair.a} above {pair.b}" for pair in self.pairs if pair.p_better >= SURE]
        if same:
            said.append(f"On data sets like these mostly within {point}: {enumerated(same)}.")
        if better:
            said.append(f"On data sets like these mostly better by more than {point}: {enumerated(better)}.")
        return [*said, *left_out]


def rank_models(what: str, scores: pd.DataFrame) -> AcrossDatasets:
    """Rank models over data sets.

    Args:
        what: What the scores are of, in words.
        scores: Score of each model on each data set, as fractions: data sets down, models across; NaN where a
            model was not scored.
    """
    complete = scores.dropna(axis=1)
    left_out = tuple(str(m) for m in scores.columns if m not in complete.columns)
    ranks = complete.rank(axis=1, ascending=False).mean()
    order = sorted(complete.columns, key=lambda m: (ranks[m], m))
    known: dict[str, Any] = {
        "what": what,
        "datasets": tuple(map(str, complete.index)),
        "models": tuple(map(str, order)),
        "left_out": left_out,
    }
    pairs = [_pair(complete, ranks, a, b) for a, b in itertools.combinations(order, 2)]
    if reason := _too_little(complete):
        return AcrossDatasets(**known, pairs=tuple(pairs), reason=reason)
    ordered = complete[order]
    test, p, limit = _tested(ordered)
    chances = _chances(ordered)
    found = [
        replace(pair, told_apart=_told_apart(pair, p, limit), p_better=better, p_equal=equal, p_worse=worse)
        for pair in pairs
        for better, equal, worse in [chances[pair.a, pair.b]]
    ]
    return AcrossDatasets(**known, pairs=tuple(found), test=test, p=p, critical_difference=limit)


def _pair(scores: pd.DataFrame, ranks: pd.Series[float], a: str, b: str) -> RankedPair:
    return RankedPair(
        a=str(a),
        b=str(b),
        ranks=(float(ranks[a]), float(ranks[b])),
        difference=float((scores[a] - scores[b]).mean()),
    )


def _too_little(scores: pd.DataFrame) -> str:
    n, k = scores.shape
    if k < 2:
        return "fewer than two models were scored on all of them"
    if n < FEWEST_DATASETS:
        return (
            f"too few to rank models by; {FEWEST_DATASETS} are needed, since of five no difference can be "
            "told from chance (p = 0.06 where one model is always better)"
        )
    if not _has_autorank():
        return f"ranks are compared by autorank, which is not installed; {INSTALL}"
    return ""


def _has_autorank() -> bool:
    from importlib.util import find_spec

    return find_spec("autorank") is not None


def _told_apart(pair: RankedPair, p: float, limit: float) -> bool:
    if not p <= ALPHA:
        return False
    return math.isnan(limit) or pair.ranks[1] - pair.ranks[0] > limit


def _tested(scores: pd.DataFrame) -> tuple[str, float, float]:
    """Name of the test, its p-value, and Nemenyi's critical difference (NaN for two models)."""
    if scores.shape[1] == 2:
        from scipy.stats import wilcoxon

        difference = (scores.iloc[:, 0] - scores.iloc[:, 1]).to_numpy()
        p = 1.0 if not difference.any() else float(wilcoxon(difference, zero_method="zsplit").pvalue)
        return "Wilcoxon", p, math.nan
    if (scores.nunique(axis=1) == 1).all():
        return "Friedman", 1.0, _autorank(scores).cd  # all alike: no statistic
    found = _autorank(scores)
    return "Friedman", float(found.pvalue), float(found.cd)


def _chances(scores: pd.DataFrame) -> dict[tuple[str, str], Sequence[float]]:
    """Of each pair in the order of columns, that the first is better, equal in practice, worse."""
    found = _autorank(
        scores,
        approach="bayesian",
        rope=ROPE,
        rope_mode="absolute",
        nsamples=N_SAMPLES,
        random_state=SEED,
    ).posterior_matrix
    out: dict[tuple[str, str], Sequence[float]] = {}
    for a, b in itertools.combinations(scores.columns, 2):
        # Only one half of the matrix is filled, in an order of its own: (column worse, equal, column better).
        cell = found.loc[a, b]
        out[str(a), str(b)] = cell if isinstance(cell, tuple) else tuple(reversed(found.loc[b, a]))
    return out


def _autorank(scores: pd.DataFrame, **options: Any) -> Any:
    """Quietly: it prints its tables, and SciPy warns of what its tests of normality meet."""
    from autorank import autorank

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return autorank(scores, alpha=ALPHA, force_mode="nonparametric", **options)


def families(answers: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Scores brought into families of questions: what each is → data sets down, models across.

    Data sets have to be independent of each other, so each counts once in a family: its labels are averaged.
    Where all data sets were asked on the same splits, each split is a family; where not, the score of a data
    set is the mean over its questions. A model that lacks one question of a data set lacks its score.

    Args:
        answers: One row for each answer: columns classifier, metric, dataset, split, label, model, score.
    """
    found = {}
    for (classifier, metric), rows in answers.groupby(["classifier", "metric"]):
        asked = f"{metric} · {classifier}"
        if rows.groupby("dataset")["split"].agg(frozenset).nunique() == 1:
            parts = {f"{asked} · split: {split}": part for split, part in rows.groupby("split")}
        else:
            parts = {f"{asked} · each data set on its own splits": rows}
        for what, part in parts.items():
            wide = part.pivot(index=["dataset", "split", "label"], columns="model", values="score")
            by_dataset = wide.groupby("dataset")
            found[what] = by_dataset.mean().where(by_dataset.count().eq(by_dataset.size(), axis=0))
    return found


def across_table(found: Sequence[AcrossDatasets]) -> pd.DataFrame:
    """One row per pair of models of each family, columns `COLUMNS`."""
    import pandas as pd

    rows = [
        {
            "what": one.what,
            "n_datasets": len(one.datasets),
            "datasets": ", ".join(one.datasets),
            "a": pair.a,
            "b": pair.b,
            "mean_rank_a": pair.ranks[0],
            "mean_rank_b": pair.ranks[1],
            "test": one.test,
            "p": one.p,
            "critical_difference": one.critical_difference,
            "rope": ROPE,
            "reason": one.reason,
            **{name: getattr(pair, name) for name in ("difference", "told_apart", *CHANCES)},
        }
        for one in found
        for pair in one.pairs
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
