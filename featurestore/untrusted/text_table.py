"""Delimited text as a table of text cells, byte for byte: manifests, corpora and mappings are read here."""

from __future__ import annotations

import csv
import io
import mmap
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.arrays import Float64Array
from featurestore.untrusted.documents import DocumentError, open_regular

#: A row of a table and its index in what `read_table` returns differ by so much: the header is row 1.
FIRST_ROW = 2
# Each is looked at by itself, which takes half a millisecond; tables of species have some thousands.
MOST_COLUMNS = 10_000
_COMMENT = "#"
_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_ROWS_AT_ONCE = 1 << 16
# Cells without a name that a row lacks and another has.
_MOST_FILLED = 10_000_000
_LINE_END = re.compile(rb"[\r\n]")


class TextTableError(Exception):
    """Why a file is no such table, and how to mend it: one clause without the file's name."""


class OtherSeparatorError(TextTableError):
    """The cells stand between other signs than asked for."""


def read_table(
    path: Path, *, separator: str = ",", quoted: bool = True, copies: bool = False
) -> pd.DataFrame:
    """Read a table with names in its first row; every cell is text (``NA`` and ``007`` stay as they are).

    Blank rows and comments are passed over: lines that begin with ``#`` in which no other cell is filled.
    So is what a spreadsheet leaves behind the last column: empty cells without a name.

    Args:
        path: UTF-8 text, with or without a byte-order mark, or UTF-16 text with one.
        separator: Between cells.
        quoted: Whether ``"`` encloses cells, as in CSV, or is a character like any other.
        copies: Whether a column may stand again with the same cells, which is then left out.

    Returns:
        Index + `FIRST_ROW` is the row that a spreadsheet shows: blank rows and comments count.

    Raises:
        TextTableError: no such file, not text, another separator, a row too long or too short, a quote that
            swallows rows, or a name that stands twice.
    """
    with _no_table_told(path):
        encoding, has_quotes = _look_at(path)
        table = None
        if encoding == "utf-8-sig" and not (quoted and has_quotes):
            table = _read_regular(path, separator)
        if table is None:
            table = _read_any(path, encoding, separator, quoted)
    _require_columns(table.shape[1])
    if copies:
        table = _without_copies(table)
    repeated = sorted(n for n, times in Counter(table.columns).items() if n and times > 1)
    if repeated:
        raise TextTableError(f"column {repeated[0]!r} stands more than once; rename or remove one")
    return table


def _require_columns(n: int) -> None:
    if n > MOST_COLUMNS:
        raise TextTableError(f"expected at most {MOST_COLUMNS:,} columns, it has {n:,}")


def _without_copies(table: pd.DataFrame) -> pd.DataFrame:
    first: dict[str, int] = {}
    kept = [
        i
        for i, name in enumerate(table.columns)
        if (at := first.setdefault(name, i)) == i or not table.iloc[:, i].equals(table.iloc[:, at])
    ]
    return table.iloc[:, kept]


def read_text(path: Path) -> str:
    """A text file as it is, decoded by its byte-order mark, otherwise as UTF-8.

    Raises:
        TextTableError: no such file, or not text.
    """
    with _no_table_told(path):
        encoding, _ = _look_at(path)
        return _decoded(path, encoding)


@contextmanager
def _no_table_told(path: Path) -> Iterator[None]:
    """Say of a file that cannot be read, or holds no text, why."""
    try:
        yield
    except UnicodeError:
        raise TextTableError(_no_text(path)) from None
    except DocumentError as error:
        raise TextTableError(str(error)) from None
    except OSError as error:
        raise TextTableError(f"cannot be read ({os.strerror(error.errno or 0).lower()})") from None


def mend_number(cell: str) -> str:
    """How to mend a cell that is no number, for the end of a message; "" where that is not known."""
    if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
        return "; write a decimal point"
    if cell.strip().casefold() in ("na", "nan", "n/a", "none", "null"):
        return "; leave the cell empty where no time is meant"
    return ""


def first_row(path: Path, separator: str = ",") -> list[str]:
    """Column names of a file that may be no table at all, to tell whether it is meant; none if no text."""
    try:
        encoding, _ = _look_at(path)
        with path.open(encoding=encoding, errors="replace", newline="") as file:
            rows = csv.reader(file, delimiter=separator)
            return next((row for row in rows if not _is_passed_over(row, None)), [])
    except (TextTableError, DocumentError, OSError, UnicodeError, csv.Error):
        return []


