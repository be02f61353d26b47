"""The commands of a report's page make the same results again in an empty folder, from the audio on."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import Result

from featurestore import open_store
from tests.test_cli import fs

RATE_HZ = 16_000
# What a results table says of its fits; the rest is times of day.
SCORES = [
    *("model", "dataset", "label", "layer", "classifier", "split", "seed", "hparams", "fold"),
    *("uar_train", "uar_val", "uar_test", "n_train", "n_val", "n_test", "data", "fingerprint"),
]


def ok(result: Result) -> Result:
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def recordings(root: Path, n: int = 12) -> Path:
    """Folders of clips by call type, which differ in pitch; some of each are alike."""
    rng = np.random.default_rng(3)
    for i, kind in enumerate(("phee", "trill", "-tsik")):
        (root / kind).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            t = np.arange(5000 + 41 * k) / RATE_HZ
            tone = 0.2 * np.sin(2 * np.pi * (500 + 90 * i) * t) + 0.2 * rng.standard_normal(len(t))
            soundfile.write(root / kind / f"r{k:02d}.wav", tone.astype(np.float32), RATE_HZ, subtype="FLOAT")
    return root


def commands(results: Path, page: Path) -> list[str]:
    """What the page tells to run."""
    ok(fs("report", results, "--out", page))
    text = (page / "index.html").read_text(encoding="utf-8")
    (part,) = re.findall(r"<h2>Make it again</h2>(.*?)</section>", text, re.DOTALL)
    return [html.unescape(block) for block in re.findall(r"<pre><code>(.*?)</code></pre>", part, re.DOTALL)]


def run_in(folder: Path, script: list[str], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let a shell read the commands, and run what it calls `fs` with here; the words of every call."""
    folder.mkdir()
    words = folder.parent / f"{folder.name}.words"
    fs_here = f"fs() {{ printf '%s\\0' \"$@\" >> {words}; printf '\\1\\0' >> {words}; }}\n"
    subprocess.run(["bash", "-euc", fs_here + "\n".join(script)], check=True, cwd=folder)
    calls = [c.split("\0")[:-1] for c in words.read_text(encoding="utf-8").split("\1\0")[:-1]]
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        for call in calls:
            ok(fs(*call, *(["-q"] if call[0] in ("extract", "probe", "cp") else [])))
    return calls


def scores(results: Path) -> pd.DataFrame:
    table = pd.read_parquet(results)[SCORES]
    return table.sort_values(SCORES, ignore_index=True)


def corrected(manifest: Path, to: Path, wrong: str, kind: str) -> Path:
    """The manifest with groups, and the label of one clip corrected, as one does in a spreadsheet."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    table.loc[table["utterance_id"] == wrong, "label"] = kind
    table["group"] = table["utterance_id"].str[-1]
    table.to_csv(to, index=False)
    return to


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the first results are made."""
    folder = tmp_path / "first run"
    (folder / "sub").mkdir(parents=True)
    monkeypatch.chdir(folder / "sub")
    return folder


def probe(label: str, *more: str) -> None:
    asked = ("--store", "../features.zarr", "--label", label, "--split", "random", "--classifier", "lda")
    ok(fs("probe", *asked, "--out", "../results", "-q", *more))


def test_a_page_makes_its_results_again_from_the_audio_on(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = recordings(tmp_path / "my $audio")
    ok(fs("manifest", "folder", "../../my $audio", "--out", "../calls.csv", "--derive", r"take=label:(.)"))
    key = ("--dataset", "d", "--store", "../features.zarr", "-q")
    options = ("--unit-rows", "16", "--functionals", "mean,std,q90", "--workers", "1", "--device", "cpu")
    names = ("--name", "logmel", "--name", "low")
    for _ in range(2):  # resumed: nothing new
        ok(
            fs(
                "extract",
                "--manifest",
                "../calls.csv",
                "--model",
                "logmel",
                "--model",
                "logmel:8000",
                *names,
                *key,
                *options,
            )
        )
    probe("label", "--model", "logmel")
    first = corrected(here / "calls.csv", tmp_path / "it's\ncorrected.csv", "phee/r03", "trill")
    ok(fs("manifest", "attach", "../features.zarr", first))
    (tmp_path / "grid.yaml").write_text("lda: {shrinkage: [0.1, 1e-3], solver: lsqr}\n")
    probe("take", "--grid", str(tmp_path / "grid.yaml"), "--control", "shuffled-labels")
    second = corrected(here / "calls.csv", tmp_path / "again.csv", "phee/r04", "-tsik")
    ok(fs("manifest", "attach", "../features.zarr", second, "--model", "low"))
    probe("label", "--model", "low", "--split-seed", "3")

    script = commands(here / "results", tmp_path / "page")
    before = scores(here / "results")
    rows = open_store(here / "features.zarr").features("low", "d")
    before_values, before_labels = rows.layer(0).numpy(), rows.index["label"].tolist()
    shutil.rmtree(here)  # all that was made, by hand or not, but audio and tables
    monkeypatch.chdir(tmp_path)
    calls = run_in(tmp_path / "empty", script, monkeypatch)

    assert not here.exists()
    named = [" ".join(c[:2]) if c[0] == "manifest" else c[0] for c in calls]
    assert named == [
        *("manifest folder", "extract", "probe"),
        *("manifest attach", "extract", "manifest attach", "probe"),
        *("manifest attach", "probe", "report"),
    ]
    assert calls[0][2] == str(audio)
    pd.testing.assert_frame_equal(scores(tmp_path / "empty" / "results"), before)
    assert (tmp_path / "empty" / "report" / "index.html").is_file()
    again = open_store(tmp_path / "empty" / "features.zarr").features("low", "d")
    np.testing.assert_array_equal(again.layer(0).numpy(), before_values)
    assert again.index["label"].tolist() == before_labels
    remarks = [line for block in script for line in block.splitlines() if line.startswith("#")]
    assert any("needs the table" in r and r"it's\ncorrected.csv: 36 rows, SHA-256 " in r for r in remarks)
    # Nothing of this machine.
    assert not any(o in " ".join(script) for o in ("--workers", "--device", "--quiet"))
