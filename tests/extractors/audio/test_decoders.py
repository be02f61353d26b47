"""Decoder processes give what threads give, cost at most the clip they die of, and leave nothing behind."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

import extractors.audio.decoder_process
from extractors import ExtractConfig, extract
from extractors.audio.decoders import ProcessDecoders, ThreadDecoders, choose_decoders
from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import STREAM_SAMPLES, ClipByPolicy, PreparedClip
from featurestore import open_store
from featurestore.errors import ConfigError, ProcessLost
from featurestore.manifest.location import Location
from tests.conftest import heed_ctrl_c
from tests.extractors.run.test_extraction import embeddings

Clips = Callable[..., Path]
WHOLE = (float("nan"), float("nan"), None)
POLICIES = [
    AudioPolicy(sample_rate_hz=16_000, normalisation="zero-mean-unit-variance"),
    AudioPolicy(sample_rate_hz=16_000, normalisation="none"),
    AudioPolicy(sample_rate_hz=22_050, normalisation="peak", short_policy="none"),
]


def decoder_processes() -> list[psutil.Process]:
    """Those of this process, among its children."""
    return [c for c in psutil.Process().children() if "decoder_process" in " ".join(c.cmdline())]


def facts(found: list[ClipByPolicy]) -> list[object]:
    """Everything of clips, comparable: samples as bytes, numbers with NaN as text, reasons."""
    return [
        {**vars(clip), "samples": clip.samples.tobytes(), "agreement": str(clip.agreement)}
        | {"above_nyquist": str(clip.above_nyquist)}
        if isinstance(clip, PreparedClip)
        else str(clip)
        for by_policy in found
        for clip in by_policy.values()
    ]


def recordings(folder: Path) -> list[Location]:
    """Segments and whole files of several kinds, and what cannot be decoded."""
    rng = np.random.default_rng(0)
    places: list[Location] = []
    for i, (name, rate, channels) in enumerate(
        [("a.wav", 44_100, 1), ("b.flac", 44_100, 2), ("c.ogg", 22_050, 1), ("d.wav", 16_000, 1)]
    ):
        soundfile.write(folder / name, 0.1 * rng.standard_normal((2 * rate, channels)), rate)
        path = str(folder / name)
        places += [(path, *WHOLE), (path, 1.2, 1.3, None), (path, 0.25, 0.75, None), (path, 0.5, 1.0, i % 2)]
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "silent.wav", np.zeros(8000), 16_000)
    return [*places, *((str(folder / n), *WHOLE) for n in ("text.wav", "silent.wav", "gone.wav"))]


def test_processes_give_what_threads_give(tmp_path: Path) -> None:
    places = recordings(tmp_path)
    tasks = [places[i::3] for i in range(3)]
    with ThreadDecoders() as threads:
        expected = [facts(threads.load(task, POLICIES)) for task in tasks]
    with ProcessDecoders() as processes, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda task: processes.load(task, POLICIES), tasks))
        assert len(decoder_processes()) <= 2  # as many as ask at a time
    assert [facts(clips) for clips in found] == expected
    assert sum(isinstance(fact, str) for task in expected for fact in task) >= 3 * len(POLICIES)
    assert processes.notes() == []


@pytest.mark.slow
def test_a_clip_too_long_to_be_held_is_handed_on_in_its_file(tmp_path: Path) -> None:
    n = STREAM_SAMPLES + 1000
    noise = np.random.default_rng(0).integers(0, 255, n, dtype=np.uint8)
    long, other = tmp_path / "long.wav", tmp_path / "other.wav"
    soundfile.write(long, (noise / 255 - 0.5).astype(np.float32), 16_000, subtype="PCM_U8")
    soundfile.write(other, noise[:9000] / 255 - 0.5, 16_000)
    places: list[Location] = [(str(long), *WHOLE), (str(other), *WHOLE)]
    with ThreadDecoders() as threads, ProcessDecoders() as processes:
        expected, found = (facts(d.load(places, POLICIES[:2])) for d in (threads, processes))
    assert found == expected


# A resampler with a fault: decoders find it before the real one, which this process has imported already.
FAULTY = """
import os, signal, sys
sys.path.remove(os.path.dirname(__file__))
del sys.modules["soxr"]
import soxr
def resample(samples, *given, real=soxr.resample, **options):
    if samples.max() > 0.9:
        os.kill(os.getpid(), signal.{signal})
    return real(samples, *given, **options)
