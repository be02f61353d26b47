"""What probes cost against a plain PyTorch loop, scikit-learn, this machine's matrix products, and the study.

    python benchmarks/probe.py [--small] [--parts training,fits,rows,study] [--out benchmarks/results]

Every number is a ratio of times measured in one run, in turn, on the same values, of each the quickest of the
rounds: on some machines the threads of a plain loop wake each other slowly for minutes (0.45 s an epoch
and not 0.29), and a median that falls into such minutes would flatter us. The networks are the study's,
D-128-64-32-11; every fit trains the same number of epochs, without early stopping. Layers of growing size are
trained each in a process of its own, whose peak resident memory is read from the kernel.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, peak_resident_bytes
from made import CLASS_SIZES, LABEL, classes, values, write_key
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from probes.training.mlp import fit_mlps
from probes.training.mlp_config import PAPER_HIDDEN, MLPConfig
from probes.training.standardise import Standardiser

N_CLASSES = len(CLASS_SIZES)
BATCH, PAPER_BATCH, PAPER_EPOCHS, PAPER_SEEDS = 128, 16, 30, 5
SETTINGS = 4
# Of every fit that is timed: a fit is set up once and takes thirty of them in the study.
EPOCHS = 3
WANTED = {
    "plain": "at least 3 wanted",
    "sklearn": "at least 2 wanted",
    "rate": "at least 0.65 wanted",
    "study": "at least 20 wanted",
    "resident": "at most 1.5 wanted",
}


def flop_of_epoch(rows: int, d: int) -> float:
    """Floating-point operations of one fit: forward, gradients of weights and of all inputs but x."""
    widths = [d, *PAPER_HIDDEN, N_CLASSES]
    products = [2 * rows * a * b for a, b in itertools.pairwise(widths)]
    return 2 * products[0] + 3 * sum(products[1:])


def problem(rows: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    y = classes(rows)
    x = values(y, d)
    return Standardiser.fit(x)(x), y


def network(d: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise([d, *PAPER_HIDDEN]):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(PAPER_HIDDEN[-1], N_CLASSES))


def plain_fit(x: torch.Tensor, y: torch.Tensor, epochs: int = EPOCHS, *, loader: bool = False) -> None:
    """One fit as anybody writes it: with a DataLoader, as in PyTorch's quickstart, or by index, leaner."""
    net = network(x.shape[1])
    optimiser, loss = torch.optim.Adam(net.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    rows = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True)
    for _ in range(epochs):
        batches = rows if loader else ((x[i], y[i]) for i in torch.randperm(len(y)).split(BATCH))
        for xb, yb in batches:
            optimiser.zero_grad()
            loss(net(xb), yb).backward()
            optimiser.step()


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def fused(x: np.ndarray, y: np.ndarray, n_fits: int, epochs: int = EPOCHS, **settings: Any) -> float:
    """Seconds per fit and epoch."""
    configs = [MLPConfig(seed=s, max_epochs=epochs, **settings) for s in range(n_fits)]
    return timed(lambda: fit_mlps(x, y, None, None, N_CLASSES, configs)) / n_fits / epochs


def matrix_rate() -> float:
    """Floating-point operations per second of one large float32 product on all threads."""
    n = 2048
    a, out = torch.rand(n, n), torch.empty(n, n)
    return 2 * n**3 / min(timed(lambda: torch.mm(a, a, out=out)) for _ in range(3))


