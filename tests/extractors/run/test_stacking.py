"""Batches for a GPU are put together beside the thread that embeds; tried on a CPU that says it is one."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import extractors.audio.waveform
import extractors.models.huggingface.wav2vec_family
import extractors.models.logmel_mfcc
from extractors import ExtractConfig, extract
from extractors.config import configs_of
from extractors.models import torch_tools
from extractors.models.logmel_mfcc import LogMelExtractor
from extractors.models.torch_tools import PaddedInput, StackedClips, padded_batch
from extractors.results import ExtractProgress
from extractors.run.extraction import extract_all
from tests.extractors.run.test_extraction import embeddings
from tests.models import save_ssl
from tests.no_values import META, Watch

Clips = Callable[..., Path]
LENGTHS = [5000 + 613 * (i % 7) for i in range(30)] + [20_000, 40_000]


class Seen:
    """What became of batches: threads that put them together, how many lived at once, what was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: set[int] = set()
        self.most = self._live = 0
        self.sent: list[bool] = []  # put together before or not
        stack, send = PaddedInput.stack, padded_batch

        def stacked(extractor: PaddedInput, clips: Sequence[np.ndarray]) -> StackedClips | None:
            self.threads.add(threading.get_ident())
            found = stack(extractor, clips)
            if found is not None:
                self._live += 1
                self.most = max(self.most, self._live)
                weakref.finalize(found.batch, self._gone)
            return found

        def sent(clips: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
            self.sent.append(isinstance(clips, StackedClips))
            assert threading.get_ident() not in self.threads
            return send(clips, device)

        monkeypatch.setattr(PaddedInput, "stack", stacked)
        monkeypatch.setattr(PaddedInput, "sends_batches", True)
        for module in (extractors.models.logmel_mfcc, extractors.models.huggingface.wav2vec_family):
            monkeypatch.setattr(module, "padded_batch", sent)

    def _gone(self) -> None:
        self._live -= 1


def options(manifest: Path, store: Path, **more: Any) -> dict[str, Any]:
    common = {"dataset": "d", "unit_rows": 12, "batch_seconds": 2.0, "workers": 2, "selfcheck": 0}
    return {"manifest": manifest, "store": str(store)} | common | more


@pytest.mark.parametrize("decode", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_values_are_the_same_bits_and_few_batches_are_held(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decode: str
) -> None:
    manifest = clips(LENGTHS)
    (manifest.parent / "clip003.wav").write_text("no audio")
    models = [str(save_ssl(tmp_path / "tiny", "hubert", "base", do_normalize=True)), "logmel"]
    given = {"window_s": 2.0, "decode": decode}
    extract_all(configs_of(models[:1], [], **options(manifest, tmp_path / "quiet", **given)))
    extract_all(configs_of(models[1:], [], **options(manifest, tmp_path / "quiet")))
    seen = Seen(monkeypatch)
    [hubert] = extract_all(configs_of(models[:1], [], **options(manifest, tmp_path / "s", **given)))
    # The clip of 2.5 s goes in windows, which nobody puts together before; all others do.
    assert seen.sent.count(False) == 2
    assert seen.sent.count(True) > 6
    [logmel] = extract_all(configs_of(models[1:], [], **options(manifest, tmp_path / "s")))
    assert seen.sent.count(False) == 2
    assert hubert.failed.keys() == logmel.failed.keys() == {"clip003"}
    assert threading.get_ident() not in seen.threads
    assert embeddings(tmp_path / "s") == embeddings(tmp_path / "quiet")
    # One is at work, the next is ready.
    assert 2 <= seen.most <= 3
    assert seen._live == 0


def test_where_memory_runs_out_batches_are_put_together_anew(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = clips(LENGTHS)
    extract(ExtractConfig(**options(manifest, tmp_path / "quiet", model="logmel")))
    seen, forward = Seen(monkeypatch), LogMelExtractor.forward

    def small(self: LogMelExtractor, clips: Sequence[np.ndarray], *given: Any) -> None:
        if len(clips) > 2:
            raise MemoryError
        forward(self, clips, *given)

    monkeypatch.setattr(LogMelExtractor, "forward", small)
    summary = extract(ExtractConfig(**options(manifest, tmp_path / "s", model="logmel")))
    assert any("batches were halved" in note for note in summary.notes)
    assert seen.sent.count(False) > 2
    assert embeddings(tmp_path / "s") == embeddings(tmp_path / "quiet")


def test_where_no_memory_can_be_pinned_the_clips_go_as_they_are(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = clips(LENGTHS[:6])
    extract(ExtractConfig(**options(manifest, tmp_path / "quiet", model="logmel")))
    error, make = RuntimeError("CUDA error: out of memory"), StackedClips.__init__

    def refused(self: StackedClips, *given: Any, **more: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise error
        make(self, *given, **more)

    monkeypatch.setattr(StackedClips, "__init__", refused)
    monkeypatch.setattr(PaddedInput, "sends_batches", True)
    assert extract(ExtractConfig(**options(manifest, tmp_path / "s", model="logmel"))).failed == {}
    assert embeddings(tmp_path / "s") == embeddings(tmp_path / "quiet")
    assert torch_tools.is_out_of_memory(error)


def test_an_interrupted_run_waits_for_no_clip_that_is_not_begun(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = clips([6000] * 400)
    Seen(monkeypatch)
    opened, n = extractors.audio.waveform.open_stretch, 0

    def slowly(*given: Any) -> Any:
        nonlocal n
        n += 1
        time.sleep(0.02)
        return opened(*given)

    def interrupt(progress: ExtractProgress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extractors.audio.waveform, "open_stretch", slowly)
    given = options(manifest, tmp_path / "s", model="logmel", unit_rows=400, batch_seconds=30.0)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        extract(ExtractConfig(**given), interrupt)
    assert n < 400
    assert threading.active_count() == before


def test_a_batch_that_was_put_together_leaves_as_it_is() -> None:
    clips = [np.arange(1, 1 + n, dtype=np.float32) for n in (7, 3, 5)]
    stacked = StackedClips(clips, pinned=False)
    cpu = torch.device("cpu")
    assert padded_batch(stacked, cpu) is stacked.batch
    assert torch.equal(padded_batch(clips, cpu), stacked.batch)
    for own, clip, row in zip(stacked, clips, stacked.batch, strict=True):
        np.testing.assert_array_equal(own, clip)
        assert row[: len(clip)].tolist() == clip.tolist()
        assert not row[len(clip) :].any()
    with Watch() as anew:
        padded_batch(clips, META)
    with Watch() as ready:
        padded_batch(stacked, META)
    assert (anew.n_sent, ready.n_sent) == (1, 1)
    # The host does nothing more for it: no memory, no copy.
    assert anew.n_host_calls > 0
    assert ready.n_host_calls == 0
