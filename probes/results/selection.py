"""What a results table says when nothing is chosen by its test scores.

Settings, layer and model are chosen by validation scores, anew in every test fold (and every draw of a
split by another split seed), because one fold's validation rows are another's test rows. In nested
splits a test fold's inner folds choose together: a setting's validation score there is the mean over
them, and the test rows, which no inner fold has seen, are scored by the probes of all inner folds, whose
mean is the fold's score. (Nothing is fitted again on the inner folds together: early stopping needs
validation rows.) What is reported is the mean over test folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from featurestore.layer_list import format_layers
from probes.classifiers.layer_combination import EACH
from probes.classifiers.numbers import numbers_of
from probes.metrics import r2, uar
from probes.splits import parse_split

CURVE = ("model", "dataset", "label", "classifier", "split", "combine")
# Rows stand in the order of both; `layers` alone, which is never missing, tells places apart.
PLACE = ("layer", "layers")
UAR, MAP, R2 = "UAR", "mAP", "R²"
_COLUMN_OF = {UAR: "uar", MAP: "map", R2: "r2"}
# What takes no probe; averaged as scores are.
BASELINES = ("chance", "majority_uar", "majority_accuracy")
# A test fold of one draw: within one, seeds and inner folds are averaged.
OUTER = ("split_seed", "outer")
# What a control shares with its probe: all but the labels. Then what is averaged of it.
_SAME_FIT = (*CURVE, "layers", "hparams", "seed", "split_seed", "fold")
_MEANS = (
    "control_train",
    "control_test",
    "selectivity",
    "codelength_bits",
    "uniform_bits",
    "compression",
)


def validated_by(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a fit is chosen by, and the column of it, from what a worker says of the fit."""
    return next((m, f"{_COLUMN_OF[m]}_val") for m in (MAP, R2, UAR) if f"{_COLUMN_OF[m]}_val" in row)


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the score that selects.

    Adds `metric` ("UAR", "mAP" for label sets, or "R²" for numbers), `score_train`, `score_val`,
    `score_test`, and `outer`, the test fold (inner folds of nested splits share one). Rows are sorted by
    curve, layer and fit.
    """
    out = table.copy()
    # Tables of earlier versions have no mAP. Without a positive validation row one fold has none either.
    no_uar = out.filter(regex="^uar_(train|val|test)$").isna().all(axis=1)
    is_map = no_uar & out.filter(regex="^map_(train|val|test)$").notna().any(axis=1)
    out["metric"] = np.where(is_map, MAP, UAR)
    if "chance_mae" in out:  # what every fit on numbers has, also where R² is not defined
        out.loc[out["chance_mae"].notna(), "metric"] = R2
    for part in ("train", "val", "test"):
        value = out[f"uar_{part}"].astype(float)
        for metric in (MAP, R2):
            of_metric = out["metric"] == metric
            if of_metric.any():
                value = value.where(~of_metric, out[f"{_COLUMN_OF[metric]}_{part}"])
        out[f"score_{part}"] = value
    outer_of = {
        (split, fold): parse_split(split).outer(int(fold))
        for split, fold in set(zip(out["split"], out["fold"], strict=True))
    }
    out["outer"] = [outer_of[key] for key in zip(out["split"], out["fold"], strict=True)]
    order = [*CURVE, *PLACE, "hparams", *OUTER, "fold", "seed"]
    return out.sort_values(order, kind="stable", ignore_index=True)


def chosen_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Fits whose settings validation preferred, for every layer and test fold; see `scored`."""
    return _prefer(scored(table), [*CURVE, "layers", *OUTER], ["hparams"])


