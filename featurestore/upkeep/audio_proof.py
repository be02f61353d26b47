"""Prove from the audio that rows hold what their ids stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from featurestore.audio.segment import AudioError
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.audio_places import Places
from featurestore.store.reader import Features
from featurestore.store.sound_identity import Sounds

# Rows hashed before a progress bar moves.
STEP_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class AudioProof:
    """What the audio of a key says.

    Attributes:
        n_proved: rows whose samples have the hash of what was embedded.
        other: one line for every row whose samples have another.
        unproved: one line for every row that could not be compared: its audio is not at hand or cannot be
            read, or its hash was never recorded.
        n_failed: rows without an embedding, which stand for no sound.
    """

    n_proved: int
    other: list[str]
    unproved: list[str]
    n_failed: int


def prove_audio(features: Features, sounds: Sounds, on_step: Callable[[], None] | None = None) -> AudioProof:
    """Decode what every committed row is listed as, and compare its hash with that of what was embedded.

    Args:
        features: the key.
        sounds: hashes audio.
        on_step: called after every `STEP_ROWS` rows, for progress.

    Raises:
        CorruptData: the manifest lists a row at a place that was never compared; `fs verify` says which.
    """
    index = features.index
    is_ok = (index["status"] == STATUS_OK).to_numpy()
    table = index[is_ok]
    places = Places.of_table(table)
    ids = table["utterance_id"].tolist()
    recorded = table["audio_hash"].tolist()
    proved, other, unproved = 0, [], []
    for start in range(0, len(ids), STEP_ROWS):
        step = slice(start, start + STEP_ROWS)
        for i, heard in enumerate(sounds.hashes(places[step], ids[step]), start):
            if isinstance(heard, AudioError):
                unproved.append(f"{ids[i]!r}: {places.text(i)}: {heard}")
            elif not recorded[i]:
                unproved.append(f"{ids[i]!r}: the hash of what was embedded is not recorded")
            elif heard != recorded[i]:
                other.append(f"{ids[i]!r}: {places.text(i)} is other audio than was embedded")
            else:
                proved += 1
        if on_step:
            on_step()
    return AudioProof(n_proved=proved, other=other, unproved=unproved, n_failed=int(np.count_nonzero(~is_ok)))
