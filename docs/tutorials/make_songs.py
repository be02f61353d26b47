"""Make the songs of a tutorial: a made-up finch, laid out as BirdsongRecognition (Koumura & Okanoya 2016).

Twelve songs of some twenty-five syllables at 32 kHz. Five kinds of syllable, sung in motifs, each a little
different each time. Two of them have the same mean spectrum: a sweep up and the same sweep down.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import chirp

RATE_HZ = 32_000
N_SONGS = 12
MOTIFS = ("abcd", "abcde", "abbc", "abcdd")


def syllable(kind: str, mood: float, random: np.random.Generator) -> np.ndarray:
    """A syllable, shape (samples,); `mood` shifts the pitch of a whole song."""
    length_s = {"a": 0.05, "b": 0.08, "c": 0.08, "d": 0.10, "e": 0.12}[kind] * random.uniform(0.85, 1.15)
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    pitch = mood * random.uniform(0.93, 1.07)
    if kind in "bc":
        ends = np.array((2200, 4200) if kind == "b" else (4200, 2200)) * random.uniform(0.92, 1.08, 2)
        wave = chirp(t, ends[0] * pitch, length_s, ends[1] * pitch)
    elif kind == "a":
        wave = random.standard_normal(len(t)) * 0.5
    else:
        first_hz = {"d": 620, "e": 760}[kind] * pitch
        weights = random.uniform(0.2, 1, 8) / np.arange(1, 9)
        wave = sum(w * np.sin(2 * np.pi * k * first_hz * t) for k, w in enumerate(weights, 1)) * 0.5
    tremble = 1 + 0.6 * np.sin(2 * np.pi * random.uniform(15, 60) * t + random.uniform(0, 6))
    return random.uniform(0.08, 0.3) * np.hanning(len(t)) * tremble * wave


def song(number: int, folder: Path) -> str:
    """Write a song; give its part of the annotation."""
    random = np.random.default_rng(number)
    mood = random.uniform(0.88, 1.14)
    pieces, notes, at = [np.zeros(RATE_HZ // 4)], [], RATE_HZ // 4
    for motif in random.choice(MOTIFS, size=6):
        for kind in motif:
            sound = syllable(kind, mood, random)
            label = "abcde".index(kind)
            notes.append(
                f"<Note><Position>{at}</Position><Length>{len(sound)}</Length><Label>{label}</Label></Note>"
            )
            gap = np.zeros(round(random.uniform(0.03, 0.07) * RATE_HZ))
            pieces += [sound, gap]
            at += len(sound) + len(gap)
    whole = np.concatenate(pieces)
    whole = whole + 0.03 * random.standard_normal(len(whole))
    soundfile.write(folder / "Wave" / f"{number}.wav", whole, RATE_HZ, subtype="PCM_16")
    return (
        f"<Sequence><WaveFileName>{number}.wav</WaveFileName><Position>0</Position><Length>{len(whole)}</Length>"
        f"<NumNote>{len(notes)}</NumNote>{''.join(notes)}</Sequence>"
    )


def main(folder: str = "songs") -> None:
    """Write the songs of one bird into a new folder."""
    bird = Path(folder) / "Bird0"
    (bird / "Wave").mkdir(parents=True, exist_ok=True)
    parts = [song(number, bird) for number in range(N_SONGS)]
    text = f"<Sequences><NumSequence>{len(parts)}</NumSequence>{''.join(parts)}</Sequences>"
    (bird / "Annotation.xml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
