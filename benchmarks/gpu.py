"""What a GPU gives, in one run of eight minutes on a machine with nothing but PyTorch and transformers.

    python benchmarks/gpu.py [--small] [--device cuda] [--minutes 8] [--sections parity,rates] [--out DIR]

It runs from the tree, needs no network and no installation (what else it imports: docs/airgapped.md), and
takes PyTorch and transformers as they are. Each section has its share of the time; both files are
written with every number; a number that cannot be had says why, and so does a section that fails or runs out
of time, and the next begins. The work is done in a process of its own: where that is lost or hangs (an error
of a GPU is one of its whole process), the sections that are left get a fresh one.

parity   every family, tiny and at HuBERT-base's size, random weights, against the CPU in fp32
peak     a matrix product on the spot, in fp32, tf32 and bf16
rates    HuBERT-base over clips of 0.38 s and of 10 s in memory: clips/s, share of the peak, idle share
peers    the same clips at batch 1, and in padded batches of 32 without corrections
files    from audio files to a committed store, and the same with a model that costs nothing
probes   training on the device against the CPU: seconds, and the largest difference of a logit
fits     1,000 fits of 20,000 rows of 1,536 numbers

With ``--device cpu --small`` the same code runs anywhere, as a smoke test; its numbers say nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe  # noqa: E402
from speech import RATE_HZ, load_peer, save_model, timed, wait_for, write_corpus  # noqa: E402

if TYPE_CHECKING:
    from extractors.models.interface import Precision

FP32_TOLERANCE, BF16_COSINE, LOGIT_TOLERANCE = 1e-4, 0.999, 1e-3
SHORT_S, LONG_S = 0.38, 10.0
# A process that does not begin, and a section that does not end in its time, are waited for so long.
START_S, GRACE_S = 120.0, 20.0
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
N_CLASSES = 11


@dataclass(frozen=True)
class Run:
    """What every section is told."""

    device: str
    small: bool
    folder: Path

    def pick(self, small: Any, large: Any) -> Any:
        """A size."""
        return small if self.small else large


class OutOfTime(BaseException):
    """A section has had its time; no `except Exception` in between takes it for something else."""


class Found(dict[str, Any]):
    """What a section found so far, written with everything that comes."""

    def __init__(self, write: Callable[[], None]) -> None:
        super().__init__()
        self._write = write

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._write()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a smoke run; its numbers say nothing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # of the process that does the work
    options = parser.parse_args()
    names = options.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--sections: expected some of {', '.join(SECTIONS)}, got {unknown[0]}")
    if options.until is not None:
        return do(options, names)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").unlink(missing_ok=True)
    watch(options, names, time.time() + options.minutes * 60)
    if not (options.out / "gpu.json").exists():
        sys.exit(f"{options.device}: nothing was measured; what the process said stands above")
    print((options.out / "gpu.md").read_text())
    return None


def watch(options: argparse.Namespace, names: Sequence[str], until: float) -> None:
    """Have sections done by another process, and those that are left by a fresh one where it is lost."""
    left = list(names)
    while left:
        command = [sys.executable, __file__, "--device", options.device, "--out", str(options.out)]
        command += ["--sections", ",".join(left), "--until", str(until), *["--small"] * options.small]
        with tempfile.TemporaryDirectory() as folder:
            # What a process that is lost leaves behind lies in there too.
            environment = {**os.environ, "TMPDIR": folder}
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            try:
                ended = wait(process, options.out)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        found = known(options.out)
        if ended == "exit code 0" or not found["sections"]:
            return
        begun = [name for name in left if name in found["sections"]]
        for name in begun or left[:1]:
            content = found["sections"].setdefault(name, {})
            if "seconds" not in content:
                content["failed"] = f"its process was lost ({ended})"
        found.pop("running_until", None)
        write(options.out, found)
        left = [name for name in left if name not in found["sections"]]


def wait(process: subprocess.Popen[bytes], out: Path) -> str:
    """How the process ended; it is not waited for long where it does not begin, or a section does not end."""
    limit = time.time() + START_S
    while process.poll() is None:
        limit = max(limit, known(out).get("running_until", 0.0) + GRACE_S)
        if time.time() > limit:
            return "it hung, long after its time"
        time.sleep(0.2)
    code = process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def known(out: Path) -> dict[str, Any]:
    """What stands in the file so far."""
    try:
        found: dict[str, Any] = json.loads((out / "gpu.json").read_text())
    except FileNotFoundError:
        return {"sections": {}}
    return found


def do(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Do sections in this process."""
    found = known(options.out) | machine(options.device, small=options.small)
    shares = sum(SECTIONS[name][1] for name in names)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options.device, options.small, Path(folder))
        for name in names:
            work, share = SECTIONS[name]
            # What earlier sections did not need is there for the later ones.
            budget_s = (options.until - time.time()) * share / shares
            shares -= share
            section(name, work, run, budget_s, found, lambda: write(options.out, found))