def training(rows: int, d: int, n_fits: int, rounds: int) -> dict[str, Any]:
    """Per fit and epoch: fused, plain loop, scikit-learn; and the rate of the fused products."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, y = problem(rows, d)
    xt, yt = torch.from_numpy(x), torch.from_numpy(y)
    sk = MLPClassifier(PAPER_HIDDEN, batch_size=BATCH, max_iter=EPOCHS, alpha=0.0, n_iter_no_change=EPOCHS)
    fused(x[:1000], y[:1000], n_fits)  # what is slow once: first calls, memory of the process
    plain_fit(xt[:1000], yt[:1000])
    per_epoch: dict[str, Callable[[], float]] = {
        "plain": lambda: timed(lambda: plain_fit(xt, yt)) / EPOCHS,
        "loader": lambda: timed(lambda: plain_fit(xt, yt, loader=True)) / EPOCHS,
        "sklearn": lambda: timed(lambda: sk.fit(x, y)) / EPOCHS,
        "fused": lambda: fused(x, y, n_fits),
        "bf16": lambda: fused(x, y, n_fits, precision="bf16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in per_epoch}
    rates: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(rounds):
            for name, measure_once in per_epoch.items():
                seconds[name].append(measure_once())
                rates.append(matrix_rate())
    s = {name: min(found) for name, found in seconds.items()}
    flops = flop_of_epoch(rows, d) / s["fused"]
    return {
        "rows": rows,
        "features": d,
        "fits": n_fits,
        "seconds_per_fit_and_epoch": s,
        "all_seconds": seconds,
        "loader / fused": s["loader"] / s["fused"],
        "plain / fused": s["plain"] / s["fused"],
        "sklearn / fused": s["sklearn"] / s["fused"],
        "bf16 speed-up": s["fused"] / s["bf16"],
        "GFLOP/s fused": flops / 1e9,
        "GFLOP/s matrix product": max(rates) / 1e9,
        "fused rate / matrix rate": flops / max(rates),
        "bf16 UAR difference": precision_gap(x, y),
    }


def precision_gap(x: np.ndarray, y: np.ndarray) -> float:
    """Mean UAR of five bf16 fits less that of the same five in float32, on held-out rows."""
    cut = int(0.8 * len(y))
    uar: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        configs = [MLPConfig(seed=s, max_epochs=3, precision=precision) for s in range(5)]  # type: ignore[arg-type]
        fits = fit_mlps(x[:cut], y[:cut], x[cut:], y[cut:], N_CLASSES, configs)
        uar[precision] = [max(f.val_uar) for f in fits]
    return float(np.mean(uar["bf16"]) - np.mean(uar["fp32"]))


def over_fits(rows: int, d: int, counts: list[int]) -> list[dict[str, float]]:
    x, y = problem(rows, d)
    fused(x, y, 1)
    return [{"fits": k, "seconds_per_fit_and_epoch": fused(x, y, k)} for k in counts]


def over_rows(counts: list[int], d: int, memory: str, folder: Path) -> list[dict[str, Any]]:
    """One epoch of one fit from a store: a process that plans, and a worker that may hold `memory`."""
    out = []
    for rows in counts:
        root = folder / f"rows{rows}"
        write_key(root, rows, d)
        found: dict[str, Any] = {"rows": rows, "gigabytes": rows * d * 4e-9}
        for step in ("plan", "train"):
            command = [sys.executable, __file__, "--measure", step, str(root), "--memory", memory]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.update(json.loads(done.stdout))
        out.append(found)
        shutil.rmtree(root)
    return out


def measure(step: str, root: Path, memory: str) -> None:
    """What `over_rows` starts; prints seconds and the peak of resident memory as JSON."""
    from featurestore.compute.memory import parse_bytes
    from probes import ProbeConfig
    from probes.run.probe_plan import make_plan
    from probes.run.task_worker import run_task

    start, kept = time.perf_counter(), root / "task.pickle"
    found: dict[str, float] = {}
    if step == "plan":
        config = ProbeConfig(
            store=str(root),
            labels=(LABEL,),
            out=root / "results",
            split="random",
            grid={"mlp": {"max_epochs": 1}},
        )
        (task,) = make_plan(config).tasks
        kept.write_bytes(pickle.dumps(task))
    else:
        (row,) = run_task(pickle.loads(kept.read_bytes()), parse_bytes(memory)).rows  # noqa: S301
        found = {"seconds_training": float(row["fit_s"]), "uar_test": float(row["uar_test"])}
    peak = peak_resident_bytes()
    found |= {f"{step}_seconds": time.perf_counter() - start, f"{step}_resident_gigabytes": peak / 1e9}
    print(json.dumps(found))


PAPER_PROCESS = """
import sys, time, numpy as np, torch
sys.path.insert(0, {here!r})
from probe import PAPER_BATCH, network
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
start = time.perf_counter()
with np.load({npz!r}) as file:
    everything = {{name: file[name] for name in file.files}}
x, y = torch.from_numpy(everything["layer_00"]), torch.from_numpy(everything["y"])
x = (x - x.mean(0)) / (x.std(0) + 1e-10)
loaded = time.perf_counter()
net = network(x.shape[1])
optimiser, loss = torch.optim.Adam(net.parameters(), lr=1e-3), nn.CrossEntropyLoss()
share = TensorDataset(x[: {share}], y[: {share}])
for xb, yb in DataLoader(share, batch_size=PAPER_BATCH, shuffle=True):
    optimiser.zero_grad()
    loss(net(xb), yb).backward()
    optimiser.step()
