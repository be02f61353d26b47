"""Decoding ahead of the models, once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from extractors.audio.waveform import AudioPolicy, ClipByPolicy, load_clips
from featurestore.manifest.audio_places import Location


class SharedClips:
    """Clips of one unit, each decoded once however many models want it.

    A clip is let go when every model has asked for it; models that go through a unit side by side hold
    a few batches, not the unit.

    Args:
        pool: where decoding runs.
        where: row of the unit → its audio, or None for a row without an utterance.
        policies: one for each model.
    """

    def __init__(
        self, pool: Executor, where: Callable[[int], Location | None], policies: Sequence[AudioPolicy]
    ) -> None:
        self._pool = pool
        self._where = where
        self._policies = tuple(policies)
        self._ahead: dict[int, tuple[Future[ClipByPolicy], int]] = {}  # row → clip, models still to ask

    def request(self, rows: Sequence[int]) -> list[Future[ClipByPolicy] | None]:
        """Start decoding for one of the models, or join what another has started."""
        return [self._one(row) for row in rows]

    def _one(self, row: int) -> Future[ClipByPolicy] | None:
        where = self._where(row)
        if where is None:
            return None
        future, left = self._ahead.pop(row, (None, len(self._policies)))
        if future is None:
            future = self._pool.submit(load_clips, *where, self._policies)
        if left > 1:
            self._ahead[row] = (future, left - 1)
        return future
