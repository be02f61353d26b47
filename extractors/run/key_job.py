"""The job of one key in one process: which units, by which recipe, and what was done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from extractors.audio.decoders import DecoderChoice, choose_decoders
from extractors.audio.headers import clip_table
from extractors.audio.waveform import PreparedClip, load_clips
from extractors.config import ExtractConfig
from extractors.forward.batching import Budget
from extractors.forward.embedder import ClipBatch, Embedder
from extractors.forward.unit_result import UnitResult
from extractors.models.interface import Extractor
from extractors.models.package_versions import later_note, versions_here
from extractors.run.clip_tally import Heard
from extractors.run.plan import KeyPlan, RunPlan, resolve_device, resolve_devices
from extractors.run.recipe import Recipe
from featurestore.audio.segment import AudioError
from featurestore.backends.storage import open_storage
from featurestore.fingerprint import canonical_json
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.audio_places import Places
from featurestore.manifest.location import Location
from featurestore.manifest.table import PLACE_COLUMNS, Manifest
from featurestore.store.claims import Claims, Work
from featurestore.store.key import KeyInfo
from featurestore.store.plan import Unit, parse_share
from featurestore.store.row_columns import read_ids
from featurestore.store.writer import KeyWriter

# Clips remembered for a check afterwards.
MAX_REMEMBERED = 1024
_TABLE_COLUMNS = [*PLACE_COLUMNS, "model_s"]


@dataclass(frozen=True, kw_only=True)
class KeyPart:
    """Units of one key for another process, which makes a job of them.

    Attributes:
        config: of the run.
        info: the key.
        layers: layers to keep.
        units: what is to be done.
        table: by utterance id: path, start_s, end_s, channel, model_s, of the rows of these units.
        device: torch device, or ``auto`` for what the worker has.
    """

    config: ExtractConfig
    info: KeyInfo
    layers: tuple[int, ...]
    units: tuple[Unit, ...]
    table: pd.DataFrame
    device: str


class KeyJob:
    """Embeds units of one key; its counts say afterwards what was done.

    Args:
        recipe: how values are made.
        layers: layers that are kept.
        writer: of the key.
        table: by utterance id: path, start_s, end_s, channel, model_s; at least of the rows of `units`.
        units: what is to be done.
        device: torch device.
    """

    def __init__(
        self,
        *,
        recipe: Recipe,
        layers: Sequence[int],
        writer: KeyWriter,
        table: pd.DataFrame,
        units: Sequence[Unit],
        device: str,
    ) -> None:
        self.recipe = recipe
        self.config, self.policy, self.long_clips = recipe.config, recipe.policy, recipe.long_clips
        self.layers = list(layers)
        self.writer = writer
        self.path = writer.info.path
        self.units = list(units)
        self.device = device
        self.table = table
        # Plain dicts: rows are looked up one by one.
        self.where: dict[str, Location] = {
            str(i): (str(path), float(start), float(end), None if pd.isna(channel) else int(channel))
            for i, path, start, end, channel in table[list(PLACE_COLUMNS)].itertuples(name=None)
        }
        self.model_s: dict[str, float] = dict(zip(table.index, table["model_s"], strict=True))
        self.claims = Claims(writer.storage, self.path)
        self.versions = {**versions_here(), "device": device}
        self.failed: dict[str, str] = {}
        self.audio_s = 0.0
        self.heard = Heard()
        self.forward_s = 0.0
        self.n_bytes = 0
        self.n_clips = 0
        self.n_units_by_others = 0
        self.n_rows_by_others = 0
        self.remarks: list[str] = []
        self.embedder: Embedder | None = None
        self._sample: list[str] = []
        # Values of the unit that was written last: memory that is in use already costs least to fill.
        self._written: list[dict[int, np.ndarray]] = []

    @classmethod
    def of_plan(cls, plan: KeyPlan, run: RunPlan, writer: KeyWriter, pending: Sequence[Unit]) -> KeyJob:
        """The job of a key that was planned here: this run's share of the units that are to be done."""
        config, policy = plan.recipe.config, plan.recipe.policy
        return cls(
            recipe=plan.recipe,
            layers=plan.request.layers,
            writer=writer,
            table=clip_table(writer.manifest, run.manifest, run.durations, policy, config.n_threads),
            units=parse_share(config.share).of(pending) if config.share else pending,
            device=run.device,
        )

    @classmethod
    def of_part(cls, part: KeyPart, recipe: Recipe) -> KeyJob:
        """The job of units that another process planned."""
        storage = open_storage(part.config.store)
        ids = np.asarray(read_ids(storage, part.info), dtype=object)
        # Only the ids are needed to write units.
        manifest = Manifest(table=part.table, source=part.info.path)
        return cls(
            recipe=recipe,
            layers=part.layers,
            writer=KeyWriter(storage, part.info, ids, manifest),
            table=part.table,
            units=part.units,
            device=resolve_device(part.device),
        )

    def part(self, units: Sequence[Unit], device: str) -> KeyPart:
        """Some of its units, for another process."""
        ids = [i for unit in units for i in self.ids(unit) if i]
        return KeyPart(
            config=self.config,
            info=self.writer.info,
            layers=tuple(self.layers),
            units=tuple(units),
            table=self.table.loc[ids, _TABLE_COLUMNS],
            device=device,
        )

    def load(self, extractor: Extractor, budget: Budget | None = None) -> None:
        """Take the loaded model, and a batch budget found earlier or find one."""
        if budget is None:
            longest = max((n for u in self.units[:1] for n in self.lengths(u)), default=1)
            budget = self.recipe.budget(extractor, self.device, self.layers, longest_samples=longest)
        functionals, precision = self.writer.info.functionals, self.config.precision
        self.embedder = Embedder(extractor, self.layers, functionals, budget, self.long_clips, precision)

    @property
    def decoders(self) -> DecoderChoice:
        """Who decodes for it, and for those that go through their units beside it."""
        config = self.config
        n_devices = 1 if config.cluster else len(resolve_devices(config.device))
        return choose_decoders(config.decode, config.workers, self.device, n_devices)

    @property
    def work(self) -> Work:
        """This key's part in `work_through`."""
        return Work(
            claims=self.claims,
            units=self.units,
            is_committed=lambda unit: self.writer.is_committed(unit, self.layers),
            on_done_by_others=self._count_as_done_by_others,
        )

    def ids(self, unit: Unit) -> list[str]:
        """Utterance id of every row of a unit, "" where there is none."""
        return [str(i) for i in self.writer.ids[unit.first_row : unit.stop_row]]

    def audio_of(self, unit: Unit) -> list[Location | None]:
        """Where the audio of every row of a unit is."""
        return [self.where[i] if i else None for i in self.ids(unit)]

    def clip(self, where: Location) -> PreparedClip | AudioError:
        """The clip of a place, as this key has it."""
        return load_clips(*where, [self.policy])[self.policy]

    def lengths(self, unit: Unit) -> list[int]:
        """Samples that every row of a unit is planned to have."""
        return [self.policy.model_samples(self.model_s.get(i, float("nan"))) for i in self.ids(unit)]

    def batches(self, lengths: Sequence[int]) -> list[range]:
        """Rows of a unit that go through the model together, from their `lengths`."""
        return self.loaded.budget.cut(lengths)

    def begin(self, unit: Unit) -> UnitResult:
        """An empty result for a unit, in the room of one that is written."""
        room = self._written.pop() if self._written else None
        return UnitResult(unit, self.ids(unit), self.layers, self.writer.info, self.failed, room)

    def blank(self, utterance: str) -> UnitResult:
        """An empty result for one utterance, to be compared and not to be written."""
        unit = Unit(index=0, first_row=0, n_rows=1)
        return UnitResult(unit, [utterance], self.layers, replace(self.writer.info, frames=None), {})

    def embed(self, rows: Sequence[int], batch: ClipBatch, result: UnitResult) -> None:
        """Embed a batch into the result of its unit, which has it once the next is embedded; see `settle`."""
        began = time.perf_counter()
        self.audio_s += self.loaded.queue(rows, batch, result)
        self.forward_s += time.perf_counter() - began
        self.n_clips += len(rows)
        self.heard.add(batch.clips, self.policy)

    def settle(self) -> None:
        """Have the last batch in the result of its unit."""
        began = time.perf_counter()
        self.loaded.settle()
        self.forward_s += time.perf_counter() - began

    def write(self, result: UnitResult) -> None:
        """Commit a unit and let it go."""
        result.close()
        unit = result.unit
        record = self.claims.persist(
            unit.index,
            lambda: self.writer.write_unit(
                unit,
                sorted(result.values.items()),
                result.rows(Places.of_locations(self.audio_of(unit))),
                audio_s=result.audio_s,
                elapsed_s=time.perf_counter() - result.began,
                versions=self.versions,
                is_held=lambda: self.claims.holds(unit.index),
            ),
            lambda: self.writer.is_committed(unit, self.layers),
        )
        self.claims.release(unit.index)
        self._written = [result.values]
        if record is None:  # by somebody who took this worker for dead
            return
        self.n_bytes += sum(o.n_bytes for o in record.objects.values())
        embedded = [i for i, s in zip(result.ids, result.status, strict=True) if s == STATUS_OK]
        self._sample = draw(self.writer.info.fingerprint, [*self._sample, *embedded])[:MAX_REMEMBERED]

    def sample(self, n: int) -> list[str]:
        """Up to `n` utterances embedded by this job, drawn by the key's fingerprint: the same every time."""
        return self._sample[:n]

    def notes(self) -> list[str]:
        """What is worth telling of how it went."""
        notes = [*later_note(), *self.remarks]
        budget = self.embedder.budget if self.embedder else None
        if not budget or not budget.n_halved:
            return notes
        seconds = budget.n_samples / self.policy.sample_rate_hz
        return [
            *notes,
            f"memory ran out: batches were halved {budget.n_halved} times, to {seconds:.3g} s of audio; "
            f"--batch-seconds {seconds:.3g} starts there",
        ]

    @property
    def loaded(self) -> Embedder:
        """The model, once it is loaded."""
        if self.embedder is None:
            raise RuntimeError(f"{self.path}: the model is not loaded yet")
        return self.embedder

    def _count_as_done_by_others(self, unit: Unit) -> None:
        self.n_units_by_others += 1
        self.n_rows_by_others += unit.n_rows


def draw(fingerprint: Mapping[str, Any], utterances: Sequence[str]) -> list[str]:
    """Utterances in an order that looks random and is the same in every run of a key."""
    salt = canonical_json(fingerprint)
    return sorted(utterances, key=lambda i: hashlib.sha256(f"{salt}{i}".encode()).hexdigest())
