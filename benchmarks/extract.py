"""Extraction, from audio files to the committed store, against what people do today.

    python benchmarks/extract.py [--small] [--clips N] [--repeats N] [--parts speed,memory] [--out DIR]

HuBERT-base with random weights, 384 clips with marmoset-like durations. Every ratio is of medians of times
measured alternately in one run. Peers: (a) a bare forward of transformers' model over the same sorted
batches, ready in memory, nothing kept; (b) the loop of the study (ssl-human-animal): batches of 32 in file
order, repeated to the longest, all hidden states stacked, one npz; (c) one clip at a time; (d) our own run
in fp32, for bf16. Peak memory is that of a fresh process each for 1,000 and 10,000 clips, tiny model.
Models are loaded before the clock starts, ours too (the run's own clock). Results go to DIR as JSON, and as
a line of `extract.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe, peak_resident_bytes  # noqa: E402
from speech import (  # noqa: E402
    bare_forward,
    batch_one,
    load_peer,
    papers_loop,
    pooled_cosines,
    read_clip,
    save_model,
    sorted_batches,
    timed,
    write_corpus,
)

TARGETS = {"of_bare": 0.97, "over_papers_loop": 5.0, "over_batch_one": 1.5, "bf16_over_fp32": 1.6}
NAMES = {
    "of_bare": "rate, of a bare forward's",
    "over_papers_loop": "rate, over the study's loop",
    "over_batch_one": "rate, over batch 1",
    "bf16_over_fp32": "rate in bf16, over fp32",
}
WORDS = {True: "ok", False: "NOT MET", None: ""}
# Clips whose bf16 cosine is measured where bf16 is emulated.
N_EMULATED = 8
LEAST_COSINE, MOST_MEMORY_GROWTH = 0.999, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smoke run; its numbers say nothing")
    parser.add_argument("--clips", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--parts", default="speed,memory")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak_of(*options.peak)
        return
    parts = options.parts.split(",")
    n = options.clips or (24 if options.small else 384)
    found: dict[str, Any] = {"machine": describe("torch", "transformers")}
    with tempfile.TemporaryDirectory() as folder:
        if "memory" in parts:
            found["peak_mb"] = memory(Path(folder), (50, 100) if options.small else (1000, 10_000))
        if "speed" in parts:
            repeats = options.repeats or (1 if options.small else 3)
            found |= speed(Path(folder), n, repeats, small=options.small)
    show(found)
    if not options.small:
        write(found, options.out)


def speed(folder: Path, n: int, repeats: int, *, small: bool) -> dict[str, Any]:
    """Seconds of every variant, and cosines of bf16 against fp32."""
    from extractors import ExtractConfig, extract, find_model
    from extractors.forward.batching import find_budget
    from featurestore import open_store

    manifest = write_corpus(folder / "audio", n)
    paths = sorted((folder / "audio").glob("*.wav"))
    model = save_model(folder / "hubert", small=small)
    peer = load_peer(model)
    clips = [read_clip(p) for p in paths]
    source = find_model(str(model))
    budget = find_budget(
        source.load("cpu", "fp32"), "cpu", seconds=None, longest_samples=max(map(len, clips)), layers=[0]
    )
    batches = sorted_batches(clips, budget)

    def ours(precision: str, table: Path = manifest, dataset: str = "calls") -> float:
        """Seconds of the run itself: audio files → committed store, the model being loaded."""
        summary = extract(
            ExtractConfig(
                manifest=table,
                dataset=dataset,
                model=str(model),
                name=precision,
                store=str(folder / "store"),
                device="cpu",
                precision=precision,  # type: ignore[arg-type]
                overwrite=True,
                selfcheck=0,
            )
        )
        assert not summary.failed
        return summary.run_s

    variants: dict[str, Callable[[], float]] = {
        "ours": lambda: ours("fp32"),
        "bare": lambda: timed(lambda: bare_forward(peer, batches)),
        "bf16": lambda: ours("bf16"),
        "batch_one": lambda: timed(lambda: batch_one(peer, paths, folder / "one.npz")),
        "papers_loop": lambda: timed(lambda: papers_loop(peer, paths, folder / "paper.npz")),
    }
    has_bf16 = bf16_pays()
    if not has_bf16:
        del variants["bf16"]
    few = manifest.parent / "few.csv"
    pd.read_csv(manifest).iloc[:N_EMULATED].to_csv(few, index=False)
    ours("fp32", few, "warm")
    bare_forward(peer, batches[-1:])  # the first call of anything is slow
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(repeats):
        for name, run in variants.items():
            if name == "papers_loop" and i > 0:
                continue  # several times the rest together
            seconds[name].append(run())
            print(f"{name:12} {seconds[name][-1]:8.2f} s   {n / seconds[name][-1]:7.2f} clips/s", flush=True)
    compared = "calls"
    if not has_bf16:
        compared = "few"
        for precision in ("fp32", "bf16"):
            ours(precision, few, compared)
    store = open_store(folder / "store")
    cosines = pooled_cosines(store.features("fp32", compared), store.features("bf16", compared))
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    padded = sum(b.size for b in batches)
    return {
        "clips": n,
        "audio_s": round(sum(map(len, clips)) / 16_000, 1),
        "padding_overhead": round(padded / sum(map(len, clips)) - 1, 4),
        "seconds": {name: [round(x, 3) for x in s] for name, s in seconds.items()},
        "ratios": {
            "of_bare": medians["bare"] / medians["ours"],
            "over_papers_loop": medians["papers_loop"] / medians["ours"],
            "over_batch_one": medians["batch_one"] / medians["ours"],
            "bf16_over_fp32": medians["ours"] / medians["bf16"] if has_bf16 else None,
        },
        "bf16_cosine": {"least": float(cosines.min()), "median": float(statistics.median(cosines.ravel()))},
    }


def bf16_pays() -> bool:
    """Whether this processor multiplies in bf16 itself; emulated, it is tens of times slower than fp32."""
    import torch

    a, b = torch.randn(512, 768), torch.randn(768, 768)
    halves = a.bfloat16(), b.bfloat16()
    (a @ b, halves[0] @ halves[1])
    return timed(lambda: halves[0] @ halves[1]) < 3 * timed(lambda: a @ b)


def memory(folder: Path, counts: tuple[int, int]) -> dict[str, float]:
    """Peak resident MB of fresh processes that embed so many clips with a tiny model."""
    model = save_model(folder / "tiny", small=True)
    found = {}
    for n in counts:
        manifest = write_corpus(folder / f"audio{n}", n, longest_s=5.0, rate=16_000)
        arguments = ["--peak", str(manifest), str(model), str(folder / f"store{n}")]
        done = subprocess.run(
            [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
        )
        found[str(n)] = float(done.stdout.split()[-1])
        print(f"{n:6} clips: {found[str(n)]:.0f} MB", flush=True)
    return found


def peak_of(manifest: str, model: str, store: str) -> None:
    from extractors import ExtractConfig, extract

    extract(
        ExtractConfig(
            manifest=Path(manifest), dataset="d", model=model, store=store, device="cpu", unit_rows=256
        )
    )
    print(peak_resident_bytes() / 1e6)


def verdicts(found: dict[str, Any]) -> list[tuple[str, str, bool | None]]:
    """What was measured, against what was wanted."""
    lines: list[tuple[str, str, bool | None]] = []
    if "ratios" in found:
        for name, target in TARGETS.items():
            ratio = found["ratios"][name]
            if ratio is None:
                lines.append((NAMES[name], "not measured: this processor only emulates bf16", None))
            else:
                lines.append((NAMES[name], f"{ratio:.2f} (wanted {target})", ratio >= target))
        cosine = found["bf16_cosine"]["least"]
        lines.append(
            ("least cosine of bf16 to fp32", f"{cosine:.5f} (wanted {LEAST_COSINE})", cosine >= LEAST_COSINE)
        )
    if "peak_mb" in found:
        (few, few_mb), (many, many_mb) = found["peak_mb"].items()
        text = (
            f"{few_mb:.0f} MB for {few} clips, {many_mb:.0f} for {many} (wanted ± {MOST_MEMORY_GROWTH:.0%})"
        )
        lines.append(("peak memory", text, abs(many_mb / few_mb - 1) <= MOST_MEMORY_GROWTH))
    return lines


def show(found: dict[str, Any]) -> None:
    print(f"\n{found['machine']}")
    if "clips" in found:
        print(f"{found['clips']} clips, padding {100 * found['padding_overhead']:.1f} %")
    for name, text, ok in verdicts(found):
        print(f"{name:30} {text:36} {WORDS[ok]}")


def write(found: dict[str, Any], out: Path) -> None:
    """All numbers as JSON, and the verdicts as a page; parts that were not measured stay as they were."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "extract.json"
    # One machine a page: parts measured at different times are told by their date.
    parts = json.loads(kept.read_text()) if kept.exists() else {}
    for part, key in (("speed", "ratios"), ("memory", "peak_mb")):
        if key in found:
            names = ("machine", "peak_mb") if part == "memory" else [k for k in found if k != "peak_mb"]
            parts[part] = {k: found[k] for k in names}
    kept.write_text(json.dumps(parts, indent=1) + "\n")
    lines = ["# Extraction: ratios measured in one run", "", "`python benchmarks/extract.py`"]
    for part, numbers in parts.items():
        lines += ["", f"{part}: {numbers['machine']}", "", "| what | measured | |", "|---|---|---|"]
        lines += [f"| {name} | {text} | {WORDS[ok]} |" for name, text, ok in verdicts(numbers)]
    (out / "extract.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
