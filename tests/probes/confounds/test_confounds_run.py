"""`fs confounds` on a corpus in which length and level are planted as classes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from extractors import ExtractConfig, extract
from featurestore.errors import ConfigError, LabelError, StoreError
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.confounds import ConfoundsConfig, label_from_confounds, run_confounds, sentences
from probes.confounds.catalogue import CONFOUNDS
from tests.command_line import fs

N = 120
LENGTHS, LEVELS = ("short", "mid", "long"), ("soft", "mid", "loud")
RATE = 16_000


def make_corpus(folder: Path) -> Path:
    """Noise whose length, level and hour are classes; `nothing` is in no clip, `recording` is the group."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    rows = []
    for i in range(N):
        length, level, night, nothing = rng.integers(0, 3), rng.integers(0, 3), i // 6 % 2, rng.integers(0, 3)
        n = round(RATE * (0.15, 0.25, 0.4)[length] * rng.uniform(0.9, 1.1))
        x = (0.01, 0.04, 0.16)[level] * rng.uniform(0.8, 1.25) * rng.standard_normal(n)
        hour = (12, 23)[night]
        name = f"audio/R{i // 6:02d}_202401{i // 6 + 1:02d}_{hour}{i % 6:02d}00.wav"
        soundfile.write(folder / name, x.astype(np.float32), RATE, subtype="FLOAT")
        cells = (LENGTHS[length], LEVELS[level], ("day", "night")[night], "abc"[nothing])
        rows.append((name, f"R{i // 6:02d}", *cells, "a|b" if nothing else "b"))
    columns = ["path", "group", "by_length", "by_level", "by_hour", "nothing", "sets"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("confounded")
    manifest = make_corpus(folder)
    for model in ("logmel", "mfcc"):
        extract(ExtractConfig(manifest=manifest, dataset="d", model=model, store=str(folder / "s")))
    return folder


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_from_confounds, "N_TREES", 15)
    monkeypatch.setattr(label_from_confounds, "LEAVES", (1, 5))


@pytest.fixture
def moved(corpus: Path) -> Iterator[Path]:
    """The corpus, whose audio is put back afterwards."""
    shutil.copytree(corpus / "audio", corpus / "saved", copy_function=shutil.copy2)
    yield corpus
    shutil.rmtree(corpus / "audio", ignore_errors=True)
    (corpus / "saved").rename(corpus / "audio")


def ask(corpus: Path, out: Path, *labels: str, **more: object) -> ConfoundsConfig:
    return ConfoundsConfig(store=str(corpus / "s"), labels=labels, out=out, workers=1, **more)  # type: ignore[arg-type]


@pytest.mark.slow
def test_planted_confounds_are_found_and_noise_is_not(corpus: Path, tmp_path: Path) -> None:
    found = run_confounds(
        ask(corpus, tmp_path, "by_length", "by_level", "by_hour", "nothing", split="kfold:3")
    )
    uar = found.scores.set_index(["label", "confound"])["uar"]
    assert uar["by_length", "duration"] > 0.95
    assert uar["by_level", "level"] > 0.95
    assert uar["by_hour", "hour"] == 1
    for label, confound in (("by_length", "level"), ("by_level", "duration"), ("nothing", "duration")):
        assert abs(uar[label, confound] - 1 / 3) < 0.16, (label, confound)
    texts = sentences(found.scores)
    assert [t.split()[0] for t in texts] == ["duration", "level", "hour"]
    assert all("nothing" not in t for t in texts)
    # White noise sits on every frequency and in no pitch.
    assert any("recorder" in n and "f0" in n for n in found.notes)
    assert found.scores["n_test"].unique().tolist() == [N]
    assert (found.scores["models"] == "logmel, mfcc").all()
    shown = found.layers[found.layers["label"] == "nothing"].set_index(["model", "confound"])
    assert shown.loc[("logmel", "level"), "balanced_accuracy_or_r2"] > 0.9
    assert shown.loc[("logmel", "level"), "measure"] == "r2"
    written = pd.read_csv(tmp_path / "confound_scores.csv")
    np.testing.assert_allclose(written["uar"], found.scores["uar"])
    assert len(pd.read_csv(tmp_path / "confound_layers.csv")) == len(found.layers)
    assert len(pd.read_csv(tmp_path / "confounds.csv")) == N


@pytest.mark.slow
def test_rows_and_chance_are_those_of_fs_probe_and_its_best_probe_is_compared(
    corpus: Path, tmp_path: Path
) -> None:
    probed = ProbeConfig(
        store=str(corpus / "s"), labels=("by_length",), out=tmp_path / "r", classifiers=("centroid",)
    )
    run_probe(probed)
    found = run_confounds(ask(corpus, tmp_path / "c", "by_length", results=tmp_path / "r"))
    table = read_results(tmp_path / "r")
    scores = found.scores
    assert scores["split"].unique().tolist() == table["split"].unique().tolist() == ["group"]
    for column in ("n_train", "n_val", "n_test", "chance", "majority_uar"):
        assert scores[column].unique().tolist() == table[column].unique().tolist()
    best = table.sort_values(["uar_val", "model"], ascending=[False, True]).iloc[0]
    assert scores["best_probe_uar"].unique().tolist() == [best["uar_test"]]
    assert scores["best_probe"].iloc[0] == f"centroid on {best['model']}, layer 0"
    duration = scores.set_index("confound").loc["duration"]
    tested = read_predictions(tmp_path / "r", table)
    assert duration["n_groups"] == tested["group"].nunique()
    assert f"the best probe at {100 * best['uar_test']:.1f}" in sentences(scores)[0]
    # Held out, no group is known again, and none says which class a clip has.
    assert scores.set_index("confound").loc["group", "uar"] == pytest.approx(1 / 3)
    assert "group" not in set(found.layers["confound"])
    assert len(tested) == 2 * scores["n_test"].iloc[0]
    other = run_confounds(ask(corpus, tmp_path / "c", "by_level", results=tmp_path / "r"))
    assert other.scores["best_probe_uar"].isna().all()
    assert any("holds no probe of by_level" in n for n in other.notes)