def section(
    name: str,
    work: Callable[[Run, dict[str, Any]], None],
    run: Run,
    budget_s: float,
    found: dict[str, Any],
    write: Callable[[], None],
) -> None:
    """Put what a section found until it ended, failed or ran out of time into all that was found."""
    own = found["sections"][name] = Found(write)
    if budget_s <= 1:
        own["not run"] = "no time was left"
        own["seconds"] = 0.0
        return

    def stop(signum: int, frame: object) -> None:
        raise OutOfTime(f"stopped after its {budget_s:.0f} s")

    found["running_until"] = time.time() + budget_s
    write()
    began = time.perf_counter()
    signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, budget_s)
        try:
            work(run, own)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (Exception, OutOfTime) as error:  # whatever it is, the next section is run
        own["failed"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    own["seconds"] = round(time.perf_counter() - began, 1)
    free(run)


def free(run: Run) -> None:
    """Leave the next section the memory of this one; a GPU that answers no more ends the process."""
    import torch

    gc.collect()
    if run.device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def attempt(found: dict[str, Any], name: str, measure: Callable[..., Any], *given: Any) -> None:
    """Put what is measured into what was found; where it cannot be had, why."""
    try:
        value = measure(*given)
    except Exception as error:  # the numbers after it do not need it
        traceback.print_exc()
        value = f"failed: {type(error).__name__}: {error}"
    found[name] = value


def write(out: Path, found: dict[str, Any]) -> None:
    """Both files, as far as things are; whoever reads them meanwhile finds them whole."""
    lines = ["# On a GPU", "", found["machine"], ""]
    if found["is_smoke"]:
        lines += ["A smoke run: its numbers say nothing.", ""]
    for name, content in found["sections"].items():
        lines += [f"## {name}", "", "| what | value |", "|---|---|"]
        lines += [f"| {key} | {_text(value)} |" for key, value in content.items()] + [""]
    for name, text in (("gpu.json", json.dumps(found, indent=1) + "\n"), ("gpu.md", "\n".join(lines))):
        (out / f".{name}").write_text(text)
        os.replace(out / f".{name}", out / name)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine(device: str, *, small: bool) -> dict[str, Any]:
    """One line, the device with it, and whether numbers say anything; lets an older PyTorch be.

    Values are compared under some releases of PyTorch and transformers, and earlier ones are refused
    elsewhere. Here they are not: that values agree is what the first section is about.
    """
    import torch

    from extractors.models import package_versions as versions

    versions.COMPARED = {name: ("0.0", last) for name, (_, last) in versions.COMPARED.items()}
    name = "CPU"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            sys.exit(f"--device {device}: PyTorch {torch.__version__} finds no CUDA device")
        name = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return {"machine": f"{describe('torch', 'transformers')}; {name}", "is_smoke": small}


# Sections: each puts what it finds into `found` as it goes.


def parity(run: Run, found: dict[str, Any]) -> None:
    """Largest relative difference of any clip and layer to the CPU in fp32, and least cosine in bf16."""
    from tests.models import FAMILIES, save_ast, save_ssl, save_w2v_bert, save_whisper

    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(n).astype(np.float32) for n in (16_000, 9001, 9000, 5000, 5000)]
    makers: dict[str, Callable[[Path], Path]] = {
        f"{family}-{flavour}": lambda d, f=family, v=flavour: save_ssl(d, f, v)
        for family in run.pick(["hubert"], list(FAMILIES))
        for flavour in ("base", "large")
    }
    makers |= {"wav2vec2-bert": save_w2v_bert, "whisper": save_whisper, "ast": save_ast}
    makers["hubert-base-size"] = lambda d: save_model(d, small=run.small)
    for name, make in makers.items():
        attempt(found, f"{name} fp32", deviation, run, make, run.folder / name, clips)
        if "bf16" in precisions(run):
            attempt(found, f"{name} bf16 cosine", cosine, run, run.folder / name, clips)


