"""Calls planted in noise at known times, and a probe that was trained on others of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from click.testing import Result

from tests.command_line import fs, good

RATE_HZ = 24_000
CALL_S = 0.25
WINDOW_S, HOP_S = 0.25, 0.05
Planted = tuple[float, str]  # start in seconds, class


def call(kind: str, rate_hz: int = RATE_HZ) -> np.ndarray:
    """``low`` sweeps from 1 to 2 kHz, ``high`` from 6 to 5 kHz."""
    low_hz, high_hz = {"low": (1000, 2000), "high": (6000, 5000)}[kind]
    t = np.arange(round(CALL_S * rate_hz)) / rate_hz
    phase = 2 * np.pi * (low_hz * t + (high_hz - low_hz) * t**2 / (2 * CALL_S))
    return np.sin(phase) * np.hanning(len(t)) ** 0.25


def recording(seconds: float, calls: Sequence[Planted], seed: int = 0, rate_hz: int = RATE_HZ) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sound = 0.01 * rng.standard_normal(round(seconds * rate_hz))
    for start_s, kind in calls:
        first = round(start_s * rate_hz)
        one = 0.2 * call(kind, rate_hz)
        sound[first : first + len(one)] += one
    return sound


def random_calls(seconds: float, n: int, seed: int) -> list[Planted]:
    """`n` calls that are at least half a second apart, the classes in turn."""
    rng = np.random.default_rng(seed)
    slot = seconds / n
    assert slot > CALL_S + 0.6
    offsets = rng.uniform(0.25, slot - CALL_S - 0.25, n)
    return [(round(i * slot + o, 3), ("low", "high")[i % 2]) for i, o in enumerate(offsets)]


class World:
    """A probe of log-mel spectra that tells low, high and background, from six short recordings."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "train").mkdir(parents=True)
        rows = []
        for i in range(6):
            calls = random_calls(12.0, 8, seed=i)
            soundfile.write(root / "train" / f"{i}.wav", recording(12.0, calls, seed=i), RATE_HZ)
            for start_s, kind in calls:
                # The middle of what lies between two calls, and a call that is cut off.
                for begin, name in ((start_s, kind), (start_s - 0.25, "background")):
                    rows.append((f"train/{i}.wav", begin, begin + CALL_S, name, i))
                rows.append((f"train/{i}.wav", start_s + 0.19, start_s + 0.19 + CALL_S, "background", i))
        table = pd.DataFrame(rows, columns=["path", "start_s", "end_s", "call", "group"])
        table.to_csv(root / "m.csv", index=False)
        store = ("--dataset", "d", "--store", root / "s")
        good("extract", "--manifest", root / "m.csv", "--model", "logmel", *store, "-q")
        split = ("--label", "call", "--split", "group", "--classifier", "logreg")
        good("probe", "--store", root / "s", *split, "--out", root / "r", "-q")
        self.said = good("save-probe", root / "r", "--out", root / "p").output
        self.probe = root / "p"

    def detect(self, *arguments: object) -> Result:
        options = ("--probe", self.probe, "--window", WINDOW_S, "--hop", HOP_S, "-q")
        return fs("detect", *options, *arguments)


def found_calls(events: pd.DataFrame) -> list[tuple[float, str]]:
    return list(zip(events["start_s"], events["call"], strict=True))
