"""`fs detect` with BirdNET, of a plain loop over BirdNET's windows: how much longer the whole of it takes.

    python benchmarks/detect_birdnet.py [--minutes 20] [--rounds 3] [--threads 1] [--record]

Both are processes of their own, in turns, on the same file of 48 kHz and the same windows of 3 s, end to end.
The loop reads the file with soundfile at once, runs BirdNET 2.4 with LiteRT for window after window, as
birdnetlib does, keeps its scores of all species, and does nothing else: no hashes, no probe, no events, no
tables. The probabilities that `fs detect` keeps of the first windows are compared with those of its probe
on embeddings of LiteRT's plain kernels. Ratios are of the medians; ``--record`` writes them to
``benchmarks/results/detect_birdnet.md`` with the load of the machine, which tells a busy one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.detect import train, write_day
from benchmarks.machine import describe
from extractors.models.birdnet import EMBEDDING, WINDOW_SAMPLES, BirdnetSource
from probes.saved.probe_files import read_probe
from tests.studies.detection.planted import World

RESULTS = Path(__file__).parent / "results" / "detect_birdnet.md"
WINDOW_S = 3
# Probabilities of the same windows, computed in two ways.
MOST_APART, N_COMPARED = 1e-4, 20
# At the start of the run; an idle machine has less.
BUSY_LOAD = 0.5
LOOP = """
import sys
import numpy as np, soundfile
from ai_edge_litert.interpreter import Interpreter
weights, audio, out, n_threads, window = sys.argv[1:]
samples, _ = soundfile.read(audio, dtype="float32")
interpreter = Interpreter(model_path=weights, num_threads=int(n_threads))
interpreter.allocate_tensors()
entry, classes = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
found = []
for start in range(0, len(samples), int(window)):
    clip = samples[start : start + int(window)]
    interpreter.set_tensor(entry, clip[None])
    interpreter.invoke()
    found.append(interpreter.get_tensor(classes)[0])
np.save(out, np.array(found))
"""


def seconds_of(words: Sequence[str], threads: int) -> float:
    """Seconds of a process.

    Raises:
        SystemExit: it failed.
    """
    began = time.perf_counter()
    done = subprocess.run(
        words,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:4])} …\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def trained(work: Path) -> Path:
    """A probe on BirdNET's embedding."""
    root = World(work / "world").root
    table = pd.read_csv(root / "m.csv").rename(columns={"call": "label"})
    table["path"] = [str(root / path) for path in table["path"]]
    # Its 64 positions in time are one vector: there is no deviation.
    folder, _ = train(table, work, "birdnet", "birdnet", None, functionals="mean")
    return folder


def apart(probe: Path, weights: str, audio: Path, scores: Path) -> float:
    """The largest difference of two probabilities of one of the first windows.

    The embedding is that of LiteRT's plain kernels with every tensor kept: the fast ones keep results alone.
    """
    import soundfile
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    saved, table = read_probe(probe), pd.read_parquet(scores)
    plain = Interpreter(
        model_path=weights,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    plain.allocate_tensors()
    [entry] = plain.get_input_details()
    [embedding] = [t["index"] for t in plain.get_tensor_details() if t["name"] == EMBEDDING]
    samples, _ = soundfile.read(audio, dtype="float32", frames=N_COMPARED * WINDOW_SAMPLES)
    x = []
    for clip in samples.reshape(-1, WINDOW_SAMPLES):
        plain.set_tensor(entry["index"], clip[None])
        plain.invoke()
        x.append(plain.get_tensor(embedding)[0])
    theirs = table[[f"p:{name}" for name in saved.card.classes]].to_numpy()[: len(x)]
    return float(np.abs(saved.probabilities(np.array(x)) - theirs).max())


def report(
    given: argparse.Namespace,
    plain: Sequence[float],
    ours: Sequence[float],
    difference: float,
    load: float,
    seconds: float,
) -> Iterator[str]:
    """What was measured, as a page."""
    a, b = statistics.median(plain), statistics.median(ours)
    busy = " (busy: others computed meanwhile)" if load > BUSY_LOAD else ""
    ratios = ", ".join(f"{y / x:.2f}" for x, y in zip(plain, ours, strict=True))
    options = f"--minutes {given.minutes} --rounds {given.rounds} --threads {given.threads}"
    yield "# Detection with BirdNET: a ratio measured in one run"
    yield ""
    yield f"`python benchmarks/detect_birdnet.py {options}`, {seconds:.0f} s in all"
    yield ""
    yield describe("ai-edge-litert", "birdnetlib", "soundfile")
    yield ""
    yield f"Load of the machine at the start: {load:.1f} on {os.cpu_count()} cores{busy}."
    yield ""
    yield "| whole process, with its start | median | rounds |"
    yield "|---|---|---|"
    yield f"| plain loop | {a:.1f} s | {', '.join(f'{s:.1f}' for s in plain)} |"
    yield f"| `fs detect` | {b:.1f} s | {', '.join(f'{s:.1f}' for s in ours)} |"
    yield f"| `fs detect`, of the loop | {b / a:.2f} | {ratios} |"
    yield ""
    n = given.minutes * 60 // WINDOW_S
    compared = min(n, N_COMPARED)
    yield f"{n} windows of {WINDOW_S} s; probabilities of {compared} differ by at most {difference:.1g}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=20, help="whole ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of LiteRT and PyTorch, for both")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    began, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="fs-birdnet-") as temporary:
        work = Path(temporary)
        probe, audio = trained(work), work / "long" / "long.wav"
        audio.parent.mkdir()
        write_day(audio, given.minutes / 60)
        weights = str(BirdnetSource()._published_file())
        plain, ours = [], []
        for i in range(given.rounds):
            loop = [sys.executable, "-c", LOOP, weights, str(audio), str(work / "loop.npy")]
            plain.append(seconds_of([*loop, str(given.threads), str(WINDOW_SAMPLES)], given.threads))
            detect = [
                sys.executable,
                "-m",
                "cli",
                "detect",
                str(audio),
                "--probe",
                str(probe),
                "-q",
                "--scores",
            ]
            detect += ["--window", str(WINDOW_S), "--hop", str(WINDOW_S), "--out", str(work / f"d{i}")]
            ours.append(seconds_of(detect, given.threads))
            print(f"round {i + 1}: loop {plain[-1]:.1f} s, fs detect {ours[-1]:.1f} s", flush=True)
        difference = apart(probe, weights, audio, work / "d0" / "scores" / "long" / "long.wav.parquet")
    if difference > MOST_APART:
        raise SystemExit(f"probabilities differ by {difference:.2g}, expected at most {MOST_APART:g}")
    text = "\n".join(report(given, plain, ours, difference, load, time.perf_counter() - began))
    print(text)
    if given.record:
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
