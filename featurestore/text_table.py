"""Delimited text as a table of text cells, byte for byte: manifests, corpora and mappings are read here."""

from __future__ import annotations

import csv
import mmap
import os
from pathlib import Path

import pandas as pd

from featurestore.document_reading import DocumentError, open_regular


class TextTableError(Exception):
    """Why a file is no such table, and how to mend it: one clause without the file's name."""


def read_table(path: Path, *, separator: str = ",", quoted: bool = True) -> pd.DataFrame:
    """Read a table with names in its first row; every cell is text (``NA`` and ``007`` stay as they are).

    Args:
        path: UTF-8 text, with or without a byte-order mark.
        separator: Between cells.
        quoted: Whether ``"`` encloses cells, as in CSV, or is a character like any other.

    Raises:
        TextTableError: no such file, not text, a row longer than the first, or a name that stands twice.
    """
    try:
        _require_text(path)
        # The header is read as a row of its own: pandas would rename repeated columns and drop surplus
        # cells. utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        rows = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            encoding="utf-8-sig",
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        ).fillna("")
    except UnicodeDecodeError as error:
        raise TextTableError(
            f"not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except pd.errors.EmptyDataError:
        raise TextTableError("not a readable table (it is empty)") from None
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise TextTableError(
            f"not a readable table ({reason}); put cells that hold a separator in quotes"
        ) from None
    except DocumentError as error:
        raise TextTableError(str(error)) from None
    except OSError as error:
        raise TextTableError(f"cannot be read ({os.strerror(error.errno or 0).lower()})") from None
    names = [str(name) for name in rows.iloc[0]]
    repeated = sorted({n for n in names if n and names.count(n) > 1})
    if repeated:
        raise TextTableError(f"column {repeated[0]!r} stands more than once; rename or remove one")
    table = rows.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index(names, dtype=object)
    return table


def _require_text(path: Path) -> None:
    with open_regular(path) as file:
        if not os.fstat(file.fileno()).st_size:
            raise pd.errors.EmptyDataError
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise TextTableError("not UTF-8 text but UTF-16; save it as UTF-8")
            if (at := content.find(b"\0")) >= 0:
                raise TextTableError(f"not a text table (a zero byte stands at byte {at}); save it as UTF-8")
