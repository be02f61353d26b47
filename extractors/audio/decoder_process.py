"""What a decoder process does: clips asked for over a socket, answered with files that the asker maps.

It imports neither PyTorch nor pandas: it computes some 0.4 s before its first clip, and holds some 60 MB. It
ends when its socket does, however the process at the other end came to its end.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from operator import attrgetter
from typing import Any

import numpy as np

from extractors.audio.policy import AudioPolicy
from extractors.audio.spill import mapped, nameless
from extractors.audio.waveform import ClipByPolicy, PreparedClip, load_together
from featurestore.apart.socket_process import answering, ready
from featurestore.arrays import FloatArray
from featurestore.audio.decoder_noise import hush_decoders
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError
from featurestore.manifest.location import Location

HUSHED = "hushed"
_FACTS = tuple(field.name for field in fields(PreparedClip) if field.name != "samples")
_facts_of = attrgetter(*_FACTS)


@dataclass(frozen=True)
class SentClip:
    """A clip on its way: its samples are those from `first` to before `stop` of file number `file`."""

    file: int
    first: int
    stop: int
    facts: tuple[Any, ...]


# Of every utterance, its clip under every policy asked for, or why there is none.
Answer = list[list["SentClip | str"]]


def serve() -> None:
    """Answer what comes over the socket whose descriptor is the first argument, until it is closed.

    A second argument, `HUSHED`, keeps decoders from writing to standard error themselves.
    """
    connection, options = answering()
    if HUSHED in options:
        hush_decoders()
    with Recordings() as recordings:
        ready(connection)
        while True:
            try:
                places, policies = connection.recv()
            except EOFError:
                return
            _answer(connection, places, policies, recordings)


def _answer(
    connection: Connection,
    places: Sequence[Location],
    policies: Sequence[AudioPolicy],
    recordings: Recordings,
) -> None:
    files = _Files()
    try:
        try:
            found = load_together(places, policies, recordings, room=files.room)
            answer = files.filled(found, policies)
        except Exception as error:
            error.add_note(f"in a decoder process:\n{traceback.format_exc()}")
            connection.send((error, 0))
            return
        connection.send((answer, len(files.descriptors)))
        for descriptor in files.descriptors:
            send_handle(connection, descriptor, None)
    finally:
        files.close()


class _Files:
    """The files of one answer: one for all clips together, and one for each that is too long to be copied."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self._file_at: dict[int, int] = {}  # where the samples of a long clip begin in memory → its file

    def room(self, shape: tuple[int, ...]) -> np.ndarray:
        """As `extractors.audio.spill.scratch`, in a file that is handed on."""
        descriptor = nameless(4 * math.prod(shape))
        self.descriptors.append(descriptor)
        array = mapped(descriptor).reshape(shape)
        self._file_at[_address(array)] = len(self.descriptors) - 1
        return array

    def filled(self, found: Sequence[ClipByPolicy], policies: Sequence[AudioPolicy]) -> Answer:
        """What to answer, with all samples in files."""
        clips = [clip for by_policy in found for clip in by_policy.values() if isinstance(clip, PreparedClip)]
        # Samples that policies have in common are sent once.
        short = {id(c.samples): c.samples for c in clips if _address(c.samples) not in self._file_at}
        together = len(self.descriptors)
        ends = np.cumsum([0, *map(len, short.values())])
        if short:
            n_bytes = 4 * int(ends[-1])
            self.descriptors.append(nameless(n_bytes, in_memory_bytes=n_bytes))
            np.concatenate(list(short.values()), out=mapped(self.descriptors[-1]))
        first_of = dict(zip(short, ends[:-1].tolist(), strict=True))

        def sent(clip: PreparedClip | AudioError) -> SentClip | str:
            if isinstance(clip, AudioError):
                return str(clip)
            n, first = len(clip.samples), first_of.get(id(clip.samples))
            if first is None:
                return SentClip(self._file_at[_address(clip.samples)], 0, n, _facts_of(clip))
            return SentClip(together, first, first + n, _facts_of(clip))

        return [[sent(by_policy[policy]) for policy in policies] for by_policy in found]

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def receive(connection: Connection, policies: Sequence[AudioPolicy]) -> list[ClipByPolicy] | Exception:
    """The answer to what was asked, or what the decoder raised.

    Samples are views of the files that came; a file goes when its last clip does.

    Args:
        connection: to a decoder process.
        policies: those that were asked for.

    Raises:
        EOFError, OSError: the process is no longer there.
    """
    answer, n_files = connection.recv()
    if isinstance(answer, Exception):
        return answer
    files = [_received(connection) for _ in range(n_files)]

    def clip(sent: SentClip | str) -> PreparedClip | AudioError:
        if isinstance(sent, str):
            return AudioError(sent)
        samples = files[sent.file][sent.first : sent.stop]
        return PreparedClip(samples=samples, **dict(zip(_FACTS, sent.facts, strict=True)))

    return [{p: clip(sent) for p, sent in zip(policies, row, strict=True)} for row in answer]


def _received(connection: Connection) -> FloatArray:
    descriptor = recv_handle(connection)
    try:
        return mapped(descriptor)
    finally:
        os.close(descriptor)
