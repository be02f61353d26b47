"""`fs study run`: one file does what the other commands do by hand, once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore import open_store
from probes.results.results_folder import read_results
from tests.studies.conftest import STUDY, fs, words_of

SCORES = [
    "model",
    "dataset",
    "label",
    "classifier",
    "layer",
    "fold",
    "seed",
    "uar_val",
    "uar_test",
    "fingerprint",
]
ADAPTER = STUDY.replace("manifest: audio/manifest.csv", "adapter: folder\n    source: sorted").replace(
    "[kind]", "[label]"
)


def scores(results: Path) -> pd.DataFrame:
    return read_results(results)[SCORES].sort_values(SCORES[:7]).reset_index(drop=True)


def halves(file: Path, *more: str) -> list[str]:
    """What `fs study extract` and `fs study probe` say; all of a study but the report."""
    done = [fs("study", half, file, "--quiet", *more) for half in ("extract", "probe")]
    assert [r.exit_code for r in done] == [0, 0], [r.output for r in done]
    return [words_of(r.output) for r in done]


@pytest.mark.slow
def test_a_study_gives_what_the_commands_give_by_hand(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study()
    result = fs("study", "run", file, "--quiet")
    assert result.exit_code == 0, result.output
    by_hand = tmp_path / "by hand"
    for model in ("logmel", "mfcc"):
        fs(
            *(
                "extract",
                "--manifest",
                tmp_path / "audio/manifest.csv",
                "--dataset",
                "tones",
                "--model",
                model,
            ),
            *("--store", by_hand / "store", "--unit-rows", "16", "--quiet"),
        )
    asked = ("--label", "kind", "--classifier", "centroid", "--classifier", "lda", "--split", "kfold:3")
    fs("probe", "--store", by_hand / "store", *asked, "--out", by_hand / "results", "--quiet")
    pd.testing.assert_frame_equal(scores(tmp_path / "results"), scores(by_hand / "results"))
    assert len(scores(tmp_path / "results")) == 2 * 2 * 3
    for model in ("logmel", "mfcc"):
        ours, theirs = (
            open_store(store).features(model, "tones")
            for store in (tmp_path / "features.zarr", by_hand / "store")
        )
        np.testing.assert_array_equal(ours.layer(0).numpy(), theirs.layer(0).numpy())
        assert ours.attrs["fingerprint"] == theirs.attrs["fingerprint"]
    assert (tmp_path / "report/index.html").is_file()
    assert (tmp_path / "report/comparisons.csv").is_file()


@pytest.mark.slow
def test_a_second_run_does_nothing_and_says_so(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study()
    fs("study", "run", file, "--quiet")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    began = time.process_time()
    result = fs("study", "run", file, "--quiet")
    assert result.exit_code == 0
    assert result.output.startswith(f"nothing to do: all of {file} is done")
    assert time.process_time() - began < 5
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert "nothing to do" in fs("study", "run", file, "--dry-run").output
    # It is seen without the code of models, which takes seconds to load.
    code = "import sys; from cli import main; sys.argv[0] = 'fs'; main(standalone_mode=False)"
    spy = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    call = [sys.executable, "-c", spy, "study", "run", str(file)]
    done = subprocess.run(call, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nothing to do")
    assert done.stdout.endswith("False\n")


@pytest.mark.slow
def test_what_changed_is_done_and_nothing_else(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study()
    halves(file)
    first = scores(tmp_path / "results")
    # Other labels of the same sounds: nothing is embedded, everything is fitted.
    manifest = tmp_path / "audio/manifest.csv"
    table = pd.read_csv(manifest)
    table["kind"] = ["ab"[i // 24] for i in range(48)]
    table.to_csv(manifest, index=False)
    embedded, _ = halves(file)
    assert "0 clips embedded" in embedded
    assert "the manifest changed: kind: " in embedded
    second = scores(tmp_path / "results")
    assert not set(second["fingerprint"]) & set(first["fingerprint"])
    assert all(said.startswith("nothing to do") for said in halves(file))
    # One classifier more: the fits of the others stay.
    _, fitted = halves(file, "--set", "probings.main.classifiers=[centroid, lda, knn]")
    assert "6 fits in" in fitted
    third = scores(tmp_path / "results")
    assert set(second["fingerprint"]) < set(third["fingerprint"])
    # Back to the labels of before: their answers, and not those that were found in between.
    table["kind"] = ["ab"[i % 2] for i in range(48)]
    table.to_csv(manifest, index=False)
    halves(file)
    pd.testing.assert_frame_equal(scores(tmp_path / "results"), first)
    # A table that is gone is made again.
    (tmp_path / "results/results.parquet").unlink()
    halves(file)
    assert (tmp_path / "results/results.parquet").is_file()


def test_a_dry_run_says_what_is_left_and_writes_nothing(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study()
    files = sorted(tmp_path.rglob("*"))
    result = fs("study", "run", file, "--dry-run")
    assert result.exit_code == 0, result.output
    text = words_of(result.output)
    assert "logmel tones 0 0 of 48 48" in text
    assert "unknown until measured" in text
    assert "12 fits on 2 keys" in text
    assert sorted(tmp_path.rglob("*")) == files
    fs("study", "extract", file, "--quiet", "--only", "model=logmel")
    text = words_of(fs("study", "run", file, "--dry-run").output)
    assert "logmel tones 0 48 of 48 0" in text
    assert "mfcc tones 0 0 of 48 48" in text
    assert "6 fits on 1 key" in text
    n_values = (
        48 * 2 * open_store(tmp_path / "features.zarr").features("logmel", "tones").info.shape.n_features
    )
    assert n_values > 0
    text = words_of(
        fs("study", "run", file, "--dry-run", "--measure", "--set", "models.mfcc.model=logmel").output
    )
    assert "mfcc tones 0 0 of 48 48" in text
    assert "about" in text
    # Rates of the ledger, once there are more clips of a model that has one.
    table = pd.read_csv(tmp_path / "audio/manifest.csv")
    more = table.assign(utterance_id=[f"{i} again" for i in range(48)])
    pd.concat([table.assign(utterance_id=[f"clip{i:03d}" for i in range(48)]), more]).to_csv(
        tmp_path / "audio/manifest.csv", index=False
    )
    text = words_of(fs("study", "run", file, "--dry-run", "--only", "model=logmel").output)
    assert "logmel tones 0 48 of 96 48" in text
    assert "measured earlier" in text


@pytest.mark.slow
def test_a_part_of_a_study_by_names(study: Callable[..., Path], tmp_path: Path) -> None:
    text = STUDY + "  knn:\n    models: [mfcc]\n    classifiers: [knn]\n    split: kfold:3\n"
    halves(study(text), "--only", "probing=knn")
    assert open_store(tmp_path / "features.zarr").keys() == [("mfcc", "tones")]
    assert set(scores(tmp_path / "results")["classifier"]) == {"knn"}


@pytest.mark.slow
def test_an_adapter_makes_the_manifest_once(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(ADAPTER)
    for i, path in enumerate(sorted((tmp_path / "audio").glob("*.wav"))):
        (tmp_path / "sorted" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "sorted" / "ab"[i % 2] / path.name)
    result = fs("study", "extract", file, "--quiet")
    assert result.exit_code == 0, result.output
    manifest = tmp_path / "manifests/tones.csv"
    assert f"{manifest}: 48 utterances, labels label" in words_of(result.output)
    fs("manifest", "folder", tmp_path / "sorted", "--out", tmp_path / "by hand.csv")
    pd.testing.assert_frame_equal(pd.read_csv(manifest), pd.read_csv(tmp_path / "by hand.csv"))
    assert "nothing to do" in fs("study", "extract", file, "--quiet").output
    # A clip more in the folder is a row more.
    (tmp_path / "sorted/a/clip000.wav").with_name("more.wav").write_bytes(
        (tmp_path / "sorted/a/clip002.wav").read_bytes()
    )
    result = fs("study", "extract", file, "--quiet")
    assert f"{manifest}: 49 utterances" in words_of(result.output)
    assert "1 clip embedded" in result.output
    # What stands where the manifest belongs and is none, or was changed by hand, is not lost.
    for mine in ("precious\n", manifest.read_text().replace(",a\n", ",wolf\n")):
        manifest.write_text(mine)
        result = fs("study", "extract", file, "--quiet")
        assert result.exit_code == 2
        assert "would be lost" in result.stderr
        assert manifest.read_text() == mine


def test_a_key_of_other_settings_is_refused_before_anything_is_done(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    file = study()
    fs("study", "extract", file, "--quiet", "--only", "model=mfcc")
    before = sorted(tmp_path.rglob("*"))
    result = fs("study", "run", file, "--quiet", "--set", "models.mfcc.normalise=peak")
    assert result.exit_code == 2
    assert "mfcc/tones" in result.stderr
    assert "made with other settings" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
    # The half that has no models tells it from what the key was asked for with.
    result = fs("study", "probe", file, "--no-wait", "--set", "models.mfcc.normalise=peak")
    assert result.exit_code == 2
    assert 'normalisation: stored default, asked "peak"' in result.stderr


@pytest.mark.slow
def test_utterances_that_the_manifest_lost_are_not_probed_in_silence(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    file = study(n_clips=12)
    assert fs("study", "extract", file, "--quiet").exit_code == 0
    manifest = tmp_path / "audio/manifest.csv"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-2]))
    result = fs("study", "run", file, "--quiet")
    assert result.exit_code == 2
    said = "2 utterances of the key are not in the manifest (such as 'clip010'), and would be probed"
    assert f"error: logmel/tones: {said}" in result.stderr
    assert fs("study", "probe", file, "--no-wait").exit_code == 2
    assert not (tmp_path / "results").exists()
    result = fs("study", "extract", file, "--quiet", "--set", "extract.prune=true")
    assert result.exit_code == 0, result.output
    assert len(open_store(tmp_path / "features.zarr").features("mfcc", "tones").index) == 10
    assert fs("study", "extract", file, "--quiet").output.startswith("nothing to do")


def test_clips_that_all_fail_end_a_study_before_it_probes(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(n_clips=6)
    for path in (tmp_path / "audio").glob("*.wav"):
        path.write_bytes(b"no sound")
    result = fs("study", "run", file, "--quiet")
    assert result.exit_code == 1
    assert "nothing is probed, since an extraction went wrong" in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("half", ["probe", "status", pytest.param("report", marks=pytest.mark.slow)])
def test_the_half_without_audio_needs_the_store_alone(
    study: Callable[..., Path], tmp_path: Path, half: str
) -> None:
    file = study()
    fs("study", "extract", file, "--quiet")
    (tmp_path / "audio").rename(tmp_path / "gone")
    if half == "report":
        assert fs("study", "probe", file, "--quiet").exit_code == 0
    result = fs("study", half, file)
    assert result.exit_code == 0, result.output
    if half == "status":
        assert "mfcc tones 48 of 48 complete" in words_of(result.output)
        assert "main 0 12" in words_of(result.output)
    if half == "probe":
        assert len(scores(tmp_path / "results")) == 12
    if half == "report":
        assert (tmp_path / "report/index.html").is_file()
        assert "is up to date" in fs("study", "report", file).output
