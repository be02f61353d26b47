"""Clips of a manifest that are one sound: sample for sample, moved, or under another coding."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.audit.findings import Example, Finding, listed
from featurestore.duplicates.recoded_clips import Portrait, firsts_of_sets, recoded
from featurestore.duplicates.waveform_sketch import Sketch, alike
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.audio_places import Places
from featurestore.manifest.table import read_manifest
from featurestore.printable import counted

#: What copies of a clip are known by.
Heard = tuple[Sketch, Portrait | None]


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What is there more than once; all by place in the manifest.

    Attributes:
        identical: Sets of clips with the same samples.
        shifted: Pairs with the same samples at another place or level.
        recoded: Pairs under other codings.
        n_left: Pairs that look alike and were not listened to, since there were too many.
    """

    identical: Sequence[Sequence[int]] = ()
    shifted: Sequence[tuple[int, int]] = ()
    recoded: Sequence[tuple[int, int]] = ()
    n_left: int = 0

    def pairs(self) -> Iterator[tuple[int, int]]:
        """All of them as pairs; neighbours of a set of identical ones."""
        for rows in self.identical:
            yield from pairwise(rows)
        yield from self.shifted
        yield from self.recoded

    def names(self, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
        """The pairs by utterance id."""
        ids = table["utterance_id"].to_numpy(dtype=object)
        return ((ids[i], ids[j]) for i, j in self.pairs())


def find_copies(table: pd.DataFrame, heard: Sequence[Heard], workers: int) -> Copies:
    """Find them all.

    Args:
        table: As `featurestore.audit.corpus_audit.measure` makes it.
        heard: Of each row.
        workers: Threads that decode what looks alike.
    """
    hashes = table["audio_hash"].where(table["peak"] > 0, "").to_numpy(dtype=object)
    sets: dict[str, list[int]] = {}
    for i, h in enumerate(hashes):
        if h:
            sets.setdefault(h, []).append(i)
    sketches, portraits = [s for s, _ in heard], [p for _, p in heard]
    places = Places.of_table(table)
    i, j = alike(sketches).T
    # Stretches of one file that overlap, such as windows, are alike by intent.
    start = places.start_s
    end = start + (table["n_samples"] / table["rate_hz"].clip(lower=1)).to_numpy(dtype=float)
    overlap = (places.path[i] == places.path[j]) & (
        np.maximum(start[i], start[j]) < np.minimum(end[i], end[j])
    )
    moved = (hashes[i] != hashes[j]) & ~overlap
    shifted = list(zip(i[moved].tolist(), j[moved].tolist(), strict=True))
    coded = recoded(portraits, places, hashes.tolist(), workers)
    return Copies(
        identical=[rows for rows in sets.values() if len(rows) > 1],
        shifted=shifted,
        recoded=sorted({(i, j) for i, j in coded.pairs.tolist()} - set(shifted)),
        n_left=coded.n_left,
    )


def copy_findings(copies: Copies, table: pd.DataFrame, labels: pd.DataFrame) -> list[Finding]:
    """Findings about copies; those that differ in a label are pointed out and come first."""
    pair = _Pair(table, labels)

    def at_odds(sets: Sequence[Sequence[int]], noun: str, of: str = "") -> str:
        n = sum(bool(pair.differing(rows)) for rows in sets)
        return f"; labels differ in {counted(n, noun)}{of}" if n else ""

    def odd_first(sets: Iterable[Sequence[int]]) -> list[Sequence[int]]:
        return sorted(sets, key=lambda rows: not pair.differing(rows))

    copied = [pair.example(rows[0], i) for rows in odd_first(copies.identical) for i in rows[1:]]
    odd = at_odds(copies.identical, "set", " of copies")
    text = f"{counted(len(copied), 'clip')}: a copy of another, sample for sample{odd}."
    found = listed("duplicate", "fault", text, copied)
    for kind, pairs, how in (
        (
            "shifted-copy",
            copies.shifted,
            "with the same samples at another place or level: one is made from the other, or both from one "
            "recording",
        ),
        ("recoded-copy", copies.recoded, "that are one sound under another coding, sample rate or level"),
    ):
        text = f"{counted(len(pairs), 'pair')} of clips {how}{at_odds(pairs, 'pair')}."
        found += listed(kind, "warning", text, (pair.example(i, j) for i, j in odd_first(pairs)))
    if copies.n_left:
        text = (
            f"{counted(copies.n_left, 'pair')} of clips look alike and were not listened to, since they are "
            "too many; copies under another coding may be among them."
        )
        found.append(Finding(kind="copies-not-compared", severity="note", text=text, count=copies.n_left))
    return found


def with_copies_grouped(table: pd.DataFrame, copies: Copies) -> pd.DataFrame:
    """The manifest with every set of copies in one group, so that no split by group parts them.

    Groups that share a sound become one, called as the first of them. Where the manifest gives none, clips of
    one file are a group, called as the file, from the folder that all share.
    """
    files = table["path"].astype(object)
    names = {path: os.path.normpath(path) for path in files.unique()}
    folder = os.path.commonpath({os.path.dirname(name) for name in names.values()})
    named = files.map({path: os.path.relpath(name, folder) for path, name in names.items()})
    own = table["group"].astype(object).where(table["group"] != "", named)
    found, groups = pd.factorize(own)
    codes = found.tolist()
    firsts = firsts_of_sets(len(groups), ((codes[i], codes[j]) for i, j in copies.pairs()))
    group = np.asarray(groups, dtype=object)[[firsts[g] for g in codes]]
    return table.assign(group=pd.Series(group, index=table.index, dtype="str"))


def check_grouped_target(target: Path, manifest: Path) -> None:
    """Refuse to write the manifest with its copies grouped over anything but an earlier one of its kind.

    Args:
        target: where it is to be written.
        manifest: that is audited.

    Raises:
        ConfigError: there is a file that differs from the manifest in more than groups.
        ManifestError: the manifest breaks its contract.
    """
    if not target.exists():
        return
    asked = read_manifest(manifest, check_files=False, allow_empty=True).table.drop(columns="group")
    try:
        there = read_manifest(target, check_files=False, allow_empty=True).table.drop(columns="group")
        ours = there.equals(asked)
    except ManifestError:
        ours = False
    if not ours:
        raise ConfigError(
            f"--group-copies {target}: this file is not {manifest} with other groups, and would be lost; "
            "choose another name"
        )


class _Pair:
    """Makes an example of two clips."""

    def __init__(self, table: pd.DataFrame, labels: pd.DataFrame) -> None:
        self._ids = table["utterance_id"].to_numpy(dtype=object)
        self._cells = {str(c): labels[c].to_numpy(dtype=object) for c in labels.columns}

    def differing(self, rows: Sequence[int]) -> list[str]:
        """Labels in which the rows differ."""
        return [name for name, cells in self._cells.items() if len({cells[i] for i in rows}) > 1]

    def example(self, i: int, j: int) -> Example:
        """Row i as a copy of row j, with what their labels are where these differ."""
        name, other = str(self._ids[i]), str(self._ids[j])
        odd = "; ".join(
            f"{c}: {self._cells[c][i]!r} and {self._cells[c][j]!r}" for c in self.differing((i, j))
        )
        return Example(
            name=name, detail=f"= {other}" + (f" ({odd})" if odd else ""), row=i, other=j, other_name=other
        )
