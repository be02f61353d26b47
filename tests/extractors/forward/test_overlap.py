"""Values of a batch come in while the next is computed, and never too late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extractors import ExtractConfig
from extractors.audio.waveform import PreparedClip
from extractors.config import configs_of
from extractors.forward import functionals
from extractors.forward.embedder import ClipBatch
from extractors.forward.unit_result import UnitResult
from extractors.run.dry_run import preview_job
from extractors.run.key_job import KeyJob
from extractors.run.plan import plan_run
from featurestore.audio.segment import AudioError
from featurestore.store.sound_identity import Sounds

Clips = Callable[..., Path]


@pytest.fixture
def job(clips: Clips, tmp_path: Path) -> KeyJob:
    config = ExtractConfig(
        manifest=clips([6000, 6000, 6000]), dataset="d", model="logmel", store=str(tmp_path / "s")
    )
    run = plan_run(configs_of(["logmel"], [], manifest=config.manifest, dataset="d", store=config.store))
    made = preview_job(run.keys[0], run, Sounds(n_threads=1))
    made.load(made.recipe.load("cpu"))
    return made


def clip_of(job: KeyJob, row: int) -> PreparedClip:
    where = job.audio_of(job.units[0])[row]
    assert where is not None
    clip = job.clip(where)
    assert isinstance(clip, PreparedClip)
    return clip


def known(result: UnitResult) -> list[bool]:
    return [bool(np.isfinite(row).all()) for row in result.values[0]]


def test_a_batch_is_put_away_after_the_next_is_on_the_device(
    job: KeyJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    wait, send = functionals.Transfer.wait, functionals.send

    def waited(self: functionals.Transfer) -> list[functionals.Parts]:
        order.append("wait")
        return wait(self)

    def sent(layers: list[functionals.Parts | functionals.QueuedParts]) -> functionals.Transfer:
        order.append("send")
        return send(layers)

    monkeypatch.setattr(functionals.Transfer, "wait", waited)
    monkeypatch.setattr("extractors.forward.embedder.send", sent)
    result = job.begin(job.units[0])
    job.embed([0], ClipBatch([clip_of(job, 0)]), result)
    assert known(result) == [False, False, False]
    job.embed([1], ClipBatch([clip_of(job, 1)]), result)
    assert known(result) == [True, False, False]
    job.settle()
    assert known(result) == [True, True, False]
    # One transfer a batch, and the first is waited for when the second is queued.
    assert order == ["send", "send", "wait", "wait"]


def test_a_batch_without_sound_brings_in_the_one_before(job: KeyJob) -> None:
    result = job.begin(job.units[0])
    job.embed([0], ClipBatch([clip_of(job, 0)]), result)
    job.embed([1, 2], ClipBatch([AudioError("broken"), None]), result)
    assert known(result) == [True, False, False]
