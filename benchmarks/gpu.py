"""What a GPU gives, in one run of eight minutes on a machine with nothing but PyTorch and transformers.

    python benchmarks/gpu.py [--small] [--device cuda] [--minutes 8] [--sections parity,rates] [--out DIR]

It runs from the tree, needs no network and no installation (what else it imports: docs/airgapped.md), and
takes PyTorch and transformers as they are. Each section has its share of the time; both files are
written when it ends; one that fails or runs out of time says so, and the next begins.

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
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a smoke run; its numbers say nothing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    names = options.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--sections: expected some of {', '.join(SECTIONS)}, got {unknown[0]}")
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    found: dict[str, Any] = {"machine": machine(options.device), "sections": {}}
    shares = sum(SECTIONS[name][1] for name in names)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(options.device, options.small, Path(folder))
        for name in names:
            work, share = SECTIONS[name]
            left = options.minutes * 60 - (time.perf_counter() - began)
            # What earlier sections did not need is there for the later ones.
            budget, shares = left * share / shares, shares - share
            found["sections"][name] = section(work, run, budget)
            write(options.out, found)
    print((options.out / "gpu.md").read_text())


def section(work: Callable[[Run, dict[str, Any]], None], run: Run, budget_s: float) -> dict[str, Any]:
    """What a section found until it ended, failed or ran out of time."""
    found: dict[str, Any] = {}
    began = time.perf_counter()
    if budget_s <= 1:
        return {"not run": "no time was left"}

    def stop(signum: int, frame: object) -> None:
        raise TimeoutError(f"stopped after its {budget_s:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, budget_s)
    try:
        work(run, found)
    except Exception as error:  # whatever it is, the next section is run
        found["failed"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    found["seconds"] = round(time.perf_counter() - began, 1)
    return found


def write(out: Path, found: dict[str, Any]) -> None:
    """Both files, as far as things are."""
    (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = ["# On a GPU", "", found["machine"], ""]
    for name, content in found["sections"].items():
        lines += [f"## {name}", "", "| what | value |", "|---|---|"]
        lines += [f"| {key} | {_text(value)} |" for key, value in content.items()] + [""]
    (out / "gpu.md").write_text("\n".join(lines))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine(device: str) -> str:
    """One line, the device with it; tells if PyTorch is older than what values were compared under."""
    import torch

    from extractors.models import package_versions as versions

    # Not refused here: that values agree is what the first section is about.
    versions.COMPARED = {name: ("0.0", last) for name, (_, last) in versions.COMPARED.items()}
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    return f"{describe('torch', 'transformers')}; {name}"


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
        spec = str(make(run.folder / name))
        exact = functionals(spec, "cpu", "fp32", clips)
        same = functionals(spec, run.device, "fp32", clips)
        worst = max(
            float((np.abs(a - b).max((1, 2)) / np.abs(b).max((1, 2))).max())
            for a, b in zip(same, exact, strict=True)
        )
        found[f"{name} fp32"] = f"{worst:.1e}" + ("" if worst <= FP32_TOLERANCE else " TOO LARGE")
        if "bf16" not in precisions(run):
            continue
        half = functionals(spec, run.device, "bf16", clips)
        least = min(_cosine(a, b) for a, b in zip(half, exact, strict=True))
        found[f"{name} bf16 cosine"] = f"{least:.5f}" + ("" if least >= BF16_COSINE else " TOO SMALL")


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
    import torch

    from extractors.models.arithmetic import products_in

    n = run.pick(128, 8192)
    for precision in precisions(run):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a = torch.randn(n, n, dtype=torch.float32).to(run.device, dtype)
        with products_in(precision):
            a @ a
            seconds = min(timed(lambda a=a: (a @ a, wait_for(run.device))) for _ in range(run.pick(3, 10)))
        found[f"{precision} TFLOP/s"] = 2 * n**3 / seconds / 1e12


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
    from extractors import find_model
    from extractors.forward.batching import find_budget

    spec = str(save_model(run.folder / "hubert", small=run.small))
    tops: dict[str, Any] = {}
    peak(run, tops)
    for what, seconds, most_s in (("short", SHORT_S, 3000.0), ("long", LONG_S, 6000.0)):
        clips = clips_of(run, seconds, most_s)
        audio_s = sum(map(len, clips)) / RATE_HZ
        for precision in precisions(run):
            extractor = find_model(spec).load(run.device, precision)
            layers = list(range(extractor.card.n_layers))
            longest = len(clips[0])
            budget = find_budget(extractor, run.device, seconds=None, longest_samples=longest, layers=layers)
            batches = [clips[r.start : r.stop] for r in budget.cut([len(c) for c in clips])]
            flops = count_flops(extractor, batches[0], layers)
            flops *= sum(len(b) * len(b[0]) for b in batches) / (len(batches[0]) * len(batches[0][0]))
            embed_all(extractor, batches, layers)  # the first pass finds kernels and memory
            took = timed(lambda: embed_all(extractor, batches, layers))  # noqa: B023
            name = f"{what} {precision}"
            found[f"{name} clips/s"] = len(clips) / took
            found[f"{name} times real time"] = audio_s / took
            found[f"{name} batches"] = len(batches)
            found[f"{name} share of peak"] = flops / took / 1e12 / tops[f"{precision} TFLOP/s"]
            found[f"{name} idle share"] = idle_share(run, lambda: embed_all(extractor, batches, layers))  # noqa: B023


def embed_all(extractor: Any, batches: Sequence[Sequence[np.ndarray]], layers: Sequence[int]) -> None:
    """Forward and functionals; those of a batch are waited for when the next is queued, as in a run."""
    from extractors.forward.functionals import finish, reduce_frames, send

    on_its_way = None

    def put_away() -> None:
        if on_its_way is not None:
            for parts in on_its_way.wait():
                finish(parts, ("mean", "std"))

    for clips in batches:
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
    """Share of the time in which the GPU ran no kernel, by PyTorch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not run.device.startswith("cuda"):
        return "no GPU"
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        took = timed(lambda: (work(), torch.cuda.synchronize()))
    return 1 - sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / took


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

            loop()
            found[f"{what} {name} clips/s"] = len(clips) / timed(loop)