def _look_at(path: Path) -> tuple[str, bool]:
    """The encoding, and whether there are quotes.

    Raises:
        TextTableError: no text; DocumentError: no file on disk.
    """
    with open_regular(path) as file:
        if not os.fstat(file.fileno()).st_size:
            raise TextTableError("not a readable table (it is empty)")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            encoding = _MARKS.get(content[:3]) or _MARKS.get(content[:2]) or "utf-8-sig"
            if encoding == "utf-8-sig" and (at := content.find(b"\0")) >= 0:
                raise TextTableError(f"not a text table (a zero byte stands at byte {at}); save it as UTF-8")
            return encoding, content.find(b'"') >= 0


def _decoded(path: Path, encoding: str) -> str:
    text = path.read_bytes().decode(encoding)
    if "\0" in text:  # UTF-32 begins with the mark of UTF-16
        raise TextTableError("not a text table (it holds zero characters); save it as UTF-8")
    return text


def _no_text(path: Path) -> str:
    data = path.read_bytes()
    encoding = _MARKS.get(data[:2], "utf-8")
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return f"not {encoding.upper()} text ({error.reason} at byte {error.start}); save it as UTF-8"
    return "not UTF-8 text; save it as UTF-8"


def _read_regular(path: Path, separator: str) -> pd.DataFrame | None:
    """The table where nothing in it asks for a closer look, which is quick; else None."""
    counts = _count(path, separator)
    if counts.n_separators < counts.n_in_first_line * counts.n_line_ends:
        return None  # pandas fills up rows that are too short, to any size
    if counts.n_in_first_line >= MOST_COLUMNS:
        return None  # pandas makes an array of each
    try:
        rows = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            encoding="utf-8-sig",
            quoting=csv.QUOTE_NONE,
            skip_blank_lines=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError):
        return None
    first = rows[0]
    # pandas stops at rows that are too long.
    if rows.size - len(rows) != counts.n_separators or first.str.startswith(_COMMENT).any():
        return None
    names = [str(name) for name in rows.iloc[0]]
    blank = first.str.strip() == ""
    if not names[-1].strip() or _other_separator(names, separator) or len(rows) < 2:
        return None
    if blank.any() and rows[blank].apply(lambda cells: cells.str.strip() == "").all(axis=1).any():
        return None
    table = rows.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index(names, dtype=object)
    return table


@dataclass(frozen=True)
class _Counts:
    """Separators of a file, those of its first line, and the ends of its lines."""

    n_separators: int
    n_in_first_line: int
    n_line_ends: int


def _count(path: Path, separator: str) -> _Counts:
    n_separators = n_in_first_line = n_line_ends = 0
    last = b""
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            if not n_line_ends:
                n_in_first_line += _LINE_END.split(part, 1)[0].count(separator.encode())
            n_separators += part.count(separator.encode())
            n_line_ends += part.count(b"\n") + part.count(b"\r") - part.count(b"\r\n")
            n_line_ends -= last == b"\r" and part.startswith(b"\n")
            last = part[-1:]
    return _Counts(n_separators, n_in_first_line, n_line_ends)


def _read_any(path: Path, encoding: str, separator: str, quoted: bool) -> pd.DataFrame:
    # Read line by line UTF-16 that is cut short would pass.
    whole = io.StringIO(_decoded(path, encoding), newline="") if encoding == "utf-16" else None
    with whole or path.open(encoding=encoding, newline="") as file:
        records = _records(file, separator, quoted)
        header = next(((n, row) for n, row in records if not _is_passed_over(row, None)), None)
        if header is None:
            raise TextTableError("not a readable table (it is empty)")
        names = header[1]
        if other := _other_separator(names, separator):
            raise OtherSeparatorError(
                f"the separator is {_SEPARATORS[other]}, expected {_SEPARATORS[separator]}; "
                "save it with that one" + (" and decimal points" if separator == "," else "")
            )
        needed = max((i for i, name in enumerate(names, start=1) if name.strip()), default=0)
        _require_columns(needed)
        table = _framed(_fitting(records, len(names), needed), needed)
    table.columns = pd.Index(names[: table.shape[1]], dtype=object)
    return table


