"""Make the recordings of a tutorial: six minutes of made-up calls, with the tables that Raven would save.

Twelve recordings of 30 s at 32 kHz in noise, as twelve birds on twelve mornings. Each holds some
twenty-five calls at the bird's own pitch: "rising" and "falling" sweeps over the same range, hence with the
same mean spectrum, and fewer short "chip" calls. The times in the tables are those of the calls put in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import chirp

RATE_HZ = 32_000
LENGTH_S = 30.0
CALLS = {"rising": (2800, 3700, 0.2), "falling": (3700, 2800, 0.2), "chip": (3600, 3000, 0.08)}


def one_call(kind: str, pitch: float, random: np.random.Generator) -> np.ndarray:
    """A sweep with faded ends, shape (samples,)."""
    first_hz, last_hz, length_s = CALLS[kind]
    length_s *= random.uniform(0.8, 1.2)
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    sweep = chirp(t, first_hz * pitch, length_s, last_hz * pitch, method="hyperbolic")
    return random.uniform(0.02, 0.12) * np.hanning(len(t)) * sweep


def recording(folder: Path, number: int) -> None:
    """Write one recording and its selection table."""
    random = np.random.default_rng(number)
    sound = 0.05 * random.standard_normal(round(LENGTH_S * RATE_HZ))
    pitch = random.uniform(0.75, 1.3)
    rows = ["Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCall"]
    begin_s = 0.5
    while begin_s < LENGTH_S - 1:
        kind = random.choice(list(CALLS), p=[0.45, 0.4, 0.15])
        call = one_call(kind, pitch, random)
        at = round(begin_s * RATE_HZ)
        sound[at : at + len(call)] += call
        end_s = (at + len(call)) / RATE_HZ
        rows.append(f"{len(rows)}\tSpectrogram 1\t1\t{at / RATE_HZ:.6f}\t{end_s:.6f}\t2000\t6000\t{kind}")
        begin_s = end_s + random.uniform(0.3, 1.5)
    name = f"bird{number:02d}"
    soundfile.write(folder / f"{name}.wav", sound, RATE_HZ, subtype="PCM_16")
    (folder / f"{name}.Table.1.selections.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main(folder: str = "recordings") -> None:
    """Write twelve recordings into a new folder."""
    target = Path(folder)
    target.mkdir(exist_ok=True)
    for number in range(1, 13):
        recording(target, number)


if __name__ == "__main__":
    main()
