"""Where the audio of rows is: the file, the stretch and the channel, and what the file looked like.

A *place* is what a row of a manifest points to. Its *stamp*, size and modification time of the file, tells a
file that was written again without reading it, as `make` and `rsync` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.archives.names import file_name
from featurestore.arrays import IntArray, TextArray
from featurestore.manifest.location import UNKNOWN, Location, stamps_of
from featurestore.manifest.table import HIGHEST_RECORDED_CHANNEL, MOST_SECONDS, PLACE_COLUMNS

MIX = -1  # channel: the mean of all
OPEN = -1.0  # seconds, where JSON has no NaN: the end of the file
LARGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Places of `n` rows, column by column.

    Attributes:
        path: absolute path, as the manifest gives it; "" where the place is not known.
        start_s: seconds; 0 for the start of the file.
        end_s: seconds; NaN for the end of the file.
        channel: counted from 0; `MIX` for the mean of all.
        n_bytes: size of the file when it was read; `UNKNOWN` where nobody looked.
        mtime_ns: when it was written last, nanoseconds since 1970; `UNKNOWN` likewise.
    """

    path: TextArray
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    channel: IntArray
    n_bytes: IntArray
    mtime_ns: IntArray

    def __len__(self) -> int:
        return len(self.path)

    def __getitem__(self, rows: npt.NDArray[Any] | slice) -> Places:
        return Places(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def unknown(cls, n: int) -> Places:
        """Places of rows of which nothing is recorded."""
        return cls(
            path=np.full(n, "", dtype=object),
            start_s=np.zeros(n),
            end_s=np.full(n, np.nan),
            channel=np.full(n, MIX, dtype=np.int64),
            n_bytes=np.full(n, UNKNOWN, dtype=np.int64),
            mtime_ns=np.full(n, UNKNOWN, dtype=np.int64),
        )

    @classmethod
    def of_table(cls, table: pd.DataFrame, *, look_at_files: bool = False) -> Places:
        """Places of a manifest's rows; a row that is not there (path NaN) is unknown.

        Args:
            table: see `Manifest.table`.
            look_at_files: take the stamps of the files as they are now; else they are unknown.
        """
        # A million rows name far fewer files: each name is made once, and each file looked at once.
        codes, unique = pd.factorize(table["path"])  # -1 where NaN: the last
        names = np.array([*unique, ""], dtype=object)
        stamps = np.full((len(names), 2), UNKNOWN, dtype=np.int64)
        if look_at_files:
            stamps[:-1] = np.array(stamps_of(names[:-1].tolist()), np.int64).reshape(-1, 2)
        start_s = table["start_s"].to_numpy(dtype=np.float64)
        return cls(
            path=names[codes],
            start_s=np.where(np.isnan(start_s), 0.0, start_s),
            end_s=table["end_s"].to_numpy(dtype=np.float64),
            channel=table["channel"].astype("Int64").fillna(MIX).to_numpy().astype(np.int64),
            n_bytes=stamps[codes, 0],
            mtime_ns=stamps[codes, 1],
        )

    @classmethod
    def of_locations(cls, locations: Sequence[Location | None]) -> Places:
        """Places without stamps; unknown where there is none."""
        known = [(None, None, None, None) if where is None else where for where in locations]
        return cls.of_table(pd.DataFrame(known, columns=list(PLACE_COLUMNS)))

    @classmethod
    def joined(cls, parts: Sequence[Places]) -> Places:
        """One after the other."""
        if not parts:
            return cls.unknown(0)
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def where(self, mask: npt.NDArray[np.bool_], other: Places) -> Places:
        """Rows of this where `mask` is set, of `other` elsewhere."""
        names = [f.name for f in fields(self)]
        return Places(**{n: np.where(mask, getattr(self, n), getattr(other, n)) for n in names})

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Rows whose place is recorded."""
        return np.asarray(self.path != "", dtype=bool)

    @property
    def has_stamp(self) -> npt.NDArray[np.bool_]:
        """Rows of whose file size and time are known."""
        return np.asarray(self.n_bytes != UNKNOWN)

    def same_stretch(self, other: Places) -> npt.NDArray[np.bool_]:
        """Rows with the same file name, times and channel, both known."""
        ends = (self.end_s == other.end_s) | (np.isnan(self.end_s) & np.isnan(other.end_s))
        paths = np.asarray(self.path == other.path, dtype=bool)
        same = paths & (self.start_s == other.start_s) & ends & (self.channel == other.channel)
        return np.asarray(same & self.is_known)

    def same_but_folder(self, other: Places) -> npt.NDArray[np.bool_]:
        """Rows whose files have one name, in whatever folders, with the same times and channel."""
        mine, theirs = (
            np.array([file_name(p) for p in places.path], dtype=object) for places in (self, other)
        )
        return replace(self, path=mine).same_stretch(replace(other, path=theirs))

    def same_stamp(self, other: Places) -> npt.NDArray[np.bool_]:
        """Rows whose file has not been written since, as far as size and time tell; both known."""
        same = (self.n_bytes == other.n_bytes) & (self.mtime_ns == other.mtime_ns)
        return np.asarray(same & self.has_stamp)

    def location(self, row: int) -> Location:
        """Path, start and end in seconds (NaN: the file's end), channel (None: the mean of all)."""
        channel = int(self.channel[row])
        return (
            str(self.path[row]),
            float(self.start_s[row]),
            float(self.end_s[row]),
            None if channel == MIX else channel,
        )

    def text(self, row: int) -> str:
        """``/a/b.wav 1.5-2 s channel 0``, for messages."""
        path, start_s, end_s, channel = self.location(row)
        if not path:
            return "a place that is not recorded"
        end = "end" if np.isnan(end_s) else f"{end_s:.9g} s"
        times = "" if start_s == 0 and np.isnan(end_s) else f" {start_s:.9g}-{end}"
        return path + times + ("" if channel is None else f" channel {channel}")

    def to_json(self) -> dict[str, list[Any]]:
        """Plain columns of numbers and text; each file, as it looked, stands once. See `from_json`."""
        keys = list(zip(self.path.tolist(), self.n_bytes.tolist(), self.mtime_ns.tolist(), strict=True))
        numbers: dict[tuple[str, int, int], int] = {}
        of_row = [numbers.setdefault(key, len(numbers)) for key in keys]
        return {
            "path": [path for path, _, _ in numbers],
            "n_bytes": [n for _, n, _ in numbers],
            "mtime_ns": [t for _, _, t in numbers],
            "file": of_row,
            "start_s": self.start_s.tolist(),
            "end_s": np.where(np.isnan(self.end_s), OPEN, self.end_s).tolist(),
            "channel": self.channel.tolist(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Sequence[Any]]) -> Places:
        """Inverse of `to_json`. NumPy alone looks at single values: a key may have a million rows.

        Raises:
            TypeError, ValueError, KeyError, IndexError, OverflowError: it is none.
        """
        of_row = _numbers(raw["file"], {int}, 0, len(raw["path"]) - 1)
        n = len(of_row)
        if not set(map(type, raw["path"])) <= {str}:
            raise TypeError("a path that is no text")
        paths = np.array(raw["path"], dtype=object)
        end_s = _numbers(raw["end_s"], {int, float}, OPEN, MOST_SECONDS)
        found = cls(
            path=paths[of_row],
            start_s=_numbers(raw["start_s"], {int, float}, 0, MOST_SECONDS).astype(np.float64),
            end_s=np.where(end_s == OPEN, np.nan, end_s),
            channel=_numbers(raw["channel"], {int}, MIX, HIGHEST_RECORDED_CHANNEL),
            n_bytes=_numbers(raw["n_bytes"], {int}, UNKNOWN, LARGEST)[of_row],
            mtime_ns=_numbers(raw["mtime_ns"], {int}, -LARGEST, LARGEST)[of_row],
        )
        if {getattr(found, f.name).shape for f in fields(cls)} != {(n,)}:
            raise ValueError("columns of places differ in length")
        return found


def _numbers(values: Sequence[Any], types: set[type], low: float, high: float) -> npt.NDArray[Any]:
    """Plain numbers of these very types, from `low` to `high`.

    Raises:
        TypeError, ValueError: they are not.
    """
    if not set(map(type, values)) <= types:
        raise TypeError("a number of places is none")
    if len(values) and not low <= min(values) <= max(values) <= high:
        raise ValueError(f"a number of places is not between {low:g} and {high:g}")
    return np.array(values, dtype=np.float64 if float in types else np.int64)


@dataclass(frozen=True)
class Found:
    """What was found at a row's place: hash of the samples ("" where they cannot be used), size and time."""

    audio_hash: str
    n_bytes: int
    mtime_ns: int

    def __str__(self) -> str:
        return f"{self.audio_hash} {self.n_bytes} {self.mtime_ns}"

    @classmethod
    def parse(cls, text: str) -> Found:
        """Inverse of `str`.

        Raises:
            ValueError: it is none.
        """
        audio_hash, n_bytes, mtime_ns = text.rsplit(" ", 2)
        found = cls(audio_hash, int(n_bytes), int(mtime_ns))
        if not (UNKNOWN <= found.n_bytes <= LARGEST and abs(found.mtime_ns) <= LARGEST):
            raise ValueError(f"size or time out of range: {text[:80]!r}")
        return found
