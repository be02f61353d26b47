"""`fs save-probe` and `fs predict`, from audio and from a store, through the command line."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featurestore import open_store
from probes import answers, read_predictions, read_results
from probes.results.results_folder import read_run
from probes.saved.probe_files import read_probe
from studies.prediction import PREDICTION_COLUMNS, Predictions, write_predictions
from tests.command_line import fs, good, one_line_error
from tests.conftest import write_clips
from tests.featurestore.archives.packed import KINDS, write_archive
from tests.models import save_ssl


class World:
    """A tiny HuBERT, its store, results and a saved probe of layer 1 or above."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = write_clips(root / "audio", [5000 + 61 * i for i in range(48)])
        self.model = save_ssl(root / "hubert", "hubert", "base")
        self.store = root / "s"
        options = ("--dataset", "d", "--model", self.model, "--store", self.store, "--layers", "0-2", "-q")
        good("extract", "--manifest", self.manifest, *options, "--normalise", "peak", "--min-samples", 4000)
        probe = ("--store", self.store, "--label", "kind", "--split", "random", "--classifier", "logreg")
        good("probe", *probe, "--out", root / "r", "-q")
        self.said = good("save-probe", root / "r", "--out", root / "p").output


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_a_task_of_a_job_array_labels_all_of_its_audio(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares are for `fs extract`: an array's tasks predict a manifest each."""
    out = tmp_path / "predictions.csv"
    for name, value in {"ID": 1, "MIN": 0, "MAX": 3, "COUNT": 4, "STEP": 1}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    good("predict", "--probe", world.root / "p", "--manifest", world.manifest, "--out", out, "-q")
    assert pd.read_csv(out)["status"].tolist() == ["ok"] * 48


def test_new_audio_is_embedded_as_the_training_data_was(world: World, tmp_path: Path) -> None:
    """The same files under other names and in another order: the predictions on record come back."""
    assert "test predictions are those on record" in world.said
    recorded = read_predictions(world.root / "r", read_results(world.root / "r"))
    fits = read_results(world.root / "r")
    chosen = fits.loc[fits["uar_val"].idxmax()]
    recorded = recorded[recorded["fingerprint"] == chosen["fingerprint"]].set_index("utterance_id")
    names = list(recorded.index)[::-1]
    for i, name in enumerate(names):
        shutil.copy(world.root / "audio" / f"{name}.wav", tmp_path / f"new{i}.wav")
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    files = [f"new{i}.wav" for i in range(len(names))]
    pd.DataFrame({"path": [*files, "broken.wav"]}).to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "out" / "predictions.csv"
    result = good(
        "predict", "--probe", world.root / "p", "--manifest", tmp_path / "new.csv", "--out", out, "-q"
    )
    table = pd.read_csv(out)
    assert table["utterance_id"].tolist() == [*(f"new{i}" for i in range(len(names))), "broken"]
    assert table["prediction"].tolist()[:-1] == recorded.loc[names, "prediction"].tolist()
    assert table["status"].tolist()[:-1] == ["ok"] * len(names)
    assert table["status"].iloc[-1].startswith("failed: ")
    assert table.iloc[-1][["prediction", "probability", "p:a", "p:b"]].isna().all()
    probabilities = table[["p:a", "p:b"]].to_numpy()[:-1]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities.max(axis=1), table["probability"][:-1], atol=1e-6)
    assert f"{len(names)} labelled" in result.output
    assert "1 ×" in result.output


