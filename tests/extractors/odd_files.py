"""A folder of broken and odd audio files, made by hand, with what must become of each."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
RNG = np.random.default_rng(0)
# Whole numbers, so that every integer format holds them without loss.
SAMPLES = (4000 * np.sin(np.arange(9000) * 0.11) + RNG.integers(-3000, 3000, 9000)).astype(np.int16)
SIGNAL = SAMPLES / np.float32(32_768)
SPARSE_S = 3 * 3600
LOUD_AT_S = 7000


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the manifest.

    Attributes:
        name: of the file.
        expected: mono samples that must be embedded, or words of the reason why not.
        rate: of `expected`.
        channel, start_s, end_s: columns of the manifest.
    """

    name: str
    expected: np.ndarray | str
    rate: int = RATE
    channel: str = ""
    start_s: str = ""
    end_s: str = ""


def riff(
    data: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    promised: int | None = None,
    before: bytes = b"",
) -> bytes:
    """A WAV file; `promised` is the size of the data that its header claims, `before` other chunks."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)
    body = b"fmt " + struct.pack("<I", len(fmt)) + fmt + before
    body += b"data" + struct.pack("<I", len(data) if promised is None else promised) + data
    return b"RIFF" + struct.pack("<I", min(4 + len(body), 0xFFFFFFFF)) + b"WAVE" + body


def float_wav(samples: np.ndarray) -> bytes:
    """A WAV file of float32 or float64 samples."""
    return riff(samples.tobytes(), tag=3, bits=8 * samples.itemsize)


def a_law(codes: np.ndarray) -> np.ndarray:
    """ITU-T G.711 A-law: bytes to samples between −1 and 1."""
    c = codes.astype(np.int64) ^ 0x55
    exponent, mantissa = (c & 0x70) >> 4, c & 0x0F
    size = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    )
    return (np.where(c & 0x80, size, -size) / 32_768).astype(np.float32)


def mu_law(codes: np.ndarray) -> np.ndarray:
    """ITU-T G.711 μ-law: bytes to samples between −1 and 1."""
    c = ~codes.astype(np.int64) & 0xFF
    size = ((((c & 0x0F) << 3) + 0x84) << ((c & 0x70) >> 4)) - 0x84
    return (np.where(c & 0x80, -size, size) / 32_768).astype(np.float32)


def make_folder(folder: Path) -> list[Case]:
    """Write all files; the cases, in the order in which they were thought of."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = (_hand_made, _formats, _truncated, _names, _not_files, _long)
    return [case for part in parts for case in part(folder)]


def _put(folder: Path, name: str, data: bytes, expected: np.ndarray | str, **options: object) -> Case:
    (folder / name).write_bytes(data)
    return Case(name=name, expected=expected, **options)  # type: ignore[arg-type]