def _framed(rows: Iterator[tuple[int, list[str]]], needed: int) -> pd.DataFrame:
    """Rows of `needed` cells or more as a table that is as wide as the longest of them.

    Raises:
        TextTableError: a few long rows would make many short ones long.
    """
    parts = []
    n_filled = 0
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        width = max(len(row) for _, row in part)
        n_filled += sum(width - len(row) for _, row in part)
        if n_filled > _MOST_FILLED:
            raise TextTableError(
                f"most rows have fewer cells than some, which have {width:,}; names of columns belong into "
                "the first row, and rows without a cell for each are cut short"
            )
        index = [number - FIRST_ROW for number, _ in part]
        cells = [row + [""] * (width - len(row)) for _, row in part]
        parts.append(pd.DataFrame(cells, index=index, dtype="str"))
    if not parts:
        return pd.DataFrame(columns=range(max(needed, 1)), dtype="str")
    widest = max(p.shape[1] for p in parts)
    if sum(len(p) * (widest - p.shape[1]) for p in parts) > _MOST_FILLED:
        raise TextTableError(f"most rows have fewer cells than some, which have {widest:,}")
    return pd.concat(parts).fillna("")


def _records(file: Iterator[str], separator: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Each record with its number, the first being 1; several lines within quotes are one record.

    Raises:
        TextTableError: a quote is not closed, or rows stand within quotes.
    """
    lines: list[str] = []

    def remembered() -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    rows = (
        csv.reader(remembered(), delimiter=separator, strict=True)
        if quoted
        else csv.reader(remembered(), delimiter=separator, quoting=csv.QUOTE_NONE)
    )
    number = 0
    while True:
        lines.clear()
        number += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            raise TextTableError(
                f'row {number}: a quote (") is opened and not closed before the next separator or the end of '
                'the file; remove it, or write "" for one within a quoted cell'
            ) from None
        # An open quote stands in a row that is otherwise complete, and takes in rows that are complete too.
        whole = len(row) > 1 and lines[0].count(separator) + 1 >= len(row)
        if whole and any(line.count(separator) + 1 == len(row) for line in lines[1:]):
            raise TextTableError(
                f'row {number}: a quote (") is opened here and closed {len(lines) - 1} lines below, over '
                "what looks like rows of their own; remove the quote, or the line breaks from that cell"
            )
        yield number, row


def _fitting(
    records: Iterator[tuple[int, list[str]]], width: int, needed: int
) -> Iterator[tuple[int, list[str]]]:
    """Rows of `needed` to `width` cells, with their numbers; without empty ones that have no name behind."""
    for number, row in records:
        if _is_passed_over(row, needed):
            continue
        surplus = row[width:]
        if len(row) < needed or any(cell.strip() for cell in surplus):
            hint = (
                "names of columns belong into the first row"
                if surplus and needed == 1
                else "put cells that hold a separator in quotes"
                if surplus
                else "write the separators of empty cells too"
            )
            cells = f"{len(row)} cell{'' if len(row) == 1 else 's'}"
            raise TextTableError(f"row {number} has {cells}, the first row has {needed}; {hint}")
        filled = next((i for i in range(min(len(row), width), needed, -1) if row[i - 1].strip()), needed)
        yield number, row[: max(filled, 1)]


def _is_passed_over(row: list[str], needed: int | None) -> bool:
    """Whether a row is blank or a comment; `needed` is None before the header."""
    filled = sum(map(bool, map(str.strip, row)))
    if filled == 0:
        return True
    if needed is None and filled == 1 and row[0].casefold().startswith("sep="):  # for spreadsheets
        return True
    if not row[0].startswith(_COMMENT):
        return False
    spaced = row[0].startswith(f"{_COMMENT} ")
    if needed is None:  # no column is called "# ..."
        return spaced or (filled == 1 and row[0] != _COMMENT)
    if spaced and len(row) != needed:
        return True
    return filled == 1 and needed > 1 and (spaced or len(row) < needed)


def _other_separator(names: list[str], separator: str) -> str:
    """The separator that this header seems to be written with, or ""."""
    if len(names) > 1:
        return ""
    return next((s for s in _SEPARATORS if s != separator and s in names[0]), "")


def numbers_of(texts: pd.Series) -> Float64Array:
    """The number that each text is `[n]`, NaN where it is none; a float that was written is that float."""
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    # pandas says what may be a number, Python which one: pandas before 3.1 is off by a last bit.
    given = np.isfinite(numbers)
    cells = texts.to_numpy(dtype=object)[given]
    try:
        numbers[given] = cells.astype(np.float64)
    except ValueError:  # one has a blank within it, which pandas passes over
        numbers[given] = [_float_or_nan(cell) for cell in cells]
    return numbers


def _float_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
