"""What the controls of a results folder say beside the probes they belong to."""

from __future__ import annotations

import pandas as pd

from probes.questions.controls import MDL, OTHER_LABELS
from probes.results.selection import CURVE, OUTER, PLACE, chosen_settings

# What a control shares with its probe: all but the labels.
_SAME_FIT = (*CURVE, "layers", "hparams", "seed", "split_seed", "fold")
_MEANS = ("control_train", "control_test", "selectivity", "codelength_bits", "uniform_bits", "compression")


def control_summary(table: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """One row per curve, layer and control, of the settings that validation chose *on the labels*.

    A control chooses nothing: it is compared with the very fits that the layer curve shows.

    Args:
        table: `probes.results.results_folder.read_results`.
        controls: `probes.results.results_folder.read_controls`.

    Returns:
        Columns `CURVE`, layer, layers, control, n_fits, and means over seeds, then folds, of control_train
        and control_test (UAR), selectivity (test UAR on the labels minus control_test),
        codelength_bits, uniform_bits and compression (of "mdl" only; NaN elsewhere).
    """
    keys = list(_SAME_FIT)
    chosen = chosen_settings(table)[[*keys, "outer", "score_test"]]
    own = controls[[*keys, "layer", "control", "uar_train", "uar_test", *_MEANS[3:]]]
    joined = own.merge(chosen, on=keys, how="inner")
    joined = joined.rename(columns={"uar_train": "control_train", "uar_test": "control_test"})
    joined["selectivity"] = joined["score_test"] - joined["control_test"]
    joined = joined.sort_values([*CURVE, *PLACE, "control"], kind="stable")
    by = [*CURVE, "layers", "control"]
    per_fold = joined.groupby([*by, *OUTER], sort=False)[list(_MEANS)].mean()
    out = per_fold.groupby(by, sort=False).mean()
    grouped = joined.groupby(by, sort=False)
    out.insert(0, "n_fits", grouped.size())
    out.insert(0, "layer", grouped["layer"].first())
    return out.reset_index()


def wide(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """`control_summary` of one question as a table to read: heads, and rows of text.

    Columns of a control are left out where it was not fitted.
    """
    shown = [c for c in OTHER_LABELS if (rows["control"] == c).any()]
    heads = ["model", "layer"]
    for name in shown:
        heads += [f"{name}: train", f"{name}: test", "selectivity"]
    has_code = bool((rows["control"] == MDL).any())
    if has_code:
        heads += ["code, bits", "compression"]
    lines = []
    for (model, _, layers), found in rows.groupby(["model", "combine", "layers"], sort=False):
        by_control = {str(r["control"]): r for r in found.to_dict("records")}
        line = [str(model), str(layers)]
        for name in shown:
            row = by_control.get(name)
            names = ("control_train", "control_test", "selectivity")
            line += [f"{100 * row[n]:.1f}" for n in names] if row else [""] * 3
        if has_code:
            code = by_control.get(MDL)
            line += [f"{code['codelength_bits']:,.0f}", f"{code['compression']:.2f}"] if code else ["", ""]
        lines.append(line)
    return heads, lines
