"""Parquet files with audio in a column: bytes alone, the struct of Hugging Face (bytes, path), or samples.

Samples are lists of floats, mono and full scale at 1; they are given out as a WAV file of 32-bit floats at
the rate that the member names (`featurestore.archives.names.rated_column`).

A row group is the least that can be read. Those read last stay in memory, up to `KEPT_BYTES`; a single one
may have more, up to `MOST_GROUP_BYTES`. A process apart decodes them: Arrow may abort at what is damaged.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from featurestore.apart.socket_process import Lost
from featurestore.archives.interface import ArchiveError, ArchivePlace, LocalPlace, PassingError, failed
from featurestore.archives.kept_bytes import Kept
from featurestore.archives.names import cell_member, rated_column, split_cell, split_rate
from featurestore.archives.parquet_decoding import (
    BATCH_ROWS,
    NO_LEAF,
    UNCOUNTED_BYTES,
    decode_footer,
    decode_row_group,
    too_large,
)
from featurestore.untrusted.arrow_process import ARROW, table_of

KEPT_BYTES = 1 << 28
MOST_GROUP_BYTES = 1 << 31
# What writers call the floats of a list.
_LIST_LEAVES = ("list.element", "list.item", "list.array_element", "bag.array_element")
_FLOAT_TAG = 3
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
        self._path, self._stamp = path, stamp
        self._place = place or LocalPlace(path, stamp)
        try:
            with self._place.as_file(0, 0) as (file, file_stamp):
                footer, _ = ARROW.ask(decode_footer, os.path.abspath(file), file_stamp)
        except Lost as lost:
            raise _lost("is no Parquet file that can be read: its reader ended with {}", lost) from lost
        self.schema: Any = footer.schema
        self._leaves = footer.leaves
        self._n_rows, self._group_bytes = footer.n_rows, footer.group_bytes
        self._chunks = footer.chunks
        self._stops = np.cumsum(self._n_rows, dtype=np.int64)

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
            if self._leaves.get(path, NO_LEAF).is_bytes:
                return path
        rated = split_rate(column)
        return None if rated is None else self.samples_leaf(rated[0])

    def samples_leaf(self, column: str) -> str | None:
        """The leaf of a column of lists of floats; None where it is none."""
        for inner in _LIST_LEAVES:
            if self._leaves.get(path := f"{column}.{inner}", NO_LEAF).is_float:
                return path
        return None

    def has_leaf(self, path: str) -> bool:
        """Whether the schema has a leaf of this path, such as ``audio.path``."""
        return path in self._leaves

    def group_bytes(self, column: str) -> list[int]:
        """Bytes of audio of each row group, unpacked, as the footer has it."""
        leaf = self.leaf(column)
        return [] if leaf is None else self._group_bytes[leaf].tolist()

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
        value = batches[(cell[1] - first) // BATCH_ROWS][(cell[1] - first) % BATCH_ROWS]
        rated = split_rate(cell[0])
        if rated is not None and leaf == self.samples_leaf(rated[0]):
            return io.BytesIO(_wav(value.values if value.is_valid else (), rated[1]))
        if not value.is_valid:
            raise ArchiveError(
                "holds no bytes: only the name of a file that is not in the archive, or nothing"
            )
        return io.BytesIO(value.as_buffer())

    def _row_group(self, leaf: str, group: int) -> tuple[list[Any], int]:
        """Arrays of `BATCH_ROWS` cells each, and their bytes."""
        import pyarrow as pa

        n_rows, said = int(self._n_rows[group]), int(self._group_bytes[leaf][group])
        start, stop = self._chunks[leaf][group].tolist()
        if stop - start > MOST_GROUP_BYTES + UNCOUNTED_BYTES:
            raise ArchiveError(too_large(group, stop - start, MOST_GROUP_BYTES))
        try:
            with self._place.as_file(start, stop) as (file, file_stamp):
                asked = (os.path.abspath(file), file_stamp, leaf, group, n_rows, said, MOST_GROUP_BYTES)
                n_bytes, written = ARROW.ask(decode_row_group, *asked)
            found = table_of(written, n_rows).column(0).chunks
        except Lost as lost:
            raise _lost(f"its row group {group} cannot be read: its reader ended with {{}}", lost) from lost
        except ArchiveError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise failed(f"its row group {group} cannot be read ({{}})", error) from error
        return found, n_bytes


def _lost(text: str, lost: Lost) -> ArchiveError:
    """The error for a reader that was lost; it may be for want of memory, or because none can be started."""
    return (PassingError if lost.is_passing else ArchiveError)(text.format(lost))


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
