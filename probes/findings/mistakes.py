"""What the probes behind an answer said of each test utterance: right, wrong, and how sure they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from probes.results.fit_tables import PROBABILITY_COLUMNS

if TYPE_CHECKING:
    from probes.results.results_folder import StoredPredictions

_FIT = ("fingerprint", "model", "layers", "seed", "split_seed", "fold")
_TEXTS = ("utterance_id", "group", "target", "prediction")


def answers_of(stored: StoredPredictions, fits: pd.DataFrame) -> pd.DataFrame:
    """One row per test prediction of some fits.

    Args:
        stored: Predictions of a results folder.
        fits: Rows of its table, such as those that validation chose in every fold.

    Returns:
        Columns utterance_id, group, target, prediction, `PROBABILITY_COLUMNS` (NaN where there are none), and
        model, layers, seed, split_seed, fold of the fit.
    """
    said = stored.with_probabilities(fits)
    # Text may come as codes, whose categories differ from file to file.
    said = said.assign(**{name: said[name].to_numpy(dtype=object) for name in ("fingerprint", *_TEXTS)})
    said = said.assign(**{name: said[name].astype(np.float64) for name in PROBABILITY_COLUMNS})
    return said.merge(fits[list(_FIT)], on="fingerprint", how="left").drop(columns="fingerprint")


def by_utterance(answers: pd.DataFrame) -> pd.DataFrame:
    """One row per utterance, the hardest first: most often wrong, then least probable.

    Args:
        answers: `answers_of`, of one question.

    Returns:
        Columns utterance_id, group, target; n_answers and n_wrong; p_target, the mean probability of the
        label (NaN where there is none); mistaken_for, the wrong class that is named most often ("" for none)
        and n_mistaken, how often.
    """
    wrong = answers["prediction"] != answers["target"]
    grouped = answers.assign(wrong=wrong).groupby("utterance_id", sort=True)
    out = grouped.agg(
        group=("group", "first"),
        target=("target", "first"),
        n_answers=("wrong", "size"),
        n_wrong=("wrong", "sum"),
        p_target=("p_target", "mean"),
    )
    counts = answers[wrong].groupby(["utterance_id", "prediction"]).size().rename("n").reset_index()
    counts = counts.sort_values(["utterance_id", "n", "prediction"], ascending=[True, False, True])
    most = counts.drop_duplicates("utterance_id").set_index("utterance_id")
    out["mistaken_for"] = most["prediction"].reindex(out.index).fillna("").astype(object)
    out["n_mistaken"] = most["n"].reindex(out.index).fillna(0).astype(np.int64)
    order = out.assign(share=out["n_wrong"] / out["n_answers"]).reset_index()
    order = order.sort_values(["share", "p_target", "utterance_id"], ascending=[False, True, True])
    return order.drop(columns="share").reset_index(drop=True)


def mistakes(answers: pd.DataFrame) -> pd.DataFrame:
    """Every wrong prediction of `answers_of`, those of the hardest utterances first."""
    rank = pd.Series({u: i for i, u in enumerate(by_utterance(answers)["utterance_id"])}, dtype=np.int64)
    wrong = answers[answers["prediction"] != answers["target"]]
    wrong = wrong.assign(rank=rank.reindex(wrong["utterance_id"]).to_numpy())
    wrong = wrong.sort_values(["rank", "split_seed", "fold", "seed"], kind="stable")
    return wrong.drop(columns="rank").reset_index(drop=True)


def confused_pairs(utterances: pd.DataFrame) -> pd.DataFrame:
    """Classes that are taken for others, by what share of the class's utterances; the largest share first.

    Args:
        utterances: `by_utterance`.

    Returns:
        Columns target, mistaken_for, n (utterances whose answers name it more often than any other wrong
        class, and that are wrong in half of them at least), share (of the class's utterances).
    """
    is_mostly = 2 * utterances["n_wrong"] >= utterances["n_answers"]
    mostly = utterances[(utterances["n_mistaken"] > 0) & is_mostly]
    n = mostly.groupby(["target", "mistaken_for"]).size().rename("n").reset_index()
    size = utterances["target"].value_counts()
    pairs = n.assign(share=n["n"] / size.reindex(n["target"]).to_numpy())
    by = ["share", "n", "target", "mistaken_for"]
    return pairs.sort_values(by, ascending=[False, False, True, True]).reset_index(drop=True)
