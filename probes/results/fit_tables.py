"""The tables of a results folder, column by column: what each holds, and in what range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from featurestore.errors import UserError
from featurestore.layer_list import parse_layers
from featurestore.untrusted.document_shape import many, number
from featurestore.untrusted.documents import INT_MAX, DocumentError, parse_json
from featurestore.untrusted.parquet_tables import NUMBER, TEXT, WHOLE

if TYPE_CHECKING:
    import pandas as pd

MOST_LAYERS = 10_000
# Shares are means of shares, which may be past 1 by rounding.
_ROUNDING = 1e-6
_LARGEST = float(np.finfo(float).max)
_NAMES = ("model", "dataset", "label", "classifier", "split", "hparams", "fingerprint")
_TEXTS = ("combine", "layers", "data", "clips", "device")
_NUMBERED = ("split_seed", "fold", "seed")
_COUNTS = ("n_train", "n_val", "n_test", "n_classes", "n_epochs", "best_epoch")
# Scores of single classifiers, empty elsewhere.
MAP_COLUMNS = ("map_train", "map_val", "map_test")
OWN_MEASURES = ("r_precision_test", "r_precision_macro_test")
#: Of fits on numbers only, in whose tables they stand behind the others: R² of each part; of test rows
#: Pearson's r, Lin's concordance and the mean absolute error in the unit of the label; the last also of
#: always saying the mean of the training rows.
NUMBER_COLUMNS = (
    "r2_train",
    "r2_val",
    "r2_test",
    "pearson_test",
    "ccc_test",
    "mae_test",
    "chance_mae",
)
FIT_COLUMNS = (
    "model",
    "dataset",
    "label",
    "layer",
    "classifier",
    "split",
    "seed",
    "hparams",
    "uar_train",
    "uar_val",
    "uar_test",
    "accuracy_test",
    "f1_macro_test",
    "auroc_macro_test",
    "ece_test",
    "chance",
    "majority_accuracy",
    *_COUNTS,
    "fit_s",
    "split_seed",
    "fold",
    "finished_at",
    "fingerprint",
    # how `layers` (text such as 0-12) were looked at; `layer` is empty where several were combined
    "combine",
    "layers",
    # JSON list in the order of `layers`, where they were learned; "" elsewhere
    "layer_weights",
    # of label sets only, which have no UAR
    *MAP_COLUMNS,
    # of retrieval only: mean over test rows, and over classes; see `probes.classifiers.retrieval`
    *OWN_MEASURES,
    # digest of embeddings, labels and split; "" in rows of earlier versions
    "data",
    # UAR of always saying the most frequent class of training
    "majority_uar",
    # digest of what the split is drawn from: ids, labels, groups; "" in rows of earlier versions
    "clips",
    # where it was trained, cpu or cuda; "" in rows of earlier versions
    "device",
)
_OF_CONTROLS = ("control", "codelength_bits", "uniform_bits", "compression")
#: Fits of controls (`probes.questions.controls`) are kept apart, with these columns too.
CONTROL_COLUMNS = (*FIT_COLUMNS, *_OF_CONTROLS)
_OF_CURVES = ("curve", "share", "draw", "n_train_groups", "n_classes_trained", "trained")
#: Fits on shares of the training rows (`probes.questions.curve`) are kept apart, with these columns too;
#: ``trained`` is a digest of the rows.
CURVE_COLUMNS = (*FIT_COLUMNS, *_OF_CURVES)
_OF_REFITS = ("refit", "refit_of")
#: Fits made again on more rows (`probes.questions.refit`) are kept apart, with these columns too: the rows,
#: and the fingerprint of the fit that validation chose. They have no scores of validation rows.
REFIT_COLUMNS = (*FIT_COLUMNS, *_OF_REFITS)
# What tables of earlier versions have not.
_LATER = {*_TEXTS, *MAP_COLUMNS, *OWN_MEASURES, "auroc_macro_test", "ece_test", "fit_s", "layer_weights"}
_LATER |= {"majority_accuracy", "majority_uar"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a table holds.

    Attributes:
        kinds: Of columns by name, see `featurestore.untrusted.parquet_tables`.
        required: Those that have to be there.
        filled: Those without an empty cell.
        ranges: Lowest and highest number of a column; NaN is in any unless it has to be filled.
    """

    kinds: Mapping[str, str]
    required: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


