"""The run itself: decode → batches → hidden states → functionals → committed units.

Decoding runs in threads ahead of the model, writing in a thread behind it. What is held at any time is
bounded by a few batches and two units, whatever the size of the corpus.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd

from extractors.audio import AudioError, AudioPolicy, Clip, load_clip
from extractors.base import Extractor
from extractors.batching import cut_batches
from extractors.changes import locations
from extractors.config import ExtractConfig
from extractors.embedding import Embedder
from extractors.request import VERSIONED_PACKAGES
from extractors.results import Progress, UnitResult
from featurestore.claims import WAITING, Claims, Heartbeat, work_through
from featurestore.plan import Unit
from featurestore.writer import KeyWriter, package_versions

# Padded seconds of audio per batch: enough to keep the device busy, little enough to fit it.
BATCH_SECONDS = {"cpu": 30.0, "cuda": 300.0}
MAX_BATCH_CLIPS = 256


@dataclass(frozen=True)
class _Batch:
    """Neighbouring rows of one unit whose clips are embedded together."""

    unit: Unit
    rows: range  # positions within the unit
    is_last: bool


class Run:
    """Embeds units of one key; its counts say afterwards what was done."""

    def __init__(
        self,
        *,
        config: ExtractConfig,
        policy: AudioPolicy,
        layers: list[int],
        writer: KeyWriter,
        table: pd.DataFrame,
        device: str,
    ) -> None:
        self.config = config
        self.policy = policy
        self.layers = layers
        self.writer = writer
        # Plain dicts: rows are looked up one by one in decoding threads.
        self._where = locations(table)
        self._planned: dict[str, float] = dict(zip(table.index, table["planned_s"], strict=True))
        self._total = 0
        self.device = device
        self.failed: dict[str, str] = {}
        self.audio_s = 0.0
        self.n_bytes = 0
        self.elapsed_s = 0.0
        self.n_clips = 0
        self.n_done_by_others = 0
        self.claims = Claims(writer.storage, writer.info.path)
        self.versions = {**package_versions(VERSIONED_PACKAGES), "device": device}

    def embed(
        self,
        extractor: Extractor,
        units: Sequence[Unit],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        """Embed and commit these units, together with whoever else works on them."""
        began = time.perf_counter()
        embedder = Embedder(extractor, self.layers, self.writer.info.functionals)
        writes: deque[Future[int]] = deque()
        result: UnitResult | None = None
        self._total = sum(u.n_rows for u in units)
        claimed = work_through(
            self.claims,
            units,
            lambda unit: self.writer.is_committed(unit, self.layers),
            self._count_as_done_by_others,
        )
        with (
            ThreadPoolExecutor(self.config.workers) as decoders,
            ThreadPoolExecutor(1) as writing,
            Heartbeat(self.claims),
        ):
            try:
                for step in self._decoded(extractor, claimed, decoders):
                    if step is WAITING:
                        while writes:
                            self.n_bytes += writes.popleft().result()
                        continue
                    batch, clips = step
                    result = result or self._begin(extractor, batch.unit)
                    self.audio_s += embedder.embed(batch.rows, clips, result)
                    self.n_clips += len(batch.rows)
                    if on_progress:
                        on_progress(self._progress())
                    if batch.is_last:
                        # At most one unit is being written while the next is computed.
                        while writes:
                            self.n_bytes += writes.popleft().result()
                        writes.append(writing.submit(self._write, result))
                        result = None
                while writes:
                    self.n_bytes += writes.popleft().result()
            finally:
                decoders.shutdown(wait=False, cancel_futures=True)
                self.claims.release_all()
        self.elapsed_s = time.perf_counter() - began

    def _begin(self, extractor: Extractor, unit: Unit) -> UnitResult:
        info = self.writer.info
        return UnitResult(
            unit,
            self.writer.ids[unit.first_row : unit.stop_row].tolist(),
            self.layers,
            n_functionals=len(info.functionals),
            n_features=extractor.card.n_features,
            frames=info.frames,
            failed=self.failed,
        )

    def _progress(self) -> Progress:
        return Progress(
            clips_done=self.n_clips,
            clips_total=self._total,
            failed=len(self.failed),
            audio_s=self.audio_s,
        )

    def _count_as_done_by_others(self, unit: Unit) -> None:
        self.n_done_by_others += 1
        self._total -= unit.n_rows

    def _decoded(
        self, extractor: Extractor, units: Iterator[Unit | None], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[_Batch, list[Clip | AudioError | None]] | None]:
        """Batches with their clips; decoding runs two batches ahead."""
        waiting: deque[tuple[_Batch, list[Future[Clip | AudioError | None]]]] = deque()
        for unit in units:
            if unit is WAITING:
                while waiting:
                    ready, clips = waiting.popleft()
                    yield ready, [f.result() for f in clips]
                yield WAITING
                continue
            for batch in self._batches(extractor, unit):
                first = unit.first_row
                ids = self.writer.ids[first + batch.rows.start : first + batch.rows.stop]
                waiting.append((batch, [pool.submit(self._load, str(i)) for i in ids]))
                if len(waiting) > 2:
                    ready, clips = waiting.popleft()
                    yield ready, [f.result() for f in clips]
        while waiting:
            ready, clips = waiting.popleft()
            yield ready, [f.result() for f in clips]

    def _batches(self, extractor: Extractor, unit: Unit) -> Iterator[_Batch]:
        card = extractor.card
        kind = self.device.partition(":")[0]
        budget = round((self.config.batch_seconds or BATCH_SECONDS[kind]) * card.sample_rate_hz)
        if card.fixed_samples:
            # Every clip costs a full window: count windows, at least four at a time.
            budget = max(budget, 4 * card.fixed_samples)
        planned = self._planned
        ids = self.writer.ids[unit.first_row : unit.stop_row]
        lengths = [self.policy.model_samples(planned.get(str(i), float("nan"))) for i in ids]
        cuts = cut_batches(
            lengths, budget_samples=budget, max_clips=MAX_BATCH_CLIPS, fixed_samples=card.fixed_samples
        )
        for i, rows in enumerate(cuts):
            yield _Batch(unit, rows, i == len(cuts) - 1)

    def _load(self, utterance: str) -> Clip | AudioError | None:
        """The clip, why it cannot be used, or None for a row without an utterance."""
        if not utterance:
            return None
        try:
            return load_clip(*self._where[utterance], self.policy)
        except AudioError as error:
            return error

    def _write(self, result: UnitResult) -> int:
        result.close()
        record = self.writer.write_unit(
            result.unit,
            sorted(result.values.items()),
            result.rows(),
            audio_s=result.audio_s,
            elapsed_s=time.perf_counter() - result.began,
            versions=self.versions,
        )
        self.claims.release(result.unit.index)
        return sum(o.n_bytes for o in record.objects.values())