def deviation(run: Run, make: Callable[[Path], Path], folder: Path, clips: Sequence[np.ndarray]) -> str:
    """Largest relative difference of a clip and layer from the CPU, both in fp32, of a model made here."""
    spec = str(make(folder))
    exact, same = functionals(spec, "cpu", "fp32", clips), functionals(spec, run.device, "fp32", clips)
    pairs = zip(same, exact, strict=True)
    worst = max(float((np.abs(a - b).max((1, 2)) / np.abs(b).max((1, 2))).max()) for a, b in pairs)
    return f"{worst:.1e}" + ("" if worst <= FP32_TOLERANCE else " TOO LARGE")


def cosine(run: Run, folder: Path, clips: Sequence[np.ndarray]) -> str:
    """Least cosine of a clip and layer in bf16 to the CPU in fp32."""
    spec = str(folder)
    exact, half = functionals(spec, "cpu", "fp32", clips), functionals(spec, run.device, "bf16", clips)
    least = min(_cosine(a, b) for a, b in zip(half, exact, strict=True))
    return f"{least:.5f}" + ("" if least >= BF16_COSINE else " TOO SMALL")


def functionals(
    spec: str, device: str, precision: Precision, clips: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Mean and std of every layer, `[clips, 2, features]`, as a run computes them."""
    from extractors import find_model
    from extractors.forward.functionals import fetch, finish, reduce_frames

    source = find_model(spec)
    extractor = source.load(device, precision)
    queued: list[Any] = []
    extractor.forward(
        clips,
        list(range(source.card.n_layers)),
        lambda layer, frames, n_valid: queued.append(reduce_frames(frames, n_valid, ("mean", "std"))),
    )
    return [finish(parts, ("mean", "std")).astype(np.float64) for parts in fetch(queued)]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return float(((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).min())


def precisions(run: Run) -> tuple[Precision, ...]:
    """Those of the device: tf32 is fp32 on a CPU, and most emulate bf16, tens of times slower."""
    return PRECISIONS if run.device.startswith("cuda") else ("fp32",)


def peak(run: Run, found: dict[str, Any]) -> None:
    """TFLOP/s of a square matrix product, the best of several."""
    for precision in precisions(run):
        attempt(found, f"{precision} TFLOP/s", product_tflops, run, precision)


def product_tflops(run: Run, precision: Precision) -> float:
    """Of a square matrix product."""
    import torch

    from extractors.models.arithmetic import products_in

    n = run.pick(128, 8192)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(n, n, dtype=torch.float32).to(run.device, dtype)
    with products_in(precision):
        a @ a
        seconds = min(timed(lambda: (a @ a, wait_for(run.device))) for _ in range(run.pick(3, 10)))
    return float(2 * n**3 / seconds / 1e12)


def clips_of(run: Run, seconds: float, most_s: float) -> list[np.ndarray]:
    """Noise of nearly one length, in order, so many that they are `most_s` seconds of audio in all."""
    rng = np.random.default_rng(0)
    if run.small:
        seconds, most_s = seconds / 5, seconds
    n = max(2, round(most_s / seconds))
    lengths = np.sort(rng.normal(seconds, seconds / 5, n).clip(seconds / 2, seconds * 2) * RATE_HZ)[::-1]
    return [(0.1 * rng.standard_normal(int(length))).astype(np.float32) for length in lengths]


def rates(run: Run, found: dict[str, Any]) -> None:
    """HuBERT-base as a run embeds, audio in memory; share of the peak that is measured beside it."""
    spec = str(save_model(run.folder / "hubert", small=run.small))
    tops: dict[str, Any] = {}
    peak(run, tops)
    for what, seconds, most_s in (("short", SHORT_S, 3000.0), ("long", LONG_S, 6000.0)):
        clips = clips_of(run, seconds, most_s)
        for precision in precisions(run):
            top = tops[f"{precision} TFLOP/s"]
            attempt(found, f"{what} {precision} clips/s", rate, run, spec, precision, clips, found, what, top)


def rate(
    run: Run,
    spec: str,
    precision: Precision,
    clips: list[np.ndarray],
    found: dict[str, Any],
    what: str,
    top: Any,
) -> float:
    """Clips per second; beside it, what they tell of the device."""
    from extractors import find_model
    from extractors.forward.batching import find_budget

    extractor = find_model(spec).load(run.device, precision)
    layers = list(range(extractor.card.n_layers))
    longest = len(clips[0])
    budget = find_budget(extractor, run.device, seconds=None, longest_samples=longest, layers=layers)
    batches = [clips[r.start : r.stop] for r in budget.cut([len(c) for c in clips])]
    embed_all(extractor, batches, layers)  # the first pass finds kernels and memory
    took = timed(lambda: embed_all(extractor, batches, layers))
    name = f"{what} {precision}"
    found[f"{name} times real time"] = sum(map(len, clips)) / RATE_HZ / took
    found[f"{name} batches"] = len(batches)

    def share() -> float:
        flops = count_flops(extractor, batches[0], layers)
        flops *= sum(len(b) * len(b[0]) for b in batches) / (len(batches[0]) * len(batches[0][0]))
        return float(flops / took / 1e12 / top)

    attempt(found, f"{name} share of peak", share)
    attempt(
        found, f"{name} idle share", lambda: idle_share(run, lambda: embed_all(extractor, batches, layers))
    )
    return len(clips) / took


def embed_all(extractor: Any, batches: Sequence[Sequence[np.ndarray]], layers: Sequence[int]) -> None:
    """Forward and functionals as in a run: of a batch they are waited for when the next is queued.

    Another thread puts the clips of the next batch together meanwhile.
    """
    from extractors.forward.functionals import finish, reduce_frames, send

    on_its_way = None

    def put_away() -> None:
        if on_its_way is not None:
            for parts in on_its_way.wait():
                finish(parts, ("mean", "std"))

    def stacked(clips: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return (extractor.stack(clips) or clips) if extractor.sends_batches else clips

    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(stacked, batches[0])
        for following in [*batches[1:], None]:
            clips = ready.result()
            if following is not None:
                ready = beside.submit(stacked, following)
            queued: list[Any] = []
            extractor.forward(
                clips,
                layers,
                lambda layer, frames, n, q=queued: q.append(reduce_frames(frames, n, ("mean", "std"))),
            )
            sent = send(queued)
            put_away()
            on_its_way = sent
    put_away()


def count_flops(extractor: Any, clips: Sequence[np.ndarray], layers: Sequence[int]) -> float:
    """Of one batch, by PyTorch's counter; on a CPU attention is not in it."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        extractor.forward(clips, layers, lambda *_: None)
    return float(counter.get_total_flops())


def idle_share(run: Run, work: Callable[[], None]) -> float | str:
    """Share of the time from the first kernel to the last in which the GPU ran none and copied nothing."""
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    if not run.device.startswith("cuda"):
        return "no GPU"
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    spans = [
        (e.time_range.start, e.time_range.end) for e in seen.events() if e.device_type == DeviceType.CUDA
    ]
    return idle_of(spans) if spans else "unknown: the profiler saw no kernel"


def idle_of(spans: Sequence[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end in which nothing ran; spans may overlap."""
    ordered = sorted(spans)
    begin = busy_until = ordered[0][0]
    busy = 0.0
    for start, stop in ordered:
        busy += max(0.0, stop - max(start, busy_until))
        busy_until = max(busy_until, stop)
    return 1 - busy / (busy_until - begin)


def peers(run: Run, found: dict[str, Any]) -> None:
    """What people run instead, on clips in memory: one at a time, and padded batches of 32 in no order."""
    import torch

    peer = load_peer(save_model(run.folder / "peer", small=run.small), run.device)
    rng = np.random.default_rng(1)
    for what, seconds in (("short", SHORT_S), ("long", LONG_S)):
        clips = clips_of(run, seconds, 100.0 if what == "short" else 1000.0)
        shuffled = [clips[i] for i in rng.permutation(len(clips))]
        for name, size in (("batch 1", 1), ("padded 32", 32)):

            def loop(size: int = size, shuffled: list[np.ndarray] = shuffled) -> None:
                for start in range(0, len(shuffled), size):
                    some = shuffled[start : start + size]
                    batch = np.zeros((len(some), max(map(len, some))), np.float32)
                    for row, clip in zip(batch, some, strict=True):
                        row[: len(clip)] = clip
                    with torch.inference_mode():
                        inputs = torch.from_numpy(batch).to(run.device)
                        states = peer(inputs, output_hidden_states=True).hidden_states
                        torch.stack([torch.cat([h.mean(1), h.std(1)], -1) for h in states]).cpu()

            def per_second(loop: Callable[[], None] = loop, n: int = len(clips)) -> float:
                loop()
                return n / timed(loop)

            attempt(found, f"{what} {name} clips/s", per_second)


def files(run: Run, found: dict[str, Any]) -> None:
    """From files to a committed store, in clips per second, with and without a model."""
    import null_model

    manifest = write_corpus(run.folder / "audio", run.pick(16, 8192))
    null_model.register(run.folder / "site")
    sys.path.append(str(run.folder / "site"))
    spec = str(save_model(run.folder / "hubert-files", small=run.small))
    runs: list[tuple[str, str, Precision]] = [("nothing", "null:13x768", "fp32")]
    runs += [(f"hubert {p}", spec, p) for p in precisions(run)]
    for name, model, precision in runs:
        attempt(found, f"{name} clips/s", per_second, run, manifest, name, model, precision, found)


def per_second(
    run: Run, manifest: Path, name: str, model: str, precision: Precision, found: dict[str, Any]
) -> float:
    """Clips per second from files to a committed store, the loading of the model with it."""
    from extractors import ExtractConfig, extract

    began = time.perf_counter()
    summary = extract(
        ExtractConfig(
            manifest=manifest, dataset="calls", model=model, name=name.replace(" ", "-"),
            store=str(run.folder / "store"), precision=precision, selfcheck=0,
            device="cpu" if name == "nothing" else run.device,
        )
    )  # fmt: skip
    took = time.perf_counter() - began
    if summary.failed:
        raise RuntimeError(f"{len(summary.failed)} clips failed, {next(iter(summary.failed.items()))}")
    found[f"{name} share of time in the model"] = summary.forward_s / summary.elapsed_s
    return summary.n_clips / took


def rows(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised rows `[n, d]` and their classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, n)
    centres = rng.standard_normal((N_CLASSES, d), dtype=np.float32)
    return rng.standard_normal((n, d), dtype=np.float32) + np.float32(0.06) * centres[y], y


def probes(run: Run, found: dict[str, Any]) -> None:
    """The same fits on the CPU and on the device: one epoch for the logits, more for the time."""
    from probes.training.mlp import MLPConfig, fit_mlps

    n, d, k = run.pick((400, 64, 4), (20_000, 1536, 32))
    x, y = rows(n, d)
    cut = n * 4 // 5

    def fit(device: str, epochs: int) -> list[Any]:
        configs = [MLPConfig(seed=seed, max_epochs=epochs, patience=epochs) for seed in range(k)]
        return fit_mlps(x[:cut], y[:cut], x[cut:], y[cut:], N_CLASSES, configs, device=device)

    def difference() -> str:
        few = [fit(device, 1)[:4] for device in ("cpu", run.device)]
        pairs = zip(*few, strict=True)
        worst = max(float(np.abs(a.logits(x[cut:]) - b.logits(x[cut:])).max()) for a, b in pairs)
        return f"{worst:.1e}" + ("" if worst <= LOGIT_TOLERANCE else " TOO LARGE")

    attempt(found, "largest difference of a logit", difference)
    epochs = run.pick(1, 3)
    for device in (run.device, "cpu"):
        name = f"{k} fits, {epochs} epochs on {device}, s"
        attempt(found, name, timed, partial(fit, device, epochs))


def fits(run: Run, found: dict[str, Any]) -> None:
    """As many fits as a grid of layers, seeds and settings has, on one layer; of 10 epochs."""
    from probes.training.mlp import MLPConfig, fit_mlps

    n, d, counts = run.pick((400, 64, (8,)), (20_000, 1536, (100, 1000)))
    x, y = rows(n, d)
    cut = n * 4 // 5
    for k in counts:  # some of them first, where time runs out with all
        configs = [
            MLPConfig(seed=seed, max_epochs=10, patience=10, learning_rate=(1e-4, 3e-4, 1e-3)[seed % 3])
            for seed in range(k)
        ]
        rows_of = x[:cut], y[:cut], x[cut:], y[cut:]
        took = timed(partial(fit_mlps, *rows_of, N_CLASSES, configs, device=run.device))
        found[f"{k:,} fits of {n:,} × {d:,}, s"] = took
        found[f"{k:,} fits, ms a fit and epoch"] = took / k / 10 * 1e3


# Name → section, and its share of the time.
SECTIONS: dict[str, tuple[Callable[[Run, dict[str, Any]], None], float]] = {
    "parity": (parity, 2),
    "peak": (peak, 0.5),
    "rates": (rates, 3),
    "peers": (peers, 1.5),
    "files": (files, 3),
    "probes": (probes, 2),
    "fits": (fits, 3),
}


if __name__ == "__main__":
    main()
