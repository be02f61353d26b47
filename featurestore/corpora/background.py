"""A class for what is none of the calls: stretches of annotated recordings that no annotation touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featurestore.arrays import Float64Array
from featurestore.audio.segment import AudioError, header
from featurestore.errors import ConfigError, ManifestError, did_you_mean
from featurestore.manifest.labels import SEPARATOR, LabelReport, class_sizes
from featurestore.manifest.table import learnable_columns
from featurestore.printable import counted

NAME = "background"
# What the options of `fs manifest` say for None.
LIKE_CALLS = "calls"
BALANCED = "balanced"
# Times are cut to whole 0.1 ms, inwards, so that ids are short.
_PLACES = 10_000


@dataclass(frozen=True, kw_only=True)
class BackgroundRequest:
    """Which background is drawn.

    Attributes:
        length_s: seconds of a row; None: lengths drawn from those of the annotations.
        label: column that gets `name`; None: the only label column.
        name: the class.
        rows: how many; None: as many as a class has on average.
        margin_s: seconds that are kept from every annotation.
        seed: of the draw.
    """

    length_s: float | None = None
    label: str | None = None
    name: str = NAME
    rows: int | None = None
    margin_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name.strip() or SEPARATOR in self.name:
            raise ConfigError(
                f"--background-name: expected the name of a class, without {SEPARATOR!r}, got {self.name!r}"
            )
        if self.length_s is not None and not 1 / _PLACES <= self.length_s < float("inf"):
            raise ConfigError(
                f"--background: expected at least {1 / _PLACES:g} seconds, got {self.length_s:g}"
            )
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"--background-rows: expected at least 1, or {BALANCED}, got {self.rows}")
        if not 0 <= self.margin_s < float("inf"):
            raise ConfigError(f"--background-margin: expected 0 or more seconds, got {self.margin_s:g}")

    @property
    def options(self) -> dict[str, Any]:
        """The options of `fs manifest` that say this, by their names with underscores."""
        return {
            "background": LIKE_CALLS if self.length_s is None else f"{self.length_s:.10g}",
            "background_label": self.label,
            "background_name": self.name if self.name != NAME else None,
            "background_rows": self.rows,
            "background_margin": self.margin_s or None,
            "background_seed": self.seed or None,
        }


def add_background(
    table: pd.DataFrame, request: BackgroundRequest
) -> tuple[pd.DataFrame, LabelReport, tuple[str, ...]]:
    """The table with rows of background behind it, the sizes of its classes, and what found no room.

    They lie in the recordings of the table, at random: never within the margin of an annotation of any
    channel, nor in one another. Each has the group and the split of its recording and is of one of the
    channels that are annotated there.

    Args:
        table: see `CorpusTable`.
        request: what is drawn.

    Raises:
        ConfigError: no such label column, or the name is that of a class.
        ManifestError: a row is a whole file, or there is no room for a single row.
    """
    label = _label(table, request)
    _require_stretches(table)
    before = class_sizes(table[label])
    if request.name in before:
        raise ConfigError(
            f"--background: {request.name!r} is a class of {label!r} already; name it otherwise with "
            "--background-name"
        )
    wanted = request.rows or max(1, round(sum(before.values()) / max(1, len(before))))
    rng = np.random.default_rng(request.seed)
    calls = (table["end_s"] - table["start_s"].fillna(0.0)).to_numpy(dtype=np.float64)
    lengths = rng.choice(calls, wanted) if request.length_s is None else np.full(wanted, request.length_s)
    placed, unread = _placed(table, lengths, request.margin_s, rng)
    if not placed:
        raise ManifestError(
            "--background: no room between the annotations of "
            f"{counted(table['path'].nunique(), 'recording')} for {lengths.min():.4g} s with a margin of "
            f"{request.margin_s:g} s; give a shorter --background SECONDS or a smaller --background-margin"
        )
    new = _rows(table, placed, label, request.name, rng)
    notes = []
    if len(new) < wanted:
        notes.append(f"{request.name}: {len(new):,} of {wanted:,} rows found room between the annotations")
    if unread:
        notes.append(f"{request.name}: none in {counted(unread, 'recording')} whose length is not known")
    whole = pd.concat([table, new], ignore_index=True)
    report = LabelReport(
        column=label,
        before=before,
        after=class_sizes(whole[label]),
        n_unlabelled=int((whole[label] == "").sum()),
    )
    return whole, report, tuple(notes)


def _label(table: pd.DataFrame, request: BackgroundRequest) -> str:
    labels = learnable_columns(table.columns)
    if request.label is not None:
        if request.label not in labels:
            raise ConfigError(
                f"--background-label {request.label}: the labels are {', '.join(labels) or 'none'}"
                f"{did_you_mean(request.label, labels)}"
            )
        return request.label
    if len(labels) != 1:
        raise ConfigError(
            "--background: say with --background-label which label it is a class of: "
            f"{', '.join(labels) or 'there is none'}"
        )
    return labels[0]


def _require_stretches(table: pd.DataFrame) -> None:
    whole = table["end_s"].isna()
    if whole.any():
        raise ManifestError(
            f"--background: utterance {table.loc[whole, 'utterance_id'].iloc[0]!r} lasts to the end of its "
            "file and leaves nothing that is not annotated; it is for annotations with times"
        )


@dataclass(frozen=True)
class _Stretch:
    path: str
    start_s: float
    end_s: float


def _placed(
    table: pd.DataFrame, lengths: Float64Array, margin_s: float, rng: np.random.Generator
) -> tuple[list[_Stretch], int]:
    """Where stretches of these lengths found room, and how many recordings could not be measured.

    The longest are placed first, each at a start drawn evenly from all that leave it room.
    """
    gaps: list[tuple[str, float, float]] = []
    unread = 0
    for path, rows in table.groupby("path", sort=False):
        try:
            n, rate = header(str(path))
        except AudioError:
            unread += 1
            continue
        gaps += [(str(path), a, b) for a, b in _free(rows, n / rate, margin_s)]
    paths = [g[0] for g in gaps]
    start, end = np.array([g[1] for g in gaps]), np.array([g[2] for g in gaps])
    found = []
    for length in np.sort(lengths)[::-1]:
        room = np.maximum(0.0, end - start - length) if len(start) else np.zeros(0)
        total = float(room.sum())
        if total <= 0:
            continue
        at = float(rng.uniform(0, total))
        i = min(int(np.searchsorted(np.cumsum(room), at, side="right")), len(room) - 1)
        begin = start[i] + at - (np.cumsum(room)[i] - room[i])
        first, last = np.ceil(begin * _PLACES) / _PLACES, np.floor((begin + length) * _PLACES) / _PLACES
        if last <= first:
            continue
        found.append(_Stretch(paths[i], float(first), float(last)))
        # What is left of the gap on either side.
        paths.append(paths[i])
        start, end = np.append(start, last), np.append(end, end[i])
        end[i] = first
    return found, unread


def _free(rows: pd.DataFrame, duration_s: float, margin_s: float) -> list[tuple[float, float]]:
    """What no annotation of a recording touches, with a margin, in seconds."""
    starts = rows["start_s"].fillna(0.0).to_numpy(dtype=np.float64) - margin_s
    ends = rows["end_s"].to_numpy(dtype=np.float64) + margin_s
    free, at = [], 0.0
    for i in np.argsort(starts, kind="stable"):
        if starts[i] > at:
            free.append((at, min(float(starts[i]), duration_s)))
        at = max(at, float(ends[i]))
    free.append((at, duration_s))
    return [(a, b) for a, b in free if b > a]


def _rows(
    table: pd.DataFrame, placed: Sequence[_Stretch], label: str, name: str, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows of the table's columns, in the order of its recordings and of their times."""
    of_path = dict(iter(table.groupby("path", sort=False)))
    order = {path: i for i, path in enumerate(of_path)}
    taken = set(table["utterance_id"])
    rows = []
    for one in sorted(placed, key=lambda s: (order[s.path], s.start_s)):
        rows_of = of_path[one.path]
        like = rows_of.iloc[int(rng.integers(len(rows_of)))]
        utterance = _free_id(_recording(str(rows_of["utterance_id"].iloc[0])), one, like["channel"], taken)
        row: dict[str, Any] = dict.fromkeys(map(str, table.columns), "")
        row |= {c: like[c] for c in ("path", "channel", "split", "group") if c in table}
        row |= {"utterance_id": utterance, "start_s": one.start_s, "end_s": one.end_s, label: name}
        rows.append(row)
    return pd.DataFrame(rows, columns=table.columns).astype(table.dtypes.to_dict())


def _recording(utterance_id: str) -> str:
    """What ids of a recording begin with: ``data/x`` of ``data/x:1.5-2#0``."""
    name, colon, _ = utterance_id.rpartition(":")
    return name if colon else utterance_id


def _free_id(recording: str, one: _Stretch, channel: Any, taken: set[str]) -> str:
    suffix = "" if pd.isna(channel) else f"#{channel}"
    base = f"{recording}:{one.start_s:.10g}-{one.end_s:.10g}{suffix}"
    name, n = base, 2
    while name in taken:
        name, n = f"{base}~{n}", n + 1
    taken.add(name)
    return name
