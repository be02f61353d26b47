"""What train, validation and test share although they should not.

Five kinds, of which the first two come from the manifest's own words and the others from the sound:
rows of one *group*, rows of one *file*, stretches of one file that *overlap*, *identical* audio under
two names (the hash of the decoded samples), and *similar* audio: nearly the same embedding
(`featurestore.duplicates.near_embeddings`), the same samples elsewhere in the clip
(`featurestore.duplicates.waveform_sketch`), or the same sound under another coding
(`featurestore.duplicates.recoded_clips`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.arrays import IntArray
from probes.splits import Split, parse_split

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("group", "file", "overlap", "identical", "similar")
# Test against train first: that is what inflates a score.
PAIRS = (("train", "test"), ("val", "test"), ("train", "val"))
MAX_EXAMPLES = 5
# Times written in milliseconds let neighbours overlap by one.
MIN_OVERLAP_S = 0.0015


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One kind of sharing between two parts of a split.

    Attributes:
        kind: One of `KINDS`.
        parts: The two parts, such as ("train", "test").
        n_shared: Groups or files that both parts have; for other kinds pairs of rows, or rows.
        n_rows: Rows of the second part concerned.
        n_of: Rows of the second part.
        examples: Group or file names, or pairs of utterance ids (first part's first), up to five.
    """

    kind: str
    parts: tuple[str, str]
    n_shared: int
    n_rows: int
    n_of: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LeakageReport:
    """What the parts of one split share.

    Attributes:
        dataset, label, split, fold: Which split.
        leaks: By pair of parts as in `PAIRS`, then by kind; empty if nothing is shared.
        notes: What was compared how, and what was not.
        complete: False where audio that could have been compared was not at hand.
    """

    dataset: str
    label: str
    split: str
    fold: int
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...] = ()
    complete: bool = True

    def to_json(self) -> dict[str, Any]:
        """As kept in ``_run.json`` beside the split's description."""
        return {
            "leaks": [asdict(leak) for leak in self.leaks],
            "notes": list(self.notes),
            "complete": self.complete,
        }


def find_leaks(table: pd.DataFrame, split: Split, near: IntArray) -> tuple[Leak, ...]:
    """What the parts of a split share.

    Args:
        table: Columns ``utterance_id, path, start_s, end_s, duration_s, channel, group, audio_hash``
            of the rows that were split, in their order.
        split: Positions in `table`.
        near: Pairs of positions in `table` that sound alike `[m, 2]`.
    """
    part = split.part_of_rows(len(table))
    names = table["utterance_id"].to_numpy(dtype=object)
    files = table["path"].astype(object).map(os.path.normpath).to_numpy(dtype=object)
    hashes = table["audio_hash"].to_numpy(dtype=object)
    leaks: list[Leak] = []
    for parts in PAIRS:
        a, b = (np.flatnonzero(part == p) for p in parts)
        leaks += _of_names("group", parts, table["group"].to_numpy(dtype=object), a, b)
        leaks += _of_names("file", parts, files, a, b)
        overlapping = list(_overlapping(table, files, a, b))
        leaks += _of_rows("overlap", parts, overlapping, names, len(b))
        leaks += _of_rows("identical", parts, _identical(hashes, a, b), names, len(b))
        # Stretches that overlap are alike by right, and told of already.
        lapping = set(overlapping)
        alike = (pair for pair in _alike(near, part, parts, hashes) if pair not in lapping)
        leaks += _of_rows("similar", parts, alike, names, len(b))
    return tuple(leaks)


def _of_names(
    kind: str, parts: tuple[str, str], values: np.ndarray, a: IntArray, b: IntArray
) -> Iterator[Leak]:
    shared = (set(values[a]) & set(values[b])) - {""}
    if shared:
        n = sum(v in shared for v in values[b])
        examples = tuple(sorted(map(str, shared))[:MAX_EXAMPLES])
        yield Leak(kind=kind, parts=parts, n_shared=len(shared), n_rows=n, n_of=len(b), examples=examples)


def _of_rows(
    kind: str, parts: tuple[str, str], pairs: Iterable[tuple[int, int]], names: np.ndarray, n_of: int
) -> Iterator[Leak]:
    found = sorted(pairs, key=lambda p: (str(names[p[1]]), str(names[p[0]])))
    if found:
        yield Leak(
            kind=kind,
            parts=parts,
            n_shared=len(found),
            n_rows=len({j for _, j in found}),
            n_of=n_of,
            examples=tuple(f"{names[i]} = {names[j]}" for i, j in found[:MAX_EXAMPLES]),
        )


