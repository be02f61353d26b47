"""Whether what comes under an utterance id is the sound that was embedded under it.

An id in a key is bound to what was embedded: the ledger's record of a row says which file, stretch and
channel that was, how the file looked, and the hash of the decoded samples. The manifest stored with the key
lists where each row is *now*: at the place that its record names, or at another where the same samples were
found, which `Manifest.found_audio` vouches for.

`compare` says how an incoming manifest stands to that, before anything is written. It decodes nothing where
places are equal and files unchanged by size and time; anything else is hashed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.archives.names import reading_order
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError, hash_clip
from featurestore.errors import CorruptData, OtherAudio
from featurestore.format.row_arrays import ID_ARRAY, STATUS_OK
from featurestore.manifest.audio_places import Found, Places
from featurestore.manifest.location import Location
from featurestore.manifest.table import Manifest
from featurestore.printable import counted
from featurestore.store.reader import Features

Mask = npt.NDArray[np.bool_]
Planned = tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]
# Examples of an error; one line has no room for more.
SHOWN_IDS = 2


@dataclass(kw_only=True)
class Sounds:
    """Hashes of the audio at places; each is decoded once, however many models ask.

    Attributes:
        n_threads: that decode.
        imported: utterance id → hash, for values that come from a file with hashes and not from audio.
    """

    n_threads: int = 1
    imported: Mapping[str, str] = field(default_factory=dict)
    _known: dict[Location, str | AudioError] = field(default_factory=dict)

    def hashes(self, places: Places, ids: Sequence[str]) -> list[str | AudioError]:
        """The hash of each row `[n]`, or why it has none."""
        where = [None if name in self.imported else places.location(i) for i, name in enumerate(ids)]
        # A file's stretches one after the other: a decoder that seeks forward only is the quickest.
        wanted = sorted({w for w in where if w is not None} - self._known.keys(), key=_in_file_order)
        with Recordings() as recordings, ThreadPoolExecutor(self.n_threads) as pool:
            found = pool.map(lambda w: _hash(w, recordings), wanted)
            self._known |= dict(zip(wanted, found, strict=True))
        return [
            self.imported[name] if w is None else self._known[w] for w, name in zip(where, ids, strict=True)
        ]


def _in_file_order(where: Location) -> tuple[tuple[str, int, str], float]:
    return reading_order(where[0]), where[1]


def _hash(where: Location, recordings: Recordings) -> str | AudioError:
    try:
        return hash_clip(*where, recordings)
    except AudioError as error:
        return error


@dataclass(frozen=True, kw_only=True)
class Other:
    """Committed rows `[n]` that do not hold what the incoming manifest has under their ids.

    Attributes:
        ids: of these rows.
        rows: in the arrays of the key.
        bound: what each was embedded from.
        now: where the incoming manifest has it.
        why: one clause for each.
        is_lost: its audio cannot be read now.
        is_elsewhere: the incoming place is another than that of the embedding.
    """

    ids: npt.NDArray[np.object_]
    rows: npt.NDArray[np.int64]
    bound: Places
    now: Places
    why: npt.NDArray[np.object_]
    is_lost: Mask
    is_elsewhere: Mask

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, mask: Mask) -> Other:
        """The rows where `mask` is set."""
        return Other(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    def text(self, i: int) -> str:
        """``'a': /x/a.wav 0-1 s, now /y/a.wav 0-1 s (other audio)``."""
        if self.is_elsewhere[i]:
            return f"{self.ids[i]!r}: {self.bound.text(i)}, now {self.now.text(i)} ({self.why[i]})"
        return f"{self.ids[i]!r}: {self.now.text(i)} ({self.why[i]})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How an incoming manifest stands to a key.

    Attributes:
        manifest: the incoming one, with `found_audio` of rows that are not where they were embedded from.
        other: what is not the same.
        absent: ids whose audio is not at hand, in files of the same name elsewhere, with the same times and
            channel, which were to be taken for the same.
        notes: a line on each kind of row that was accepted after a look at its audio.
    """

    manifest: Manifest
    other: Other
    absent: list[str]
    notes: list[str]

    def require_same(self, key: str, ways_out: str) -> None:
        """Refuse other audio.

        Args:
            key: ``model/dataset``, for the message.
            ways_out: end of the message.

        Raises:
            OtherAudio: one line with the first ids, both places, and what to do.
        """
        other = self.other
        if not len(other):
            return
        shown = "; ".join(other.text(i) for i in range(min(SHOWN_IDS, len(other))))
        more = f"; and {len(other) - SHOWN_IDS:,} more" if len(other) > SHOWN_IDS else ""
        raise OtherAudio(
            f"{self.manifest.source}: {counted(len(other), 'utterance')} of {key} would stand for other "
            f"audio than was embedded: {shown}{more}; nothing was changed; {self._on_ids()}{ways_out}"
        )

    def _on_ids(self) -> str:
        """The usual cause: two folders of recorder files with the same names, which their ids repeat."""
        bound, now = self.other.bound, self.other.now
        for i, name in enumerate(self.other.ids):
            (was, before), (is_in, file) = os.path.split(bound.path[i]), os.path.split(now.path[i])
            if before == file and was != is_in and os.path.splitext(file)[0] in name:
                return (
                    f"both folders have a {file}, and ids were made of file names: give a column "
                    "utterance_id with ids of your own, or make one manifest of the folder above both; "
                )
        return ""


