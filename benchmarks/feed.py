"""How fast clips get to a model and functionals from it, beside soundfile and soxr alone.

    python benchmarks/feed.py [--quick] [--clips N] [--repeats N] [--decoders 1,2,4] [--record [--out DIR]]

The model costs nothing (`null_model.py`), once with one layer of 8 features and once with 13 of 768.
Marmoset-like clips are cut in random order out of 44.1 kHz recordings: WAV of two minutes, FLAC of
thirty. A peer reads the same stretches with soundfile and brings them to 16 kHz with soxr, with as many
threads, and does nothing else. For WAV it opens the file of each clip anew; for FLAC it takes the clips in
the order of the files and opens each file once in every thread. Runs have decoders that are threads and,
with the most decoders, decoders that are processes, whose start is in their time. Peers and runs are
measured by turns, several times; ratios are of medians. Counts of decoders go up to the cores there are.
With the most of them runs over WAV are measured once more while half of the cores are kept busy. Steps are
measured on one thread, in processor time, up to the clip and from the hidden states of 13x768 to files.
Functionals are set against a HuBERT-base of random weights.
With --record results go to DIR as JSON and as `feed.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import soundfile
import soxr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import null_model  # noqa: E402
from machine import describe  # noqa: E402
from speech import MEAN_S, MEDIAN_S, save_model  # noqa: E402

if TYPE_CHECKING:
    from extractors.audio.decoders import Decode

RATE_HZ, MODEL_RATE_HZ = 44_100, 16_000
SIZES = ("1x8", "13x768")
KINDS: tuple[Decode, ...] = ("threads", "processes")
RUNS = {f"{kind} {size}": (kind, size) for kind in KINDS for size in SIZES}
# Container → sizes of the model; container, size → the share of the peer's rate that is wanted.
CONTAINERS = {"wav": SIZES, "flac": ("1x8",)}
WANTED = {("wav", "1x8"): 0.75, ("wav", "13x768"): 0.45, ("flac", "1x8"): 0.5}
# And of a run's own rate where half of the cores are busy.
WANTED_BUSY = 0.5
# Container → recordings, seconds of each.
RECORDINGS = {"wav": (20, 120), "flac": (3, 1800)}
QUICK = {"wav": (3, 10), "flac": (1, 30)}
# Clips whose steps are measured, and that go through HuBERT together.
N_STEPS, N_HUBERT = 600, 16
Place = tuple[str, float, float, None]
Times = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run of seconds; its numbers say nothing"
    )
    parser.add_argument("--clips", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--decoders", default="1,2,4,8,16")
    parser.add_argument("--record", action="store_true", help="keep the results with the machine")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    n = options.clips or (60 if options.quick else 4000)
    repeats = options.repeats or (1 if options.quick else 3)
    from featurestore.compute.task_runners import available_cores

    cores = available_cores()
    decoders = [d for d in map(int, options.decoders.split(",")) if d <= cores] or [cores]
    if options.quick:
        decoders = decoders[:1]
    found: dict[str, Any] = {"machine": describe("torch", "soundfile", "soxr"), "clips": n, "feeds": []}
    found["steps_us"] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        null_model.register(folder / "site")
        sys.path.append(str(folder / "site"))
        for container, (files, seconds) in (QUICK if options.quick else RECORDINGS).items():
            places = write_recordings(folder / container, container, files, seconds, n)
            for count, n_busy in [*((count, 0) for count in decoders), (decoders[-1], cores // 2)]:
                if n_busy and (options.quick or container != "wav"):
                    continue
                runs = runs_of(container, with_processes=count == decoders[-1])
                with kept_busy(n_busy):
                    found["feeds"].append(feed(folder, container, places, count, repeats, runs, n_busy))
                print(row(found["feeds"][-1]), flush=True)
            found["steps_us"][container] = steps(places[:N_STEPS])
            if container == "wav":
                found["kept_us"] = keeping(places[:N_STEPS], folder / "kept")
        found["start"] = start_of_process(places[0])
        found["functionals"] = functionals(folder / "hubert", small=options.quick)
    lines = page(found)
    print("\n".join(lines))
    if options.record and not options.quick:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "feed.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.out / "feed.md").write_text("\n".join(lines) + "\n")


def write_recordings(folder: Path, container: str, files: int, seconds: int, n: int) -> list[Place]:
    """Recordings of noise, and a manifest of `n` clips of them in random order."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(files):
        with soundfile.SoundFile(
            folder / f"{i}.{container}", "w", RATE_HZ, 1, subtype="PCM_16", format=container.upper()
        ) as file:
            for _ in range(0, seconds, 10):
                file.write((0.1 * rng.standard_normal(RATE_HZ * 10)).astype(np.float32))
    sigma = np.sqrt(2 * np.log(MEAN_S / MEDIAN_S))
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_S), sigma, n), 0.03, 8.0)
    starts = rng.uniform(0, seconds - lengths)
    table = pd.DataFrame(
        {
            "path": [f"{i}.{container}" for i in rng.integers(0, files, n)],
            "start_s": starts.round(4),
            "end_s": (starts + lengths).round(4),
        }
    )
    table.to_csv(folder / "manifest.csv", index=False)
    return [(str(folder / p), a, b, None) for p, a, b in table.itertuples(index=False)]


