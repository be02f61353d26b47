"""How clips of marmoset-like durations are cut into batches: how many, how padded, how many with a mask.

    python benchmarks/batches.py [--clips N] [--mask]

Counts, so any machine gives the same. Units of 1,024 clips, durations as of `benchmarks/speech.py`, frames as
of HuBERT; once as batches are cut, once with masks counted for nothing, once no more than 256 clips together.
``--mask`` also measures what a mask costs here: HuBERT-base, 16 clips of 15 frames, or one of 14 among them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from speech import MEAN_S, MEDIAN_S, MIN_SAMPLES, RATE_HZ, save_model  # noqa: E402

from extractors.forward.batching import CPU_SECONDS, CUDA_MOST_SECONDS, BatchCosts, Budget  # noqa: E402
from extractors.models.interface import ModelCard  # noqa: E402

UNIT_ROWS = 1024
CARD = ModelCard(
    name="hubert", family="hubert", n_layers=13, n_features=768, sample_rate_hz=RATE_HZ, hop_samples=320,
    receptive_samples=400, normalisation="none", normalisation_source="",
)  # fmt: skip
N_REPEATS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--clips", type=int, default=72_920, help="default: as many as InfantMarmosetsVox has"
    )
    parser.add_argument("--mask", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sigma = np.sqrt(2 * np.log(MEAN_S / MEDIAN_S))
    seconds = np.sort(np.clip(rng.lognormal(np.log(MEDIAN_S), sigma, options.clips), 0.02, 20))[::-1]
    lengths = np.maximum(MIN_SAMPLES, np.round(seconds * RATE_HZ)).astype(int)
    print("| device | cut | batches | with a mask | clips under a mask | padding |\n" + "|---" * 6 + "|")
    for kind, most_s in (("cpu", CPU_SECONDS), ("cuda", CUDA_MOST_SECONDS)):
        costs = BatchCosts.of(CARD, kind)
        for name, asked in (
            ("as it is", costs),
            ("masks cost nothing", replace(costs, mask_share=0.0)),
            ("and 256 clips at most", replace(costs, mask_share=0.0, max_clips=256)),
        ):
            print(f"| {kind} | {name} | {count(lengths, Budget(round(most_s * RATE_HZ), None, asked))} |")
    if options.mask:
        plain, masked = mask_cost()
        print(f"\nA mask: {masked / plain - 1:+.1%} of {plain * 1e3:.0f} ms (least of {N_REPEATS}, in turns)")


def count(lengths: np.ndarray, budget: Budget) -> str:
    """Cells of the table: batches, those with a mask, share of clips in these, padding."""
    n_batches = n_masked = n_clips = padded = 0
    for start in range(0, len(lengths), UNIT_ROWS):
        own = lengths[start : start + UNIT_ROWS].tolist()
        for batch in budget.cut(own):
            some = [own[i] for i in batch]
            n_batches += 1
            padded += max(some) * len(some)
            if len({(n - 400) // 320 for n in some}) > 1:
                n_masked += 1
                n_clips += len(some)
    return (
        f"{n_batches:,} | {n_masked:,} | {n_clips / len(lengths):.0%} | {padded / int(lengths.sum()) - 1:.1%}"
    )


def mask_cost() -> tuple[float, float]:
    """Least seconds of a forward whose clips have one frame count, and of one with another among them."""
    from extractors import find_model

    rng = np.random.default_rng(0)
    equal = [rng.standard_normal(MIN_SAMPLES).astype(np.float32) for _ in range(16)]
    ragged = [*equal[:-1], equal[-1][:-320]]
    spent: dict[str, list[float]] = {"equal": [], "ragged": []}
    with tempfile.TemporaryDirectory() as folder:
        extractor = find_model(str(save_model(Path(folder) / "hubert", small=False))).load("cpu", "fp32")
        for _ in range(N_REPEATS):
            for name, clips in (("equal", equal), ("ragged", ragged)):
                began = time.perf_counter()
                extractor.forward(clips, [12], lambda *_: None)
                spent[name].append(time.perf_counter() - began)
    return min(spent["equal"]), min(spent["ragged"])


if __name__ == "__main__":
    main()
