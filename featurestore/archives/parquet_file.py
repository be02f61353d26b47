"""Parquet files with audio in a column: bytes alone, or Hugging Face's struct of bytes and path.

A row group is the least that can be read. Those read last stay in memory, up to `KEPT_BYTES`; a single one
may have more, up to `MOST_GROUP_BYTES`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from featurestore.archives.interface import ArchiveError, failed
from featurestore.archives.kept_bytes import Kept
from featurestore.archives.names import cell_member, split_cell

KEPT_BYTES = 1 << 28
MOST_GROUP_BYTES = 1 << 31
# Rows that are decoded at once: a row group that holds more than it says is noticed on the way.
_BATCH_ROWS = 64
# Of all files of this process.
_KEPT: Kept[list[Any]] = Kept(KEPT_BYTES)


class ParquetArchive:
    """A Parquet file; its footer is read once.

    Args:
        path: of the file.
        stamp: size and time of the file, which its kept row groups are known by.

    Raises:
        ArchiveError: it is no Parquet file, or its end is missing.
    """

    def __init__(self, path: str, stamp: tuple[int, int]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path, self._stamp = path, stamp
        self._lock = threading.Lock()
        try:
            self.metadata = pq.read_metadata(path)
            self.schema = self.metadata.schema.to_arrow_schema()
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
        if not value.is_valid:
            raise ArchiveError(
                "holds no bytes: only the name of a file that is not in the archive, or nothing"
            )
        return io.BytesIO(value.as_buffer())

    def _row_group(self, leaf: str, group: int) -> tuple[list[Any], int]:
        """Arrays of `_BATCH_ROWS` cells each, and their bytes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        said = self.metadata.row_group(group).column(self._leaves[leaf][0]).total_uncompressed_size
        if said > MOST_GROUP_BYTES:
            raise ArchiveError(_too_large(group, said))
        found, n_bytes = [], 0
        try:
            # One at a time of each file, so that no more than a row group of it is being decoded.
            with (
                self._lock,
                pq.ParquetFile(self._path, metadata=self.metadata, page_checksum_verification=True) as file,
            ):
                batches = file.iter_batches(
                    _BATCH_ROWS, row_groups=[group], columns=[leaf], use_threads=False
                )
                for batch in batches:
                    array = batch.column(0)
                    if pa.types.is_struct(array.type):
                        array = pa.compute.struct_field(array, "bytes")
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


def _too_large(group: int, n_bytes: int) -> str:
    return (
        f"its row group {group} has {n_bytes:,} bytes of audio, more than the {MOST_GROUP_BYTES:,} that are "
        "read at once; write the file anew with smaller row groups (row_group_size=10)"
    )
