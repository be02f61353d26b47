"""What a GPU gives: parity with the CPU, rates against peers, share of its peak, and how long it idles.

    python benchmarks/gpu.py [--small] [--device cuda] [--peak-tflops X] [--clips N] [--out DIR]

HuBERT-base with random weights, 4,096 clips with marmoset-like durations. Parity: our fp32 (1e-4 relative)
and bf16 (pooled cosine 0.999) on the device against transformers' model at batch 1 on the CPU in fp32.
Rates: our run from audio files to committed store, one clip at a time, and a bare forward over the same
sorted batches in memory. Model FLOP utilisation needs the device's peak (--peak-tflops, of the precision).
Idle share: what of our run's time no kernel ran, sampled by NVML through PyTorch where it can be.
With ``--device cpu --small`` the same code runs anywhere, as a smoke test.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine import describe  # noqa: E402
from speech import (  # noqa: E402
    bare_forward,
    batch_one,
    load_peer,
    pooled_cosines,
    read_clip,
    save_model,
    sorted_batches,
    timed,
    write_corpus,
)

FP32_TOLERANCE, BF16_COSINE = 1e-4, 0.999
N_PARITY, N_BATCH_ONE = 64, 256
SAMPLE_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smoke run; its numbers say nothing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peak-tflops", type=float, help="of the device, in bf16")
    parser.add_argument("--clips", type=int)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder),
            options.clips or (16 if options.small else 4096),
            options.device,
            options.peak_tflops,
            small=options.small,
        )
    found["machine"] = f"{describe('torch', 'transformers')}; {device_name(options.device)}"
    print(json.dumps(found, indent=1))
    if not options.small:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")


def measure(folder: Path, n: int, device: str, peak_tflops: float | None, *, small: bool) -> dict[str, Any]:
    """Parity, rates, utilisation and idle share."""
    from extractors import ExtractConfig, extract, find_model
    from extractors.config import configs_of
    from extractors.forward.batching import find_budget
    from extractors.run.dry_run import dry_run
    from featurestore import open_store

    manifest = write_corpus(folder / "audio", n)
    paths = sorted((folder / "audio").glob("*.wav"))
    model = save_model(folder / "hubert", small=small)
    common = {"manifest": manifest, "dataset": "calls", "store": str(folder / "store"), "device": device}
    runs = {}
    for precision in ("fp32", "tf32", "bf16"):
        config = ExtractConfig(**common, model=str(model), name=precision, precision=precision, selfcheck=0)  # type: ignore[arg-type]
        with Idle(device) as idle:
            summary = extract(config)
        assert not summary.failed, summary.failed
        runs[precision] = {
            "clips_per_s": n / summary.forward_s,
            "seconds": summary.forward_s,
            "idle_share": idle.share,
        }
    # Parity of a few clips with transformers at batch 1 on the CPU.
    store = open_store(folder / "store")
    chosen = [p.stem for p in paths[:: max(1, n // N_PARITY)]][:N_PARITY]
    reference = batch_one_states(load_peer(model), [folder / "audio" / f"{c}.wav" for c in chosen])
    fp32 = store.features("fp32", "calls")
    rows = {u: i for i, u in enumerate(fp32.index["utterance_id"])}
    worst = 0.0
    for i, layer in enumerate(fp32.layers):
        ours = fp32.layer(layer).numpy()[[rows[c] for c in chosen]]
        difference = np.abs(ours - reference[:, i]).max((1, 2)) / np.abs(reference[:, i]).max((1, 2))
        worst = max(worst, float(difference.max()))
    cosine = float(pooled_cosines(fp32, store.features("bf16", "calls")).min())
    # Peers on the device.
    peer = load_peer(model, device)
    clips = [read_clip(p) for p in paths]
    extractor = find_model(str(model)).load(device, "fp32")
    longest = max(map(len, clips))
    budget = find_budget(extractor, device, seconds=None, longest_samples=longest, layers=[0])
    batches = sorted_batches(clips, budget)
    bare_forward(peer, batches, device)
    bare_s = timed(lambda: bare_forward(peer, batches, device))
    few = paths[:N_BATCH_ONE]
    batch_one(peer, few[:2], folder / "warm.npz", device)
    one_s = timed(lambda: batch_one(peer, few, folder / "one.npz", device)) / len(few) * n
    (plan,) = dry_run(configs_of([str(model)], ["plan"], **common))
    found: dict[str, Any] = {
        "clips": n,
        "runs": runs,
        "bare_clips_per_s": n / bare_s,
        "batch_one_clips_per_s": n / one_s,
        "of_bare": bare_s / runs["fp32"]["seconds"],
        "over_batch_one": one_s / runs["fp32"]["seconds"],
        "fp32_worst_relative": worst,
        "fp32_within": worst <= FP32_TOLERANCE,
        "bf16_least_cosine": cosine,
        "bf16_within": cosine >= BF16_COSINE,
        "flops": plan.flops,
        "bf16_tflops": plan.flops / runs["bf16"]["seconds"] / 1e12 if plan.flops else None,
    }
    if peak_tflops and found["bf16_tflops"]:
        found["bf16_model_flop_utilisation"] = found["bf16_tflops"] / peak_tflops
    return found


def batch_one_states(model: Any, paths: list[Path]) -> np.ndarray:
    """Mean and std of every layer, one clip at a time: `[clips, layers, 2, features]`."""
    import torch

    rows = []
    for path in paths:
        with torch.inference_mode():
            states = model(torch.from_numpy(read_clip(path))[None], output_hidden_states=True).hidden_states
        rows.append(torch.stack([torch.stack([h[0].mean(0), h[0].std(0)]) for h in states]).numpy())
    return np.stack(rows)


class Idle:
    """Share of a `with` block in which the GPU ran nothing, by NVML's utilisation; None where unknown."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._seen: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def share(self) -> float | None:
        """From 0 to 1."""
        return 1 - float(np.mean(self._seen)) / 100 if self._seen else None

    def __enter__(self) -> Idle:
        if self._device.startswith("cuda"):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        import torch

        while not self._stop.wait(SAMPLE_S):
            try:
                self._seen.append(torch.cuda.utilization(self._device))
            except (ImportError, RuntimeError, ModuleNotFoundError):  # no pynvml, or not allowed
                return


def device_name(device: str) -> str:
    """As the driver calls it."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


if __name__ == "__main__":
    main()