def compare(
    features: Features,
    manifest: Manifest,
    sounds: Sounds,
    *,
    look_at_all: bool = False,
    without_audio: bool = False,
    planned: Planned | None = None,
    fails_alike: Callable[[Location, str], bool] | None = None,
) -> Comparison:
    """Compare what comes with what a key holds under the same ids; nothing is written.

    Args:
        features: the key.
        manifest: what comes.
        sounds: hashes audio.
        look_at_all: look at every clip, whatever size and time of its file say.
        without_audio: take a file that is not at hand for the same where its name, times and channel are.
        planned: rows of this manifest in the order of a plan, and their ids; where the key holds just these,
            its rows need not be looked for.
        fails_alike: of a clip that failed: whether the audio at a place fails with this status too. None:
            clips that failed hold nothing that could be mixed up, and are taken as they come.
    """
    rows = _Rows(features, manifest, planned)
    trusted, found = rows.trusted(features)
    taken = rows.moved_out_of_reach() & ~trusted if without_audio else np.zeros(len(rows.ids), dtype=bool)
    look = np.flatnonzero((~trusted | look_at_all) & ~taken)
    why, lost = rows.objections(look, sounds, fails_alike)
    accepted = [int(i) for i in look if i not in why and not trusted[i]]
    for i in accepted:
        found[rows.ids[i]] = str(Found(rows.hashes[i], int(rows.now.n_bytes[i]), int(rows.now.mtime_ns[i])))
    at = np.array(sorted(why), dtype=np.int64)
    for i in at:
        found.pop(rows.ids[i], None)
    other = Other(
        ids=rows.ids[at],
        rows=rows.rows[at],
        bound=rows.bound[at],
        now=rows.now[at],
        why=np.array([why[int(i)] for i in at], dtype=object),
        is_lost=np.array([int(i) in lost for i in at], dtype=bool),
        is_elsewhere=~rows.stays[at],
    )
    return Comparison(
        manifest=replace(manifest, found_audio=found),
        other=other,
        absent=list(rows.ids[taken]),
        notes=rows.notes_on(accepted),
    )