def files(run: Run, found: dict[str, Any]) -> None:
    """From files to a committed store, in clips per second, with and without a model."""
    import null_model

    from extractors import ExtractConfig, extract

    n = run.pick(16, 8192)
    manifest = write_corpus(run.folder / "audio", n)
    null_model.register(run.folder / "site")
    sys.path.append(str(run.folder / "site"))
    spec = str(save_model(run.folder / "hubert-files", small=run.small))
    runs: list[tuple[str, str, Precision]] = [("nothing", "null:13x768", "fp32")]
    runs += [(f"hubert {p}", spec, p) for p in precisions(run)]
    for name, model, precision in runs:
        began = time.perf_counter()
        summary = extract(
            ExtractConfig(
                manifest=manifest, dataset="calls", model=model, name=name.replace(" ", "-"),
                store=str(run.folder / "store"), precision=precision, selfcheck=0,
                device="cpu" if name == "nothing" else run.device,
            )
        )  # fmt: skip
        assert not summary.failed, summary.failed
        found[f"{name} clips/s"] = n / (time.perf_counter() - began)
        found[f"{name} share of time in the model"] = summary.forward_s / summary.elapsed_s


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

    few = [fit(device, 1)[:4] for device in ("cpu", run.device)]
    worst = max(float(np.abs(a.logits(x[cut:]) - b.logits(x[cut:])).max()) for a, b in zip(*few, strict=True))
    found["largest difference of a logit"] = f"{worst:.1e}" + (
        "" if worst <= LOGIT_TOLERANCE else " TOO LARGE"
    )
    epochs = run.pick(1, 3)
    for device in (run.device, "cpu"):
        found[f"{k} fits, {epochs} epochs on {device}, s"] = timed(lambda: fit(device, epochs))  # noqa: B023


def fits(run: Run, found: dict[str, Any]) -> None:
    """As many fits as a grid of layers, seeds and settings has, on one layer; of 10 epochs."""
    from probes.training.mlp import MLPConfig, fit_mlps

    n, d, k = run.pick((400, 64, 8), (20_000, 1536, 1000))
    x, y = rows(n, d)
    cut = n * 4 // 5
    configs = [
        MLPConfig(seed=seed, max_epochs=10, patience=10, learning_rate=(1e-4, 3e-4, 1e-3)[seed % 3])
        for seed in range(k)
    ]
    took = timed(lambda: fit_mlps(x[:cut], y[:cut], x[cut:], y[cut:], N_CLASSES, configs, device=run.device))
    found[f"{k:,} fits of {n:,} × {d:,}, s"] = took
    found["ms a fit and epoch"] = took / k / 10 * 1e3


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
