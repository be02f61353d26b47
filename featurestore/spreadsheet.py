"""CSV that people open in spreadsheets: text in it is never computed.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end for a formula,
which may start programs or send away what the table holds; ids and classes come from manifests of others.
So such a text gets an apostrophe in front. A number stays a number. One apostrophe taken off a cell that has
such a character behind its apostrophes gives the text back.

Manifests and exports are for programs, which have to find ids byte for byte: they are not written this way.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

# With the wide forms that East Asian versions take for the same; what has apostrophes already gets one more.
_COMPUTED = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
#: A decimal number as programs write it.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def spreadsheet_text(text: str) -> str:
    """A text as a cell that no spreadsheet computes.

    >>> spreadsheet_text("=1+1"), spreadsheet_text("-3.5"), spreadsheet_text("phee")
    ("'=1+1", '-3.5', 'phee')
    """
    return f"'{text}" if _COMPUTED.match(text) and not NUMBER.fullmatch(text) else text


def text_of_cell(cell: str) -> str:
    """The text that `spreadsheet_text` made a cell of.

    >>> text_of_cell("'=1+1"), text_of_cell("-3.5"), text_of_cell("'phee")
    ('=1+1', '-3.5', "'phee")
    """
    return cell[1:] if cell.startswith("'") and _COMPUTED.match(cell) else cell


def spreadsheet_csv(
    table: pd.DataFrame, *, float_format: str | None = None, exact: Collection[str] = ()
) -> str:
    """A table without its index as CSV text, UTF-8 to be, a line feed at the end of each row.

    `float_format` is for scores. Numbers of columns named in `exact`, such as times, keep all their digits:
    six of them would move a call of a six-hour recording by 50 ms.
    """
    import numpy as np
    import pandas as pd

    kept = {name: table[name].astype(object) for name in exact if name in table}
    shown = table.assign(**kept).rename(columns=lambda name: spreadsheet_text(str(name)))
    texts = [i for i, kind in enumerate(shown.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    bare = any("\r" in name for name in shown.columns)
    for i in texts:
        cells = [spreadsheet_text(cell) if isinstance(cell, str) else cell for cell in shown.iloc[:, i]]
        bare = bare or any("\r" in cell for cell in cells if isinstance(cell, str))
        shown.isetitem(i, np.array(cells, dtype=object))
    # A carriage return is not quoted by itself, and would end the row.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL
    return shown.to_csv(index=False, lineterminator="\n", float_format=float_format, quoting=quoting)
