"""Tables that come with corpora: read as text, their columns looked for and taken for what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pandas as pd

from featurestore.errors import ManifestError, did_you_mean
from featurestore.manifest.column_names import bare
from featurestore.manifest.table import CONTRACT_COLUMNS, HIGHEST_RECORDED_CHANNEL, RESERVED_COLUMNS
from featurestore.printable import counted
from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, mend_number, read_table


def read_text_table(
    path: Path,
    required: Sequence[str],
    *,
    filled: Sequence[str] = (),
    separator: str = ",",
    quoted: bool = True,
    copies: bool = False,
    name_of: Callable[[str], str] = str,
) -> pd.DataFrame:
    """A delimited file with every cell as text, byte for byte; see `featurestore.untrusted.text_table`.

    Args:
        path: The file.
        required: Columns that it must have.
        filled: Of these, the columns in which no cell may be empty, such as file names.
        separator: Between cells.
        quoted: Whether ``"`` encloses cells.
        copies: Whether a column may stand again with the same cells, which is then left out.
        name_of: A column's name of what stands in the first row.

    Raises:
        ManifestError: no such file, not a table, a required column is not there, or a cell is empty.
    """
    try:
        table = read_table(path, separator=separator, quoted=quoted, copies=copies)
    except TextTableError as error:
        hint = f"; expected a table with {_list(required)}" if not path.exists() else ""
        raise ManifestError(f"{path}: {error}{hint}") from error
    table.columns = pd.Index([name_of(str(c)) for c in table.columns], dtype=object)
    if table.columns.has_duplicates:
        name = table.columns[table.columns.duplicated()][0]
        raise ManifestError(f"{path}: two columns are {name!r} here; rename or remove one")
    absent = [c for c in required if c not in table.columns]
    if absent:
        raise ManifestError(
            f"{path}: expected columns {_list(required)}, got {_list(table.columns)}; "
            f"column {absent[0]!r} is not there{_meant(absent[0], table.columns)}"
        )
    for name in filled:
        _require_filled(table[name], path)
    return table


def _meant(name: str, columns: Iterable[str]) -> str:
    """`did_you_mean` that takes other case, blanks and signs (``Begin.Time..s.`` of R) for the same name."""
    same = {bare(c): c for c in columns}.get(bare(name))
    return f"; did you mean {same!r}? rename it" if same else did_you_mean(name, columns)


def _require_filled(cells: pd.Series, path: Path) -> None:
    empty = cells.str.strip() == ""
    n = counted(int(empty.sum()), "such row")
    refuse_row(empty, path, lambda _: f"{cells.name!r} is empty; fill it in or remove the row ({n})")


def refuse_row(bad: pd.Series, path: Path, said: Callable[[int], str]) -> None:
    """Raise for the first row that is `bad`, named as a spreadsheet counts.

    Raises:
        ManifestError: there is one; `said` tells what is wrong with the row of an index, and how to mend it.
    """
    if bad.any():
        index = int(bad.index[bad][0])
        raise ManifestError(f"{path}: row {index + FIRST_ROW}: {said(index)}")


def seconds(cells: pd.Series, path: Path) -> pd.Series:
    """Text cells as float64 seconds.

    Raises:
        ManifestError: a cell is not a number.
    """
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    bad = ~(numbers.abs() < math.inf)
    refuse_row(
        bad,
        path,
        lambda i: (
            f"expected a number of seconds in {cells.name!r}, got {cells[i]!r}"
            f"{mend_number(cells[i]) or '; correct it'} ({counted(int(bad.sum()), 'such row')})"
        ),
    )
    return numbers


def exact_sum(plus: Sequence[pd.Series], minus: Sequence[pd.Series] = ()) -> pd.Series:
    """Sums of text cells that are numbers, in float64: 6.1 + (609.4 - 606.1) is 9.4 and no neighbour."""
    total = [
        float(sum(map(_decimal, row[: len(plus)])) - sum(map(_decimal, row[len(plus) :])))
        for row in zip(*plus, *minus, strict=True)
    ]
    return pd.Series(total, index=plus[0].index, dtype="float64")


def _decimal(cell: str) -> Decimal:
    return Decimal(cell.strip())


def channels(cells: pd.Series, path: Path, *, first: int, advice: str = "") -> pd.Series:
    """Text cells that count channels from `first` as Int64 counted from 0; NA where a cell is empty.

    Raises:
        ManifestError: a cell is no such channel; the message ends with `advice`.
    """
    given = cells.str.strip() != ""
    numbers = pd.to_numeric(cells.where(given), errors="coerce")
    good = (numbers >= first) & (numbers <= HIGHEST_RECORDED_CHANNEL) & (numbers % 1 == 0)
    refuse_row(
        given & ~good,
        path,
        lambda i: f"expected a channel counted from {first}, got {cells[i]!r}{advice}",
    )
    return (numbers - first).astype("Int64")


def look_up(column: pd.Series, found: Mapping[str, str], otherwise: str = "") -> pd.Series:
    """Each cell's entry in `found`, as text even if there is none for any of them."""
    return column.map(lambda cell: found.get(cell, otherwise)).astype("str")


def is_reserved(name: str) -> bool:
    """Whether a label column cannot have this name."""
    return name in ("file", *CONTRACT_COLUMNS, *RESERVED_COLUMNS)


def _list(names: Iterable[object]) -> str:
    return ", ".join(map(repr, names)) or "none"
