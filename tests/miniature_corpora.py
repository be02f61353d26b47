"""Corpora in their published layouts, a few dozen short clips each, with every class in several groups.

They are large enough for the splits of the studies in `studies`: five folds of groups, or 70/20/10 by clip.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

RATE_HZ = 8_000
CLIP_S = 0.1
PITCHES_HZ = (300, 900, 1_800, 2_900)


def write_tone(path: Path, k: int, *, duration_s: float = CLIP_S, rate_hz: int = RATE_HZ) -> Path:
    """Write a tone of class `k` in noise; no two files have the same samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.as_posix().encode()[-40:]))
    times_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    tone = np.sin(2 * np.pi * PITCHES_HZ[k % len(PITCHES_HZ)] * times_s)
    soundfile.write(path, 0.3 * tone + 0.1 * rng.standard_normal(len(tone)), rate_hz)
    return path


def _write_table(path: Path, head: str, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")


def write_imv(root: Path) -> None:
    """Two marmosets on six days: three calls of each of two types, silence, noise, and one empty call."""
    rows: list[tuple[object, ...]] = []
    for date, marmoset in itertools.product(range(6), (1, 2)):
        name = f"2011030{date + 1}_Twin1_marmoset{marmoset}"
        write_tone(root / f"data/twin_1/{name}.wav", marmoset, duration_s=2.0)
        # The pitch tells the caller, the length the type of the call.
        rows += [
            (name, 0.2 * i, 0.2 * i + 0.05 * (1 + i % 2), 0.05 * (1 + i % 2), (1, 2)[i % 2], marmoset)
            for i in range(6)
        ]
        rows += [(name, 1.5, 1.6, 0.1, 11, marmoset), (name, 1.7, 1.8, 0.1, 12, marmoset)]
    name = rows[0][0]
    rows.insert(7, (name, 1.9, 1.9, 0.0, 1, 1))
    _write_table(root / "labels.csv", "filename,start,end,duration,calltype,caller", rows)


def write_watkins(root: Path) -> None:
    """Three species on five tapes each, three clips of each tape."""
    species = ("Clymene_Dolphin", "Walrus", "Beluga,_White_Whale")
    rows = []
    for (k, name), tape, cut in itertools.product(enumerate(species), range(5), range(3)):
        file = f"{name}/{60 + k}{tape:03}00{cut}.wav"
        write_tone(root / file, k)
        rows.append((file, name))
    _write_table(root / "annotations.csv", "path,species", rows)


def write_abzaliev(root: Path) -> None:
    """Six dogs of two breeds and both sexes, three barks of each of three call types."""
    dogs = ("luna", "fisgon", "centavo", "koster", "megara", "maly")
    for dog, (k, kind), cut in itertools.product(dogs, enumerate(("L-S1", "GR-N", "CH-P")), range(3)):
        write_tone(root / f"data/{dog}_1/{kind}/{cut}.wav", k)
    write_tone(root / "data/luna_1/S/0.wav", 3)


def write_esc50(root: Path) -> None:
    """Three classes in the five official folds, two takes of two sources in each."""
    rows = []
    classes = enumerate(("dog", "rain", "rooster"))
    for fold, (k, category), source, take in itertools.product(range(1, 6), classes, range(2), "AB"):
        name = f"{fold}-{1000 + 100 * source + 10 * fold + k}-{take}-{k}.wav"
        write_tone(root / "audio" / name, k)
        rows.append((name, fold, k, category, True, name.split("-")[1], take))
    _write_table(root / "meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take", rows)


def write_birdsong(root: Path) -> None:
    """One finch's sixty songs of four syllables, of two classes."""
    note = "<Note><Position>{}</Position><Length>400</Length><Label>{}</Label></Note>"
    songs = []
    for song in range(60):
        write_tone(root / f"Bird0/Wave/{song}.wav", song, duration_s=0.4)
        notes = "".join(note.format(600 * i, i % 2) for i in range(4))
        songs.append(
            f"<Sequence><WaveFileName>{song}.wav</WaveFileName><Position>0</Position><Length>3000</Length>"
            f"<NumNote>4</NumNote>{notes}</Sequence>"
        )
    text = f"<?xml version='1.0'?><Sequences><NumSequence>60</NumSequence>{''.join(songs)}</Sequences>"
    (root / "Bird0/Annotation.xml").write_text(text)


def write_birdset(root: Path, *, subset: str = "HSN") -> None:
    """18 focal recordings of three species in a tar file; 30 windows of five soundscapes, unpacked."""
    codes = ("gcrfin", "whcspa", "amepip")
    train, test = [], []
    shard = root / f"{subset}_train_shard_0001.tar"
    for n in range(18):
        name, k = f"XC{1000 + n}.ogg", n % 3
        path = write_tone(root / "packed" / name, k, duration_s=1.0)
        train.append(
            {
                "filepath": f"{subset}/train/{name}",
                "start_time": None,
                "end_time": None,
                "ebird_code": codes[k],
                "ebird_code_multilabel": [codes[k]],
                "ebird_code_secondary": [],
                "call_type": "song",
                "length": 1,
                "local_time": "07:30",
                "quality": "A",
                "recordist": f"by {n // 3}",
                "detected_events": [[0.1, 0.3], [0.4, 0.5], [0.6, 0.9]],
                "event_cluster": [0, -1, 0],
            }
        )
        with tarfile.open(shard, "a") as tar:
            tar.add(path, arcname=f"train/{name}")
        path.unlink()
    for scape, cut in itertools.product(range(5), range(6)):
        name = f"{subset}_{scape:03}_20150708_061805_{5 * cut:03}_{5 * cut + 5:03}.ogg"
        write_tone(root / f"extracted/{subset}_test5s_shard_0001" / name, cut % 3)
        test.append(
            {"filepath": name, "ebird_code_multilabel": [[codes[cut % 3]], [], list(codes[:2])][cut % 3]}
        )
    (root / "packed").rmdir()
    pd.DataFrame(train).to_parquet(root / f"{subset}_metadata_train.parquet")
    pd.DataFrame(test).set_index("filepath").to_parquet(root / f"{subset}_metadata_test_5s.parquet")


def write_beans(root: Path, *, task: str) -> None:
    """A classification task of BEANS, with the files of its published parts where there are some."""
    _BEANS_TASKS[task](root)


def _write_parts(root: Path, files: Sequence[str], names: str = "annotations.{}.csv") -> None:
    for i, part in enumerate(("train", "valid", "test")):
        of_part = [f for n, f in enumerate(files) if (0, 0, 0, 1, 2)[n % 5] == i]
        _write_table(root / names.format(part), ",path,label", [(n, f, "x") for n, f in enumerate(of_part)])


def _beans_dogs(root: Path) -> None:
    files = [f"dog {n}.wav" for n in range(30)]
    rows = [(f, ("Farley", "Zoe")[n % 2], "play", 3, 20, "M", "mix") for n, f in enumerate(files)]
    for n, file in enumerate(files):
        write_tone(root / "wav" / file, n % 2)
    _write_table(root / "annotations.csv", "filename,name,context,age,weight,sex,breed", rows)
    _write_parts(root, [f"data/dogs/wav/{f}" for f in files])


def _beans_bats(root: Path) -> None:
    files = [f"120601{n:02}_0.wav" for n in range(30)]
    for n, file in enumerate(files):
        write_tone(root / "audio" / file, n % 3)
    _write_table(root / "annotations.csv", "Emitter,File Name", [(n % 3, f) for n, f in enumerate(files)])
    _write_parts(root, [f"data/egyptian_fruit_bats/audio/{f}" for f in files])


def _beans_cbi(root: Path) -> None:
    names = [f"XC{n}" for n in range(30)]
    for n, name in enumerate(names):
        write_tone(root / f"wav/{name}.wav", n % 2)
    rows = [(4, ("aldfly", "ameavo")[n % 2], f"{name}.mp3", f"by {n % 7}") for n, name in enumerate(names)]
    _write_table(root / "train.csv", "rating,ebird_code,filename,recordist", rows)
    _write_parts(root, [f"data/cbi/wav/{name}.wav" for name in names])


def _beans_humbugdb(root: Path) -> None:
    # Species of 100 clips or fewer become one class.
    species = [*["an dirus"] * 101, *[""] * 20]
    for n, name in enumerate(species):
        write_tone(root / f"data/audio/{n}.wav", bool(name), duration_s=0.02)
    table = root / "data/metadata/neurips_2021_zenodo_0_0_1.csv"
    rows = [(n, name, f"tape{n % 12}") for n, name in enumerate(species)]
    _write_table(table, "id,species,name", rows)
    parts = [f"data/HumBugDB/data/audio/{n}.wav" for n in range(len(species))]
    _write_parts(root, parts, "data/metadata/{}.csv")


def _beans_watkins(root: Path) -> None:
    write_watkins(root)
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.wav"))
    _write_parts(root, [f"data/watkins/{f}" for f in files])


_BEANS_TASKS: Mapping[str, Callable[[Path], None]] = {
    "dogs": _beans_dogs,
    "bats": _beans_bats,
    "cbi": _beans_cbi,
    "humbugdb": _beans_humbugdb,
    "watkins": _beans_watkins,
    "esc50": write_esc50,
}
#: Adapter → what writes a miniature of its layout; takes the options of the adapter that change the layout.
MINIATURES: Mapping[str, Callable[..., None]] = {
    "imv": write_imv,
    "watkins": write_watkins,
    "abzaliev": write_abzaliev,
    "esc50": write_esc50,
    "birdsong-recognition-dataset": write_birdsong,
    "beans": write_beans,
    "birdset": write_birdset,
}


def write_miniature(adapter: str, root: Path, options: Mapping[str, Any]) -> Path:
    """Write the miniature of an adapter's layout; returns `root`."""
    if adapter not in MINIATURES:
        raise LookupError(f"no miniature of {adapter!r}; write one here")
    MINIATURES[adapter](root, **{name: options[name] for name in options if name in ("task", "subset")})
    return root
