"""Parquet tables that may be anybody's, decoded in a process apart and held to their size."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from featurestore.apart.socket_process import Lost
from featurestore.errors import ProcessLost
from featurestore.untrusted.arrow_process import ARROW, table_of
from featurestore.untrusted.documents import DocumentError, parse_json
from featurestore.untrusted.parquet_decoding import (
    BOOLEAN,
    MOST_CELLS,
    NUMBER,
    TEXT,
    WHOLE,
    decode_cells,
    decode_columns,
    decode_document,
    faults_told,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "BOOLEAN",
    "MOST_CELLS",
    "NUMBER",
    "TEXT",
    "WHOLE",
    "Codes",
    "read_parquet_cells",
    "read_parquet_columns",
    "read_parquet_document",
]

# What pandas calls an index without a name.
_UNNAMED = re.compile(r"__index_level_[0-9]+__")

#: Column → dictionary of its texts as Arrow has it, and as pandas has it.
Codes = dict[str, tuple[Any, Any]]


def read_parquet_document(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    most_cells: int = MOST_CELLS,
    only: tuple[str, Collection[str]] | None = None,
    codes: Codes | None = None,
) -> pd.DataFrame:
    """A table as pandas reads it, whose columns have been looked at.

    Args:
        path: the file.
        columns: read these; None: all.
        kinds: what columns that are there have to be (`TEXT`, `WHOLE`, `NUMBER`, `BOOLEAN`).
        most_cells: rows times columns.
        only: a column of texts, and those of them whose rows are wanted.
        codes: texts as categories, which takes a tenth of the time and memory where they repeat; numbers
            stay numbers. What is in it are the categories of the tables read before, whose equals are the
            very same.

    Raises:
        DocumentError: no Parquet file, a larger one than a table can be, a column that stands twice, is
            nested, or is of another kind.
    """
    import pyarrow as pa

    asked = None if only is None else (only[0], list(only[1]))
    with faults_told():
        read = None if columns is None else list(columns)
        table, schema = _decoded(decode_document, path, read, dict(kinds or {}), most_cells, asked)
        if codes is not None:
            return _coded(table.unify_dictionaries(), codes)
        # Without what pandas noted of itself: that too is the file's word, and decides types and index.
        table = table.cast(pa.schema([schema.field(name) for name in table.column_names]))
        frame: pd.DataFrame = table.to_pandas()
        frame.attrs.update(_attributes(schema))
        return frame


def read_parquet_cells(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A table of somebody's own, whatever its columns hold: lists and structs too, and an index as a column.

    Whole numbers of which some are missing stay whole numbers. Rows are held to the size of the file: a few
    kilobytes can hold any number of equal ones.

    Raises:
        DocumentError: no Parquet file, one that says it has more than it can hold, or a column that stands
            twice.
    """
    import pyarrow as pa

    with faults_told():
        table, schema = _decoded(decode_cells, path)
        # What pandas noted of itself is the file's word too; positions without a name are lost by it.
        names = [name for name in table.column_names if not _UNNAMED.fullmatch(name)]
        table = table.select(names).cast(pa.schema([schema.field(name) for name in names]))
        frame: pd.DataFrame = table.to_pandas()
        for name in names:
            if pa.types.is_integer(table[name].type) and table[name].null_count:
                frame[name] = table[name].to_pandas(types_mapper=_kinds_with_gaps().get)
        return frame


def read_parquet_columns(path: str | os.PathLike[str], columns: Sequence[str]) -> pa.Table:
    """Columns (or leaves of them, such as ``audio.path``) of somebody's own table, held to the file's size.

    Raises:
        DocumentError: see `read_parquet_cells`.
    """
    with faults_told():
        return _decoded(decode_columns, path, list(columns))[0]


def _decoded(
    function: Callable[..., tuple[int, pa.Schema]], path: str | os.PathLike[str], *args: Any
) -> tuple[pa.Table, pa.Schema]:
    """A table that the process apart has decoded, and the schema that its file has.

    Raises:
        DocumentError: it said so, or was lost by the file's fault.
        ProcessLost: it was lost otherwise.
    """
    try:
        (n_rows, schema), written = ARROW.ask(function, os.path.abspath(path), *args)
    except Lost as lost:
        if lost.is_passing:
            raise ProcessLost(
                f"{os.fspath(path)}: was not read, its reader ended with {lost}; that need be no fault of "
                "the file: look for memory and room, and run the same command again"
            ) from lost
        raise DocumentError(f"no table that can be read (its reader ended with {lost})") from lost
    return table_of(written, n_rows), schema


@cache
def _kinds_with_gaps() -> dict[Any, Any]:
    """Whole numbers of Arrow → those of pandas that may lack values."""
    import pandas as pd
    import pyarrow as pa

    kinds = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    return {getattr(pa, kind.lower())(): getattr(pd, f"{kind}Dtype")() for kind in kinds}


def _coded(table: pa.Table, codes: Codes) -> pd.DataFrame:
    """A table whose texts are categories."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            columns[name] = column.to_pandas()
            continue
        if not pa.types.is_dictionary(column.type) or not column.num_chunks:
            columns[name] = column.to_pandas().astype("category")
            continue
        # All chunks have one dictionary by now.
        dictionary = column.chunk(0).dictionary
        if name not in codes or not codes[name][0].equals(dictionary):
            codes[name] = dictionary, pd.CategoricalDtype(dictionary.to_pandas())
        indices = np.concatenate(
            [c.indices.fill_null(-1).to_numpy(zero_copy_only=False) for c in column.chunks]
        )
        columns[name] = pd.Categorical.from_codes(indices, dtype=codes[name][1], validate=False)
    return pd.DataFrame(columns)


def _attributes(schema: pa.Schema) -> dict[str, Any]:
    """`pandas.DataFrame.attrs`, which pandas keeps as JSON."""
    found = parse_json((schema.metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
    return found if isinstance(found, dict) else {}
