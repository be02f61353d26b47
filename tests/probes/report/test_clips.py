"""Sounds, mistakes and suspects of a real run: what is heard is what was embedded, or it is not there."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import recordings
import soundfile
from click.testing import CliRunner
from PIL import Image
from sklearn.linear_model import LogisticRegression

import cli
from featurestore import open_store
from featurestore.backends.remote import ObjectStorage
from featurestore.errors import StoreError
from featurestore.spreadsheet import text_of_cell
from probes.report import load_report_data
from probes.report.clips import clip as clip_module
from probes.report.clips.clip import HEIGHT, WIDTH, make_clip
from probes.report.clips.embedded_keys import EmbeddedKeys
from probes.report.clips.mistakes import mistakes_of, page_context
from probes.results.results_folder import read_results
from tests.featurestore.archives.packed import KINDS, write_archive

HOSTILE = "=cmd()</script><img src=x onerror=alert(1)>\u202e"
SWAPPED = 3


@dataclass(frozen=True)
class Run:
    """A corpus in `folder`, its store and its results, and the calls whose labels were swapped."""

    folder: Path
    swapped: set[str]

    def shown(self, megabytes: float = 4.0, store: str | None = None) -> dict[str, Any]:
        """What the page would show of clips."""
        data = load_report_data(self.folder / "results")
        return page_context(mistakes_of(data, EmbeddedKeys(data.path, data.run, store)), megabytes)


def run(*words: str) -> object:
    done = CliRunner().invoke(cli.main, list(words))
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("clips")
    table = recordings.write_recordings(folder, n_recordings=6)
    kinds = sorted(table["call"].unique())
    table["call"] = table["call"].replace({kinds[0]: HOSTILE})
    swapped = table.index[table["call"] != HOSTILE][::17][:SWAPPED]
    table.loc[swapped, "call"] = HOSTILE
    table.to_csv(folder / "manifest.csv", index=False)
    store = str(folder / "s.zarr")
    common = ["--manifest", str(folder / "manifest.csv"), "--dataset", "calls", "--store", store, "--quiet"]
    run("extract", "--model", "logmel", *common)
    probe = ["--store", store, "--label", "call", "--split", "kfold:4", "--classifier", "logreg", "--quiet"]
    run("probe", *probe, "--out", str(folder / "results"))
    return Run(folder, set(table.loc[swapped, "utterance_id"]))


@pytest.fixture(scope="module")
def report(made: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The report with all defaults, and what the command printed."""
    out = tmp_path_factory.mktemp("report")
    return out, run("report", str(made.folder / "results"), "--out", str(out)).output


def clips_of(shown: dict[str, Any]) -> list[dict[str, Any]]:
    return [clip for q in shown["sounds"] for group in q["groups"] for clip in group["clips"]]


def sentences_of(shown: dict[str, Any]) -> str:
    (question,) = shown["sounds"]
    return " ".join(question["sentences"])


