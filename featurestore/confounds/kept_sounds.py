"""``confounds.csv``: what was measured of every clip, for people, and so that nothing is decoded twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.confounds.recorded_at import recorded_at
from featurestore.confounds.sounds import Sound, measure_sounds
from featurestore.manifest.audio_places import Places
from featurestore.manifest.location import UNKNOWN
from featurestore.outputs import put_file, require_replaceable, writing
from featurestore.spreadsheet import spreadsheet_csv, text_of_cell
from featurestore.untrusted.text_table import TextTableError, numbers_of, read_table

# Raise it when measuring changes: what was measured before is measured again.
MEASURED_AS = "1"
NAME = "confounds.csv"
MARK = b"measured_as"
SOUND_COLUMNS = tuple(f.name for f in fields(Sound))
NUMBERS = tuple(c for c in SOUND_COLUMNS if c.endswith(("_s", "_dbfs", "_db", "_hz")))
PLACE = ("path", "start_s", "end_s", "channel", "n_bytes", "mtime_ns")
COLUMNS = ("dataset", "utterance_id", *SOUND_COLUMNS, "day", "hour", "group", *PLACE, "measured_as")


@dataclass
class KeptSounds:
    """The sounds of one folder: those measured before, and those that this run measures.

    Attributes:
        path: ``confounds.csv``.
        sounds: By place and stamp of the file, see `_names`.
        rows: Rows of the table, as text, by data set and id.
        n_measured: Clips decoded by this run.
    """

    path: Path
    sounds: dict[tuple[str, ...], Sound] = field(default_factory=dict)
    rows: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    n_measured: int = 0

    @classmethod
    def open(cls, out: Path) -> KeptSounds:
        """Read what an earlier run left in a folder; a table that cannot be read is measured anew.

        Raises:
            ConfigError: the folder holds a table of this name that is none of ours.
        """
        kept = cls(path=out / NAME)
        require_replaceable(kept.path, MARK, "table of confounds")
        if kept.path.exists():
            kept._read()
        return kept

    def measure(
        self,
        dataset: str,
        table: pd.DataFrame,
        workers: int,
        on_done: Callable[[int, int], None] | None = None,
    ) -> list[Sound]:
        """Sounds of the rows of a table, those that are not known yet being decoded; the file is written.

        What was measured is kept too where the work is interrupted. Clips that could not be read are tried
        again each time.

        Args:
            dataset: Its name.
            table: Columns utterance_id, group and those of a place, see `featurestore.manifest.table`.
            workers: Threads that decode.
            on_done: Told how many of those to be decoded are done.

        Raises:
            StoreError: the table cannot be written.
        """
        places = Places.of_table(table, look_at_files=True)
        names = _names(places)
        missing = np.array([i for i, name in enumerate(names) if name not in self.sounds], dtype=np.int64)
        fresh: list[Sound] = []
        try:
            measure_sounds(places[missing], workers, on_done, fresh)
        finally:
            self.n_measured += len(fresh)
            self.sounds |= {names[i]: sound for i, sound in zip(missing, fresh, strict=False)}
            self._take(dataset, table, places, names)
            self._write()
        return [self.sounds[name] for name in names]

    def _read(self) -> None:
        try:
            table = read_table(self.path)
        except TextTableError:
            return
        if set(COLUMNS) - set(table.columns):
            return
        table = table[list(COLUMNS)].map(text_of_cell)
        table = table[(table["measured_as"] == MEASURED_AS) & (table["problem"] == "")]
        numbers = pd.DataFrame({c: numbers_of(table[c]) for c in NUMBERS}, index=table.index)
        whole = ~(numbers.isna() & ~table[list(NUMBERS)].isin(["", "nan"])).any(axis=1)
        table, numbers = table[whole], numbers[whole]
        for row, values in zip(table.itertuples(index=False), numbers.to_numpy(dtype=float), strict=True):
            name = tuple(getattr(row, c) for c in PLACE)
            if name[4] == str(UNKNOWN):
                continue
            measured = dict(zip(NUMBERS, values.tolist(), strict=True))
            self.sounds[name] = Sound(recorder=str(row.recorder), audio_hash=str(row.audio_hash), **measured)
            self.rows[str(row.dataset), str(row.utterance_id)] = tuple(row)

    def _take(
        self, dataset: str, table: pd.DataFrame, places: Places, names: Sequence[tuple[str, ...]]
    ) -> None:
        columns = zip(table["utterance_id"], table["group"], names, strict=True)
        for i, (utterance, group, name) in enumerate(columns):
            sound = self.sounds.get(name)
            if sound is None:  # interrupted
                continue
            when = recorded_at(str(places.path[i]), float(places.start_s[i]))
            cells = (_cell(getattr(sound, c)) for c in SOUND_COLUMNS)
            day = "" if when.day is None else when.day.isoformat()
            key = (dataset, str(utterance))
            self.rows[key] = (*key, *cells, day, _cell(when.hour), str(group), *name, MEASURED_AS)

    def _write(self) -> None:
        rows = [self.rows[key] for key in sorted(self.rows)]
        with writing(self.path, "choose another --out"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            put_file(spreadsheet_csv(pd.DataFrame(rows, columns=list(COLUMNS))).encode(), self.path)


def _names(places: Places) -> list[tuple[str, ...]]:
    """What a measurement is kept under, as the table has it: the stretch, and the file's size and time."""
    columns = (getattr(places, c).tolist() for c in PLACE)
    return [tuple(map(_cell, values)) for values in zip(*columns, strict=True)]


def _cell(value: object) -> str:
    """A number in as many digits as give it back, "" for NaN; a text as it is."""
    if isinstance(value, float):
        return "" if np.isnan(value) else repr(value)
    return str(value)