def _identical(hashes: np.ndarray, a: IntArray, b: IntArray) -> Iterator[tuple[int, int]]:
    """Each row of `b` with the first row of `a` that has the same audio."""
    first = {hashes[i]: int(i) for i in a[::-1] if hashes[i]}
    return ((first[hashes[j]], int(j)) for j in b if hashes[j] in first)


def _alike(
    near: IntArray, part: np.ndarray, parts: tuple[str, str], hashes: np.ndarray
) -> Iterator[tuple[int, int]]:
    for i, j in near.tolist():
        if hashes[i] == hashes[j] and hashes[i]:
            continue  # told of as identical
        if (part[i], part[j]) == parts:
            yield i, j
        elif (part[j], part[i]) == parts:
            yield j, i


def _overlapping(
    table: pd.DataFrame, files: np.ndarray, a: IntArray, b: IntArray
) -> Iterator[tuple[int, int]]:
    """Each row of `b` with one row of `a` that covers part of the same stretch."""
    start = table["start_s"].fillna(0.0).to_numpy(dtype=float)
    end = table["end_s"].to_numpy(dtype=float)
    end = np.where(np.isnan(end), start + table["duration_s"].to_numpy(dtype=float), end)
    channel = table["channel"].to_numpy(dtype=float, na_value=np.nan)
    by_file: dict[str, list[int]] = {}
    wanted = set(files[b])
    for i in a:
        if files[i] in wanted:
            by_file.setdefault(files[i], []).append(int(i))
    of_file: dict[str, list[int]] = {}
    for j in b:
        if files[j] in by_file:
            of_file.setdefault(files[j], []).append(int(j))
    for file, later in of_file.items():
        rows = np.array(by_file[file])
        for c in sorted({channel[j] for j in later}, key=str):
            # No channel means all channels.
            one = rows if np.isnan(c) else rows[np.isnan(channel[rows]) | (channel[rows] == c)]
            one = one[np.argsort(start[one], kind="stable")]
            if not len(one):
                continue
            # Of the rows that start before `stop`, the one that reaches farthest decides.
            reach = np.maximum.accumulate(end[one])
            farthest = np.maximum.accumulate(np.where(end[one] == reach, np.arange(len(one)), 0))
            for j in later:
                if channel[j] == c or (np.isnan(c) and np.isnan(channel[j])):
                    n = int(np.searchsorted(start[one], end[j] - MIN_OVERLAP_S, side="left"))
                    if n and reach[n - 1] > start[j] + MIN_OVERLAP_S:
                        yield int(one[farthest[n - 1]]), j


_WORDS = {
    "group": "{rows} of a group that {first} has too ({shared})",
    "file": "{rows} from a file that {first} has too ({shared})",
    "overlap": "{rows} overlap a stretch that is in {first}",
    "identical": "{rows} are the same audio as one in {first}, under another name",
    "similar": "{rows} are near-identical to one in {first} or hold its samples, also under another coding",
}


def sentences(reports: Sequence[LeakageReport]) -> list[str]:
    """One line per split and kind of leak, folds together, worst first within a split."""
    lines = []
    groups: dict[tuple[str, str, str], list[LeakageReport]] = {}
    for report in reports:
        groups.setdefault((report.dataset, report.label, report.split), []).append(report)
    for (dataset, label, split), of_split in groups.items():
        folds = len({r.fold for r in of_split})
        # The splits of a nested one are more than its test folds.
        name = "split" if parse_split(split).n_inner > 1 else "fold"
        for parts in PAIRS:
            for kind in KINDS:
                found = [
                    (r.fold, leak)
                    for r in of_split
                    for leak in r.leaks
                    if leak.kind == kind and tuple(leak.parts) == parts
                ]
                if found:
                    lines.append(f"{label} · {dataset} · split: {split}: {_sentence(found, folds, name)}")
    return lines


def _sentence(found: Sequence[tuple[int, Leak]], n_folds: int, name: str) -> str:
    fold, leak = max(found, key=lambda item: (item[1].n_rows / item[1].n_of, -item[0]))
    first, second = leak.parts
    noun = {"group": "group", "file": "file"}.get(leak.kind, "pair")
    text = _WORDS[leak.kind].format(
        rows=f"{leak.n_rows:,} of {leak.n_of:,} {second} clips",
        first=first,
        shared=f"{leak.n_shared:,} {noun}{'s' * (leak.n_shared != 1)}",
    )
    folds = len({f for f, _ in found})
    worst = f" in {name} {fold}, the worst of {folds} with this leak ({n_folds} {name}s)"
    where = worst if n_folds > 1 else ""
    return f"{text}{where}, such as {', '.join(leak.examples[:2])}."