@contextlib.contextmanager
def kept_busy(n: int) -> Iterator[None]:
    """So many processes that do nothing but work."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def runs_of(container: str, *, with_processes: bool) -> list[str]:
    """Names of the runs that are measured over recordings of a kind."""
    return [
        name
        for name, (kind, size) in RUNS.items()
        if size in CONTAINERS[container] and (with_processes or kind == "threads")
    ]


def feed(
    folder: Path,
    container: str,
    places: list[Place],
    decoders: int,
    repeats: int,
    runs: list[str],
    n_busy: int,
) -> dict[str, Any]:
    """Seconds and processor seconds of the peer and of each of these runs, by turns."""

    def ours(kind: Decode, size: str) -> tuple[float, float]:
        store = folder / f"{container}-{kind}-{size}"
        return extracted(folder / container / "manifest.csv", store, size, decoders, kind)

    variants: dict[str, Callable[[], tuple[float, float]]] = {
        "peer": lambda: timed(lambda: PEERS[container](places, decoders)),
        **{name: partial(ours, *RUNS[name]) for name in runs},
    }
    seconds: Times = {name: [] for name in variants}
    processor: Times = {name: [] for name in variants}
    for _, (name, run) in itertools.product(range(repeats), variants.items()):
        wall, cpu = run()
        seconds[name].append(wall)
        processor[name].append(cpu)
    return {
        "container": container,
        "decoders": decoders,
        "busy": n_busy,
        "clips_per_s": {name: round(len(places) / statistics.median(s), 1) for name, s in seconds.items()},
        "cpu_us": {name: round(1e6 * statistics.median(s) / len(places)) for name, s in processor.items()},
        "seconds": {name: [round(x, 3) for x in s] for name, s in seconds.items()},
    }


def peer(places: list[Place], threads: int) -> None:
    """What a clip costs at least: its file opened, the stretch read and resampled."""

    def one(place: Place) -> np.ndarray:
        path, start_s, end_s, _ = place
        with soundfile.SoundFile(path) as file:
            first, last = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
            file.seek(first)
            return soxr.resample(file.read(last - first, dtype="float32"), RATE_HZ, MODEL_RATE_HZ)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, places):
            pass


def peer_in_order(places: list[Place], threads: int) -> None:
    """The same, file by file, each opened once in every thread."""
    in_order = sorted(places)
    size = -(-len(in_order) // threads)

    def some(places: list[Place]) -> None:
        for path, of_file in itertools.groupby(places, key=lambda place: place[0]):
            with soundfile.SoundFile(path) as file:
                for _, start_s, end_s, _ in of_file:
                    first, last = round(start_s * RATE_HZ), round(end_s * RATE_HZ)
                    file.seek(first)
                    soxr.resample(file.read(last - first, dtype="float32"), RATE_HZ, MODEL_RATE_HZ)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, [in_order[i : i + size] for i in range(0, len(in_order), size)]))


PEERS = {"wav": peer, "flac": peer_in_order}


def extracted(
    manifest: Path, store: Path, size: str, decoders: int, kind: Decode = "threads"
) -> tuple[float, float]:
    """Seconds and processor seconds from the first clip to the last committed unit."""
    from extractors import ExtractConfig, extract
    from extractors.run import extraction

    config = ExtractConfig(
        manifest=manifest,
        dataset="d",
        model=f"null:{size}",
        store=str(store),
        device="cpu",
        workers=decoders,
        decode=kind,
        overwrite=True,
        selfcheck=0,
    )
    spent: list[tuple[float, float]] = []
    run_jobs = extraction.run_jobs
    extraction.run_jobs = lambda *given: spent.append(timed(lambda: run_jobs(*given)))  # type: ignore[assignment]
    try:
        summary = extract(config)
    finally:
        extraction.run_jobs = run_jobs
    assert not summary.failed
    return spent[0]


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and processor seconds of all threads and of processes that have ended."""
    before, began = processor_seconds(), time.perf_counter()
    run()
    return time.perf_counter() - began, processor_seconds() - before


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def start_of_process(place: Place) -> dict[str, float]:
    """Milliseconds and processor milliseconds until a decoder process has decoded its first clip."""
    from extractors.audio.decoders import ProcessDecoders
    from extractors.audio.policy import AudioPolicy

    policy = AudioPolicy(sample_rate_hz=MODEL_RATE_HZ, normalisation="none")

    def one() -> None:
        with ProcessDecoders() as decoders:
            decoders.load([place], [policy])

    wall, cpu = zip(*(timed(one) for _ in range(3)), strict=True)
    return {"ms": round(1e3 * min(wall)), "cpu_ms": round(1e3 * min(cpu))}


