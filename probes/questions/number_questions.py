"""Questions about numbers: what can be asked of them, and which splits leave something to be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import ConfigError, LabelError
from featurestore.printable import counted
from probes import metrics
from probes.classifiers.numbers import REGRESSION, numbers_of
from probes.questions.controls import SHUFFLED
from probes.splits import parse_split

if TYPE_CHECKING:
    from probes.questions.tasks import ProbeConfig
    from probes.splits import Rows, Split


def check_number_question(config: ProbeConfig) -> None:
    """Refuse what is of classes alone.

    Raises:
        ConfigError: one line that says what.
    """
    asked = f"--task {REGRESSION}"
    for control in config.controls:
        if control != SHUFFLED:
            raise ConfigError(f"control {control}: is of classes; with {asked} take {SHUFFLED}")
    for split in config.splits:
        if split is not None and parse_split(split).kind.startswith("stratified"):
            plain = split.removeprefix("stratified-").replace("stratified", "random")
            raise ConfigError(
                f"split {split!r}: numbers have no classes to draw equal shares of; take {plain!r}"
            )


def require_one_task(described: Iterable[Mapping[str, Any]], earlier: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to put the numbers of a label beside its classes in one results folder: they share a name.

    Args:
        described: Splits that are asked for.
        earlier: Splits in ``_run.json``.

    Raises:
        ConfigError: a label was asked about otherwise before.
    """
    task_of = {(s["dataset"], s["label"]): s.get("task", "") for s in earlier}
    for split in described:
        before = task_of.get((split["dataset"], split["label"]))
        if before is not None and before != split.get("task", ""):
            was, now = ("numbers", "classes") if before else ("classes", "numbers")
            raise ConfigError(
                f"label {split['label']!r} of {split['dataset']}: these results hold it as {was}, and it is "
                f"asked for as {now}; give another --out"
            )


def part_values(rows: Rows, where: Any) -> dict[str, float]:
    """What a part of a split holds: how many values, the lowest, the highest and the mean."""
    y = numbers_of(rows.numbers[where]) if rows.numbers is not None else np.empty(0)
    return {
        "n_values": len(np.unique(y)),
        "low": float(y.min()),
        "high": float(y.max()),
        "mean": float(y.mean()),
    }


def mean_score(rows: Rows, split: Split) -> float:
    """R² on test rows of always saying the mean of the training rows; NaN where it is not defined."""
    assert rows.numbers is not None
    y = numbers_of(rows.numbers)
    return metrics.r2(y[split.test], np.full(len(split.test), y[split.train].mean()))


def require_varied(rows: Rows, split: Split, *, several: bool) -> None:
    """Refuse training rows that teach nothing, and validation rows that choose nothing: all of one value.

    Of classes nothing is asked.

    Raises:
        LabelError: one line that says which.
    """
    if rows.numbers is None:
        return
    for part, where, why in (
        ("training", split.train, "there is nothing to learn"),
        ("validation", split.val, "R² is not defined and chooses no layer"),
    ):
        values = set(rows.numbers[where])
        if len(values) == 1:
            which = f"fold {split.fold} of split {split.name!r}" if several else f"split {split.name!r}"
            raise LabelError(
                f"{rows.what}: in {which} all {len(where):,} {part} clips have the value {values.pop()}, so "
                f"that {why}; choose another --split, --split-seed or --group"
            )


def constant_sentences(name: str, splits: Sequence[Mapping[str, Any]]) -> list[str]:
    """That R² is not defined where all test clips have one value; see `part_values`.

    Args:
        name: What the sentences begin with.
        splits: Descriptions of the folds, as ``_run.json`` keeps them.
    """
    n = sum(s["parts"]["test"].get("numbers", {}).get("n_values") == 1 for s in splits)
    if not n:
        return []
    if len(splits) == 1:
        return [f"{name}: all test clips have one value: R² is not defined, and no score is given."]
    return [
        f"{name}: in {n} of {counted(len(splits), 'fold')} all test clips have one value: R² is not defined "
        "there, nor is its mean over folds; that of all folds together is."
    ]