def chosen_fits(table: pd.DataFrame) -> pd.DataFrame:
    """Fits whose layer and settings validation preferred, for every curve and test fold; see `scored`.

    The lower layer on a tie. What these fits score on test is the answer of a curve.
    """
    return _prefer(scored(table), [*CURVE, *OUTER], ["layers", "hparams"])


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model, data set, label, classifier, split and layer, or combination of layers.

    Combined layers are a curve of their own, never a point on the curve of single ones. A layer's
    settings are those that validation prefers, in every test fold its own; `hparams` are those that most
    folds chose, of `n_settings`. `best` marks the layer with the highest mean validation score of its
    curve (the lower layer on a tie). Test values take no part in either choice. For the answer of a curve
    with folds see `answers`: there the layer too is chosen anew in every fold.

    Seeds and inner folds are averaged within each test fold, then folds are: the spread is that between
    folds (or draws of the split) where there are several, and between seeds of the one split where not.

    Returns:
        Columns model, dataset, label, classifier, split, combine, layer, layers, hparams, n_fits, n_splits,
        n_settings, metric, `score_val_mean`, `score_val_std`, `score_test_mean`, `score_test_std` (n-1; NaN
        for one value), the same for `uar_…` (NaN for others), if there are label sets `map_…`, and if there
        are numbers `r2_…` (NaN where R² is not defined in some fold);
        `BASELINES`, n_test (clips tested, over all folds of a draw), best.
    """
    fits = chosen_settings(table)
    stats = averages(fits, [*CURVE, "layers"])
    stats.insert(
        len(CURVE), "layer", fits.groupby([*CURVE, "layers"], sort=False)["layer"].first().to_numpy()
    )
    score = stats["score_val_mean"].round(9).fillna(-np.inf)  # rounding must not break a tie
    highest = score.groupby([stats[c] for c in CURVE]).transform("max")
    first = stats.loc[score == highest].drop_duplicates(list(CURVE), keep="first").index
    stats["best"] = stats.index.isin(first)
    return stats


def answers(table: pd.DataFrame) -> pd.DataFrame:
    """One row per curve: what its layer and settings score that validation chose in every test fold.

    Returns:
        Columns as `summarise`, without `best`; `layer` is the one that most folds chose (the lower on
        a tie) and `layers` all that were chosen, such as "3-4,7".
    """
    fits = chosen_fits(table)
    out = averages(fits, list(CURVE))
    folds = fits.drop_duplicates([*CURVE, *OUTER]).groupby(list(CURVE), sort=False)
    out.insert(len(CURVE), "layer", [_most(rows["layer"]) for _, rows in folds])
    out.insert(len(CURVE) + 1, "layers", [all_layers(rows) for _, rows in folds])
    return out


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    """Answers of one question, best on validation first, combined layers after all single ones."""
    by = ["combined", "score_val_mean", "model"]
    ordered = found.assign(combined=found["combine"] != EACH).sort_values(by, ascending=[True, False, True])
    return ordered.drop(columns="combined")


def _most(layers: pd.Series[Any]) -> int | None:
    """The layer that stands most often, the lowest on a tie; None where layers were combined."""
    found = layers.dropna().mode()
    return int(found.iloc[0]) if len(found) else None


def all_layers(rows: pd.DataFrame) -> str:
    """The layers of some fits, such as ``3-4,7``; of combinations each, as they are called."""
    if rows["layer"].isna().any():
        return ", ".join(dict.fromkeys(rows["layers"]))
    return format_layers(sorted({int(k) for k in rows["layer"]}))


def oracle(table: pd.DataFrame) -> pd.DataFrame:
    """What the best layer would score if test scores were allowed to choose it: an upper bound.

    One row per curve: `CURVE`, `oracle_layers`, `oracle_test`: the layer and setting (one for all folds)
    with the highest mean *test* score. No result to report, only how much the choice on validation may
    have missed.
    """
    at = [*CURVE, "layers", "hparams"]
    fits = scored(table)
    means = fits.groupby([*at, *OUTER], sort=False)["score_test"].mean().groupby(at, sort=False).mean()
    # Of numbers the mean of some folds is none of all.
    lacking = (fits["score_test"].isna() & (fits["metric"] == R2)).groupby([fits[c] for c in at]).any()
    best = means.mask(lacking.reindex(means.index)).reset_index()
    best = best.sort_values("score_test", ascending=False, kind="stable").drop_duplicates(list(CURVE))
    columns = {"layers": "oracle_layers", "score_test": "oracle_test"}
    best = best.sort_values(list(CURVE), ignore_index=True)
    return best.rename(columns=columns)[[*CURVE, *columns.values()]]


def control_summary(table: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """One row per curve, layer and control, of the settings that validation chose *on the labels*.

    A control chooses nothing: it is compared with the very fits that the layer curve shows.

    Args:
        table: `probes.results.results_folder.read_results`.
        controls: `probes.results.results_folder.read_controls`.

    Returns:
        Columns `CURVE`, layer, layers, control, n_fits, and means over seeds, then folds, of control_train
        and control_test (UAR, or R²), selectivity (test score on the labels minus control_test),
        codelength_bits, uniform_bits and compression (of "mdl" only; NaN elsewhere).
    """
    keys = list(_SAME_FIT)
    chosen = chosen_settings(table)[[*keys, "outer", "score_test"]]
    scores = {"score_train": "control_train", "score_test": "control_test"}
    own = scored(controls)[[*keys, "layer", "control", *scores, *_MEANS[3:]]].rename(columns=scores)
    joined = own.merge(chosen, on=keys, how="inner")
    joined["selectivity"] = joined["score_test"] - joined["control_test"]
    joined = joined.sort_values([*CURVE, *PLACE, "control"], kind="stable")
    by = [*CURVE, "layers", "control"]
    per_fold = joined.groupby([*by, *OUTER], sort=False)[list(_MEANS)].mean()
    out = per_fold.groupby(by, sort=False).mean()
    grouped = joined.groupby(by, sort=False)
    out.insert(0, "n_fits", grouped.size())
    out.insert(0, "layer", grouped["layer"].first())
    return out.reset_index()


def pooled_score(predictions: pd.DataFrame, fits: pd.DataFrame) -> float:
    """UAR, or R², over the test rows of all folds together: one per seed and inner fold, their mean.

    Rows of several draws of a split stand one after the other, as in ``uar_pooled`` of ``layers.csv``, which
    the interval is about.

    NaN for label sets, whose scores of different probes cannot be ranked together.

    Args:
        predictions: See `probes.results.results_folder.read_predictions`.
        fits: Fits of one model and label, one setting per test fold, all folds.
    """
    known = scored(fits)
    if (known["metric"] == MAP).any():
        return float("nan")
    of_numbers = bool((known["metric"] == R2).any())
    splits = {s: parse_split(s) for s in known["split"].unique()}
    known["inner"] = [splits[s].inner(int(f)) for s, f in zip(known["split"], known["fold"], strict=True)]
    joined = predictions.merge(known[["fingerprint", "seed", "inner"]], on="fingerprint")
    passes = joined.groupby(["seed", "inner"])
    scores = [
        r2(*(numbers_of(rows[c].to_numpy(dtype=object)) for c in ("target", "prediction")))
        if of_numbers
        else uar(rows["target"], rows["prediction"])
        for _, rows in passes
    ]
    return float(np.mean(scores)) if scores else float("nan")


def _prefer(fits: pd.DataFrame, by: list[str], what: list[str]) -> pd.DataFrame:
    """Rows of the `what` with the highest mean validation score within each `by`; the first on a tie."""
    # A fit on numbers without a score went astray: what has one such fit is preferred to nothing.
    score = fits["score_val"].where(fits["score_val"].notna() | (fits["metric"] != R2), -np.inf)
    by_what = fits.assign(score_val=score).groupby([*by, *what], sort=False)
    means = by_what["score_val"].mean().reset_index()
    means["score_val"] = means["score_val"].round(9).fillna(-np.inf)
    means = means.sort_values("score_val", ascending=False, kind="stable").drop_duplicates(by)
    return fits.merge(means[[*by, *what]], on=[*by, *what], how="inner")


def averages(fits: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and spread of scores: over seeds and inner folds, then over test folds."""
    grouped = fits.groupby(by, sort=False)
    averaged = ["score_val", "score_test", *(name for name in BASELINES if name in fits)]
    per_fold = fits.groupby([*by, *OUTER, "fold"], sort=False)[averaged].mean()
    per_outer = per_fold.groupby([*by, *OUTER], sort=False).mean().groupby(by, sort=False)
    out = grouped.agg(
        hparams=("hparams", lambda h: h.mode().iloc[0]), n_fits=("seed", "size"), metric=("metric", "first")
    )
    out.insert(2, "n_splits", per_outer.size())
    out.insert(3, "n_settings", grouped["hparams"].nunique())
    several = out["n_splits"] > 1
    for name in ("score_val", "score_test"):
        out[f"{name}_mean"] = per_outer[name].mean()
        out[f"{name}_std"] = per_outer[name].std().where(several, grouped[name].std())
    for name in averaged[2:]:
        out[name] = per_outer[name].mean()
    # Of numbers a fold may have no score, since its test rows are all alike or a fit went astray: the mean of
    # the others is none.
    for part, more in (("val", ()), ("test", ("chance",))):
        lacking = grouped[f"score_{part}"].apply(lambda scores: scores.isna().any()) & (out["metric"] == R2)
        out.loc[lacking, [f"score_{part}_mean", f"score_{part}_std", *(m for m in more if m in out)]] = np.nan
    if "n_test" in fits:
        # Inner folds and seeds test the same clips.
        tested = fits.groupby([*by, *OUTER], sort=False)["n_test"].first()
        out["n_test"] = tested.groupby([*by, OUTER[0]], sort=False).sum().groupby(by, sort=False).mean()
    for metric, name in _COLUMN_OF.items():
        if metric == UAR or (out["metric"] == metric).any():
            for part in ("val_mean", "val_std", "test_mean", "test_std"):
                out[f"{name}_{part}"] = out[f"score_{part}"].where(out["metric"] == metric)
    return out.reset_index()
