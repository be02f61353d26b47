"""How right `fs detect` is on a finch's songs, what a class it never saw does to it, and a day of audio.

    python benchmarks/detect.py --songs ../shared/data/bengalese/Bird0    # 50 songs train, 10 are recordings
    python benchmarks/detect.py --long 24 [--files 24]                    # hours of made audio at 48 kHz

The last looks through the audio twice, in one file unless told otherwise: once as it is, for the most memory
and the time, and once killed with SIGKILL in the middle and run again, which has to give the same bytes.

The songs are those of Koumura & Okanoya 2016 (BirdsongRecognition, CC BY 4.0,
doi 10.6084/m9.figshare.3470165). All is done by the commands that a user types.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import describe
from featurestore.corpora.background import NAME

N_TEST = 10
LONG_RATE_HZ = 48_000
# Made once and repeated: what is in it does not change what is held.
LONG_BLOCK_S = 60
MOST_BYTES = 1.5e9


def fs(*arguments: object) -> str:
    """What `fs` prints."""
    words = [sys.executable, "-m", "cli", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise SystemExit(f"fs {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def prepare(songs: Path, work: Path) -> tuple[pd.DataFrame, list[Path]]:
    """The manifest with background, and the recordings that are held out: every sixth song."""
    adapter = ("manifest", "birdsong-recognition-dataset", songs)
    fs(*adapter, "--out", work / "all.csv", "--background", "--background-margin", 0.01, "--allow-missing")
    table = pd.read_csv(work / "all.csv", dtype={"label": str})
    files = sorted(table["path"].unique(), key=lambda p: int(Path(p).stem))
    held = files[5::6][:N_TEST]
    table[table["path"].isin(held) & (table["label"] != NAME)].to_csv(work / "truth.csv", index=False)
    return table[~table["path"].isin(held)], [Path(p) for p in held]


def train(
    table: pd.DataFrame,
    work: Path,
    name: str,
    model: str,
    layers: str | None,
    functionals: str | None = None,
) -> tuple[Path, str]:
    """A probe trained on a manifest, and what was said when it was saved."""
    table.to_csv(work / f"{name}.csv", index=False)
    store = ("--store", work / "s", "--dataset", name)
    some = ("--layers", layers) if layers else ()
    some += ("--functionals", functionals) if functionals else ()
    fs("extract", "--manifest", work / f"{name}.csv", "--model", model, *store, *some, "-q")
    question = ("--label", "label", "--split", "group", "--classifier", "logreg")
    fs("probe", *store, *question, "--out", work / f"r-{name}", "-q")
    return work / f"p-{name}", fs("save-probe", work / f"r-{name}", "--out", work / f"p-{name}")


def detect(probe: Path, held: Sequence[Path], work: Path, name: str, *options: object) -> tuple[Path, str]:
    """Results of a probe over the songs that were held out, and what was said."""
    out = work / f"d-{name}"
    said = fs("detect", "--probe", probe, *held, "--out", out, "--truth", work / "truth.csv", "-q", *options)
    return out, said


def unseen(table: pd.DataFrame, held: Sequence[Path], work: Path, given: argparse.Namespace) -> None:
    """What windows in syllables of a class get from a probe that never saw it."""
    truth = pd.read_csv(work / "truth.csv", dtype={"label": str})
    sizes = truth["label"].value_counts()
    print("\nA class that the probe never saw: windows whose middle is in one of its syllables\n")
    print("| class | syllables | windows | called background | another ≥ 0.5 | ≥ 0.9 | median top P |")
    print("|---|---|---|---|---|---|---|")
    for lost in sizes[sizes >= 20].index[: given.classes]:
        name = f"without-{lost}"
        probe, _ = train(
            table[table["label"] != lost], work, name, given.model, given.layers, given.functionals
        )
        out, _ = detect(probe, held, work, name, "--scores", "--hop", given.hop, "--window", given.window)
        p = np.concatenate([_windows_in(out, truth[truth["label"] == lost], f) for f in held])
        names = [c.removeprefix("p:") for c in _table(out, held[0]).columns if c.startswith("p:")]
        known = np.delete(p, names.index(NAME), axis=1).max(axis=1)
        silent = (p.argmax(axis=1) == names.index(NAME)).mean()
        cells = [100 * silent, 100 * (known >= 0.5).mean(), 100 * (known >= 0.9).mean()]
        print(
            f"| {lost} | {sizes[lost]} | {len(p):,} | "
            + " | ".join(f"{c:.0f} %" for c in cells)
            + f" | {np.median(known):.2f} |"
        )


def _table(out: Path, recording: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "scores" / recording.parent.name / f"{recording.name}.parquet")


def _windows_in(out: Path, syllables: pd.DataFrame, recording: Path) -> np.ndarray:
    """Probabilities `[n, C]` of the windows whose middle is in one of these syllables."""
    table = _table(out, recording)
    own = syllables[syllables["path"] == str(recording)]
    middle = (table["start_s"] + table["end_s"]).to_numpy() / 2
    inside = np.zeros(len(middle), dtype=bool)
    for start, end in zip(own["start_s"], own["end_s"], strict=True):
        inside |= (middle >= start) & (middle < end)
    return table.loc[inside, [c for c in table.columns if c.startswith("p:")]].to_numpy()


def windows_of(given: argparse.Namespace) -> tuple[object, ...]:
    """How `fs detect` looks through a song."""
    named = {"--window": given.window, "--hop": given.hop, "--gap": given.gap, "--min-event": given.least}
    return tuple(word for pair in named.items() for word in pair)


def check(table: pd.DataFrame, work: Path, probe: Path, given: argparse.Namespace) -> int:
    """Look through the songs that chose the probe, with what is annotated there; how many these are."""
    [split] = (work / "r-all" / "_splits").glob("*.parquet")
    kept = pd.read_parquet(split)
    chosen_by = kept.loc[kept["0"] == "val", "utterance_id"]
    songs = table.loc[table["utterance_id"].isin(chosen_by), "path"].unique()
    own = table[table["path"].isin(songs) & (table["label"] != NAME)]
    own.to_csv(work / "checked.csv", index=False)
    out = ("--out", work / "d-checked", "--truth", work / "checked.csv", "--scores", "-q")
    fs("detect", "--probe", probe, *songs, *out, *windows_of(given))
    return len(songs)


def finch(given: argparse.Namespace, work: Path) -> None:
    table, held = prepare(given.songs, work)
    seconds = sum(soundfile.info(f).duration for f in held)
    n_train = table["path"].nunique()
    print(f"{given.model}: {n_train} songs train, {len(table):,} rows; {len(held)} held out, {seconds:.0f} s")
    probe, said = train(table, work, "all", given.model, given.layers, given.functionals)
    print(said)
    precise = ("--precision", "0.9")
    checked, by_events = check(table, work, probe, given), (*precise, "--events-of", work / "d-checked")
    print(f"thresholds by events: of {checked} songs that the probe was chosen by")
    ways = (
        ("half", ()),
        ("precise", precise),
        ("precise", (*precise, "--iou", "0.3")),
        ("events", by_events),
        ("events-3", (*by_events, "--iou", "0.3")),
    )
    for name, options in ways:
        window = windows_of(given)
        began = time.perf_counter()
        _, said = detect(probe, held, work, name, *window, *options)
        took = time.perf_counter() - began
        print(
            f"\n{' '.join(map(str, (*window, *options)))}: {seconds / took:.0f} × real time, with its start"
        )
        print(said)
    if given.classes:
        unseen(table, held, work, given)


def write_day(path: Path, hours: float) -> None:
    """Quiet noise with a call every few seconds, 48 kHz, 16 bit, RF64 as field recorders write it."""
    rng = np.random.default_rng(0)
    n = LONG_BLOCK_S * LONG_RATE_HZ
    block = 0.01 * rng.standard_normal(n)
    t = np.arange(LONG_RATE_HZ // 2) / LONG_RATE_HZ
    for start in range(LONG_RATE_HZ, n - len(t), 7 * LONG_RATE_HZ):
        block[start : start + len(t)] += 0.2 * np.sin(2 * np.pi * (3000 + 2000 * t) * t)
    samples = np.round(block * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", LONG_RATE_HZ, 1, "PCM_16", format="RF64") as file:
        for _ in range(round(hours * 3600 / LONG_BLOCK_S)):
            file.write(samples)


def long(given: argparse.Namespace, work: Path) -> None:
    """The most memory that `fs detect` holds on long recordings, how quick it is, and what a kill changes."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.studies.detection.planted import World

    world = World(work / "world")
    day = work / "day"
    day.mkdir()
    for i in range(given.files):
        write_day(day / f"{i:02}.wav", given.long / given.files)
    size = sum(path.stat().st_size for path in day.iterdir())
    print(f"{given.long:g} h at {LONG_RATE_HZ} Hz in {given.files} files, {size / 1e9:.1f} GB", flush=True)

    def run(out: str, kill_after_s: float | None = None) -> tuple[float, int]:
        return watched([*words, "--out", str(work / out)], kill_after_s)

    words = [sys.executable, "-m", "cli", "detect", str(day), "--probe", str(world.probe)]
    words += ["--window", "1", "--hop", "0.5", "-q"]
    took, peak = run("whole")
    rate = given.long * 3600 / took
    print(f"whole: {took:.0f} s, {rate:.0f} × real time; peak {peak / 1e9:.2f} GB", flush=True)
    until, first = run("killed", took / 3)  # a machine that is less busy by then is not done yet
    n_done = len(list((work / "killed" / "records").rglob("*.json")))
    print(f"killed after {until:.0f} s, {n_done} of {given.files} recordings done", flush=True)
    again, second = run("killed")
    same = _bytes_of(work / "whole") == _bytes_of(work / "killed")
    print(f"run again: {again:.0f} s; the results are {'the same bytes' if same else 'OTHERS'}")
    most = max(peak, first, second)
    print(f"peak of all three {most / 1e9:.2f} GB")
    if not same or most > MOST_BYTES:
        raise SystemExit(f"expected the same bytes, and at most {MOST_BYTES / 1e9:g} GB")


