"""The page about other languages: its programs read what `open_store` reads, where the language is installed.

JavaScript needs zarrita: `FS_TEST_NODE_MODULES` names a folder `node_modules` that has it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore import open_store
from tests.command_line import good
from tests.recipe_ground import RATE_HZ, recording

PAGE = Path(__file__).parent.parent / "docs" / "reading_elsewhere.md"
KEY = ("hubert-base-ls960", "calls")
pytestmark = pytest.mark.slow


def program(language: str) -> str:
    """The page's block in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one key under the names of the page; one of its clips failed."""
    place = tmp_path_factory.mktemp("elsewhere")
    rows = recording(place / "a.wav", 1.0, 1, n_calls=4)
    lines = [f'a.wav,{s},{e},"{kind}, ""ñ""",007\n' for s, e, kind in rows]
    silence = "silence.wav,,,none,007\n"
    soundfile.write(place / "silence.wav", np.zeros(RATE_HZ), RATE_HZ)
    table = place / "m.csv"
    table.write_text("path,start_s,end_s,call_type,group\n" + "".join(lines) + silence, encoding="utf-8")
    options = ("--model", "logmel", "--name", KEY[0], "--dataset", KEY[1], "--store", place / "features.zarr")
    good("extract", "--manifest", table, *options)
    return place


def first_ok(folder: Path) -> tuple[str, str, np.ndarray, int]:
    features = open_store(folder / "features.zarr").features(*KEY)
    ok = np.flatnonzero(features.index["status"] == "ok")
    row = features.index.iloc[ok[0]]
    return row["utterance_id"], row["call_type"], features.layer(0).numpy()[ok[0]], len(ok)


def test_r_reads_what_was_exported(folder: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("no R: apt-get install r-base-core r-cran-hdf5r r-cran-jsonlite")
    packages = 'quit(status = !all(c("hdf5r", "jsonlite") %in% rownames(installed.packages())))'
    if subprocess.run(["Rscript", "-e", packages]).returncode:
        pytest.skip("R without hdf5r or jsonlite: apt-get install r-cran-hdf5r r-cran-jsonlite")
    good("export", folder / "features.zarr", "--format", "hdf5", "--out", folder / "calls.h5", "--overwrite")
    said = (
        'cat(jsonlite::toJSON(list(id = key[["utterance_id"]]$read()[ok][1], label = y[ok][1], '
        "mean = mean_vectors[1, ], n = sum(ok), group = unique(group)), digits = NA, auto_unbox = TRUE))"
    )
    # The page's store has three layers, this one has one.
    text = program("r").replace("layer_02", "layer_00")
    done = subprocess.run(
        ["Rscript", "-e", text + said], cwd=folder, text=True, capture_output=True, check=True
    )
    read = json.loads(done.stdout.splitlines()[-1])
    name, label, values, n = first_ok(folder)
    assert (read["id"], read["label"], read["n"], read["group"]) == (name, label, n, "007")
    assert np.float32(read["mean"]).tolist() == values[0].tolist()


def test_javascript_reads_the_store(folder: Path) -> None:
    modules = Path(os.environ.get("FS_TEST_NODE_MODULES", "node_modules"))
    if shutil.which("node") is None or not (modules / "zarrita").is_dir():
        pytest.skip("no node, or FS_TEST_NODE_MODULES names no node_modules with zarrita")
    (folder / "node_modules").symlink_to(modules.absolute())
    (folder / "read.mjs").write_text(program("js").replace("layer_02", "layer_00"), encoding="utf-8")
    done = subprocess.run(["node", "read.mjs"], cwd=folder, text=True, capture_output=True, check=True)
    read = json.loads(done.stdout)
    name, label, values, n = first_ok(folder)
    assert (read["id"], read["label"], read["n"]) == (name, label, n)
    assert np.float32(read["first"]) == values[0, 0]
