"""What a run would do and cost, from the plan and from a few real batches; writes nothing to the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from extractors.audio.waveform import PreparedClip, load_together
from extractors.config import ExtractConfig
from extractors.forward.unit_result import UnitResult, frame_bound
from extractors.run.audio_changes import check_key
from extractors.run.codec_sizes import row_bytes
from extractors.run.key_job import KeyJob
from extractors.run.plan import KeyPlan, RunPlan, plan_run
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.location import Location
from featurestore.store.plan import Unit
from featurestore.store.sound_identity import Sounds
from featurestore.store.writer import preview_key

# Batches that are measured: the dearest, the middle one, the cheapest.
N_CALIBRATION = 3


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A run that has not happened.

    Attributes:
        key: ``model/dataset``.
        devices: what it would run on; the first was measured.
        n_clips: utterances of the manifest.
        unreadable: those whose file header cannot be read.
        n_to_do: those that are not in the store yet.
        n_units: units that are to be done.
        n_batches: forward passes.
        audio_s: seconds the model will see, windows and repeats included.
        padding: share of padding on top of that.
        n_bytes: of the values, before compression.
        n_bytes_by_codec: as they would lie in the store under each codec, from clips that were measured; none
            in keys that keep frames, which take most of the room and are stored in one way.
        n_objects: of the values; a store adds some twenty documents to each key.
        flops: floating point operations of the forward passes; None where PyTorch counts none.
        seconds: of the run, by the slower of model and decoding.
        decode_s: of decoding alone.
        n_measured: batches that were measured.
        notes: what limits the estimate.
    """

    key: str
    devices: tuple[str, ...]
    n_clips: int
    unreadable: tuple[str, ...]
    n_to_do: int
    n_units: int
    n_batches: int
    audio_s: float
    padding: float
    n_bytes: int
    n_bytes_by_codec: Mapping[str, int]
    n_objects: int
    flops: float | None
    seconds: float
    decode_s: float
    n_measured: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Batch:
    unit: Unit
    rows: range
    n_samples: int  # the model sees, padding left out
    n_padded: int
    longest: int  # of one stretch


@dataclass(frozen=True)
class _Measured:
    batch: _Batch
    forward_s: float
    decode_s: float
    flops: int
    values: Mapping[int, np.ndarray]  # layer → [clips, functionals, features], of those that could be read


def dry_run(configs: Sequence[ExtractConfig]) -> list[Estimate]:
    """Plan a run and measure a few of its batches.

    Raises:
        UserError: as `extract_all` would.
    """
    run = plan_run(configs)
    sounds = Sounds(n_threads=run.config.n_threads)
    devices = tuple(run.devices) or ("cpu",)
    return [_estimate(preview_job(plan, run, sounds), devices) for plan in run.keys]


def preview_job(plan: KeyPlan, run: RunPlan, sounds: Sounds) -> KeyJob:
    """What there is to do of a key, with nothing written.

    Raises:
        UserError: the key cannot be gone on with; see `check_key`.
    """
    config = plan.recipe.config
    checked = check_key(plan, run, sounds)
    writer, pending = preview_key(
        run.storage,
        plan.request,
        run.manifest,
        plan.ids,
        overwrite=config.overwrite,
        prune=config.prune,
        again=checked.again,
    )
    return KeyJob.of_plan(plan, run, writer, pending)


def _estimate(job: KeyJob, devices: tuple[str, ...]) -> Estimate:
    frames = job.writer.info.frames
    notes = []
    if job.config.cluster:
        notes.append("the time is that of one process on this machine's CPU; the cluster was not measured")
    if frames is not None:
        notes.append("frames are counted at their most")
    batches: list[_Batch] = []
    measured: list[_Measured] = []
    if job.units:
        job.load(job.recipe.load(job.device))
        batches = [b for unit in job.units for b in _batches(job, unit)]
        measured = _measure(job, batches)
    samples = sum(b.n_samples for b in batches)
    padded = sum(b.n_padded for b in batches)
    forward_s = _fit([(m.batch.n_padded, m.forward_s) for m in measured], [b.n_padded for b in batches])
    decode_s = _fit([(m.batch.n_samples, m.decode_s) for m in measured], [b.n_samples for b in batches])
    decode_s /= job.decoders.n
    n_to_do = sum(1 for u in job.units for i in job.ids(u) if i)
    return Estimate(
        key=job.path,
        devices=devices,
        n_clips=int((job.writer.ids != "").sum()),
        unreadable=tuple(str(i) for i in job.table.index[job.table["planned_s"].isna()]),
        n_to_do=n_to_do,
        n_units=len(job.units),
        n_batches=len(batches),
        audio_s=samples / job.policy.sample_rate_hz,
        padding=padded / samples - 1 if samples else 0.0,
        n_bytes=value_bytes(job),
        n_bytes_by_codec={} if frames is not None else _bytes_by_codec(job, measured, n_to_do),
        n_objects=len(job.units) * len(job.layers) * (2 if frames is not None else 1),
        flops=_total_flops(measured, batches) or None,
        seconds=max(forward_s, decode_s) / len(devices),
        decode_s=decode_s / len(devices),
        n_measured=len(measured),
        notes=tuple(notes),
    )


