"""What the process apart does of Parquet tables that may be anybody's.

Their size is known before they are read, and so is every column. It loads Arrow and no pandas.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from featurestore.apart.kept_process import limit_memory
from featurestore.untrusted.documents import DocumentError, open_regular

if TYPE_CHECKING:
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
# Memory that decoding takes: at least, and for each cell.
_ROOM_BYTES, _CELL_BYTES = 1 << 30, 16
TEXT, WHOLE, NUMBER, BOOLEAN = "text", "whole numbers", "numbers", "true or false"


def decode_document(
    to: BinaryIO,
    path: str,
    columns: Sequence[str] | None,
    kinds: Mapping[str, str],
    most_cells: int,
    only: tuple[str, Collection[str]] | None,
) -> tuple[int, pa.Schema]:
    """See `featurestore.untrusted.parquet_tables.read_parquet_document`; texts are codes.

    Args:
        to: the table, as a stream of Arrow.
        path: of the file.
        columns: see there.
        kinds: see there.
        most_cells: see there.
        only: see there.

    Returns:
        Rows, and the schema of the file.

    Raises:
        DocumentError: see there.
    """
    import pyarrow.parquet as pq

    with open_regular(path) as stream, faults_told():
        file = pq.ParquetFile(stream)
        metadata, schema = file.metadata, file.schema_arrow
        n_cells = _require_size(metadata.num_rows, schema, columns, most_cells)
        n_bytes = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if n_bytes > MOST_FILE_BYTES:
            raise DocumentError(f"expected at most {MOST_FILE_BYTES:,} bytes, it has {n_bytes:,}")
        _require_kinds(schema, kinds)
        limit_memory(_ROOM_BYTES + _CELL_BYTES * n_cells + 3 * n_bytes)
        table = _texts_as_codes(stream, metadata, schema, columns)
        if only is not None:
            table = table.filter(_is_one_of(table[only[0]], only[1]))
        _require_text_bytes(table, MOST_TEXT_BYTES)
        return _write(to, table), schema


def decode_cells(to: BinaryIO, path: str) -> tuple[int, pa.Schema]:
    """See `featurestore.untrusted.parquet_tables.read_parquet_cells`; texts may be codes.

    Args:
        to: the table, as a stream of Arrow.
        path: of the file.

    Returns:
        Rows, and the schema of the file.

    Raises:
        DocumentError: see there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as stream, faults_told():
        n_file = os.fstat(stream.fileno()).st_size
        file = pq.ParquetFile(stream)
        metadata, schema = file.metadata, file.schema_arrow
        n_cells = _require_size(metadata.num_rows, schema, None, _most_cells(n_file))
        _require_values(metadata, range(metadata.num_columns), n_file)
        if any(pa.types.is_nested(f.type) for f in schema):
            return decode_columns(to, path, schema.names)
        limit_memory(_ROOM_BYTES + _CELL_BYTES * n_cells + 3 * _most_bytes(n_file))
        table = _texts_as_codes(stream, metadata, schema)
        _require_text_bytes(table, min(MOST_TEXT_BYTES, _most_bytes(n_file)))
        return _write(to, table), schema


def decode_columns(to: BinaryIO, path: str, columns: Sequence[str]) -> tuple[int, pa.Schema]:
    """See `featurestore.untrusted.parquet_tables.read_parquet_columns`.

    Args:
        to: the table, as a stream of Arrow.
        path: of the file.
        columns: see there.

    Returns:
        Rows, and the schema of the file.

    Raises:
        DocumentError: see there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as stream, faults_told():
        n_file = os.fstat(stream.fileno()).st_size
        file = pq.ParquetFile(stream)
        paths = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
        asked = tuple(columns)
        below = tuple(f"{name}." for name in asked)
        chosen = [i for i, name in enumerate(paths) if name in asked or name.startswith(below)]
        n_said = _require_values(file.metadata, chosen, n_file)
        if not file.metadata.num_rows or not chosen:
            return _write(to, file.read(list(columns))), file.schema_arrow
        # A dictionary may hold a long text for any number of rows: no more of them at once than fit.
        longest = _longest_text(file.metadata, chosen)
        step = min(_ROWS_COUNTED, max(_FEW_ROWS, _BATCH_BYTES // longest))
        limit_memory(_ROOM_BYTES + _CELL_BYTES * min(step, file.metadata.num_rows) + 8 * n_said)
        n_rows, n_bytes, most, writer = 0, 0, _most_bytes(n_file), None
        for batch in file.iter_batches(step, columns=list(columns), use_threads=False):
            n_rows, n_bytes = n_rows + len(batch), n_bytes + batch.nbytes
            if n_bytes > most:
                raise DocumentError(f"expected at most {most:,} bytes, it has more")
            writer = writer or pa.ipc.new_stream(to, batch.schema)
            writer.write_batch(batch)
        if writer is None:
            return _write(to, file.read(list(columns))), file.schema_arrow
        writer.close()
        return n_rows, file.schema_arrow


def _write(to: BinaryIO, table: pa.Table) -> int:
    import pyarrow as pa

    with pa.ipc.new_stream(to, table.schema) as writer:
        writer.write_table(table)
    return int(table.num_rows)


@contextmanager
def faults_told() -> Iterator[None]:
    """What Arrow and pandas raise of a file that is no table, as a `DocumentError` of one line."""
    import pyarrow as pa

    try:
        yield
    except DocumentError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, pa.ArrowException) as error:
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


def _require_values(metadata: pq.FileMetaData, columns: Iterable[int], n_file_bytes: int) -> int:
    """Refuse columns, by their numbers, that say they have more than a file of this size can hold.

    Returns:
        Bytes that they say they have.

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
    return int(n_bytes)


def _require_size(n_rows: int, schema: pa.Schema, columns: Sequence[str] | None, most_cells: int) -> int:
    """Cells.

    Raises:
        DocumentError: there are too many, a column stands twice, or one is not there.
    """
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
    return n_cells


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
