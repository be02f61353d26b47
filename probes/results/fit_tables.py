"""The tables of a results folder, column by column: what each holds, and in what range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
_NAMES = ("model", "dataset", "label", "classifier", "split", "hparams", "fingerprint")
# Fits of controls have no `layer_weights`, which are read here as "".
_TEXTS = ("combine", "layers", "data", "clips")
_SHARES = (
    *(f"{score}_{part}" for score in ("uar", "map") for part in ("train", "val", "test")),
    "accuracy_test",
    "f1_macro_test",
    "auroc_macro_test",
    "ece_test",
    "chance",
    "majority_accuracy",
    "majority_uar",
    "r_precision_test",
    "r_precision_macro_test",
)
_CODE = ("codelength_bits", "uniform_bits", "compression")
_COUNTS = ("n_train", "n_val", "n_test", "n_classes", "n_epochs", "best_epoch")


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
    **dict.fromkeys((*_NAMES, *_TEXTS, "finished_at", "control"), TEXT),
    **dict.fromkeys(("split_seed", "fold", "seed"), WHOLE),
    **dict.fromkeys(("layer", *_SHARES, *_COUNTS, "fit_s", *_CODE), NUMBER),
}
_RANGES = {
    **dict.fromkeys(("split_seed", "fold", "seed"), (0, INT_MAX)),
    **dict.fromkeys(_SHARES, (-_ROUNDING, 1 + _ROUNDING)),
    **dict.fromkeys(_COUNTS, (0, INT_MAX)),
    "layer": (0, MOST_LAYERS),
    "fit_s": (0, np.finfo(float).max),
}
_FILLED = (*_NAMES, "split_seed", "fold", "seed", *_TEXTS)
#: Of fits; what earlier versions had not need not be there.
FITS = Columns(
    kinds=_KINDS,
    required=(
        *_NAMES,
        "split_seed",
        "fold",
        "seed",
        "layer",
        "uar_train",
        "uar_val",
        "uar_test",
        "accuracy_test",
        "f1_macro_test",
        "chance",
        *_COUNTS,
        "finished_at",
    ),
    filled=_FILLED,
    ranges=_RANGES,
)
CONTROL_FITS = Columns(
    kinds={
        **_KINDS,
        "control": TEXT,
        **dict.fromkeys(("codelength_bits", "uniform_bits", "compression"), NUMBER),
    },
    required=(*FITS.required, "control", "codelength_bits", "uniform_bits", "compression"),
    filled=(*_FILLED, "control"),
    ranges=_RANGES,
)
_OF_ROWS = ("fingerprint", "target", "prediction")
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
#: Of predictions, and of counts of them.
PREDICTIONS = Columns(
    kinds={**dict.fromkeys((*_OF_ROWS, "utterance_id", "group"), TEXT), "count": WHOLE},
    required=_OF_ROWS,
    filled=(*_OF_ROWS, "utterance_id", "group", "count"),
    ranges={"count": (0, INT_MAX)},
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
    if columns in (FITS, CONTROL_FITS):
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
