"""What the extraction benchmarks share: a marmoset-like corpus, a HuBERT with random weights, peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

RATE_HZ = 16_000
FILE_RATE_HZ = 44_100
MIN_SAMPLES = 5000
# Log-normal with these; InfantMarmosetsVox has them.
MEDIAN_S, MEAN_S = 0.127, 0.38


def write_corpus(folder: Path, n: int, *, longest_s: float = 20.0, rate: int = FILE_RATE_HZ) -> Path:
    """Write `n` calls as 16-bit WAV in random order of length; return the manifest."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sigma = np.sqrt(2 * np.log(MEAN_S / MEDIAN_S))
    seconds = np.clip(rng.lognormal(np.log(MEDIAN_S), sigma, n), 0.02, longest_s)
    for i, s in enumerate(seconds):
        t = np.arange(round(s * rate)) / rate
        call = 0.3 * np.sin(2 * np.pi * (5000 + 900 * np.sin(7 * t + i)) * t) + 0.05 * rng.standard_normal(
            len(t)
        )
        soundfile.write(folder / f"{i:05d}.wav", call.astype(np.float32), rate, subtype="PCM_16")
    pd.DataFrame({"path": [f"{i:05d}.wav" for i in range(n)]}).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def save_model(folder: Path, *, small: bool) -> Path:
    """HuBERT-base as published but with random weights; `small`: the same in miniature."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    options: dict[str, Any] = {}
    if small:
        options = {
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 96,
            "conv_dim": [32] * 7,
            "num_conv_pos_embeddings": 32,
            "num_conv_pos_embedding_groups": 4,
        }
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig(**options)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


def load_peer(folder: Path, device: str = "cpu") -> Any:
    """The model as transformers has it."""
    import transformers

    return transformers.HubertModel.from_pretrained(folder).eval().to(device)


def read_clip(path: Path) -> np.ndarray:
    """A clip at 16 kHz, repeated up to 5,000 samples: what our pipeline gives the model."""
    import soxr

    samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples, rate, RATE_HZ, quality="HQ")
    return np.resize(samples, MIN_SAMPLES) if len(samples) < MIN_SAMPLES else samples


def sorted_batches(clips: Sequence[np.ndarray], budget: Any) -> list[np.ndarray]:
    """Zero-padded batches `[b, n]`, longest first, as a budget (`forward.batching.Budget`) cuts them."""
    import torch

    from extractors.models.torch_tools import padded_batch

    ordered = sorted(clips, key=len, reverse=True)
    cpu = torch.device("cpu")
    return [
        padded_batch(ordered[r.start : r.stop], cpu).numpy() for r in budget.cut([len(c) for c in ordered])
    ]


def bare_forward(model: Any, batches: Sequence[np.ndarray], device: str = "cpu") -> None:
    """The model over batches in memory and nothing else: no mask, nothing kept."""
    import torch

    with torch.inference_mode():
        for batch in batches:
            model(torch.from_numpy(batch).to(device))
    wait_for(device)


def batch_one(model: Any, paths: Sequence[Path], out: Path, device: str = "cpu") -> None:
    """One clip at a time in file order, mean and std of every layer, one npz of all."""
    import torch

    rows = []
    for path in paths:
        with torch.inference_mode():
            states = model(
                torch.from_numpy(read_clip(path))[None].to(device), output_hidden_states=True
            ).hidden_states
            rows.append(torch.stack([torch.cat([h[0].mean(0), h[0].std(0)]) for h in states]).cpu().numpy())
    np.savez(out, features=np.stack(rows))


def papers_loop(model: Any, paths: Sequence[Path], out: Path, device: str = "cpu") -> None:
    """Batches of 32 in file order, repeated to the longest, all hidden states stacked, one npz of all."""
    import torch

    rows = []
    for start in range(0, len(paths), 32):
        clips = [read_clip(p) for p in paths[start : start + 32]]
        longest = max(MIN_SAMPLES, *(len(c) for c in clips))
        batch = torch.from_numpy(np.stack([np.resize(c, longest) for c in clips])).to(device)
        with torch.inference_mode():
            states = torch.stack(model(batch, output_hidden_states=True).hidden_states)  # [layers, b, t, d]
            rows.append(torch.cat([states.mean(2), states.std(2)], dim=-1).transpose(0, 1).cpu().numpy())
    np.savez(out, features=np.concatenate(rows))


def wait_for(device: str) -> None:
    """Until the device has done everything it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pooled_cosines(a: Any, b: Any) -> np.ndarray:
    """Cosine of every row's functionals in two keys of the same utterances, `[layers, rows]`."""
    out = []
    assert a.index["utterance_id"].tolist() == b.index["utterance_id"].tolist()
    for layer in a.layers:
        x, y = (f.layer(layer).numpy().reshape(len(f.index), -1).astype(np.float64) for f in (a, b))
        out.append((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))
    return np.array(out)


def deviations(a: Any, b: Any) -> np.ndarray:
    """Largest difference of every row's functionals relative to their largest value, `[layers, rows]`."""
    out = []
    for layer in a.layers:
        x, y = (f.layer(layer).numpy().reshape(len(f.index), -1).astype(np.float64) for f in (a, b))
        out.append(np.abs(x - y).max(1) / np.abs(y).max(1))
    return np.array(out)
