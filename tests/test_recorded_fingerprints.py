"""Fingerprints are those of before: what was embedded and probed once is found again, and not made anew.

The values were found with three versions of the code (5fb20dd, c17b21f and feea4cd) and are the same in them.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from cli import main
from featurestore import open_store
from featurestore.fingerprint import digest
from tests.models import save_ssl, save_whisper

RATE_HZ = 16000
N_CLIPS = 48
EXTRACTIONS = {
    "logmel": (),
    "logmel:44100": ("--name", "logmel-44100"),
    "mfcc": ("--functionals", "mean", "--dtype", "float16"),
    "hubert": ("--layers", "0-1", "--name", "hubert", "--normalise", "zero-mean-unit-variance"),
    "whisper": ("--name", "whisper"),
}
RECORDED = {
    "logmel": "2609bbe8bdf30b57289084551c246d6cc31188fb006be54e67c7391971a129f7",
    "logmel:44100": "0f1ad263730f85cde1eba3f69988877aba27beb770b5e020090f2da52b8898ff",
    "mfcc": "fec9e9a4e9ca63a515c12dbf66b768920804dad21abf72636b8e8730b76ae4ce",
    "hubert": "1967b5ebfd5c5ec5247c9c6c320a05f504040617e1a97f5a47c9086c8c83d9be",
    "whisper": "870fbd5159fff7255698e3452fe7b8b508a53094f9054b1ebf5b9832ae01bc98",
}
PROBES = {
    "mlp": (),
    "linear": ("--classifier", "linear", "--seeds", "2", "--split", "random", "--control", "shuffled-labels"),
    "sklearn": ("--classifier", "logreg", "--split", "group"),
}
RECORDED_PROBES = {
    "mlp": "2b568c1fdfbe9e2c3da2901886a8044d31ca89841bbd58d0f79129b96b0e89db",
    "linear": "b1dcdc02fc68d26d1437b7a9b496f86fa38027292e488b0b12aa56ceedf0901d",
    "sklearn": "196cf44d4b07743f293ed57ca9c59dc66b1b00ee31c7a4776619e613c93f48e6",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for i in range(N_CLIPS):
        n = RATE_HZ // 4 + 160 * i
        # Whole numbers, so that every machine has the same samples.
        samples = (np.arange(n) * (37 + 11 * (i % 3)) % 2001 - 1000).astype(np.int16)
        soundfile.write(folder / f"{i:02d}.wav", samples, RATE_HZ, subtype="PCM_16")
        rows.append({"path": f"{i:02d}.wav", "call": "abc"[i % 3], "group": f"bird-{i // 6}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def run(*arguments: str | Path) -> None:
    with contextlib.suppress(SystemExit):
        main([str(a) for a in arguments], standalone_mode=False)


def without_weights(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Made anew for every test, by a generator that need not be the same in every version of PyTorch."""
    model = {k: v for k, v in fingerprint["model"].items() if "sha256" not in k}
    return {**fingerprint, "model": model}


@pytest.mark.parametrize("model", EXTRACTIONS)
def test_of_extractions(corpus: Path, tmp_path: Path, model: str) -> None:
    specs = {
        "hubert": lambda: save_ssl(tmp_path / "m", "hubert", "base"),
        "whisper": lambda: save_whisper(tmp_path / "m"),
    }
    spec = str(specs[model]()) if model in specs else model
    run(
        "extract",
        "--manifest",
        corpus / "manifest.csv",
        "--model",
        spec,
        "--dataset",
        "d",
        "--store",
        tmp_path / "s",
        *EXTRACTIONS[model],
    )
    (key,) = open_store(str(tmp_path / "s")).keys()
    fingerprint = open_store(str(tmp_path / "s")).features(*key).attrs["fingerprint"]
    found = without_weights(json.loads(json.dumps(fingerprint)))
    assert digest(found) == RECORDED[model], found


@pytest.mark.parametrize("classifier", PROBES)
def test_of_probes(corpus: Path, tmp_path: Path, classifier: str) -> None:
    run(
        "extract",
        "--manifest",
        corpus / "manifest.csv",
        "--model",
        "logmel",
        "--dataset",
        "d",
        "--store",
        tmp_path / "s",
    )
    run("probe", "--store", tmp_path / "s", "--label", "call", "--out", tmp_path / "r", *PROBES[classifier])
    tables = [pd.read_parquet(p) for p in sorted((tmp_path / "r").glob("*.parquet"))]
    names = ["fingerprint", "data"]
    rows = sorted(tuple(str(v) for v in row) for t in tables for row in t[names].to_numpy())
    tasks = sorted(p.stem for p in (tmp_path / "r" / "_tasks").glob("*.parquet"))
    assert digest([rows, tasks]) == RECORDED_PROBES[classifier], (rows, tasks)