class Media(HTMLParser):
    """Data URLs of the page's sounds and pictures, and all other addresses."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.audio: list[dict[str, str | None]] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        {"audio": self.audio, "img": self.images}.get(tag, []).append(found)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:")]


@pytest.mark.slow
def test_the_page_plays_and_shows_what_was_embedded(report: tuple[Path, str]) -> None:
    out, output = report
    for name in ("mistakes.csv", "suspects.csv", "tables.tex", "methods.md", "references.bib"):
        assert f"wrote {out / name}" in output
    media = Media(out / "index.html")
    assert len(media.audio) == len(media.images) > 4
    for sound, picture in zip(media.audio, media.images, strict=True):
        assert sound["preload"] == "none"
        assert sound["aria-label"]
        head, _, data = str(sound["src"]).partition(";base64,")
        assert head.startswith("data:audio/")
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert 0.05 < len(samples) / rate <= 4.1
        assert np.abs(samples).max() > 0.1
        image = Image.open(io.BytesIO(base64.b64decode(str(picture["src"]).partition(";base64,")[2])))
        assert image.size == (WIDTH, HEIGHT)
        assert "kHz" in str(picture["alt"])
    files = {"mistakes.csv", "suspects.csv", "tables.tex", "methods.md", "references.bib"}
    beside = {address for address in media.addresses if not address.startswith("#")}
    assert beside == files  # nothing is fetched
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "media-src data:" in page
    assert "<img src=x" not in page
    assert "\u202e" not in page


@pytest.mark.slow
def test_clips_are_equal_in_every_report(made: Run) -> None:
    assert made.shown(0.2) == made.shown(0.2)


def test_mistakes_name_the_stretch_and_the_probability(made: Run, report: tuple[Path, str]) -> None:
    found = pd.read_csv(report[0] / "mistakes.csv")
    manifest = pd.read_csv(made.folder / "manifest.csv").set_index("utterance_id")
    assert len(found)
    for row in found.to_dict("records"):
        expected = manifest.loc[row["utterance_id"]]
        assert row["file"] == str(made.folder / expected["path"])
        assert (row["start_s"], row["end_s"]) == (expected["start_s"], expected["end_s"])
        assert text_of_cell(row["true"]) == expected["call"] != text_of_cell(row["predicted"])
        assert row["p_predicted"] >= row["p_true"]
        assert row["group"] == expected["group"]
    # A formula stays a text in spreadsheets.
    cells = [*found["true"], *found["predicted"]]
    assert any(cell.startswith("'=cmd()") for cell in cells)
    assert not any(str(cell).startswith("=") for cell in cells)


def test_probabilities_are_those_of_scikit_learn(made: Run) -> None:
    features = open_store(str(made.folder / "s.zarr")).features("logmel", "calls")
    x = features.layer(0).numpy().reshape(len(features.index), -1)
    fit = read_results(made.folder / "results").iloc[0]
    (task,) = [
        t
        for p in sorted((made.folder / "results" / "_predictions").iterdir())
        if (t := pd.read_parquet(p))["fingerprint"].iloc[0] == fit["fingerprint"]
    ]
    from probes.results.split_files import read_split

    part = read_split(made.folder / "results", fit).set_index("utterance_id")["part"]
    part = part.reindex(features.index["utterance_id"]).to_numpy()
    y = features.index["call"].to_numpy()
    train = part == "train"
    z = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    model = LogisticRegression(max_iter=1000).fit(z[train], y[train])
    at = pd.Index(features.index["utterance_id"]).get_indexer(task["utterance_id"])
    p = model.predict_proba(z[at])
    column = {c: i for i, c in enumerate(model.classes_)}
    rows = np.arange(len(task))
    for name, of in (("p_prediction", "prediction"), ("p_target", "target")):
        expected = p[rows, [column[c] for c in task[of]]]
        assert task[name].to_numpy() == pytest.approx(expected, abs=2e-3), name


def test_swapped_labels_are_among_the_suspects(made: Run, report: tuple[Path, str]) -> None:
    found = pd.read_csv(report[0] / "suspects.csv")
    assert made.swapped & set(found["utterance_id"])
    assert (found["suspect_rank"] == np.arange(1, len(found) + 1)).all()
    assert found["file"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0.0, 0.05, 0.15])
def test_sounds_keep_to_their_room(made: Run, megabytes: float) -> None:
    shown = made.shown(megabytes)
    clips = clips_of(shown)
    assert sum(len(clip["audio"]) + len(clip["picture"]) for clip in clips) <= megabytes * 1e6
    if megabytes:
        assert clips
        assert "no room in" in sentences_of(shown)
    else:
        assert "No sounds were asked for" in sentences_of(shown)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", ["-1", "nan", "inf", "1e9", "many"])
def test_impossible_room_is_refused_before_anything_is_written(
    made: Run, tmp_path: Path, megabytes: str
) -> None:
    words = ["report", str(made.folder / "results"), "--out", str(tmp_path / "r"), "--sounds-mb", megabytes]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 2
    assert "sounds-mb" in done.output
    assert not (tmp_path / "r" / "index.html").exists()


def _naming(made: Run, tmp_path: Path, store: str) -> Run:
    """The results alone, saying that they are of another store."""
    shutil.copytree(made.folder / "results", tmp_path / "results")
    path = tmp_path / "results" / "_run.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for call in content["calls"]:
        call["config"]["store"] = store
    path.write_text(json.dumps(content), encoding="utf-8")
    return Run(tmp_path, made.swapped)


def test_audio_that_changed_is_not_played(made: Run) -> None:
    audio = made.folder / "audio"
    kept = {p: p.read_bytes() for p in audio.iterdir()}
    try:
        for path in kept:
            samples, rate = soundfile.read(path)
            soundfile.write(path, samples[::-1], rate, "PCM_16")
        shown = made.shown()
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    assert not clips_of(shown)
    assert "holds other audio now than was embedded" in sentences_of(shown)


@pytest.mark.slow
def test_a_store_that_is_not_there_is_one_sentence(made: Run, tmp_path: Path) -> None:
    alone = _naming(made, tmp_path, str(tmp_path / "gone.zarr"))
    run("report", str(tmp_path / "results"), "--out", str(tmp_path / "r"), "--sounds-mb", "1")
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    assert len(re.findall("No sounds: ", page)) == 1
    assert "no feature store here" in page
    table = pd.read_csv(tmp_path / "r" / "mistakes.csv")
    assert len(table)
    assert table["file"].isna().all()
    # Where it is now is said with --store.
    assert clips_of(alone.shown(0.2, str(made.folder / "s.zarr")))


def test_a_store_that_was_named_has_to_be_there(made: Run, tmp_path: Path) -> None:
    data = load_report_data(made.folder / "results")
    with pytest.raises(StoreError, match="nowhere: no feature store here"):
        EmbeddedKeys(data.path, data.run, str(tmp_path / "nowhere"))


def test_a_store_in_a_network_is_not_asked_on_a_results_folders_word(made: Run, tmp_path: Path) -> None:
    shown = _naming(made, tmp_path, "s3://nobody/of-ours").shown()
    assert "is not on this machine" in sentences_of(shown)


@pytest.mark.slow
def test_a_key_that_was_made_anew_of_other_audio_is_told(made: Run, tmp_path: Path) -> None:
    other = recordings.write_recordings(tmp_path / "other", n_recordings=6, first=6)
    table = pd.read_csv(made.folder / "manifest.csv")
    # The same ids and labels over other sounds: what an id of the results means is another thing now.
    table[["path", "start_s", "end_s"]] = other[["path", "start_s", "end_s"]].to_numpy()
    table["path"] = [str(tmp_path / "other" / p) for p in table["path"]]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    store = str(tmp_path / "s.zarr")
    words = ["--manifest", str(tmp_path / "manifest.csv"), "--dataset", "calls", "--store", store, "--quiet"]
    run("extract", "--model", "logmel", *words)
    shown = made.shown(store=store)
    assert "holds other audio or embeddings" in sentences_of(shown)
    assert not clips_of(shown)


def test_files_of_somebody_are_not_written_over(made: Run, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "methods.md").write_text("my own notes", encoding="utf-8")
    words = ["report", str(made.folder / "results"), "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 2
    assert "methods.md" in done.output
    assert (tmp_path / "r" / "methods.md").read_text(encoding="utf-8") == "my own notes"


def _written(path: Path, samples: np.ndarray, rate: int) -> tuple[tuple[str, float, float, None], str]:
    from featurestore.audio.segment import hash_clip

    soundfile.write(path, samples.astype(np.float32), rate, "FLOAT")
    place = (str(path), float("nan"), float("nan"), None)
    return place, hash_clip(*place)


def test_ultrasound_is_slowed_down_and_audible_sound_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rate = 250_000
    noise = 0.01 * rng.standard_normal(2 * rate)
    noise[rate : rate + 2500] += 0.5 * np.sin(2 * np.pi * 40_000 * np.arange(2500) / rate)
    bat = make_clip(*_written(tmp_path / "bat.wav", noise, rate))
    assert bat.slowed >= 5
    assert bat.from_s <= 1.0 <= bat.from_s + bat.shown_s
    heard, at = soundfile.read(io.BytesIO(base64.b64decode(bat.audio.partition(";base64,")[2])))
    spectrum = np.abs(np.fft.rfft(heard))
    loudest_hz = np.fft.rfftfreq(len(heard), 1 / at)[spectrum.argmax()]
    assert loudest_hz == pytest.approx(40_000 / bat.slowed, rel=0.05)
    # A whale at a high rate stays as it is, and so does a call at 7 kHz.
    t = np.arange(96_000) / 96_000
    assert make_clip(*_written(tmp_path / "whale.wav", np.sin(2 * np.pi * 200 * t), 96_000)).slowed == 1
    call = make_clip(*_written(tmp_path / "call.wav", np.sin(2 * np.pi * 7000 * t), 44_100))
    assert call.slowed == 1
    assert call.band_hz == pytest.approx((7000 * 44.1 / 96, 7000 * 44.1 / 96), abs=100)


def test_of_a_long_clip_the_loudest_part_is_played(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = 0.001 * rng.standard_normal(20 * 8000)
    x[13 * 8000 : 14 * 8000] += 0.5 * rng.standard_normal(8000)
    clip = make_clip(*_written(tmp_path / "long.wav", x, 8000))
    assert clip.shown_s == clip_module.PLAYED_S
    assert clip.from_s <= 13.0
    assert clip.from_s + clip.shown_s >= 14.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_is_the_same_from_an_archive(tmp_path: Path, kind: str) -> None:
    from featurestore.audio.segment import hash_clip

    x = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", x, 16_000)
    (name,) = write_archive(kind, tmp_path / f"x.{kind}", {"a.wav": tmp_path / "a.wav"})
    stretch = (0.5, 1.5, None)
    known = hash_clip(str(tmp_path / "a.wav"), *stretch)
    made, expected = (make_clip((str(tmp_path / p), *stretch), known) for p in (name, "a.wav"))
    assert made == expected


@pytest.mark.slow
def test_audio_in_a_bucket_is_not_fetched_because_results_lead_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `fs probe` never, by a report where somebody named the store: a store may be anybody's."""
    obstore = pytest.importorskip("obstore")
    memory = obstore.store.MemoryStore()
    monkeypatch.setattr("featurestore.backends.remote.make_client", lambda *_a, **_k: memory)
    monkeypatch.setattr("featurestore.backends.remote._BUCKETS", {})
    table = recordings.write_recordings(tmp_path, n_recordings=6)
    for name in table["path"].unique():
        obstore.put(memory, name, (tmp_path / name).read_bytes())
        (tmp_path / name).unlink()
    table.assign(path="s3://bucket/" + table["path"]).to_csv(tmp_path / "manifest.csv", index=False)
    store = str(tmp_path / "s.zarr")
    common = ["--manifest", str(tmp_path / "manifest.csv"), "--dataset", "calls", "--store", store, "--quiet"]
    run("extract", "--model", "logmel", *common)

    asked: list[str] = []
    look = ObjectStorage.look
    monkeypatch.setattr(ObjectStorage, "look", lambda self, key: asked.append(key) or look(self, key))
    monkeypatch.setattr("featurestore.archives.object_file._looks", OrderedDict())
    probe = ["--store", store, "--label", "call", "--split", "kfold:4", "--classifier", "logreg", "--quiet"]
    run("probe", *probe, "--out", str(tmp_path / "results"))
    made = Run(tmp_path, set())
    said = str(made.shown())
    assert asked == []
    assert "lies in a bucket" in said
    assert "lies in a bucket" not in str(made.shown(store=store))
    assert asked
