"""How well confounds alone predict a label, on the rows of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featurestore.arrays import IntArray
from probes import metrics
from probes.confounds.catalogue import Confound

N_TREES = 100
# Smallest leaves; validation chooses.
LEAVES = (1, 5, 25)
SEED = 0
# Rows that each tree is grown on, at most: a hundred trees see all of a larger corpus together.
ROWS_OF_TREE = 5_000
ROWS_OF_THREADS = 2_000  # with fewer, threads cost more than they save


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Rows of a split, as positions in the table of confounds and in the classes."""

    train: IntArray
    val: IntArray
    test: IntArray


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What confounds say of the test rows.

    Attributes:
        uar: Of the test rows.
        leaf: The smallest leaf that validation chose.
        predicted: Class of each test row `[n_test]`.
    """

    uar: float
    leaf: int
    predicted: IntArray


def forest(confounds: Sequence[Confound], leaf: int, n_train: int, jobs: int = 1) -> Any:
    """scikit-learn's random forest on confounds, as a pipeline that takes their columns.

    Classes weigh the same, since UAR asks for that. Categories are numbered, which trees take apart again;
    one that was not trained counts as missing. Missing values go to the side of a node where they help most.

    Args:
        confounds: Which columns.
        leaf: Fewest rows of a leaf.
        n_train: Training rows; of many each tree sees `ROWS_OF_TREE`.
        jobs: Threads.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    numbers = [c.name for c in confounds if c.kind != "category"]
    categories = [c.name for c in confounds if c.kind == "category"]
    numbered = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    trees = RandomForestClassifier(
        N_TREES,
        min_samples_leaf=leaf,
        max_samples=ROWS_OF_TREE if n_train > ROWS_OF_TREE else None,
        class_weight="balanced",
        random_state=SEED,
        n_jobs=jobs if n_train > ROWS_OF_THREADS else None,
    )
    columns = [("numbers", "passthrough", numbers), ("categories", numbered, categories)]
    return make_pipeline(ColumnTransformer(columns), trees)


def predict_label(
    confounds: Sequence[Confound], table: pd.DataFrame, y: IntArray, parts: Parts, jobs: int = 1
) -> Prediction:
    """Fit a forest on the training rows, choose its leaves on validation rows, score the test rows once.

    Args:
        confounds: Which.
        table: Their values, see `probes.confounds.catalogue.confound_table`; each varies in training.
        y: Classes `[n]`.
        parts: Rows.
        jobs: Threads.
    """
    names = [c.name for c in confounds]
    x_train, x_val, x_test = (table.iloc[rows][names] for rows in (parts.train, parts.val, parts.test))
    y_train = y[parts.train]
    best: tuple[float, int, Any] | None = None
    for leaf in LEAVES:
        model = forest(confounds, leaf, len(y_train), jobs).fit(x_train, y_train)
        score = metrics.uar(y[parts.val], model.predict(x_val))
        if best is None or score > best[0]:
            best = (score, leaf, model)
    assert best is not None
    predicted = np.asarray(best[2].predict(x_test), dtype=np.int64)
    return Prediction(uar=metrics.uar(y[parts.test], predicted), leaf=best[1], predicted=predicted)


def guessing_error(y_test: IntArray, y_train: IntArray) -> float:
    """Standard error of the UAR of guessing among the trained classes, if clips are independent.

    A recall of n clips guessed right with probability p has the variance p(1-p)/n (binomial).
    """
    classes, counts = np.unique(y_test, return_counts=True)
    trained = np.unique(y_train)
    p = np.isin(classes, trained) / len(trained)
    return float(np.sqrt((p * (1 - p) / counts).sum()) / len(classes))