print(loaded - start, time.perf_counter() - loaded)
"""


def study(rows: int, d: int, layers: int, share: int, folder: Path) -> dict[str, Any]:
    """A study (layers x seeds x settings, 30 epochs each) the paper's way, scaled from a share, and ours.

    The paper's way: one process per layer that loads the npz of all layers and trains one fit after another
    with a DataLoader and batches of 16, on all cores. Measured: one such process, `share` rows of one epoch.
    Ours: measured are reading one layer from the store and one epoch of its fits.
    """
    y = classes(rows)
    npz, root = folder / "study.npz", folder / "study"
    x = values(y, d)
    np.savez(npz, y=y, **{f"layer_{k:02d}": x for k in range(layers)})
    write_key(root, rows, d)
    code = PAPER_PROCESS.format(here=str(Path(__file__).parent), npz=str(npz), share=share)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    whole_s = time.perf_counter() - start
    load_s, part_s = map(float, done.stdout.split())
    fits = PAPER_SEEDS * SETTINGS
    epoch_s = part_s * rows / share
    paper_s = layers * (whole_s - part_s + fits * PAPER_EPOCHS * epoch_s)

    from featurestore import open_store

    def read() -> np.ndarray:
        layer = open_store(root).features("made", "calls").layer(0)
        values = layer.numpy().reshape(rows, d)
        return Standardiser.fit(values).inplace(values)

    read_s = timed(read)
    ours_epoch_s = fused(read(), y, fits)
    ours_s = (whole_s - load_s - part_s) + layers * (read_s + fits * PAPER_EPOCHS * ours_epoch_s)
    return {
        "rows": rows,
        "layers": layers,
        "fits_per_layer": fits,
        "epochs": PAPER_EPOCHS,
        "measured_rows": share,
        "paper: seconds per fit and epoch": epoch_s,
        "ours: seconds per fit and epoch": ours_epoch_s,
        "paper: hours per study": paper_s / 3600,
        "ours: hours per study": ours_s / 3600,
        "paper / ours": paper_s / ours_s,
    }


def _with_range(t: dict[str, Any], peer: str) -> str:
    """Ratio of the quickest fits, and that of the rounds: the peer's time to ours of the same round."""
    ratios = [
        theirs / ours for theirs, ours in zip(t["all_seconds"][peer], t["all_seconds"]["fused"], strict=True)
    ]
    return f"{t[f'{peer} / fused']:.2f} (rounds: {min(ratios):.2f} to {max(ratios):.2f})"


def markdown(found: dict[str, Any]) -> str:
    lines = ["# Probes", "", found["machine"], ""]
    if t := found.get("training"):
        lines += [
            f"{t['rows']} rows x {t['features']}, {N_CLASSES} classes, batch {BATCH}, "
            f"{t['fits']} fits of {EPOCHS} epochs.",
            "",
            "| ratio | measured | |",
            "|---|---|---|",
        ]
        rows = [
            (
                "plain PyTorch loop, batches by index / fused, per fit",
                _with_range(t, "plain"),
                WANTED["plain"],
            ),
            ("plain PyTorch loop, DataLoader / fused, per fit", _with_range(t, "loader"), WANTED["plain"]),
            ("scikit-learn MLPClassifier / fused, per fit", _with_range(t, "sklearn"), WANTED["sklearn"]),
            ("fused rate / fp32 matrix product", f"{t['fused rate / matrix rate']:.2f}", WANTED["rate"]),
            ("fp32 / bf16", f"{t['bf16 speed-up']:.2f}", f"UAR {100 * t['bf16 UAR difference']:+.2f} points"),
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    if s := found.get("study"):
        lines += [
            f"A study of {s['layers']} layers x {s['fits_per_layer']} fits x {s['epochs']} epochs takes",
            f"the paper's way {s['paper / ours']:.1f} times as long ({WANTED['study']}): a process",
            f"per layer, the npz of all layers, DataLoader, batches of {PAPER_BATCH}; scaled from",
            f"{s['measured_rows']} of {s['rows']} rows of one epoch of one fit.",
            "Ours is scaled from one epoch of one layer.",
            "",
        ]
    if curve := found.get("fits"):
        lines += ["| fits together | s per fit and epoch |", "|---|---|"]
        lines += [f"| {c['fits']} | {c['seconds_per_fit_and_epoch']:.3f} |" for c in curve] + [""]
    if curve := found.get("rows"):
        lines += [
            f"One fit, one epoch, from a store, --memory {found['memory']} ({WANTED['resident']} GB).",
            "",
            "| rows | GB | s training | s of the worker | GB resident, worker | GB resident, planning |",
            "|---|---|---|---|---|---|",
        ]
        names = ["gigabytes", "seconds_training", "train_seconds"]
        names += ["train_resident_gigabytes", "plan_resident_gigabytes"]
        lines += [f"| {c['rows']} | " + " | ".join(f"{c[n]:.2f}" for n in names) + " |" for c in curve]
        lines.append("")
    return "\n".join(lines)


PARTS = ("training", "fits", "rows", "study")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="seconds, to see that it runs; numbers mean nothing"
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--folder", type=Path, help="where test data is written, 7 GB at most")
    parser.add_argument("--memory", default="1.5GB")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]), options.memory)
        return
    small = options.small
    rows, d = (300, 32) if small else (20_000, 1536)
    parts = options.parts.split(",")
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    found: dict[str, Any] = {"machine": describe("torch", "scikit-learn"), "memory": options.memory}
    try:
        if "training" in parts:
            found["training"] = training(rows, d, 4 if small else 20, 1 if small else 7)
        if "fits" in parts:
            found["fits"] = over_fits(rows, d, [1, 2] if small else [1, 2, 4, 8, 16, 32, 64])
        if "rows" in parts:
            counts = [300] if small else [1_000, 10_000, 100_000, 1_000_000]
            found["rows"] = over_rows(counts, d, options.memory, folder)
        if "study" in parts:
            found["study"] = study(rows, d, 3 if small else 13, 100 if small else 4_000, folder)
    finally:
        shutil.rmtree(folder)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "probe.json").write_text(json.dumps(found, indent=2) + "\n")
    text = markdown(found)
    (options.out / "probe.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