def value_bytes(job: KeyJob) -> int:
    """Bytes of all values of the units of a job, before compression: whole inner chunks, or whole units."""
    shape, frames = job.writer.info.shape, job.writer.info.frames
    at_once = shape.chunk_rows if shape.n_chunks else shape.unit_rows
    n_rows = sum(-(-unit.n_rows // at_once) * at_once for unit in job.units)
    n_bytes = n_rows * np.dtype(shape.dtype).itemsize * shape.n_functionals * shape.n_features
    if frames is not None:
        card = job.recipe.source.card
        ids = [i for u in job.units for i in job.ids(u) if i]
        n_frames = sum(frame_bound(job.model_s[i], card, job.policy) for i in ids)
        n_bytes += n_frames * frames.n_features * np.dtype(frames.dtype).itemsize
    return len(job.layers) * n_bytes


def _bytes_by_codec(job: KeyJob, measured: Sequence[_Measured], n_rows: int) -> dict[str, int]:
    """Of so many rows, if all were as those of the batch with most clips."""
    layers = max(
        (m.values for m in measured if m.values), key=lambda of: len(next(iter(of.values()))), default={}
    )
    if not layers:
        return {}
    unit_rows = job.writer.info.shape.unit_rows
    return {name: round(n_rows * of_row) for name, of_row in row_bytes(layers, unit_rows).items()}


def _batches(job: KeyJob, unit: Unit) -> list[_Batch]:
    lengths = job.lengths(unit)
    batches = job.batches(lengths)
    return [_Batch(unit, rows, *_sizes(job, rows, [lengths[i] for i in rows])) for rows in batches]


def _sizes(job: KeyJob, rows: Sequence[int], lengths: Sequence[int]) -> tuple[int, int, int]:
    """Samples the model sees of clips of these lengths together, without and with padding; the longest."""
    fixed = job.loaded.extractor.card.fixed_samples
    window = job.long_clips.window_samples
    if window is None or max(lengths) <= window:
        return sum(lengths), len(lengths) * (fixed or max(lengths)), fixed or max(lengths)
    # Long clips go window by window; those beside them are as good as unpadded.
    pairs = zip(rows, lengths, strict=True)
    pieces = [w.n_samples for row, n in pairs for w in job.long_clips.cut(row, n, 1)]
    return sum(pieces), sum(fixed or n for n in pieces), fixed or max(pieces)


def _decoded(job: KeyJob, where: Sequence[Location | None]) -> list[PreparedClip | AudioError | None]:
    """Clips of a batch, decoded together as a run does."""
    with Recordings() as recordings:
        found = iter(load_together([w for w in where if w is not None], [job.policy], recordings))
    return [None if w is None else next(found)[job.policy] for w in where]


def _measure(job: KeyJob, batches: Sequence[_Batch]) -> list[_Measured]:
    by_cost = sorted(batches, key=lambda batch: batch.n_padded)
    places = np.linspace(0, len(by_cost) - 1, min(N_CALIBRATION, len(by_cost))).round().astype(int)
    measured = []
    for i, batch in enumerate(by_cost[p] for p in places):
        where = job.audio_of(batch.unit)
        began = time.perf_counter()
        clips = _decoded(job, where[batch.rows.start : batch.rows.stop])
        decode_s = time.perf_counter() - began
        lengths = [len(clip.samples) for clip in clips if isinstance(clip, PreparedClip)]
        if not lengths:
            continue
        forward = partial(_forward, job, batch, clips)
        if i == 0:
            forward()  # the first call of a model is slow
        forward_s, result = forward()
        # What could be read of the batch, not what was planned.
        read = _Batch(batch.unit, batch.rows, *_sizes(job, batch.rows[: len(lengths)], lengths))
        rows = [row for row in batch.rows if result.status[row] == STATUS_OK]
        values = {layer: of_unit[rows] for layer, of_unit in result.values.items()} if rows else {}
        measured.append(_Measured(read, forward_s, decode_s, _count_flops(forward), values))
    job.failed.clear()
    return measured


def _forward(
    job: KeyJob, batch: _Batch, clips: Sequence[PreparedClip | AudioError | None]
) -> tuple[float, UnitResult]:
    """Seconds that a batch takes, and what comes of it."""
    result = job.begin(batch.unit)
    began = time.perf_counter()
    job.loaded.embed(batch.rows, clips, result)
    return time.perf_counter() - began, result


def _count_flops(forward: Callable[[], object]) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    # PyTorch's counter knows attention on GPUs only.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    known = {attention: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        forward()
    return int(counter.get_total_flops())


def _fit(measured: Sequence[tuple[int, float]], sizes: Sequence[int]) -> float:
    """Cost of all sizes, from that of some: a constant and a slope, neither below zero."""
    if not measured or not sizes:
        return 0.0
    size, cost = (np.array(column, dtype=np.float64) for column in zip(*measured, strict=True))
    if len(set(size.tolist())) > 1:
        slope, constant = np.polyfit(size, cost, 1)
        if slope > 0 and constant > 0:
            return float(slope * sum(sizes) + constant * len(sizes))
    return float(cost.sum() / size.sum() * sum(sizes))


def _total_flops(measured: Sequence[_Measured], batches: Sequence[_Batch]) -> float:
    """Operations per sample grow with length where attention is: a line over the longest clip."""
    if not measured:
        return 0.0
    longest = np.array([m.batch.longest for m in measured], dtype=np.float64)
    per_sample = np.array([m.flops / m.batch.n_padded for m in measured])
    line = np.polyfit(longest, per_sample, 1) if len(set(longest.tolist())) > 1 else [0, per_sample.mean()]
    return float(sum(b.n_padded * np.polyval(line, b.longest) for b in batches))
