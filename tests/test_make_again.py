"""The commands of a report's page make the same results again in an empty folder, from the audio on."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import Result

import cli
from extractors.config import ExtractConfig, configs_of
from extractors.run.plan import plan_run
from extractors.run.reproduction import LEFT_OUT, extract_call
from featurestore import open_store
from featurestore.calls import Call, Slot, TableRecord
from featurestore.format.row_arrays import HISTORY_ARRAY
from probes.report.data import load_report_data
from probes.report.reproduction import Reproduction, join, remark, without_repetition
from probes.report.run_info import run_info
from tests.command_line import fs
from tests.conftest import write_clips
from tests.models import save_ssl

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


def run_in(
    folder: Path, script: list[str], monkeypatch: pytest.MonkeyPatch, *, draw: bool = False
) -> list[list[str]]:
    """Let a shell read the commands, and run what it calls `fs` with here; the words of every call."""
    folder.mkdir()
    words = folder.parent / f"{folder.name}.words"
    fs_here = f"fs() {{ printf '%s\\0' \"$@\" >> {words}; printf '\\1\\0' >> {words}; }}\n"
    subprocess.run(["bash", "-euc", fs_here + "\n".join(script)], check=True, cwd=folder)
    calls = [c.split("\0")[:-1] for c in words.read_text(encoding="utf-8").split("\1\0")[:-1]]
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        for call in calls if draw else calls[:-1]:
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


@pytest.mark.slow  # probes and draws twice
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
    calls = run_in(tmp_path / "empty", script, monkeypatch, draw=True)

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


def again_of(results: Path) -> list[str]:
    """The commands, without drawing a page."""
    return run_info(load_report_data(results))["commands"]


@pytest.mark.slow
def test_a_store_of_an_earlier_version_is_read_where_it_is(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ("--dataset", "d", "--store", "../features.zarr", "-q")
    manifest = write_clips(tmp_path / "audio", [900 + 10 * i for i in range(24)])
    ok(fs("extract", "--manifest", manifest, "--model", "logmel", *key))
    history = here / "features.zarr" / "logmel" / "d" / HISTORY_ARRAY
    shutil.rmtree(history)
    ok(fs("manifest", "attach", "../features.zarr", manifest))  # its first record, and not its beginning
    probe("kind")
    store = str(here / "features.zarr")
    script = again_of(here / "results")
    assert script[0] == f"# {store} is read where it is: how it was made is not on record"
    before = scores(here / "results")
    shutil.rmtree(here / "results")
    run_in(tmp_path / "empty", script, monkeypatch)
    pd.testing.assert_frame_equal(scores(tmp_path / "empty" / "results"), before)
    # Beside a key that can be made, it is copied: nothing is written where the store is.
    ok(fs("extract", "--manifest", manifest, "--model", "logmel:8000", "--name", "low", *key))
    probe("kind")
    script = again_of(here / "results")
    assert script[0] == (
        "# how logmel/d was made is not on record: it is copied\n"
        f"fs cp '{store}' features.zarr \\\n  --model logmel \\\n  --dataset d"
    )
    kept = {p: p.read_bytes() for p in Path(store).rglob("*") if p.is_file()}
    before = scores(here / "results")
    run_in(tmp_path / "other", script, monkeypatch)
    pd.testing.assert_frame_equal(scores(tmp_path / "other" / "results"), before)
    assert {p: p.read_bytes() for p in Path(store).rglob("*") if p.is_file()} == kept


@pytest.mark.slow
def test_a_key_that_was_replaced_between_two_probes_is_replaced_again(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ("--dataset", "d", "--store", "../features.zarr", "-q", "--model", "logmel")
    ok(fs("manifest", "folder", recordings(tmp_path / "audio", 8), "--out", "../calls.csv"))
    manifest = ("--manifest", "../calls.csv")
    ok(fs("extract", *manifest, *key))
    probe("label")
    ok(fs("extract", *manifest, *key, "--overwrite", "--normalise", "peak"))
    table = corrected(here / "calls.csv", tmp_path / "corrected.csv", "phee/r03", "trill")
    ok(fs("manifest", "attach", "../features.zarr", table))
    probe("label", "--split-seed", "1")
    script = again_of(here / "results")
    assert "--overwrite" not in " ".join(script)
    before = scores(here / "results")
    shutil.rmtree(here)
    monkeypatch.chdir(tmp_path)
    calls = run_in(tmp_path / "empty", script, monkeypatch)
    assert [c[1] if c[0] == "manifest" else c[0] for c in calls] == [
        *("folder", "extract", "probe", "rm", "extract", "attach", "probe", "report")
    ]
    pd.testing.assert_frame_equal(scores(tmp_path / "empty" / "results"), before)


@pytest.mark.slow
def test_an_imported_key_is_imported_again(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_clips(tmp_path / "audio", [900 + 10 * i for i in range(24)])
    made = tmp_path / "made"
    for dataset in ("d", "e"):
        extracted = ("--dataset", dataset, "--store", made, "-q")
        ok(fs("extract", "--manifest", manifest, "--model", "logmel", *extracted))
    ok(fs("export", made, "--out", tmp_path / "x.h5", "--format", "hdf5", "-q"))
    ok(fs("import", "../../x.h5", "--store", "../features.zarr", "--format", "hdf5", "-q"))
    probe("kind", "--dataset", "e")
    script = again_of(here / "results")
    before = scores(here / "results")
    for folder in (here, made):
        shutil.rmtree(folder)
    monkeypatch.chdir(tmp_path)
    calls = run_in(tmp_path / "empty", script, monkeypatch)
    assert [c[0] for c in calls] == ["import", "probe", "report"]
    pd.testing.assert_frame_equal(scores(tmp_path / "empty" / "results"), before)


def words_of(config: ExtractConfig) -> tuple[list[str], str]:
    """What would be noted of an extraction, as words of a shell."""
    plan = plan_run([config])
    call = extract_call(plan.keys[0], plan.table)
    return [str(w.value) if isinstance(w, Slot) else w for w in call.words], str(config.manifest)


def parsed(words: list[str]) -> dict[str, object]:
    command = cli.main.commands["extract"]
    return command.make_context("extract", list(words[1:])).params


def test_a_module_is_noted_by_its_name_whatever_folder_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_clips(tmp_path / "audio", [5000])
    monkeypatch.chdir(tmp_path)
    model = "hear:tests.extractors.hear_tiny"
    Path(model.removeprefix("hear:")).mkdir()
    config = ExtractConfig(manifest=manifest, dataset="d", model=model, store=str(tmp_path / "s"))
    words, _ = words_of(config)
    assert words[words.index("--model") + 1] == model


def test_every_option_of_an_extraction_that_decides_something_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_clips(tmp_path / "audio", [5000, 5100])
    save_ssl(tmp_path / "model", "hubert", "base")
    monkeypatch.chdir(tmp_path)
    given = {
        "name": "n",
        "layers": "0-1",
        "functionals": ("std", "q90"),
        "dtype": "float16",
        "channel": "0",
        "precision": "bf16",
        "normalisation": "none",
        "min_samples": 4000,
        "short_policy": "none",
        "rate_policy": "expand",
        "resample_quality": "vhq",
        "segments": "librosa",
        "window_s": 0.0,
        "overlap_s": 1.5,
        "unit_rows": 8,
        "frames": True,
        "frames_dtype": "float32",
        "codec": "small",
        "prune": True,
        "torch_weights": True,
        "compile": False,
        "preset": None,
        "clip_to_file": True,
        "time_expanded": True,
    }
    of_this_machine = {"workers": 1, "device": "cpu", "batch_seconds": 3.0, "selfcheck": 0, "refresh": True}
    config = ExtractConfig(
        manifest=Path("audio/manifest.csv"), dataset="d", store="s", model="model", **given, **of_this_machine
    )
    # A field that is new has to be put on one of the two sides.
    assert {f.name for f in fields(ExtractConfig)} == {*given, *LEFT_OUT}
    words, _ = words_of(config)
    options = parsed(words)
    (again,) = configs_of(
        options.pop("models"),
        options.pop("names"),
        normalisation=options.pop("normalise"),
        short_policy=options.pop("short_clips"),
        functionals=tuple(str(options.pop("functionals")).split(",")),
        **{k: v for k, v in options.items() if v is not None and k not in ("quiet", "dry_run")},
    )
    assert again.model == str(tmp_path / "model")
    assert {k: getattr(again, k) for k in given} == {k: getattr(config, k) for k in given}
    assert not {"--workers", "--device", "--batch-seconds", "--selfcheck", "--refresh"} & set(words)
    assert str(manifest) not in words  # the table is named when it is known where it is


def test_a_preset_and_a_half_codec_are_noted_as_they_can_be_given(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", [5000, 5100])
    save_ssl(tmp_path / "model", "hubert", "base")
    spec = f"untrained:3:{os.path.relpath(tmp_path / 'model')}"
    at = {"manifest": manifest, "dataset": "d", "store": "s", "model": spec}
    words, _ = words_of(ExtractConfig(**at, preset="sarkar2025"))
    start = [
        "extract",
        "--manifest",
        "table",
        "--dataset",
        "d",
        "--model",
        f"untrained:3:{tmp_path / 'model'}",
    ]
    assert words == [*start, "--store", "store", "--preset", "sarkar2025"]
    words, _ = words_of(ExtractConfig(**at, codec="half"))
    assert words == [*start, "--store", "store", "--dtype", "float16"]


def call(*words: str) -> Call:
    return Call(words=words)


def test_what_repeats_is_shown_once() -> None:
    a, b, c = call("extract", "a"), call("attach", "b"), call("attach", "c")
    assert without_repetition([a, b] * 400) == [a, b]
    assert without_repetition([a, b, a]) == [a, b, a]
    assert without_repetition([c, a, b, b, a, b]) == [c, a, b]
    assert without_repetition([]) == []


def test_text_of_users_is_no_command(tmp_path: Path) -> None:
    evil = "x\n$(touch pwned); `touch pwned` \x1b[31m'\"\u2028"
    assert "\n" not in remark(evil)
    assert "\x1b" not in remark(evil)
    line = join(["extract", evil, Slot.STORE], {Slot.STORE: evil})
    script = f"fs() {{ printf '%s\\0' \"$@\"; }}\n{remark(evil)}\n{line}"
    shown = subprocess.run(["bash", "-euc", script], check=True, capture_output=True, cwd=tmp_path)
    assert shown.stdout.decode().split("\0") == ["extract", evil, evil, ""]
    assert not list(tmp_path.iterdir())


def test_names_in_the_empty_folder_are_each_for_one_thing() -> None:
    def table(path: str, sha256: str, **made: object) -> dict[str, object]:
        words = ("manifest", "folder", "/audio", "--out", Slot.TABLE)
        return TableRecord(path=path, n_rows=3, sha256=sha256, made_by=words, **made).to_json()

    def asked(store: str, *tables: dict[str, object]) -> dict[str, object]:
        made = [{"words": ["extract", "--manifest", {"slot": "table"}], "table": t} for t in tables]
        return {"config": {"store": store}, "cwd": "/home", "keys": {"m/d": made}}

    one, two = asked("a/-s", table("/a/m.csv", "1")), asked("s3://b/-s", table("/b/m.csv", "2"))
    grown = asked("a/../a/-s", table("/a/m.csv", "1"), table("/a/m.csv", "3"))
    again = Reproduction(Path("/home/report"), {"calls": [one, two, grown]})
    assert [again.store(c) for c in (one, two, grown)] == ["./-s", "./-s-2", "./-s"]
    remarks = [[line for b in again.before(c) for line in b.splitlines()] for c in again.calls]
    assert remarks[0] == [
        "# m.csv: 3 rows, SHA-256 1",
        "fs manifest folder /audio --out m.csv",
        "fs extract --manifest m.csv",
    ]
    assert remarks[1][1:] == ["fs manifest folder /audio --out m-2.csv", "fs extract --manifest m-2.csv"]
    assert remarks[2][0] == "# m.csv: 3 rows, SHA-256 3"
    assert again.report() == "fs report report --out report-2"
