"""What the process apart does of Parquet files with audio: their footers, and cells of their row groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from featurestore.apart.kept_process import limit_memory
from featurestore.archives.interface import ArchiveError, PassingError, failed
from featurestore.arrays import IntArray

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows that are decoded at once: a row group that holds more than it says is noticed on the way.
BATCH_ROWS = 64
_ROOM_BYTES = 2 << 30
_MOST_FOOTERS = 16
# Of a dictionary's header, which old writers left out of the size of a chunk (PARQUET-816).
UNCOUNTED_BYTES = 100


@dataclass(frozen=True)
class Leaf:
    """What a leaf of a schema may be of audio.

    Attributes:
        is_bytes: plain bytes, no text.
        is_float: numbers that may be samples.
    """

    is_bytes: bool
    is_float: bool


NO_LEAF = Leaf(is_bytes=False, is_float=False)


@dataclass(frozen=True)
class Footer:
    """What the end of a file says.

    Attributes:
        schema: of Arrow.
        leaves: by their paths, such as ``audio.bytes``.
        n_rows: of each row group.
        group_bytes: of each leaf that may be audio, bytes of each row group, unpacked.
        chunks: of each such leaf, first byte and byte after the last in the file, ``[groups, 2]``.
    """

    schema: pa.Schema
    leaves: dict[str, Leaf]
    n_rows: IntArray
    group_bytes: dict[str, IntArray]
    chunks: dict[str, IntArray]


def decode_footer(to: BinaryIO, path: str, stamp: tuple[int, int]) -> Footer:
    """The footer of a file.

    Args:
        to: nothing is written.
        path: of the file.
        stamp: its size and time.

    Raises:
        ArchiveError: it is no Parquet file, or its end is missing.
    """
    with _faults_told("is no Parquet file, or is cut short ({})"):
        metadata = _metadata(path, stamp)
        groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
        leaves, group_bytes, chunks = {}, {}, {}
        for i in range(metadata.num_columns):
            column = metadata.schema.column(i)
            kind = column.physical_type
            is_bytes = kind == "BYTE_ARRAY" and str(column.logical_type) == "None"
            leaves[column.path] = leaf = Leaf(is_bytes=is_bytes, is_float=kind in ("FLOAT", "DOUBLE"))
            if leaf.is_bytes or leaf.is_float:
                sizes = [group.column(i).total_uncompressed_size for group in groups]
                group_bytes[column.path] = np.array(sizes, dtype=np.int64)
                places = [_chunk(group.column(i)) for group in groups]
                chunks[column.path] = np.array(places, dtype=np.int64).reshape(-1, 2)
        n_rows = np.array([group.num_rows for group in groups], dtype=np.int64)
        return Footer(metadata.schema.to_arrow_schema(), leaves, n_rows, group_bytes, chunks)


def _chunk(column: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """First byte of a leaf in a row group, as it lies in the file, and the byte after its last."""
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    return start, start + column.total_compressed_size + UNCOUNTED_BYTES


def decode_row_group(
    to: BinaryIO,
    path: str,
    stamp: tuple[int, int],
    leaf: str,
    group: int,
    n_rows: int,
    said_bytes: int,
    most_bytes: int,
) -> int:
    """One leaf of a row group.

    Args:
        to: the leaf as a stream of Arrow, of one column and `BATCH_ROWS` rows a batch.
        path: of the file.
        stamp: its size and time.
        leaf: its path in the schema.
        group: number of the row group.
        n_rows: rows that it says it has.
        said_bytes: bytes that it says it has, unpacked.
        most_bytes: that are read.

    Returns:
        Bytes in memory.

    Raises:
        ArchiveError: it is damaged, or too large.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if said_bytes > most_bytes:
        raise ArchiveError(too_large(group, said_bytes, most_bytes))
    limit_memory(_ROOM_BYTES + 3 * said_bytes)
    n_found, n_bytes, writer = 0, 0, None
    with (
        _faults_told(f"its row group {group} cannot be read ({{}})"),
        pq.ParquetFile(path, metadata=_metadata(path, stamp), page_checksum_verification=True) as file,
    ):
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[leaf], use_threads=False):
            if n_found % BATCH_ROWS:
                raise ArchiveError(f"its row group {group} comes in parts of other sizes than were asked for")
            array = _innermost(batch.column(0))
            n_found, n_bytes = n_found + len(array), n_bytes + array.nbytes
            if n_bytes > most_bytes:
                raise ArchiveError(too_large(group, n_bytes, most_bytes))
            cells = pa.record_batch([array], names=["cells"])
            writer = writer or pa.ipc.new_stream(to, cells.schema)
            writer.write_batch(cells)
        if n_found != n_rows or writer is None:
            raise ArchiveError(f"its row group {group} holds {n_found:,} of {n_rows:,} rows")
        writer.close()
    return n_bytes


def _innermost(array: Any) -> Any:
    """The bytes of a column, where a struct is around them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.struct_field(array, "bytes") if pa.types.is_struct(array.type) else array


@lru_cache(maxsize=_MOST_FOOTERS)
def _metadata(path: str, stamp: tuple[int, int]) -> pq.FileMetaData:
    import pyarrow.parquet as pq

    status = os.stat(path)
    if (status.st_size, status.st_mtime_ns) != stamp:
        raise PassingError("was written over while it was read")
    return pq.read_metadata(path)


@contextmanager
def _faults_told(text: str) -> Iterator[None]:
    """What Arrow and the system raise, as an `ArchiveError`; `text` has ``{}`` for what they say."""
    import pyarrow as pa

    try:
        yield
    except ArchiveError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise failed(text, error) from error


def too_large(group: int, n_bytes: int, most_bytes: int) -> str:
    """What is said of a row group that is not read."""
    return (
        f"its row group {group} has {n_bytes:,} bytes of audio, more than the {most_bytes:,} that are "
        "read at once; write the file anew with smaller row groups (row_group_size=10)"
    )