def test_times_of_predictions_are_those_of_the_manifest(world: World, tmp_path: Path) -> None:
    sound, rate = soundfile.read(next((world.root / "audio").glob("*.wav")))
    soundfile.write(tmp_path / "long.wav", np.tile(sound, 3 * rate // len(sound)), rate)
    times = {"start_s": [1.000000125, 1.2345678], "end_s": [1.5, 1.98765432]}
    pd.DataFrame({"path": "long.wav", **times}).to_csv(tmp_path / "m.csv", index=False)
    out = tmp_path / "p.csv"
    good("predict", "--probe", world.root / "p", "--manifest", tmp_path / "m.csv", "--out", out, "-q")
    table = pd.read_csv(out)
    assert table["status"].tolist() == ["ok", "ok"]
    assert table[["start_s", "end_s"]].to_dict("list") == times


def test_a_store_needs_no_audio_and_gives_the_same_as_the_audio(world: World, tmp_path: Path) -> None:
    hidden = world.root / "hidden"
    good(
        "predict",
        "--probe",
        world.root / "p",
        "--manifest",
        world.manifest,
        "--out",
        tmp_path / "a.csv",
        "-q",
    )
    (world.root / "audio").rename(hidden)
    try:
        good("predict", "--probe", world.root / "p", "--store", world.store, "--out", tmp_path / "b.csv")
    finally:
        hidden.rename(world.root / "audio")
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    assert a["utterance_id"].tolist() == b["utterance_id"].tolist()
    assert a["prediction"].tolist() == b["prediction"].tolist()
    np.testing.assert_allclose(a[["p:a", "p:b"]], b[["p:a", "p:b"]], atol=1e-5)


def test_only_the_layers_that_are_needed_are_computed(world: World, tmp_path: Path) -> None:
    """The embeddings of one clip by hand: the store's own values, of the probe's layer."""
    from extractors import extract
    from extractors.run.reproduction import same_extraction

    card = read_probe(world.root / "p").card
    config = same_extraction(
        card.extraction, card.given, manifest=world.manifest, store=str(tmp_path / "t"), dataset="d",
        name=card.model, layers=str(card.layers[0]),
    )  # fmt: skip
    assert (config.normalisation, config.min_samples) == ("peak", 4000)
    extract(config)
    again = open_store(tmp_path / "t").features(card.model, "d")
    stored = open_store(world.store).features(card.model, "d")
    assert again.layers == list(card.layers)
    np.testing.assert_array_equal(again.layer(card.layers[0]).numpy(), stored.layer(card.layers[0]).numpy())


def test_other_weights_are_refused_before_anything_is_embedded(world: World, tmp_path: Path) -> None:
    other = save_ssl(tmp_path / "hubert", "hubert", "base", seed=1)
    asked = ("--probe", world.root / "p", "--out", tmp_path / "p.csv", "-q")
    one_line_error(
        fs("predict", *asked, "--manifest", world.manifest, "--model", other),
        "would not make the embeddings",
        "model.weights_sha256: stored",
    )
    one_line_error(
        fs("predict", *asked, "--manifest", world.manifest, "--model", "logmel"),
        "model.family: stored hubert",
    )
    one_line_error(
        fs("predict", *asked, "--manifest", world.manifest, "--model", "mfcc"),
        "--model mfcc: it would not make the embeddings that are wanted",
        "give the model they were made with",
    )
    options = ("--dataset", "d", "--model", other, "--store", tmp_path / "s", "--layers", "0-2", "-q")
    good("extract", "--manifest", world.manifest, *options)
    one_line_error(
        fs("predict", *asked, "--store", tmp_path / "s"), "the probe was trained on other embeddings"
    )
    assert not (tmp_path / "p.csv").exists()


def test_a_clip_at_another_rate_is_resampled_as_in_training(world: World, tmp_path: Path) -> None:
    x, rate = soundfile.read(world.root / "audio" / "clip000.wav")
    soundfile.write(tmp_path / "a.wav", np.repeat(x, 2), 2 * rate)
    pd.DataFrame({"path": ["a.wav"]}).to_csv(tmp_path / "m.csv", index=False)
    good(
        "predict",
        "--probe",
        world.root / "p",
        "--manifest",
        tmp_path / "m.csv",
        "--out",
        tmp_path / "p.csv",
        "-q",
    )
    assert pd.read_csv(tmp_path / "p.csv")["status"].tolist() == ["ok"]


def test_wrong_calls_are_one_line(world: World, tmp_path: Path) -> None:
    p = ("--probe", world.root / "p", "--out", tmp_path / "p.csv", "-q")
    one_line_error(fs("predict", *p), "expected one of --manifest", "--store")
    one_line_error(
        fs("predict", "--probe", tmp_path, "--store", world.store), "expected a probe of `fs save-probe`"
    )
    one_line_error(fs("predict", *p, "--manifest", tmp_path / "none.csv"), "none.csv")
    one_line_error(
        fs("predict", *p, "--store", world.store, "--dataset", "e"), "expected hubert/e, it holds hubert/d"
    )
    one_line_error(
        fs("predict", *p, "--manifest", world.manifest, "--model", tmp_path / "gone"), "no such folder"
    )
    before = world.manifest.read_bytes()
    same = world.manifest.parent / "." / world.manifest.name
    one_line_error(
        fs("predict", "--probe", world.root / "p", "--manifest", world.manifest, "--out", same), "be lost"
    )
    assert world.manifest.read_bytes() == before
    one_line_error(fs("save-probe", tmp_path, "--out", tmp_path / "q"), "expected the results of `fs probe`")


def test_sets_are_the_classes_at_the_bound_of_the_validation_clips(world: World, tmp_path: Path) -> None:
    """The bound by a plain sort, over clips that are groups of their own; a clip that fails has no set."""
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    files = [*sorted((world.root / "audio").glob("*.wav")), tmp_path / "broken.wav"]
    pd.DataFrame({"path": files}).to_csv(tmp_path / "new.csv", index=False)
    asked = ("predict", "--probe", world.root / "p", "--manifest", tmp_path / "new.csv", "-q", "--out")
    said = " ".join(good(*asked, tmp_path / "p.parquet", "--sets", 0.8).output.split())
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert tuple(table.columns) == (*PREDICTION_COLUMNS, "set_size", "set", "p:a", "p:b")
    rows = read_probe(world.root / "p").validation
    assert rows is not None
    n = len(rows.scores)
    bound = np.sort(rows.scores[np.arange(n), rows.target])[::-1][math.ceil(0.8 * (n + 1)) - 1]
    members = table[["p:a", "p:b"]].to_numpy()[:-1] >= bound
    assert table["set_size"].tolist()[:-1] == members.sum(axis=1).tolist()
    names = {(True, True): "a|b", (True, False): "a", (False, True): "b", (False, False): "|"}
    assert table["set"].tolist() == [*(names[tuple(row)] for row in members.tolist()), ""]
    assert pd.isna(table["set_size"].iloc[-1])
    assert f"drawn as the {n} validation clips were" in said
    assert "each validation clip counts as a group of its own" in said
    # as text, over an answer without sets, and the other way round
    for sets in ((), ("--sets", 0.8), ()):
        good(*asked, tmp_path / "p.csv", *sets)
        shown = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
        assert ("set" in shown) == bool(sets)
        if sets:
            assert shown["set"].tolist() == table["set"].tolist()
            assert shown["set_size"].tolist()[:-1] == table["set_size"].astype(str).tolist()[:-1]
            assert shown["set_size"].iloc[-1] == ""
    one_line_error(fs(*asked, tmp_path / "q.csv", "--sets", 0.99), "at least 99 groups", "ask for at most 0.")
    one_line_error(fs(*asked, tmp_path / "q.csv", "--sets", 90), "above 0 and below 1")
    assert not (tmp_path / "q.csv").exists()


def test_a_set_that_a_spreadsheet_would_compute_has_an_apostrophe(world: World, tmp_path: Path) -> None:
    table = pd.DataFrame({"set_size": [2, 1], "set": ["=1+1|a", "a"]})
    write_predictions(Predictions(table=table, probe=read_probe(world.root / "p")), tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "set_size,set\n2,'=1+1|a\n1,a\n"


@pytest.mark.slow
def test_an_untrained_twin_is_known_by_its_fingerprint(world: World, tmp_path: Path) -> None:
    options = ("--dataset", "d", "--store", world.store, "--layers", "0-2", "-q", "--normalise", "peak")
    spec = f"untrained:{world.model}"
    good("extract", "--manifest", world.manifest, *options, "--model", spec, "--name", "random")
    asked = ("--store", world.store, "--label", "kind", "--split", "random", "--classifier", "lda", "-q")
    shown = good("probe", *asked, "--out", tmp_path / "r").output
    table = answers(read_results(tmp_path / "r")).set_index("model")["score_test_mean"]
    assert table["hubert"] == table["random"]  # said with its interval, as a comparison
    assert "hubert and random have the same score on these test clips" in " ".join(shown.split())
    good("report", tmp_path / "r", "--out", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "hubert and random have the same score on these test clips" in page
    # a later call about one of them does not forget whose twin it is
    good("probe", *asked, "--out", tmp_path / "r", "--model", "random")
    assert read_run(tmp_path / "r")["untrained"] == {"random": ["hubert"]}


def test_a_prediction_of_which_nothing_came_exits_1_with_the_reasons_counted(
    world: World, tmp_path: Path
) -> None:
    for i in range(3):
        (tmp_path / f"x{i}.wav").write_text("no audio" if i else "")
    pd.DataFrame({"path": [f"x{i}.wav" for i in range(3)]}).to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "p.csv"
    options = ("--manifest", tmp_path / "new.csv", "--out", out, "-q")
    for _ in range(2):
        result = fs("predict", "--probe", world.root / "p", *options)
        assert result.exit_code == 1, (result.output, result.exception)
        assert result.stderr.startswith("error: none of 3 clips could be labelled: 2 × cannot be decoded")
        assert result.stderr.endswith(", 1 × is an empty file\n")
        assert pd.read_csv(out)["status"].str.startswith("failed: ").all()
    # Of a store too, whose run had said so.
    store = ("--dataset", "e", "--model", world.model, "--store", tmp_path / "s", "--layers", "0-2", "-q")
    given = ("--normalise", "peak", "--min-samples", 4000)
    assert fs("extract", "--manifest", tmp_path / "new.csv", *store, *given).exit_code == 1
    result = fs("predict", "--probe", world.root / "p", "--store", tmp_path / "s", "--out", out, "-q")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_audio_in_an_archive_is_predicted_as_files_are(world: World, tmp_path: Path, kind: str) -> None:
    names = [f"clip{i:03d}.wav" for i in range(8)]
    files = {name: world.root / "audio" / name for name in names}
    paths = write_archive(kind, tmp_path / f"x.{kind}", files)
    pd.DataFrame({"utterance_id": names, "path": paths}).to_csv(tmp_path / "inside.csv", index=False)
    pd.DataFrame({"utterance_id": names, "path": list(files.values())}).to_csv(
        tmp_path / "files.csv", index=False
    )
    found = []
    for name in ("inside", "files"):
        out = tmp_path / f"{name}_out.csv"
        good(
            "predict", "--probe", world.root / "p", "--manifest", tmp_path / f"{name}.csv", "--out", out, "-q"
        )
        found.append(pd.read_csv(out).drop(columns="path"))
    pd.testing.assert_frame_equal(*found)


@pytest.mark.slow
def test_a_probe_of_frames_embeds_new_audio_with_its_frames(world: World, tmp_path: Path) -> None:
    """A sum of layers under attention: from audio what the store gives, and one vector is not enough."""
    embedding = ("--dataset", "d", "--model", world.model, "--name", "framed", "--store", world.store)
    as_before = ("--normalise", "peak", "--min-samples", 4000, "--layers", "0-2")
    good("extract", "--manifest", world.manifest, *embedding, *as_before, "--frames", "-q")
    (tmp_path / "grid.yaml").write_text("attention: {max_epochs: 2, batch_size: 16}\n")
    probe = ("--store", world.store, "--model", "framed", "--label", "kind", "--split", "random")
    attention = ("--classifier", "attention", "--combine", "weighted", "--grid", tmp_path / "grid.yaml")
    good("probe", *probe, *attention, "--out", tmp_path / "r", "-q")
    assert (
        "test predictions are those on record"
        in good("save-probe", tmp_path / "r", "--out", tmp_path / "p").output
    )
    predict = ("predict", "--probe", tmp_path / "p", "--out")
    good(*predict, tmp_path / "audio.csv", "--manifest", world.manifest, "-q")
    good(*predict, tmp_path / "store.csv", "--store", world.store)
    audio, stored = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("audio", "store"))
    assert audio["prediction"].tolist() == stored["prediction"].tolist()
    np.testing.assert_allclose(audio["probability"], stored["probability"], atol=1e-4)
    recorded = read_predictions(tmp_path / "r", read_results(tmp_path / "r")).set_index("utterance_id")
    found = audio.set_index("utterance_id").loc[recorded.index]
    assert (found["prediction"] == recorded["prediction"]).all()
    result = fs(*predict, tmp_path / "no.csv", "--store", world.store, "--model", world.model.name)
    one_line_error(result, "holds no frames, which a probe of attention reads")
    result = fs("detect", world.root / "audio", "--probe", tmp_path / "p", "--out", tmp_path / "found")
    one_line_error(result, "attention reads the frames of clips")
