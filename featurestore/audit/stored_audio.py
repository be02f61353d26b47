"""The manifest against a key: clips whose samples are others now, and clips that the key does not hold.

Compared are the channels that were embedded: a key made with ``--channel 0`` or ``each`` holds other samples
than the mean of all channels, which an audit listens to where the manifest names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurestore.audio.blocks import SoundError, mono_blocks
from featurestore.audio.segment import SampleHash
from featurestore.audit.findings import Example, Finding, listed
from featurestore.audit.measurements import in_threads
from featurestore.manifest.audio_places import MIX, Places
from featurestore.manifest.channels import with_channels
from featurestore.manifest.location import Location
from featurestore.manifest.table import Manifest
from featurestore.printable import counted

if TYPE_CHECKING:
    from featurestore.store.reader import Features

HASH_EXAMPLE = "other samples now"
# Place of a row in the manifest that was audited; no label can be called so.
_PLACE = "\0place"


def against_store(
    features: Features, manifest: Manifest, measured: pd.DataFrame, workers: int
) -> list[Finding]:
    """Findings about clips that were embedded from other samples, and about clips that were not.

    Args:
        features: The key.
        manifest: What is audited.
        measured: Of each of its rows: ``audio_hash, error, rate_hz, n_channels``.
        workers: Threads that decode.
    """
    rows = _as_embedded(features, manifest, measured)
    stored = features.index.set_index("utterance_id")["audio_hash"]
    held = rows["utterance_id"].isin(stored.index).to_numpy()
    return [
        *_changed(rows[held], stored, _hashes(rows[held], manifest, measured, workers)),
        *_lacking(rows[~held], stored.index),
    ]


def _as_embedded(features: Features, manifest: Manifest, measured: pd.DataFrame) -> pd.DataFrame:
    """The rows that `fs extract` would make of the manifest for this key, with their place in it."""
    placed = Manifest(
        table=manifest.table.assign(**{_PLACE: np.arange(len(manifest))}), source=manifest.source
    )
    choice = features.info.model_card.get("given", {"channel": None}).get("channel", "mix")
    if choice is None:  # imported, or made by an early version: only the stored rows tell
        was = features.manifest.table.set_index("utterance_id")["channel"]
        channel = placed.table["channel"].fillna(placed.table["utterance_id"].map(was).astype("Int64"))
        return placed.table.assign(channel=channel)
    counts = dict(zip(measured["path"], measured["n_channels"], strict=True))
    return with_channels(placed, choice, counts).table


def _hashes(rows: pd.DataFrame, manifest: Manifest, measured: pd.DataFrame, workers: int) -> Sequence[str]:
    """The hash of the samples of each row, "" where they cannot be read; decoded where not known yet."""
    place = rows[_PLACE].to_numpy()
    found = measured["audio_hash"].to_numpy(dtype=object)[place]
    rate = measured["rate_hz"].to_numpy()[place]
    wanted, heard = Places.of_table(rows), Places.of_table(manifest.table)
    other = np.flatnonzero((wanted.channel != heard.channel[place]) & (wanted.channel != MIX))

    def decode(i: int) -> str:
        return _hash(wanted.location(i), int(rate[i]))

    for i, text in zip(other, in_threads(decode, other.tolist(), workers), strict=True):
        found[i] = text
    return list(found)


def _hash(place: Location, rate_hz: int) -> str:
    if rate_hz == 0:
        return ""
    found = SampleHash(rate_hz)
    try:
        for block in mono_blocks(*place):
            found.add(block)
    except (SoundError, OSError):
        return ""
    return found.text


def _changed(rows: pd.DataFrame, stored: pd.Series, now: Sequence[str]) -> list[Finding]:
    pairs = zip(rows["utterance_id"], now, stored[rows["utterance_id"]], strict=True)
    differ = [i for i, a, b in pairs if a and b and a != b]
    text = (
        f"{counted(len(differ), 'clip')} {'has' if len(differ) == 1 else 'have'} other audio now than when "
        "embedded; `fs extract --refresh` embeds again."
    )
    return listed("changed-audio", "fault", text, (Example(name=str(i), detail=HASH_EXAMPLE) for i in differ))


def _lacking(rows: pd.DataFrame, stored: pd.Index) -> list[Finding]:
    # A file that is not there now does not say how many channels it had.
    lacking = [i for i in rows["utterance_id"] if f"{i}#0" not in stored]
    verb = "is" if len(lacking) == 1 else "are"
    text = f"{counted(len(lacking), 'clip')} of the manifest {verb} not in the store."
    return listed("not-embedded", "note", text, (Example(name=str(i)) for i in lacking))