def steps(places: list[Place]) -> dict[str, float]:
    """Processor microseconds of a clip by step, on one thread; the least of three."""
    from extractors.audio.normalising import normalise
    from extractors.audio.policy import AudioPolicy
    from extractors.audio.resampling import resample_all
    from extractors.audio.waveform import file_order, load_together
    from extractors.run.pipeline import decoding_tasks
    from featurestore.audio.recordings import Recordings
    from featurestore.audio.segment import SampleHash, open_stretch
    from featurestore.audio.spectrum import shares_above

    # As they go: the longest first, in tasks, each in the order of the files.
    planned = sorted(places, key=lambda p: p[1] - p[2])
    policy = AudioPolicy(sample_rate_hz=MODEL_RATE_HZ, normalisation="zero-mean-unit-variance")
    rows = decoding_tasks([policy.model_samples(end_s - start_s) for _, start_s, end_s, _ in planned])
    tasks = [sorted((planned[i] for i in task), key=file_order) for task in rows]

    def read(held: Recordings | None) -> list[list[np.ndarray]]:
        found = []
        for task in tasks:
            found.append([])
            for place in task:
                with open_stretch(*place, held) as stretch:
                    found[-1] += list(stretch.blocks())
        return found

    def hashed() -> None:
        for clip in itertools.chain(*clips):
            own = SampleHash(RATE_HZ)
            own.add(clip)

    def above() -> None:
        for task in clips:
            shares_above(task, RATE_HZ, MODEL_RATE_HZ / 2)

    def resampled() -> list[Any]:
        return [resample_all(task, RATE_HZ, MODEL_RATE_HZ, "hq") for task in clips]

    with Recordings() as held:
        clips = read(held)
        ready = [np.resize(c, max(len(c), policy.min_samples)) for task in resampled() for c in task]
        every: dict[str, Callable[[], object]] = {
            "read, each file opened anew": lambda: read(None),
            "read, recordings open": lambda: read(held),
            "hash": hashed,
            "energy above the model's Nyquist frequency": above,
            "resample": resampled,
            "normalise": lambda: [normalise(clip, policy.normalisation) for clip in ready],
            "all of it": lambda: [load_together(task, [policy], held) for task in tasks],
            "soundfile and soxr alone": lambda: peer(places, 1),
        }
        return {
            name: round(1e6 * min(timed(run)[1] for _ in range(3)) / len(places), 1)
            for name, run in every.items()
        }