@pytest.mark.slow
def test_a_second_run_decodes_nothing_and_says_the_same(corpus: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = run_confounds(
        ask(corpus, tmp_path, "by_length", models=("mfcc",)), on_fitted=lambda *step: told.append(step)
    )
    # Fits are told of one by one, to the last; those that need not be done are, too.
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(CONFOUNDS) + 2, len(CONFOUNDS) + 2)
    assert len(told) > len(first.scores)
    again = run_confounds(ask(corpus, tmp_path, "by_length", models=("mfcc",)))
    assert (first.n_measured, first.n_kept, again.n_measured, again.n_kept) == (N, 0, 0, N)
    pd.testing.assert_frame_equal(first.scores, again.scores)
    pd.testing.assert_frame_equal(first.layers, again.layers)


@pytest.mark.slow
def test_clips_that_cannot_be_read_are_left_out_and_told_of(moved: Path, tmp_path: Path) -> None:
    names = sorted(p.name for p in (moved / "audio").iterdir())
    for name in names[:5]:
        (moved / "audio" / name).unlink()
    soundfile.write(moved / "audio" / names[7], np.full(4000, 0.25, np.float32), RATE, subtype="FLOAT")
    found = run_confounds(ask(moved, tmp_path, "by_length", models=("logmel",), split="kfold:3"))
    assert found.scores["n_test"].unique().tolist() == [N - 6]
    left_out = [n for n in found.notes if "left out" in n]
    assert len(left_out) == 2
    assert "5 clips left out: no such file, such as" in left_out[0]
    assert "1 clip left out: other audio than was embedded" in left_out[1]


def test_without_any_audio_it_is_one_line(moved: Path, tmp_path: Path) -> None:
    shutil.rmtree(moved / "audio")
    with pytest.raises(StoreError, match=f"none of {N} clips can be used"):
        run_confounds(ask(moved, tmp_path, "by_length", models=("logmel",)))
    done = fs("confounds", "--store", moved / "s", "--label", "by_length", "--out", tmp_path / "c", "-q")
    assert done.exit_code == 2
    assert "no such file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_sets_of_labels_and_wrong_words_are_refused_before_anything_is_decoded(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(LabelError, match="holds sets of labels"):
        run_confounds(ask(corpus, tmp_path, "sets"))
    with pytest.raises(LabelError, match="by_lenght"):
        run_confounds(ask(corpus, tmp_path, "by_lenght"))
    with pytest.raises(ConfigError, match="workers: expected at least 1, got 0"):
        ConfoundsConfig(store="s", labels=("a",), out=tmp_path, workers=0)
    with pytest.raises(StoreError, match="expected the results"):
        run_confounds(ask(corpus, tmp_path, "by_length", results=tmp_path / "nowhere"))
    (tmp_path / "confound_scores.csv").write_text("mine\n1\n")
    with pytest.raises(ConfigError, match="would be lost"):
        run_confounds(ask(corpus, tmp_path, "by_length"))
    assert not (tmp_path / "confounds.csv").exists()


@pytest.mark.slow
def test_the_command_prints_the_sentence_and_a_table_sorted_by_uar(corpus: Path, tmp_path: Path) -> None:
    done = fs(
        *("confounds", "--store", corpus / "s", "--model", "logmel", "--label", "by_level", "-q"),
        *("--split", "group-kfold:3", "--group", "path", "--workers", 1, "--out", tmp_path),
    )
    assert done.exit_code == 0, (done.output, done.exception)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0].startswith("level alone predicts by_level at ")
    assert "by_level · d · split: group-kfold:3[path]" in lines
    scores = pd.read_csv(tmp_path / "confound_scores.csv")
    start = next(i for i, line in enumerate(lines) if line.startswith("─")) + 1
    shown = [line.split("  ")[0] for line in lines[start : start + len(scores)]]
    assert shown == scores["confound"].tolist()
    assert scores["uar"].is_monotonic_decreasing
    assert lines[-1] == f"{N} clips decoded; tables in {tmp_path}"


@pytest.mark.slow
def test_nested_folds_predict_each_clip_once_for_every_inner_fold(corpus: Path, tmp_path: Path) -> None:
    found = run_confounds(
        ask(corpus, tmp_path, "by_level", models=("logmel",), layers="0", split="nested:3x2")
    )
    level = found.scores.set_index("confound").loc["level"]
    assert level["n_folds"] == 6
    assert 0.9 < level["ci_low"] <= level["uar"] <= level["ci_high"]
    assert level["n_groups"] == N // 6