_KINDS = {
    **dict.fromkeys((*CONTROL_COLUMNS, *_OF_CURVES, *NUMBER_COLUMNS), NUMBER),
    **dict.fromkeys((*_NAMES, *_TEXTS, *_OF_REFITS, "finished_at", "control", "curve", "trained"), TEXT),
    **dict.fromkeys((*_NUMBERED, "draw"), WHOLE),
}
del _KINDS["layer_weights"]  # fits of controls have none, which are read here as ""
_SCORES = [c for c in FIT_COLUMNS if _KINDS.get(c) == NUMBER and c not in (*_COUNTS, "layer", "fit_s")]
_RANGES = {
    **dict.fromkeys(_SCORES, (-_ROUNDING, 1 + _ROUNDING)),
    **dict.fromkeys((*_NUMBERED, *_COUNTS), (0, INT_MAX)),
    # Of numbers chance is R² too, which has no lower end.
    **dict.fromkeys(("chance", "r2_train", "r2_val", "r2_test"), (-_LARGEST, 1 + _ROUNDING)),
    **dict.fromkeys(("pearson_test", "ccc_test"), (-1 - _ROUNDING, 1 + _ROUNDING)),
    **dict.fromkeys(("mae_test", "chance_mae"), (0, _LARGEST)),
    "layer": (0, MOST_LAYERS),
    "fit_s": (0, _LARGEST),
    "share": (0, 1),
    **dict.fromkeys(("draw", "n_train_groups", "n_classes_trained"), (0, INT_MAX)),
}
FITS = Columns(
    kinds=_KINDS,
    required=tuple(c for c in FIT_COLUMNS if c not in _LATER),
    filled=(*_NAMES, *_NUMBERED, *_TEXTS),
    ranges=_RANGES,
)
CONTROL_FITS = replace(FITS, required=(*FITS.required, *_OF_CONTROLS), filled=(*FITS.filled, "control"))
CURVE_FITS = replace(FITS, required=(*FITS.required, *_OF_CURVES), filled=(*FITS.filled, *_OF_CURVES))
REFITS = replace(FITS, required=(*FITS.required, *_OF_REFITS), filled=(*FITS.filled, *_OF_REFITS))
#: What tells which fits a file of a task holds, and when they were made: of large folders the rest is slow.
FITS_OF_FILE = Columns(
    kinds=_KINDS, required=("fingerprint", "finished_at"), filled=("fingerprint", "finished_at")
)
#: Of pairs of clips that sound alike, see `probes.leakage.alike_clips`.
ALIKE = Columns(
    kinds={"first": TEXT, "second": TEXT}, required=("first", "second"), filled=("first", "second")
)
#: Of a split, besides its folds; see `probes.results.split_files`.
SPLIT_ROWS = Columns(
    kinds=dict.fromkeys(("utterance_id", "label", "group"), TEXT),
    required=("utterance_id",),
    filled=("utterance_id", "label", "group"),
)
_OF_PREDICTIONS = ("fingerprint", "target", "prediction")
#: Of the predicted class and of the target; of test rows, where the classifier gives any. Earlier versions
#: kept none.
PROBABILITY_COLUMNS = ("p_prediction", "p_target")
PREDICTIONS = Columns(
    kinds={
        **dict.fromkeys((*_OF_PREDICTIONS, "utterance_id", "group"), TEXT),
        **dict.fromkeys(PROBABILITY_COLUMNS, NUMBER),
    },
    required=_OF_PREDICTIONS,
    filled=(*_OF_PREDICTIONS, "utterance_id", "group"),
    ranges=dict.fromkeys(PROBABILITY_COLUMNS, (-_ROUNDING, 1 + _ROUNDING)),
)


def check_columns(table: pd.DataFrame, columns: Columns) -> None:
    """Refuse a table that holds something else.

    Raises:
        DocumentError: what, and in which row, counted from 0.
    """
    lacking = [name for name in columns.required if name not in table]
    if lacking:
        raise DocumentError(f"expected a table of `fs probe`, it lacks the columns {', '.join(lacking)}")
    for name in columns.filled:
        if name in table and table[name].isna().any():
            raise DocumentError(f"column {name!r}, row {int(table[name].isna().argmax())}: expected a value")
    for name, (low, high) in columns.ranges.items():
        if name in table and len(table):
            values = table[name].to_numpy(dtype=float, na_value=np.nan)
            odd = (values < low) | (values > high)
            if odd.any():
                shown = values[odd.argmax()]
                raise DocumentError(
                    f"column {name!r}, row {int(odd.argmax())}: expected {low:g} to {high:g}, got {shown:g}"
                )
    if columns in (FITS, CONTROL_FITS, CURVE_FITS, REFITS):
        _check_texts(table)


def _check_texts(table: pd.DataFrame) -> None:
    """The columns whose texts are read on: settings, layers, weights of layers."""
    layers = table["layer"].to_numpy(dtype=float, na_value=np.nan)
    if (np.nan_to_num(layers) % 1 != 0).any():
        raise DocumentError("column 'layer': expected whole numbers")
    for text in table["hparams"].unique():
        if not isinstance(_json(text, "hparams"), dict):
            raise DocumentError(f"column 'hparams': expected settings as JSON, got {text[:40]!r}")
    if "layers" in table:
        n_layers = {text: _n_layers(text) for text in table["layers"].unique()}
        if "layer_weights" in table:
            pairs = table[["layers", "layer_weights"]].drop_duplicates().itertuples(index=False)
            for layers_text, text in pairs:
                if isinstance(text, str) and text:
                    n = n_layers[layers_text]
                    many(number(), n, n)(_json(text, "layer_weights"), "column 'layer_weights'")


def _json(text: str, name: str) -> object:
    try:
        return parse_json(text)
    except DocumentError as error:
        raise DocumentError(f"column {name!r}: {error}") from error


def _n_layers(text: str) -> int:
    try:
        return len(parse_layers(text))
    except UserError as error:
        raise DocumentError(f"column 'layers': {error}") from error