def keeping(places: list[Place], folder: Path) -> dict[str, float]:
    """Processor microseconds of a clip from 13 hidden states of 768 to files; the least of three."""
    from extractors.audio.policy import AudioPolicy
    from extractors.forward.batching import find_budget
    from extractors.forward.functionals import Parts, QueuedParts, finish, reduce_frames
    from featurestore.format.layer_arrays import LayerShape
    from featurestore.outputs import put_file
    from featurestore.store import fast_shards

    names, n = ("mean", "std"), len(places)
    policy = AudioPolicy(sample_rate_hz=MODEL_RATE_HZ, normalisation="none")
    lengths = sorted((policy.model_samples(end_s - start_s) for _, start_s, end_s, _ in places), reverse=True)
    model = null_model.NullSource("13x768").load("cpu", "fp32")
    layers = range(model.card.n_layers)
    budget = find_budget(model, "cpu", seconds=None, longest_samples=lengths[0], layers=layers)
    cuts = budget.cut(lengths)
    clips = [[np.empty(k, np.float32) for k in lengths[rows.start : rows.stop]] for rows in cuts]
    values = np.zeros((len(layers), n, len(names), model.card.n_features), np.float32)
    shape = LayerShape(n_functionals=len(names), n_features=model.card.n_features, unit_rows=n)
    parts: list[list[Parts | QueuedParts]] = []

    def reduced() -> None:
        parts[:] = [[] for _ in clips]
        for of_batch, batch in zip(parts, clips, strict=True):
            model.forward(
                batch, layers, lambda _, x, k, kept=of_batch: kept.append(reduce_frames(x, k, names))
            )

    def finished() -> None:
        for of_batch, rows in zip(parts, cuts, strict=True):
            for of_layer, found in zip(values, of_batch, strict=True):
                assert isinstance(found, Parts)
                finish(found, names, of_layer[rows.start : rows.stop])

    def encoded() -> list[bytes]:
        shards = [fast_shards.encode(shape, of_layer) for of_layer in values]
        for shard in shards:
            fast_shards.describe_shard(shard, shape.n_chunks)
        return shards

    def written() -> None:
        for i, shard in enumerate(shards):
            put_file(shard, folder / str(i))

    def least(run: Callable[[], object]) -> float:
        return round(1e6 * min(timed(run)[1] for _ in range(3)) / n, 1)

    folder.mkdir()
    found = {"mean and std of its frames": least(reduced), "put in place": least(finished)}
    found["packed, with checksums"] = least(encoded)
    shards = encoded()
    return found | {"written, and on disk": least(written)}


def functionals(folder: Path, *, small: bool) -> dict[str, float]:
    """Processor milliseconds of a HuBERT-base's forward pass, and of the functionals of its layers."""
    import torch

    from extractors import find_model
    from extractors.forward.functionals import reduce_frames

    source = find_model(str(save_model(folder, small=small)))
    model = source.load("cpu", "fp32")
    clips = [
        (0.1 * np.random.default_rng(i).standard_normal(5000)).astype(np.float32) for i in range(N_HUBERT)
    ]
    layers = list(range(source.card.n_layers))
    states: list[tuple[torch.Tensor, list[int]]] = []
    model.forward(clips, layers, lambda layer, frames, n: states.append((frames.clone(), list(n))))
    forward = [timed(lambda: model.forward(clips, layers, lambda *_: None))[1] for _ in range(3)]
    reduced = [
        timed(lambda: [reduce_frames(frames, n, ("mean", "std")) for frames, n in states])[1]
        for _ in range(9)
    ]
    found = {
        "forward_ms": 1e3 * statistics.median(forward),
        "functionals_ms": 1e3 * statistics.median(reduced),
    }
    return {name: round(ms, 2) for name, ms in found.items()}