soxr.resample = resample
"""


@pytest.mark.parametrize("end", ["SIGSEGV", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_a_decoder_that_dies_costs_its_clip_alone(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    manifest = clips([14_000 + 100 * i for i in range(9)], rate=44_100)
    x, _ = soundfile.read(manifest.parent / "clip004.wav")
    soundfile.write(manifest.parent / "clip004.wav", x / np.abs(x).max(), 44_100, subtype="FLOAT")
    options = {"manifest": manifest, "dataset": "d", "model": "logmel", "workers": 2, "selfcheck": 0}
    quiet = extract(ExtractConfig(**options, store=str(tmp_path / "quiet")))  # type: ignore[arg-type]
    assert quiet.failed == {}
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "soxr.py").write_text(FAULTY.format(signal=end))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    summary = extract(ExtractConfig(**options, store=str(tmp_path / "s"), decode="processes"))  # type: ignore[arg-type]
    assert summary.failed.keys() == {"clip004"}
    assert summary.failed["clip004"].startswith(f"its decoder was lost twice ({end}, most often ")
    assert "2 decoder processes were lost and started anew" in summary.notes
    rows = {}
    for store in ("quiet", "s"):
        features = open_store(tmp_path / store).features("logmel", "d")
        table = features.index
        rows[store] = dict(zip(table["utterance_id"], features.layer(0).numpy(), strict=True))
        status = dict(zip(table["utterance_id"], table["status"], strict=True))
    assert status["clip004"] == f"failed: {summary.failed['clip004']}"
    assert np.isnan(rows["s"].pop("clip004")).all()
    for utterance, values in rows["s"].items():
        np.testing.assert_array_equal(values, rows["quiet"][utterance])
    assert decoder_processes() == []


def test_that_no_decoder_can_be_started_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.apart.socket_process.path_here", lambda: pickle.dumps([]))
    with ProcessDecoders() as decoders, pytest.raises(ProcessLost, match="--decode threads") as error:
        decoders.load([("a.wav", *WHOLE)], POLICIES)
    assert "\n" not in str(error.value)
    assert decoder_processes() == []


def test_what_goes_wrong_in_a_decoder_is_raised_here() -> None:
    with ProcessDecoders() as decoders:
        with pytest.raises(TypeError) as error:
            decoders.load([(3.5, *WHOLE)], POLICIES)  # type: ignore[list-item]
        assert "in a decoder process" in error.value.__notes__[0]
        assert len(decoder_processes()) == 1  # it goes on


def test_stopping_does_not_wait_for_clips(tmp_path: Path) -> None:
    hours = tmp_path / "hours.wav"
    with soundfile.SoundFile(hours, "w", 44_100, 1) as file:
        file.write(np.full(44_100, 0.1))
        file.seek(0, soundfile.SEEK_END)
        for _ in range(60):
            file.write(np.zeros(1 << 20))
    with ProcessDecoders() as decoders, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decoders.load, [(str(hours), *WHOLE)], POLICIES)
        while not decoder_processes():
            time.sleep(0.01)
        began = time.monotonic()
        decoders.stop()
        with pytest.raises(CancelledError):
            waiting.result()
        assert time.monotonic() - began < 5
        with pytest.raises(CancelledError):
            decoders.load([(str(hours), *WHOLE)], POLICIES)
    assert decoder_processes() == []


@pytest.mark.slow
def test_clips_are_let_go_as_those_of_threads_are(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in files of decoders at a time does not grow with the corpus, and is nothing in the end."""
    live = most = 0
    real = extractors.audio.decoder_process.mapped

    def gone(n: int) -> None:
        nonlocal live
        live -= n

    def mapped(descriptor: int) -> np.ndarray:
        nonlocal live, most
        array = real(descriptor)
        live += len(array)
        most = max(most, live)
        weakref.finalize(array.base, gone, len(array))
        return array

    monkeypatch.setattr(extractors.audio.decoder_process, "mapped", mapped)
    held, n_open = [], []
    for n in (40, 160):
        most = 0
        options = {"dataset": "d", "model": "logmel", "workers": 2, "batch_seconds": 2.0, "unit_rows": 16}
        extract(
            ExtractConfig(
                manifest=clips([8000] * n, name=f"of{n}"),
                store=str(tmp_path / f"s{n}"),
                decode="processes",
                **options,  # type: ignore[arg-type]
            )
        )
        gc.collect()
        assert live == 0
        held.append(most)
        n_open.append(len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0)
    n_unit_bytes = 16 * 8000 * 4  # decoders look ahead within a unit, and a little into the next
    assert max(held) <= 1.25 * n_unit_bytes
    assert n_open[1] <= n_open[0] + 2  # what the first run opens once stays


