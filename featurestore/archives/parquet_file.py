"""Parquet files with audio in a column: bytes alone, the struct of Hugging Face (bytes, path), or samples.

Samples are lists of floats, mono and full scale at 1; they are given out as a WAV file of 32-bit floats at
the rate that the member names (`featurestore.archives.names.rated_column`).

A row group is the least that can be read. Those read last stay in memory, up to `KEPT_BYTES`; a single one
may have more, up to `MOST_GROUP_BYTES`.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from featurestore.archives.interface import ArchiveError, ArchivePlace, LocalPlace, failed
from featurestore.archives.kept_bytes import Kept
from featurestore.archives.names import cell_member, rated_column, split_cell, split_rate

KEPT_BYTES = 1 << 28
MOST_GROUP_BYTES = 1 << 31
# Rows that are decoded at once: a row group that holds more than it says is noticed on the way.
_BATCH_ROWS = 64
# What writers call the floats of a list.
_LIST_LEAVES = ("list.element", "list.item", "list.array_element", "bag.array_element")
_FLOAT_TAG = 3
# Of a dictionary's header, which old writers left out of the size of a chunk (PARQUET-816).
_UNCOUNTED_BYTES = 100
# Of all files of this process.
_KEPT: Kept[list[Any]] = Kept(KEPT_BYTES)


class ParquetArchive:
    """A Parquet file; its footer is read once.

    Args:
        path: of the file.
        stamp: size and time of the file, which its kept row groups are known by.
        place: where it lies; None: it is a file.

    Raises:
        ArchiveError: it is no Parquet file, or its end is missing.
    """

    def __init__(self, path: str, stamp: tuple[int, int], place: ArchivePlace | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path, self._stamp = path, stamp
        self._place = place or LocalPlace(path, stamp)
        self._lock = threading.Lock()
        try:
            with self._place.as_file(0, 0) as (file, _):
                self.metadata = pq.read_metadata(file)
            self.schema = self.metadata.schema.to_arrow_schema()
        except ArchiveError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise failed("is no Parquet file, or is cut short ({})", error) from error
        groups = range(self.metadata.num_row_groups)
        self._stops = np.cumsum([self.metadata.row_group(g).num_rows for g in groups], dtype=np.int64)
        schema = self.metadata.schema
        self._leaves = {
            schema.column(i).path: (i, schema.column(i).physical_type, str(schema.column(i).logical_type))
            for i in range(len(schema))
        }

    @property
    def n_entries(self) -> int:
        """See `Archive`."""
        return 2 * len(self._stops) * len(self._leaves) + 1

    @property
    def n_rows(self) -> int:
        """Rows of all row groups."""
        return int(self._stops[-1]) if len(self._stops) else 0

    def leaf(self, column: str) -> str | None:
        """The leaf of the schema that holds a column's audio; None where it holds none."""
        for path in (f"{column}.bytes", column):
            _, physical, logical = self._leaves.get(path, (0, "", ""))
            if physical == "BYTE_ARRAY" and logical == "None":
                return path
        rated = split_rate(column)
        return None if rated is None else self.samples_leaf(rated[0])

    def samples_leaf(self, column: str) -> str | None:
        """The leaf of a column of lists of floats; None where it is none."""
        for inner in _LIST_LEAVES:
            if self._leaves.get(path := f"{column}.{inner}", (0, "", ""))[1] in ("FLOAT", "DOUBLE"):
                return path
        return None

    def has_leaf(self, path: str) -> bool:
        """Whether the schema has a leaf of this path, such as ``audio.path``."""
        return path in self._leaves

    def group_bytes(self, column: str) -> list[int]:
        """Bytes of audio of each row group, unpacked, as the footer has it."""
        leaf = self.leaf(column)
        if leaf is None:
            return []
        at = self._leaves[leaf][0]
        groups = range(self.metadata.num_row_groups)
        return [int(self.metadata.row_group(g).column(at).total_uncompressed_size) for g in groups]

    def audio_columns(self) -> list[str]:
        """Columns that may hold audio, by their type."""
        return [name for name in self.schema.names if self.leaf(name) is not None]

    def members(self) -> Iterable[str]:
        """See `Archive.members`."""
        return (cell_member(name, row) for name in self.audio_columns() for row in range(self.n_rows))

    def problem(self, member: str) -> str:
        """See `Archive.problem`."""
        cell = split_cell(member)
        if cell is None:
            return "names no cell of a Parquet file; expected COLUMN[ROW], such as audio[17]"
        column, row = cell
        if self.leaf(column) is None:
            if self.samples_leaf(column) is not None:
                return (
                    "is in a column of samples, whose rate is to be named, such as "
                    f"{cell_member(rated_column(column, 16_000), row)}"
                )
            has = ", ".join(map(repr, self.audio_columns())) or "none"
            return f"is in no column of audio; columns of bytes, or of a struct with bytes, are: {has}"
        if row >= self.n_rows:
            return f"is not in the file, which has {self.n_rows:,} rows, counted from 0"
        return ""

    def open(self, member: str) -> BinaryIO:
        """See `Archive.open`."""
        cell = split_cell(member)
        leaf = None if cell is None else self.leaf(cell[0])
        if cell is None or leaf is None:
            raise ArchiveError(self.problem(member))
        group = int(np.searchsorted(self._stops, cell[1], side="right"))
        first = int(self._stops[group - 1]) if group else 0
        batches = _KEPT.get((self._path, self._stamp, leaf, group), lambda: self._row_group(leaf, group))
        value = batches[(cell[1] - first) // _BATCH_ROWS][(cell[1] - first) % _BATCH_ROWS]
        rated = split_rate(cell[0])
        if rated is not None and leaf == self.samples_leaf(rated[0]):
            return io.BytesIO(_wav(value.values if value.is_valid else (), rated[1]))
        if not value.is_valid:
            raise ArchiveError(
                "holds no bytes: only the name of a file that is not in the archive, or nothing"
            )
        return io.BytesIO(value.as_buffer())

    def _chunk(self, leaf: str, group: int) -> tuple[int, int]:
        """First byte of a leaf in a row group, as it lies in the file, and the byte after its last.

        Raises:
            ArchiveError: it is larger than what is read at once.
        """
        column = self.metadata.row_group(group).column(self._leaves[leaf][0])
        n_bytes = column.total_compressed_size
        if n_bytes > MOST_GROUP_BYTES:
            raise ArchiveError(_too_large(group, n_bytes))
        start = column.data_page_offset
        if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
            start = column.dictionary_page_offset
        return start, start + n_bytes + _UNCOUNTED_BYTES

    def _row_group(self, leaf: str, group: int) -> tuple[list[Any], int]:
        """Arrays of `_BATCH_ROWS` cells each, and their bytes."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        said = self.metadata.row_group(group).column(self._leaves[leaf][0]).total_uncompressed_size
        if said > MOST_GROUP_BYTES:
            raise ArchiveError(_too_large(group, said))
        found, n_bytes = [], 0
        try:
            # One at a time of each file, so that no more than a row group of it is being decoded.
            with (
                self._lock,
                self._place.as_file(*self._chunk(leaf, group)) as (path, _),
                pq.ParquetFile(path, metadata=self.metadata, page_checksum_verification=True) as file,
            ):
                batches = file.iter_batches(
                    _BATCH_ROWS, row_groups=[group], columns=[leaf], use_threads=False
                )
                for batch in batches:
                    array = batch.column(0)
                    if pa.types.is_struct(array.type):
                        array = pc.struct_field(array, "bytes")
                    found.append(array)
                    n_bytes += array.nbytes
                    if n_bytes > MOST_GROUP_BYTES:
                        raise ArchiveError(_too_large(group, n_bytes))
        except ArchiveError:
            raise
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise failed(f"its row group {group} cannot be read ({{}})", error) from error
        n_rows = self.metadata.row_group(group).num_rows
        if sum(map(len, found)) != n_rows:
            raise ArchiveError(f"its row group {group} holds {sum(map(len, found)):,} of {n_rows:,} rows")
        return found, n_bytes


def _wav(samples: Any, sample_rate_hz: int) -> bytes:
    """A WAV file of an Arrow array of floats.

    Raises:
        ArchiveError: there are none, or one of them is missing.
    """
    if not len(samples):
        raise ArchiveError("holds no samples")
    if samples.null_count:
        raise ArchiveError(f"lacks {samples.null_count:,} of its {len(samples):,} samples")
    data: bytes = samples.to_numpy(zero_copy_only=False).astype("<f4").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(data), b"WAVE"),
        *(b"fmt ", 16, _FLOAT_TAG, 1, sample_rate_hz, 4 * sample_rate_hz, 4, 32),
        *(b"data", len(data)),
    )
    return head + data


def _too_large(group: int, n_bytes: int) -> str:
    return (
        f"its row group {group} has {n_bytes:,} bytes of audio, more than the {MOST_GROUP_BYTES:,} that are "
        "read at once; write the file anew with smaller row groups (row_group_size=10)"
    )