def _hand_made(folder: Path) -> list[Case]:
    pcm, short = SAMPLES.tobytes(), SAMPLES[:4000]
    floats = SIGNAL.astype("<f4")
    wild: dict[str, np.ndarray] = {}
    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus_inf", -np.inf)):
        wild[name] = floats.copy()
        wild[name][4321] = value
    eight = (SAMPLES // 256 + 128).astype(np.uint8)
    deep = SAMPLES.astype("<i4") * 256 + 77  # 24 bits
    three_bytes = deep.view(np.uint8).reshape(-1, 4)[:, :3]
    thirty_two = RNG.integers(-8000, 8000, (6000, 32)).astype("<i2")
    of_32 = thirty_two / np.float32(32_768)
    infinite = "holds NaN or infinite samples"
    bat = np.tile(SAMPLES, 14)
    huge = SIGNAL.astype("<f8")
    huge[7] = 1e300
    garbage = RNG.integers(0, 256, 5000).astype(np.uint8).tobytes()
    listed = b"LIST" + struct.pack("<I", 4) + b"INFO"
    put = partial(_put, folder)
    return [
        put("empty.wav", b"", "is an empty file"),
        put("header_only.wav", riff(b""), "no samples in the file"),
        put("half_a_header.wav", riff(pcm)[:20], "cannot be decoded"),
        put("riff_alone.wav", b"RIFF", "cannot be decoded"),
        put("no_channels.wav", riff(pcm, channels=0), "cannot be decoded"),
        put("no_rate.wav", riff(pcm, rate=0), "."),
        put("no_bits.wav", riff(pcm, bits=0), "cannot be decoded"),
        put("no_format.wav", b"RIFF" + struct.pack("<I", 12) + b"WAVEdata\0\0\0\0", "cannot be decoded"),
        put("unknown_codec.wav", riff(pcm, tag=0x4242), "cannot be decoded"),
        put("mp3_codec_in_wav.wav", riff(garbage, tag=0x55), "."),
        put(
            "promises_more.wav",
            riff(pcm, promised=10**6),
            "cut short: its header promises 500,000 frames, 9,000",
        ),
        put("streamed.wav", riff(pcm, promised=0xFFFFFFFF), SIGNAL),
        put("other_chunks.wav", riff(pcm, before=listed), SIGNAL),
        put("trailing_garbage.wav", riff(pcm) + garbage, SIGNAL),
        put("text.wav", b"this is not audio\n" * 50, "cannot be decoded"),
        put("page.html.wav", b"<!DOCTYPE html><html><body>404</body></html>", "cannot be decoded"),
        put("noise_of_bytes.wav", garbage, "."),
        put("zeros_of_bytes.wav", bytes(5000), "cannot be decoded"),
        put("nan.wav", float_wav(wild["nan"]), infinite),
        put("inf.wav", float_wav(wild["inf"]), infinite),
        put(
            "minus_inf.wav",
            riff(wild["minus_inf"].tobytes(), tag=3, bits=32),
            "holds NaN or infinite samples",
        ),
        put("beyond_float32.wav", float_wav(huge), infinite),
        put("dc_only.wav", riff(np.full(9000, 5000, "<i2").tobytes()), "constant signal"),
        put("all_zeros.wav", riff(bytes(18_000)), "all samples are zero"),
        put("one_sample.wav", riff(SAMPLES[:1].tobytes()), "constant signal"),
        put("three_samples.wav", riff(SAMPLES[:3].tobytes()), SIGNAL[:3]),
        put("a_quarter.wav", riff(short.tobytes()), SIGNAL[:4000]),
        put(
            "loud.wav", riff((floats * 1e6).astype("<f4").tobytes(), tag=3, bits=32), floats * np.float32(1e6)
        ),
        put(
            "quiet.wav",
            riff((floats * 1e-4).astype("<f4").tobytes(), tag=3, bits=32),
            floats * np.float32(1e-4),
        ),
        put("8_bit.wav", riff(eight.tobytes(), bits=8), (eight.astype(np.float32) - 128) / 128),
        put(
            "24_bit.wav",
            riff(three_bytes.tobytes(), bits=24),
            deep / np.float32(2**23),
        ),
        put("32_bit.wav", riff((deep * 256).astype("<i4").tobytes(), bits=32), deep / np.float32(2**23)),
        put("float64.wav", float_wav(SIGNAL.astype("<f8")), SIGNAL),
        put("a_law.wav", riff(eight.tobytes(), tag=6, bits=8), a_law(eight)),
        put("mu_law.wav", riff(eight.tobytes(), tag=7, bits=8), mu_law(eight)),
        put(
            "32_channels.wav",
            riff(thirty_two.tobytes(), channels=32),
            of_32.mean(1),
        ),
        put("600_hz.wav", riff(SAMPLES[:600].tobytes(), rate=600), SIGNAL[:600], rate=600),
        put(
            "250_khz.wav",
            riff(bat.tobytes(), rate=250_000),
            np.tile(SIGNAL, 14),
            rate=250_000,
        ),
        Case(name="32_channels.wav", expected=of_32[:, 31], channel="31"),
        Case(name="32_channels.wav", expected="has 32 channels, none numbered 32", channel="32"),
        Case(name="8_bit.wav", expected="starts at 9 s, after the file's end", start_s="9"),
        Case(name="a_law.wav", expected="ends at 1.5 s, after the file's end", start_s="0.1", end_s="1.5"),
        Case(name="promises_more.wav", expected=SIGNAL[1600:4800], start_s="0.1", end_s="0.3"),
    ]


def _formats(folder: Path) -> list[Case]:
    """What libsndfile writes and reads; what it reads is right for the lossy ones, SIGNAL for the others."""
    cases = []
    for name, kind, subtype, lossless in (
        ("flac.flac", "FLAC", "PCM_16", True),
        ("flac24.flac", "FLAC", "PCM_24", True),
        ("vorbis.ogg", "OGG", "VORBIS", False),
        ("opus.opus", "OGG", "OPUS", False),
        ("layer3.mp3", "MP3", "MPEG_LAYER_III", False),
        ("big_endian.aiff", "AIFF", "PCM_16", True),
        ("sun.au", "AU", "PCM_16", True),
        ("apple.caf", "CAF", "PCM_16", True),
        ("sony.w64", "W64", "PCM_16", True),
        ("large.rf64", "RF64", "PCM_16", True),
        ("extensible.wav", "WAVEX", "PCM_16", True),
        ("ima.wav", "WAV", "IMA_ADPCM", False),
        ("gsm.wav", "WAV", "GSM610", False),
    ):
        soundfile.write(folder / name, SAMPLES, RATE, format=kind, subtype=subtype)
        expected = SIGNAL if lossless else soundfile.read(folder / name, dtype="float32")[0]
        cases.append(Case(name=name, expected=expected))
    # Names that say something else than the content.
    for name, content in (
        ("mp3_bytes.wav", "layer3.mp3"),
        ("flac_bytes.wav", "flac.flac"),
        ("wav_bytes.mp3", "extensible.wav"),
        ("wav_bytes.txt", "extensible.wav"),
        ("wav_bytes.raw", "extensible.wav"),
        ("no_extension", "extensible.wav"),
    ):
        (folder / name).write_bytes((folder / content).read_bytes())
        cases.append(Case(name=name, expected=next(c for c in cases if c.name == content).expected))
    return cases


def _truncated(folder: Path) -> list[Case]:
    cases = []
    for name in (
        "flac.flac",
        "vorbis.ogg",
        "opus.opus",
        "layer3.mp3",
        "big_endian.aiff",
        "sun.au",
        "large.rf64",
    ):
        whole = (folder / name).read_bytes()
        cut = int(len(whole) * RNG.uniform(0.3, 0.8))
        cases.append(_put(folder, f"cut_{name}", whole[:cut], "cut short|cannot be decoded|no samples"))
    whole = riff(SAMPLES.tobytes())
    for i, cut in enumerate(RNG.integers(60, len(whole) - 2000, 4)):
        cases.append(_put(folder, f"cut_{i}.wav", whole[:cut], "cut short: its header promises 9,000 frames"))
    # 20 ms: annotations and recorders are not more exact than that.
    cases.append(_put(folder, "almost_whole.wav", whole[:-640], SIGNAL[:-320]))
    return cases


def _names(folder: Path) -> list[Case]:
    names = (
        *(
            "with some spaces",
            'it\'s "quoted"',
            "two\nlines",
            "carriage\rreturn",
            "señor ñandú",
            "комар 蝙蝠 🦇",
        ),
        *("comma, semicolon; tab\t", "-m", "100%41#1", "back\\slash", " ", "x" * 251),
    )
    return [_put(folder, f"{name}.wav", riff(SAMPLES.tobytes()), SIGNAL) for name in names]


def _not_files(folder: Path) -> list[Case]:
    (folder / "x.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "broken_link.wav").symlink_to(folder / "nowhere.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "endless.wav").symlink_to("/dev/zero")
    (folder / "link.wav").symlink_to(folder / "other_chunks.wav")
    locked = _put(folder, "no_permission.wav", riff(SAMPLES.tobytes()), "may not be read (permission denied)")
    (folder / locked.name).chmod(0)
    if os.access(folder / locked.name, os.R_OK):  # root reads everything
        locked = Case(name=locked.name, expected=SIGNAL)
    return [
        Case(name="x.wav", expected="is a folder"),
        Case(name="pipe.wav", expected="is no regular file"),
        Case(name="broken_link.wav", expected="is a broken link"),
        Case(name="loop.wav", expected="cannot be opened"),
        Case(name="endless.wav", expected="is no regular file"),
        Case(name="link.wav", expected=SIGNAL),
        locked,
    ]


def _long(folder: Path) -> list[Case]:
    """Three hours that take up next to nothing on the disk: silence, and silence with a call in it."""
    n_bytes = 2 * RATE * SPARSE_S
    for name in ("three_silent_hours.wav", "three_hours.wav"):
        with open(folder / name, "wb") as file:
            file.write(riff(b"", promised=n_bytes))
            file.truncate(44 + n_bytes)
            if name == "three_hours.wav":
                file.seek(44 + 2 * RATE * LOUD_AT_S)
                file.write(SAMPLES.tobytes())
    return [
        Case(name="three_silent_hours.wav", expected="all samples are zero"),
        Case(
            name="three_hours.wav",
            expected=SIGNAL[1600:8000],
            start_s=f"{LOUD_AT_S}.1",
            end_s=f"{LOUD_AT_S}.5",
        ),
        Case(name="three_hours.wav", expected="all samples are zero", start_s="100", end_s="101"),
        Case(name="three_hours.wav", expected="after the file's end", start_s="10799", end_s="10801"),
    ]