def test_decoders_import_little() -> None:
    code = "import sys, extractors.audio.decoder_process as d; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "pandas", "pyarrow", "zarr", "dask", "sklearn"}
    assert heavy & set(done.stdout.split()) == set()


def test_the_choice_of_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.audio.decoders.available_cores", lambda: 16)
    monkeypatch.setattr("extractors.audio.decoders.decoding_threads", lambda: 8)
    assert str(choose_decoders("auto", None, "cpu")) == "8 threads"
    assert str(choose_decoders("auto", None, "cuda:1")) == "15 processes"
    assert str(choose_decoders("auto", None, "cuda:1", n_devices=4)) == "3 processes"
    assert str(choose_decoders("auto", None, "cuda:1", n_devices=8)) == "8 threads"
    assert str(choose_decoders("auto", 3, "cuda")) == "3 processes"
    assert str(choose_decoders("threads", None, "cuda")) == "8 threads"
    assert str(choose_decoders("processes", 2, "cpu")) == "2 processes"
    with pytest.raises(ConfigError, match="--decode: expected one of auto, threads, processes, got 'forks'"):
        ExtractConfig(manifest=Path("m"), dataset="d", model="m", store="s", decode="forks")  # type: ignore[arg-type]


SCRIPT = """
import sys, time
from pathlib import Path
from extractors import ExtractConfig, extract
from extractors.forward.embedder import Embedder
slow = Embedder.embed
def crawl(self, *args):
    time.sleep(0.05)
    return slow(self, *args)
Embedder.embed = crawl
extract(ExtractConfig(manifest=Path(sys.argv[1]), dataset="d", model="logmel", store=sys.argv[2], unit_rows=4,
                      batch_seconds=1.0, workers=2, decode="processes"))
"""


def files_of_ours() -> Iterator[str]:
    for folder in ("/dev/shm", tempfile.gettempdir()):
        yield from (name for name in os.listdir(folder) if "featurestore-" in name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_leaves_no_process_and_no_file_and_goes_on(
    clips: Clips, tmp_path: Path, end: signal.Signals
) -> None:
    manifest = clips([5000 + 997 * (i % 5) for i in range(24)])
    store, before = tmp_path / "s", set(files_of_ours())
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(manifest), str(store)],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_ctrl_c,
    )
    deadline = time.monotonic() + 60
    while len(list(store.glob("*/*/ledger/c/[0-9]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    decoders = psutil.Process(process.pid).children(recursive=True)
    assert decoders
    process.send_signal(end)
    assert process.wait(30) in (-end, 1)
    _, alive = psutil.wait_procs(decoders, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []  # init may be slow to reap
    assert set(files_of_ours()) <= before

    options = {"manifest": manifest, "dataset": "d", "model": "logmel", "unit_rows": 4, "batch_seconds": 1.0}
    assert extract(ExtractConfig(**options, store=str(store), decode="processes")).n_skipped >= 8  # type: ignore[arg-type]
    extract(ExtractConfig(**options, store=str(tmp_path / "quiet")))  # type: ignore[arg-type]
    for partial in store.rglob("*.partial"):
        partial.unlink()
    assert embeddings(store) == embeddings(tmp_path / "quiet")