def row(feed: dict[str, Any]) -> str:
    """A line of the table."""
    rate, cpu = feed["clips_per_s"], feed["cpu_us"]
    busy = f", {feed['busy']} cores busy" if feed["busy"] else ""
    cells = [f"{feed['container']}{busy}", feed["decoders"], f"{rate['peer']:.0f}"]
    cells += [f"{rate[name]:.0f} ({rate[name] / rate['peer']:.2f})" if name in rate else "–" for name in RUNS]
    cells += [" / ".join(str(cpu.get(name, "–")) for name in ("peer", *RUNS))]
    return "| " + " | ".join(map(str, cells)) + " |"


def verdicts(feeds: list[dict[str, Any]]) -> list[str]:
    """What is wanted with the most decoders: of the better kind, and of each where cores are busy."""
    lines = []
    for (container, size), wanted in WANTED.items():
        last = [f for f in feeds if f["container"] == container and not f["busy"]][-1]
        rate = last["clips_per_s"]
        rates = {kind: rate[name] for name, (kind, of) in RUNS.items() if of == size and name in rate}
        kind = max(rates, key=rates.__getitem__)
        what = f"{container}, null {size}, {last['decoders']} {kind}, of the peer"
        lines.append(verdict(what, rates[kind] / rate["peer"], wanted))
    for busy in (f for f in feeds if f["busy"]):
        same = ("container", "decoders")
        [idle] = [f for f in feeds if not f["busy"] and all(f[k] == busy[k] for k in same)]
        for name in RUNS:
            what = f"{busy['container']}, {name}, {busy['busy']} cores busy, of itself"
            lines.append(verdict(what, busy["clips_per_s"][name] / idle["clips_per_s"][name], WANTED_BUSY))
    return lines


def verdict(what: str, share: float, wanted: float) -> str:
    """A line of the table of what is wanted."""
    return f"| {what} | {share:.2f} | {wanted} | {'ok' if share >= wanted else 'NOT MET'} |"


def page(found: dict[str, Any]) -> list[str]:
    """What was measured, as Markdown."""
    share = found["functionals"]["functionals_ms"] / found["functionals"]["forward_ms"]
    of_wav, of_flac = found["steps_us"]["wav"], found["steps_us"]["flac"]
    heads = ["recordings", "decoders", "soundfile + soxr"]
    heads += [f"{kind}, null {size}" for kind, size in RUNS.values()]
    heads += ["CPU µs: soundfile + soxr, " + ", ".join(RUNS)]
    return [
        "# The feed: clips to a model that costs nothing",
        "",
        "`python benchmarks/feed.py --record`",
        "",
        f"{found['machine']}; {found['clips']:,} clips, clips/s (share of soundfile + soxr's, which open "
        "the file of each clip anew for WAV, and each file once, in order, for FLAC) and processor "
        "microseconds per clip",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *map(row, found["feeds"]),
        "",
        "| share | measured | wanted | |",
        "|---|---|---|---|",
        *verdicts(found["feeds"]),
        "",
        "| step, one thread | CPU µs per clip, WAV | FLAC |",
        "|---|---|---|",
        *(f"| {name} | {us:.0f} | {of_flac[name]:.0f} |" for name, us in of_wav.items()),
        "",
        "| step, one thread, 13 layers of 768 | CPU µs per clip |",
        "|---|---|",
        *(f"| {name} | {us:.0f} |" for name, us in found["kept_us"].items()),
        "",
        f"A decoder process has its first clip after {found['start']['ms']} ms, of which it computes "
        f"{found['start']['cpu_ms']} ms.",
        "",
        f"Mean and std of all layers take {100 * share:.2f} % of the processor time of a HuBERT-base's "
        f"forward pass ({N_HUBERT} clips of 5,000 samples).",
    ]


if __name__ == "__main__":
    main()
