"""Clips as runs of made frames, and stores that hold them."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from featurestore.backends.storage import open_storage
from featurestore.format.layer_arrays import FrameShape
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.writer import UnitRows, open_key
from probes.training.frames import FrameRows

D, C = 8, 3
CALLS = ("peep", "phee", "trill")


def clips(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Clips of 1 to 30 frames of noise, one of which tells the class: a mean over frames hides it."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % C
    out = []
    for label in y:
        x = rng.standard_normal((int(rng.integers(1, 31)), D)).astype(np.float32)
        x[rng.integers(len(x)), label] += 6
        out.append(x)
    return out, y.astype(np.int64)


def ragged(parts: list[np.ndarray]) -> FrameRows:
    lengths = np.array([len(p) for p in parts], dtype=np.int64)
    return FrameRows(np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)


def write_frames(
    path: Path,
    table: pd.DataFrame,
    values: dict[int, list[np.ndarray]],
    model: str,
    failed: Collection[int] | None = None,
) -> None:
    """A key with frames: every eleventh clip failed, or those given."""
    failed = set(range(5, len(table), 11)) if failed is None else failed
    manifest = from_table(table, source="made", base=path, check_files=False)
    n_frames = np.array([0 if i in failed else len(x) for i, x in enumerate(values[0])])
    room = 64 * 30
    request = KeyRequest(
        model=model,
        dataset="calls",
        fingerprint={"revision": 1},
        functionals=("mean",),
        layers=tuple(values),
        n_features=D,
        unit_rows=64,
        frames=FrameShape(n_features=D, unit_frames=room, dtype="float32", chunk_frames=room // 4),
    )
    ids = table["utterance_id"].to_numpy(dtype=object)
    writer, _ = open_key(open_storage(path), request, manifest, ids)
    for unit in writer.info.units:
        rows = range(unit.first_row, unit.stop_row)
        good = [i for i in rows if i not in failed]
        means = {
            k: np.stack([np.full((1, D), np.nan) if i in failed else x[i].mean(0)[None] for i in rows])
            for k, x in values.items()
        }
        writer.write_unit(
            unit,
            [(k, m.astype(np.float32)) for k, m in means.items()],
            UnitRows(
                status=["failed: silent" if i in failed else "ok" for i in rows],
                n_frames=n_frames[list(rows)],
                duration_s=np.full(len(rows), 0.5),
                audio_hash=[f"hash-{i}" for i in rows],
                frames={k: np.concatenate([x[0][:0], *(x[i] for i in good)]) for k, x in values.items()},
            ),
            audio_s=1.0,
            elapsed_s=1.0,
            versions={},
        )


def train_by_clips(
    forward: Callable[[np.ndarray], torch.Tensor],
    optimiser: torch.optim.Optimizer,
    x: list[np.ndarray],
    y: np.ndarray,
    n_epochs: int,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.nn.functional.cross_entropy,
) -> None:
    """A plain loop: batches of 32 of about one length, each clip by itself, without padding or mask."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([len(clip) for clip in x])
    for _ in range(n_epochs):
        order = torch.randperm(len(x), generator=generator)
        batches = order[torch.argsort(lengths[order], stable=True)].split(32)
        for b in torch.randperm(len(batches), generator=generator):
            optimiser.zero_grad()
            logits = torch.stack([forward(x[i]) for i in batches[b]])
            loss(logits, torch.from_numpy(y[batches[b].numpy()])).backward()
            optimiser.step()