def watched(words: Sequence[str], kill_after_s: float | None) -> tuple[float, int]:
    """Seconds that a program took, and the most memory that it held; killed with SIGKILL after so long.

    Raises:
        SystemExit: it failed, or ended before it could be killed.
    """
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(words, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        if kill_after_s is not None and time.perf_counter() - began > kill_after_s:
            process.kill()
            process.wait()
        time.sleep(0.2)
    wanted = 0 if kill_after_s is None else -signal.SIGKILL
    if process.returncode != wanted:
        raise SystemExit(f"exit {process.returncode}, expected {wanted}: {' '.join(words)}")
    return time.perf_counter() - began, peak


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--songs", type=Path, help="folder with Annotation.xml and Wave")
    parser.add_argument("--model", default="logmel")
    parser.add_argument("--layers")
    parser.add_argument("--functionals", help="such as mean, of a model with one vector for a window")
    parser.add_argument("--window", type=float, default=0.06)
    parser.add_argument("--hop", type=float, default=0.01)
    parser.add_argument("--gap", type=float, default=0.0)
    parser.add_argument("--least", type=float, default=0.03)
    parser.add_argument("--classes", type=int, default=3, help="classes to leave out, one at a time")
    parser.add_argument("--long", type=float, help="hours of made audio instead")
    parser.add_argument("--files", type=int, default=1, help="recordings that --long is divided into")
    parser.add_argument("--work", type=Path, help="folder to keep; default: a temporary one")
    given = parser.parse_args()
    if (given.songs is None) == (given.long is None):
        parser.error("give one of --songs and --long")
    print(describe("torch", "scikit-learn", "soundfile"))
    work = given.work or Path(tempfile.mkdtemp(prefix="fs-detect-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        if given.long is None:
            given.songs = given.songs.resolve()
            finch(given, work)
        else:
            long(given, work)
    finally:
        if given.work is None:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
