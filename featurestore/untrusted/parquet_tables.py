"""Parquet tables that may be anybody's: their size is known before they are read, and so is every column."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

from featurestore.untrusted.documents import DocumentError, open_regular, parse_json

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

# A file of a few kilobytes can hold any number of equal rows. The longest that are written here are
# predictions: 64 fits of 150,000 test rows, five columns of texts, codes of four bytes until written out, and
# two of probabilities.
MOST_CELLS = 70_000_000
# Of the texts of a table, once they are written out.
MOST_TEXT_BYTES = 512 << 20
MOST_COLUMNS = 10_000
# Of the file as it says of itself, uncompressed.
MOST_FILE_BYTES = 4 << 30
_ROWS_COUNTED = 1 << 20
# Of somebody's own table: a row has something of its own, such as an id of five bytes, and some columns.
_FEW_CELLS, _CELLS_PER_BYTE = 1_000_000, 50
_FEW_TEXT_BYTES, _TEXT_PER_BYTE = 64 << 20, 200
_FEW_ROWS, _BATCH_BYTES = 4, 1 << 26
# What pandas calls an index without a name.
_UNNAMED = re.compile(r"__index_level_[0-9]+__")

TEXT, WHOLE, NUMBER, BOOLEAN = "text", "whole numbers", "numbers", "true or false"


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
    import pyarrow.parquet as pq

    with open_regular(path) as stream, _faults_told():
        file = pq.ParquetFile(stream)
        metadata, schema = file.metadata, file.schema_arrow
        _require_size(metadata.num_rows, schema, columns, most_cells)
        n_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if n_bytes > MOST_FILE_BYTES:
            raise DocumentError(f"expected at most {MOST_FILE_BYTES:,} bytes, it has {n_bytes:,}")
        _require_kinds(schema, kinds or {})
        table = _texts_as_codes(stream, metadata, schema, columns)
        if only is not None:
            table = table.filter(_is_one_of(table[only[0]], only[1]))
        _require_text_bytes(table, MOST_TEXT_BYTES)
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
    import pyarrow.parquet as pq

    with open_regular(path) as stream, _faults_told():
        n_file = os.fstat(stream.fileno()).st_size
        file = pq.ParquetFile(stream)
        metadata, schema = file.metadata, file.schema_arrow
        _require_size(metadata.num_rows, schema, None, _most_cells(n_file))
        _require_values(metadata, range(metadata.num_columns), n_file)
        if any(pa.types.is_nested(f.type) for f in schema):
            table = read_parquet_columns(path, schema.names)
        else:
            table = _texts_as_codes(stream, metadata, schema)
            _require_text_bytes(table, min(MOST_TEXT_BYTES, _most_bytes(n_file)))
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as stream, _faults_told():
        n_file = os.fstat(stream.fileno()).st_size
        file = pq.ParquetFile(stream)
        paths = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
        asked = tuple(columns)
        below = tuple(f"{name}." for name in asked)
        chosen = [i for i, name in enumerate(paths) if name in asked or name.startswith(below)]
        _require_values(file.metadata, chosen, n_file)
        if not file.metadata.num_rows or not chosen:
            return file.read(list(columns))
        # A dictionary may hold a long text for any number of rows: no more of them at once than fit.
        longest = _longest_text(file.metadata, chosen)
        step = min(_ROWS_COUNTED, max(_FEW_ROWS, _BATCH_BYTES // longest))
        found, n_bytes, most = [], 0, _most_bytes(n_file)
        for batch in file.iter_batches(step, columns=list(columns), use_threads=False):
            n_bytes += batch.nbytes
            if n_bytes > most:
                raise DocumentError(f"expected at most {most:,} bytes, it has more")
            found.append(batch)
        return pa.Table.from_batches(found)


@contextmanager
def _faults_told() -> Iterator[None]:
    """What Arrow and pandas raise of a file that is no table, as a `DocumentError` of one line."""
    import pyarrow as pa

    try:
        yield
    except DocumentError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError, pa.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DocumentError(f"no table that can be read ({reason[:200]})") from error


def _texts_as_codes(
    stream: BinaryIO, metadata: pq.FileMetaData, schema: pa.Schema, columns: Collection[str] | None = None
) -> pa.Table:
    """A table, texts as codes: how long they are when written out is known before they are."""
    import pyarrow.parquet as pq

    texts = [f.name for f in schema if _is_text(f.type)]
    stream.seek(0)
    file = pq.ParquetFile(stream, read_dictionary=texts, metadata=metadata)
    return file.read(columns=None if columns is None else list(columns), use_threads=False)


def _most_cells(n_file_bytes: int) -> int:
    return min(MOST_CELLS, _FEW_CELLS + _CELLS_PER_BYTE * n_file_bytes)


def _most_bytes(n_file_bytes: int) -> int:
    return min(MOST_FILE_BYTES, _FEW_TEXT_BYTES + _TEXT_PER_BYTE * n_file_bytes)


def _require_values(metadata: pq.FileMetaData, columns: Iterable[int], n_file_bytes: int) -> None:
    """Refuse columns, by their numbers, that say they have more than a file of this size can hold.

    Raises:
        DocumentError: they do.
    """
    if metadata.num_rows > _most_cells(n_file_bytes):
        raise DocumentError(
            f"expected at most {_most_cells(n_file_bytes):,} rows, it says {metadata.num_rows:,}"
        )
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = [group.column(i) for i in columns for group in groups]
    n_values, most = sum(c.num_values for c in chunks), _most_cells(n_file_bytes)
    if n_values > most:
        raise DocumentError(f"expected at most {most:,} values, it says it has {n_values:,}")
    n_bytes = sum(c.total_uncompressed_size for c in chunks)
    if n_bytes > MOST_FILE_BYTES:
        raise DocumentError(f"expected at most {MOST_FILE_BYTES:,} bytes, it has {n_bytes:,}")


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


def _require_size(n_rows: int, schema: pa.Schema, columns: Sequence[str] | None, most_cells: int) -> None:
    names = list(schema.names)
    if len(names) > MOST_COLUMNS:
        raise DocumentError(f"expected at most {MOST_COLUMNS:,} columns, it has {len(names):,}")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DocumentError(f"the column {twice!r} stands twice")
    lacking = [name for name in columns or () if name not in names]
    if lacking:
        raise DocumentError(f"it lacks the column {lacking[0]!r}")
    n_cells = n_rows * len(names if columns is None else columns)
    if n_rows < 0 or n_cells > most_cells:
        raise DocumentError(f"expected at most {most_cells:,} cells, it says it has {n_cells:,}")


def _require_kinds(schema: pa.Schema, kinds: Mapping[str, str]) -> None:
    import pyarrow as pa

    for field in schema:
        kind, wanted = field.type, kinds.get(field.name)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        if pa.types.is_nested(kind) or is_bytes or pa.types.is_fixed_size_binary(kind):
            raise DocumentError(f"column {field.name!r}: expected single values, got {field.type}")
        found = {
            TEXT: _is_text(kind),
            WHOLE: pa.types.is_integer(kind),
            NUMBER: pa.types.is_integer(kind) or pa.types.is_floating(kind),
            BOOLEAN: pa.types.is_boolean(kind),
        }
        # A column without a value has no type of its own.
        if wanted is not None and not found[wanted] and not pa.types.is_null(kind):
            raise DocumentError(f"column {field.name!r}: expected {wanted}, got {field.type}")


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(column.type):  # no text stands in it; so is the column of an empty table in pandas 2
        return pa.chunked_array([[False] * len(column)], pa.bool_())
    if not pa.types.is_dictionary(column.type):
        raise DocumentError(f"expected texts to choose rows by, got {column.type}")
    wanted = pa.array(sorted(values), pa.string())
    found = [pc.take(pc.is_in(c.dictionary.cast(pa.string()), wanted), c.indices) for c in column.chunks]
    return pa.chunked_array(found, pa.bool_())


def _require_text_bytes(table: pa.Table, most_bytes: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    n_bytes = 0
    for chunk in (chunk for column in table.columns for chunk in column.chunks):
        if pa.types.is_dictionary(chunk.type) and _is_text(chunk.type):
            lengths = pc.binary_length(chunk.dictionary).to_numpy(zero_copy_only=False)
            counts = np.zeros(len(lengths), dtype=np.int64)
            for start in range(0, len(chunk), _ROWS_COUNTED):
                codes = chunk.indices.slice(start, _ROWS_COUNTED).drop_null().to_numpy()
                counts += np.bincount(codes, minlength=len(lengths))
            n_bytes += int(np.nansum(lengths.astype(np.float64) * counts))
    if n_bytes > most_bytes:
        raise DocumentError(f"expected at most {most_bytes:,} bytes of text, it has {n_bytes:,}")


def _longest_text(metadata: pq.FileMetaData, columns: Iterable[int]) -> int:
    """No text of these columns has more bytes: those of all of them in a row group, each written once."""
    groups = range(metadata.num_row_groups)
    texts = [i for i in columns if metadata.schema.column(i).physical_type == "BYTE_ARRAY"]
    sizes = [metadata.row_group(g).column(i).total_uncompressed_size for g in groups for i in texts]
    return max(1, *sizes) if sizes else 1