class _Rows:
    """Committed rows `[n]` that the incoming manifest has too."""

    def __init__(self, features: Features, manifest: Manifest, planned: Planned | None) -> None:
        facts = features.fact_columns
        ids = facts[ID_ARRAY]
        if planned is not None and np.array_equal(planned[1], ids):
            at = planned[0]
        else:
            at = positions(manifest.table, ids)
        there = slice(None) if (at >= 0).all() else np.flatnonzero(at >= 0)
        self.ids = ids[there]
        self.rows = facts["row"][there]
        self.status = facts["status"][there]
        self.ok = np.asarray(self.status == STATUS_OK, dtype=bool)
        self.hashes = facts["audio_hash"][there]
        self.bound = features.bound_places[there]
        self.now = Places.of_table(manifest.table, look_at_files=True)[at[there]]
        # At the place of the embedding, or where it was listed before.
        self.stays = self.bound.same_stretch(self.now)

    def objections(
        self,
        look: npt.NDArray[np.int64],
        sounds: Sounds,
        fails_alike: Callable[[Location, str], bool] | None,
    ) -> tuple[dict[int, str], set[int]]:
        """What the audio of these rows says against them, and those whose audio cannot be read."""
        why: dict[int, str] = {}
        lost: set[int] = set()
        embedded = look[self.ok[look]]
        heard_of = sounds.hashes(self.now[embedded], list(self.ids[embedded]))
        for i, heard in zip(embedded.tolist(), heard_of, strict=True):
            if isinstance(heard, AudioError):
                why[i] = f"which cannot be compared: {heard}"
                lost.add(i)
            elif not self.hashes[i]:
                why[i] = "what it was embedded from is not recorded"
            elif heard != self.hashes[i]:
                why[i] = "other audio"
        for i in look[~self.ok[look]].tolist():
            if fails_alike is not None and not fails_alike(self.now.location(i), self.status[i]):
                why[i] = "it failed then and can be used now"
        return why, lost

    def moved_out_of_reach(self) -> Mask:
        """Rows whose file is not at hand, and has the name, times and channel of what was embedded."""
        return ~self.now.has_stamp & self.bound.same_but_folder(self.now)

    def trusted(self, features: Features) -> tuple[Mask, dict[str, str]]:
        """Rows that need no look, and what vouches for those that are elsewhere than they were."""
        # A file that is not at hand says nothing against a place that was good; nor does a failed clip.
        unseen = ~self.now.has_stamp | ~self.ok
        trusted = self.stays & (self.bound.same_stamp(self.now) | unseen)
        found: dict[str, str] = {}
        if trusted.all():
            return trusted, found
        listed, vouching = self._listed(features)
        for i in np.flatnonzero(listed.same_stretch(self.now) & ~trusted):
            proof = vouching.get(self.ids[i])
            if proof is None:
                # Nothing is recorded and nothing can be compared: what was listed is listed as before.
                self.stays[i] |= not self.bound.is_known[i]
                trusted[i] = self.stays[i] and (unseen[i] or not self.hashes[i])
            elif proof.audio_hash == self.hashes[i]:
                self.stays[i] = True
                stamp = (int(self.now.n_bytes[i]), int(self.now.mtime_ns[i]))
                trusted[i] = unseen[i] or (proof.n_bytes, proof.mtime_ns) == stamp
                if trusted[i]:
                    found[self.ids[i]] = str(proof)
        return trusted, found

    def _listed(self, features: Features) -> tuple[Places, Mapping[str, Found]]:
        """Where the stored manifest lists the rows, and what it vouches for.

        A damaged manifest does not object to anything.
        """
        try:
            table, vouching = features.manifest.table, features.found_audio
        except CorruptData:
            return self.now, {}
        at = positions(table, self.ids)
        listed = Places.of_table(table)[at] if len(table) else Places.unknown(len(at))
        listed.path[at < 0] = ""
        return listed, vouching

    def notes_on(self, accepted: Sequence[int]) -> list[str]:
        """What a look at these rows has shown."""
        at = np.array(accepted, dtype=np.int64)
        known = self.bound.is_known[at]
        notes = []
        for which, text in (
            (known & ~self.stays[at], "{} elsewhere than when {} embedded, with the same audio"),
            (known & self.stays[at], "{} in files that were written again since, with the same audio"),
            (~known, "{} of which it was not recorded what {} embedded from, now compared with the audio"),
        ):
            if which.any():
                i = int(at[np.flatnonzero(which)[0]])
                n = int(which.sum())
                count = f"{counted(n, 'utterance')} {'are' if n > 1 else 'is'}"
                was = "they were" if n > 1 else "it was"
                moved = (
                    f", {self.bound.text(i)}, now {self.now.text(i)}"
                    if not self.stays[i] and known.any()
                    else ""
                )
                notes.append(f"{text.format(count, was)} (first {self.ids[i]!r}{moved})")
        return notes


def positions(table: pd.DataFrame, ids: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """Row of a manifest's table for each utterance `[n]`; -1 where it has none."""
    # Plain Python: an Index of a million strings takes three times as long.
    row_of = {i: row for row, i in enumerate(table["utterance_id"].to_numpy(dtype=object))}
    return np.fromiter((row_of.get(i, -1) for i in ids), dtype=np.int64, count=len(ids))
