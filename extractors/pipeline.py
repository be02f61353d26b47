"""One extraction: manifest → plan → decode → batches → hidden states → functionals → committed units.

Decoding runs in threads ahead of the model, writing in a thread behind it. What is held at any time is
bounded by a few batches and two units, whatever the size of the corpus.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from extractors.audio import AudioError, AudioPolicy, Clip, header, load_clip
from extractors.base import Extractor, ModelSource
from extractors.batching import Window, cut_batches, cut_windows
from extractors.changes import locations, refresh, report_changes
from extractors.config import ExtractConfig
from extractors.frames import FrameCollector, plan_frames
from extractors.functionals import DEFAULT_FUNCTIONALS, Parts, finish, merge, reduce_frames, select
from extractors.models import find_model
from featurestore.claims import WAITING, Claims, Heartbeat, work_through
from featurestore.errors import ConfigError
from featurestore.fingerprint import NUMERICS_VERSION
from featurestore.layers import parse_layers
from featurestore.layout import CodecName, FrameShape
from featurestore.manifest import Manifest, read_manifest
from featurestore.plan import DEFAULT_UNIT_ROWS, Unit, order_rows
from featurestore.shares import parse_share, share_of_job_array
from featurestore.storage import open_storage
from featurestore.writer import KeyRequest, KeyWriter, UnitRows, delete_key, open_key, package_versions

VERSIONED_PACKAGES = ("featurestore-audio", "torch", "transformers", "zarr", "soundfile", "soxr", "numpy")
# Padded seconds of audio per batch: enough to keep the device busy, little enough to fit it.
BATCH_SECONDS = {"cpu": 30.0, "cuda": 300.0}
MAX_BATCH_CLIPS = 256
STATUS_OK = "ok"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: clips and seconds of audio, done and in all (this run only)."""

    clips_done: int
    clips_total: int
    failed: int
    audio_s: float


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What a run did.

    Attributes:
        key: ``model/dataset``.
        n_clips: clips of the key.
        n_embedded: clips that went through this run, failed ones included.
        failed: utterance id → reason, for clips embedded in this run.
        audio_s: seconds of audio embedded in this run.
        elapsed_s: wall-clock seconds, model loading included.
        forward_s: seconds spent on units.
        n_bytes: bytes written.
        layers: layers of the key.
        notes: lines worth telling the user.
    """

    key: str
    n_clips: int
    n_embedded: int
    failed: dict[str, str]
    audio_s: float
    elapsed_s: float
    forward_s: float
    n_bytes: int
    layers: list[int]
    device: str
    notes: list[str] = field(default_factory=list)

    @property
    def n_skipped(self) -> int:
        """Clips that this run had nothing to do for."""
        return self.n_clips - self.n_embedded


def extract(config: ExtractConfig, on_progress: Callable[[Progress], None] | None = None) -> ExtractSummary:
    """Embed every utterance of a manifest and commit it to a store; resumes what is there.

    Raises:
        UserError: of the kind that fits, before any weights are loaded; see `featurestore.errors`.
    """
    began = time.perf_counter()
    manifest = read_manifest(config.manifest)
    storage = open_storage(config.store)  # a wrong address shows before models and headers are read
    source = find_model(config.model, allow_pickle=config.torch_weights)
    functionals = choose_functionals(config.functionals, source)
    policy = audio_policy(config, source)
    layers = choose_layers(config.layers, source)
    device = resolve_device(config.device)
    durations = clip_durations(manifest, config.workers)
    order = order_rows(durations, manifest.table["utterance_id"].tolist())
    unit_rows, frames = config.unit_rows or DEFAULT_UNIT_ROWS, None
    if config.frames:
        unit_rows, frames = plan_frames(
            durations[order],
            source.card,
            policy,
            n_layers=len(layers),
            unit_rows=config.unit_rows,
            dtype=config.frames_dtype,
        )
    request = KeyRequest(
        model=config.name or source.card.name,
        dataset=config.dataset,
        fingerprint=fingerprint(config, source, policy, functionals),
        functionals=functionals,
        layers=tuple(layers),
        n_features=source.card.n_features,
        dtype=config.dtype,
        codec=cast(CodecName, config.codec),
        unit_rows=unit_rows,
        frames=frames,
        versions=package_versions(VERSIONED_PACKAGES),
        model_card={k: v for k, v in vars(source.card).items() if v is not None},
    )
    extractor = None
    if config.overwrite:
        # Weights first: a model that cannot be loaded must not cost what is stored.
        extractor = source.load(device, config.precision)
        delete_key(storage, request.model, request.dataset)
    ids = manifest.table["utterance_id"].to_numpy(dtype=object)[order]
    writer, notes = open_key(storage, request, manifest, ids, prune=config.prune)
    if config.normalisation is None and source.card.trained:
        notes.insert(0, f"input normalisation: {policy.normalisation} ({source.card.normalisation_source})")
    table = _clip_table(writer.manifest, manifest, durations, config.workers)
    notes += (refresh if config.refresh else report_changes)(writer, table, config.workers)
    pending = writer.pending_units(layers)
    share = parse_share(config.share) if config.share else share_of_job_array()
    mine = share.of(pending) if share else pending
    if share:
        notes.append(f"share {share}: {len(mine)} of {len(pending)} units that are to be done")
    run = _Run(config=config, policy=policy, layers=layers, writer=writer, table=table, device=device)
    if mine:
        run.embed(extractor or source.load(device, config.precision), mine, on_progress)
    writer.sweep_claims()
    if run.n_done_by_others:
        notes.append(f"{run.n_done_by_others} units were done by other processes meanwhile")
    return ExtractSummary(
        key=writer.info.path,
        n_clips=int((writer.ids != "").sum()),
        n_embedded=run.n_clips,
        failed=run.failed,
        audio_s=run.audio_s,
        elapsed_s=time.perf_counter() - began,
        forward_s=run.elapsed_s,
        n_bytes=run.n_bytes,
        layers=list(writer.info.layers),
        device=device,
        notes=notes,
    )


def _clip_table(stored: Manifest, manifest: Manifest, durations: np.ndarray, workers: int) -> pd.DataFrame:
    """The manifest of the key by id, with the planned duration of every clip."""
    known = dict(zip(manifest.table["utterance_id"], durations, strict=True))
    table = stored.table.set_index("utterance_id")
    extra = stored.table[~stored.table["utterance_id"].isin(known)]
    if len(extra):
        others = clip_durations(Manifest(table=extra, source=stored.source), workers)
        known |= dict(zip(extra["utterance_id"], others, strict=True))
    return table.assign(planned_s=[known[i] for i in table.index])


def choose_layers(spec: str | None, source: ModelSource) -> list[int]:
    """Layers to keep: all of the model's, or those of a list such as ``0-6,12``.

    Raises:
        ConfigError: the model has no such layer.
    """
    n_layers = source.card.n_layers
    if spec is None:
        return list(range(n_layers))
    layers = list(parse_layers(spec))
    if layers[-1] >= n_layers:
        raise ConfigError(
            f"--layers {spec}: {source.card.name} has layers 0-{n_layers - 1}, there is no {layers[-1]}"
        )
    return layers


def choose_functionals(asked: Sequence[str] | None, source: ModelSource) -> tuple[str, ...]:
    """The statistics to keep: those asked for, else mean and std.

    Raises:
        ConfigError: the model gives one vector per clip, and something else than its mean is asked for.
    """
    if not source.card.pooled:
        return tuple(asked or DEFAULT_FUNCTIONALS)
    if asked is not None and tuple(asked) != ("mean",):
        raise ConfigError(
            f"--functionals {','.join(asked)}: {source.card.name} gives one vector per clip, whose mean is "
            "the vector itself; use --functionals mean"
        )
    return ("mean",)


def audio_policy(config: ExtractConfig, source: ModelSource) -> AudioPolicy:
    """How audio is prepared for this model under this configuration."""
    return AudioPolicy(
        sample_rate_hz=source.card.sample_rate_hz,
        normalisation=config.normalisation or source.card.normalisation,
        min_samples=config.min_samples,
        short_policy=config.short_policy or ("repeat" if source.card.repeat_short else "none"),
    )


def fingerprint(
    config: ExtractConfig, source: ModelSource, policy: AudioPolicy, functionals: Sequence[str]
) -> dict[str, Any]:
    """Everything that decides the stored values of a row and layer."""
    longest = source.card.max_samples
    return {
        "model": dict(source.fingerprint()),
        "input": {
            **policy.fingerprint(),
            "long_clips": f"windows of {longest} samples, frames joined" if longest else "whole",
        },
        "functionals": list(functionals),
        "dtype": config.dtype,
        "precision": config.precision,
        "numerics_version": NUMERICS_VERSION,
    }


def resolve_device(device: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``.

    Raises:
        ConfigError: the device does not exist here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device: expected auto, cpu, cuda or cuda:N, got {device!r}") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: {torch.cuda.device_count()} CUDA devices on this machine")
    if kind.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: expected auto, cpu, cuda or cuda:N, got {device!r}")
    return device


def clip_durations(manifest: Manifest, workers: int) -> np.ndarray:
    """Seconds of every utterance `[n]`, from the manifest and file headers; NaN if unreadable."""
    table = manifest.table
    start = table["start_s"].to_numpy()
    end = table["end_s"].to_numpy()
    open_ended = np.isnan(end)
    paths = table["path"].to_numpy()
    unique = sorted(set(paths[open_ended]))
    with ThreadPoolExecutor(workers) as pool:
        lengths = dict(zip(unique, pool.map(_file_seconds, unique), strict=True))
    file_end = np.array([lengths[p] if o else np.nan for p, o in zip(paths, open_ended, strict=True)])
    durations = np.where(open_ended, file_end, end) - np.where(np.isnan(start), 0.0, start)
    return np.where(durations > 0, durations, np.nan)


def _file_seconds(path: str) -> float:
    try:
        frames, rate = header(path)
    except AudioError:
        return float("nan")
    return frames / rate


@dataclass(frozen=True)
class _Batch:
    """Neighbouring rows of one unit whose clips are embedded together."""

    unit: Unit
    rows: range  # positions within the unit
    is_last: bool


class _UnitResult:
    """Values of one unit while its batches come in."""

    def __init__(
        self,
        unit: Unit,
        layers: Sequence[int],
        n_functionals: int,
        n_features: int,
        frames: FrameShape | None,
    ) -> None:
        n = unit.n_rows
        self.frames = FrameCollector(layers, n, frames) if frames is not None else None
        self.unit = unit
        self.values = {k: np.full((n, n_functionals, n_features), np.nan, dtype=np.float32) for k in layers}
        self.status = [""] * n
        self.n_frames = np.zeros(n, dtype=np.int32)
        self.duration_s = np.full(n, np.nan)
        self.audio_hash = [""] * n
        self.began = time.perf_counter()

    def rows(self) -> UnitRows:
        return UnitRows(
            status=self.status,
            n_frames=self.n_frames,
            duration_s=self.duration_s,
            audio_hash=self.audio_hash,
            frames=self.frames.joined() if self.frames is not None else None,
        )


class _Run:
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
        self.functionals = writer.info.functionals
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
        writes: deque[Future[int]] = deque()
        result: _UnitResult | None = None
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
                    if result is None:
                        result = _UnitResult(
                            batch.unit,
                            self.layers,
                            len(self.functionals),
                            extractor.card.n_features,
                            self.writer.info.frames,
                        )
                    self._embed_batch(extractor, batch, clips, result)
                    self.n_clips += len(batch.rows)
                    if on_progress:
                        on_progress(
                            Progress(
                                clips_done=self.n_clips,
                                clips_total=self._total,
                                failed=len(self.failed),
                                audio_s=self.audio_s,
                            )
                        )
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

    def _embed_batch(
        self,
        extractor: Extractor,
        batch: _Batch,
        clips: Sequence[Clip | AudioError | None],
        result: _UnitResult,
    ) -> None:
        windows: list[Window] = []
        waveforms: dict[int, np.ndarray] = {}
        min_frames = 2 if "std" in self.functionals else 1
        min_samples = _samples_for(extractor, 1)
        for row, clip in zip(batch.rows, clips, strict=True):
            if clip is None:
                continue
            if isinstance(clip, AudioError):
                self._fail(result, row, str(clip))
                continue
            result.duration_s[row] = clip.duration_s
            pieces = cut_windows(row, len(clip.samples), extractor.card.max_samples, min_samples)
            if sum(extractor.n_frames(w.n_samples) for w in pieces) < min_frames:
                self._fail(
                    result, row, f"too short: {len(clip.samples)} samples give fewer than {min_frames} frames"
                )
                continue
            windows.extend(pieces)
            waveforms[row] = clip.samples
            result.status[row] = STATUS_OK
            result.audio_hash[row] = clip.audio_hash
            self.audio_s += clip.duration_s
        if windows:
            self._forward(extractor, windows, waveforms, result)

    def _forward(
        self,
        extractor: Extractor,
        windows: Sequence[Window],
        waveforms: dict[int, np.ndarray],
        result: _UnitResult,
    ) -> None:
        """Run windows in groups no larger than the batch was planned to be; join those of one clip."""
        names = self.functionals
        parts: dict[int, dict[int, list[Parts]]] = {}  # layer → row → windows so far
        size = max(len(waveforms), 4)
        for start in range(0, len(windows), size):
            group = windows[start : start + size]

            def on_layer(
                layer: int, frames: Any, n_valid: Sequence[int], group: Sequence[Window] = group
            ) -> None:
                reduced = reduce_frames(frames, n_valid, names)
                if result.frames is not None:
                    for i, w in enumerate(group):
                        result.frames.add(layer, w.row, frames[i, : n_valid[i]].float().cpu().numpy())
                whole = [i for i, w in enumerate(group) if w.start == 0 and w.is_last]
                rows = [group[i].row for i in whole]
                if rows:
                    result.values[layer][rows] = finish(select(reduced, whole), names)
                    result.n_frames[rows] = reduced.count[whole]
                for i, w in enumerate(group):
                    if w.start == 0 and w.is_last:
                        continue
                    collected = parts.setdefault(layer, {}).setdefault(w.row, [])
                    collected.append(select(reduced, [i]))
                    if w.is_last:
                        joined = merge(collected)
                        result.values[layer][w.row] = finish(joined, names)[0]
                        result.n_frames[w.row] = joined.count[0]

            clips = [waveforms[w.row][w.start : w.start + w.n_samples] for w in group]
            extractor.forward(clips, self.layers, on_layer)

    def _fail(self, result: _UnitResult, row: int, reason: str) -> None:
        result.status[row] = f"failed: {reason}"
        result.n_frames[row] = 0
        if result.frames is not None:
            result.frames.drop(row)
        self.failed[str(self.writer.ids[result.unit.first_row + row])] = reason

    def _fail_non_finite(self, result: _UnitResult) -> None:
        """A value that is not finite (an overflow in half precision, say) must never pass for a feature."""
        ok = np.array([s == STATUS_OK for s in result.status])
        for layer, values in result.values.items():
            finite = np.isfinite(values).all(axis=(1, 2))
            for row in np.flatnonzero(ok & ~finite):
                self._fail(result, int(row), f"the model's output is not finite at layer {layer}")
                ok[row] = False
        for values in result.values.values():
            values[~ok] = np.nan

    def _write(self, result: _UnitResult) -> int:
        self._fail_non_finite(result)
        record = self.writer.write_unit(
            result.unit,
            sorted(result.values.items()),
            result.rows(),
            audio_s=float(
                np.nansum(
                    [d for d, s in zip(result.duration_s, result.status, strict=True) if s == STATUS_OK]
                )
            ),
            elapsed_s=time.perf_counter() - result.began,
            versions=self.versions,
        )
        self.claims.release(result.unit.index)
        return sum(o.n_bytes for o in record.objects.values())


def _samples_for(extractor: Extractor, n_frames: int) -> int:
    """Fewest samples that give this many frames."""
    n = 1
    while extractor.n_frames(n) < n_frames:
        n += 1
    return n
