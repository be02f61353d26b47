"""Decoding ahead of the models, once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from extractors.audio import AudioError, AudioPolicy, Clip, hash_samples, prepare, read_samples
from extractors.changes import Location

# A clip as each policy has it, or why it cannot be used.
Prepared = dict[AudioPolicy, "Clip | AudioError"]


def load_prepared(where: Location, policies: Sequence[AudioPolicy]) -> Prepared:
    """Decode one utterance once and prepare it under every policy."""
    try:
        samples, rate = read_samples(*where)
    except AudioError as error:
        return dict.fromkeys(policies, error)
    audio_hash = hash_samples(samples, rate)
    out: Prepared = {}
    for policy in policies:
        if policy in out:
            continue
        try:
            prepared = prepare(samples, rate, policy)
        except AudioError as error:
            out[policy] = error
        else:
            out[policy] = Clip(samples=prepared, duration_s=len(samples) / rate, audio_hash=audio_hash)
    return out


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
        self._ahead: dict[int, tuple[Future[Prepared], int]] = {}  # row → clip, models still to ask

    def request(self, rows: Sequence[int]) -> list[Future[Prepared] | None]:
        """Start decoding for one of the models, or join what another has started."""
        return [self._one(row) for row in rows]

    def _one(self, row: int) -> Future[Prepared] | None:
        where = self._where(row)
        if where is None:
            return None
        future, left = self._ahead.pop(row, (None, len(self._policies)))
        if future is None:
            future = self._pool.submit(load_prepared, where, self._policies)
        if left > 1:
            self._ahead[row] = (future, left - 1)
        return future
