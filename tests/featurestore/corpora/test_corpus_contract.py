"""What every corpus promises, whatever it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from featurestore.corpora.audio_files import list_files
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.registry import corpus_names, get_corpus
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.table import read_manifest, write_manifest


def corpus_of(rows: pd.DataFrame, **groups: pd.Series) -> Corpus:
    return Corpus(
        name="tiny",
        title="Tiny",
        licence="",
        citation="",
        where="nowhere",
        groups={"tape": "one tape", "animal": "one animal"},
        options={"task": "which"},
        reader=lambda source, **options: Draft(rows=rows, groups=groups),
    )


def frame(root: Path, *files: str, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"file": files, "path": [str(root / f) for f in files], **columns})


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_says_who_it_is(name: str) -> None:
    corpus = get_corpus(name)
    assert corpus.name == name
    assert corpus.title
    assert corpus.licence
    assert corpus.where
    assert all(corpus.groups.values())
    assert all(corpus.options.values())


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_has_its_section_in_the_documentation(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs/corpora.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page


@pytest.mark.parametrize("name", corpus_names())
def test_an_empty_folder_is_one_line_that_says_what_was_expected(name: str, tmp_path: Path) -> None:
    options = {"task": "dogs"} if name == "beans" else {}
    with pytest.raises(ManifestError, match=r"expected|found no") as error:
        get_corpus(name).read(tmp_path, **options)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", corpus_names())
def test_a_folder_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file or folder"):
        get_corpus(name).read(tmp_path / "nowhere")


def test_an_unknown_corpus_suggests_a_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'watkins'"):
        get_corpus("watkin")


def test_an_unknown_option_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no option 'tier'; it has task"):
        corpus_of(frame(tmp_path)).read(tmp_path, tier="x")


def test_the_registry_loads_no_pandas() -> None:
    code = (
        "import sys; from featurestore.corpora.registry import corpus_names; corpus_names();"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_audio_is_named_with_what_it_costs(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    rows = frame(tmp_path, "a.wav", *[f"gone{i:02}.wav" for i in range(12)], "gone00.wav")
    rows["start_s"] = [0.0] * 13 + [2.0]
    rows["end_s"] = rows["start_s"] + 1
    with pytest.raises(ManifestError) as error:
        corpus_of(rows).read(tmp_path)
    said = str(error.value)
    assert "12 of 13 audio files of Tiny missing" in said
    assert "costs 13 of 14 rows" in said
    assert "gone00.wav, gone01.wav" in said
    assert "gone09.wav and 2 more" in said
    assert "gone10.wav" not in said
    assert "--allow-missing" in said
    assert "\n" not in said

    found = corpus_of(rows).read(tmp_path, allow_missing=True)
    assert list(found.table["utterance_id"]) == ["a:0-1"]
    assert found.n_rows_lost == 13
    assert found.missing == tuple(f"gone{i:02}.wav" for i in range(12))


def test_allow_missing_does_not_make_an_empty_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nothing is left"):
        corpus_of(frame(tmp_path, "a.wav")).read(tmp_path, allow_missing=True)


def test_ids_are_unique_stable_and_free_of_the_place(tmp_path: Path, touch, listing) -> None:
    files = ("a/x.wav", "a/x.wav", "a/x.wav", "b/x.wav", "b/x.flac", "c.d.wav")
    times = {"start_s": [0, 0, 1.25, None, None, 0.1], "end_s": [1, 1, None, None, None, 0.30000000000000004]}
    channels = pd.array([0, 0, 1, None, None, None], dtype="Int64")
    ids = []
    for place in ("one", "two"):
        root = touch(tmp_path / place, *files)
        table = corpus_of(frame(root, *files, **times, channel=channels)).read(root).table
        ids.append(list(table["utterance_id"]))
    assert (
        ids[0]
        == ids[1]
        == [
            "a/x:0-1#0",
            "a/x:0-1#0~2",
            "a/x:1.25-#1",
            "b/x.wav",
            "b/x.flac",
            "c.d:0.1-0.30000000000000004",
        ]
    )


def test_ids_do_not_change_when_other_files_are_missing(tmp_path: Path, touch) -> None:
    touch(tmp_path, "x.wav")
    rows = frame(tmp_path, "x.flac", "x.wav")
    table = corpus_of(rows).read(tmp_path, allow_missing=True).table
    assert list(table["utterance_id"]) == ["x.wav"]  # as in the complete copy


def test_the_group_can_be_chosen(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    rows = frame(tmp_path, "a.wav", site="pond")
    corpus = corpus_of(rows, tape=pd.Series(["t1"]), animal=pd.Series(["rex"]))
    default, chosen = corpus.read(tmp_path), corpus.read(tmp_path, group="animal")
    nothing = corpus.read(tmp_path, group="none")
    assert (default.table["group"][0], default.group) == ("t1", "tape: one tape")
    assert (chosen.table["group"][0], chosen.group) == ("rex", "animal: one animal")
    assert (nothing.table["group"][0], nothing.group) == ("", "")
    by_label = corpus.read(tmp_path, group="site")
    assert (by_label.table["group"][0], by_label.group) == ("pond", "site: the label column of that name")
    assert by_label.table["site"][0] == "pond"
    with pytest.raises(ConfigError, match="it offers tape, animal, site, none"):
        corpus.read(tmp_path, group="owner")


def test_rows_without_duration_are_dropped_and_reported(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    rows = frame(tmp_path, *["a.wav"] * 4, start_s=[0.0, 1, 3, -1], end_s=[1.0, 1, 2, 1])
    found = corpus_of(rows).read(tmp_path)
    assert list(found.table["utterance_id"]) == ["a:0-1"]
    assert found.notes == ("dropped 3 rows whose end is not after its start: a:1-1, a:3-2, a:-1-1",)


def test_a_label_cannot_take_a_reserved_name(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    with pytest.raises(ManifestError, match="cannot be named 'status'"):
        corpus_of(frame(tmp_path, "a.wav", status="ok")).read(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_survives_writing_and_reading(tmp_path: Path, touch, suffix: str) -> None:
    files = ("Beluga,_White_Whale/0072.wav", "niña_1/NA.wav")
    touch(tmp_path, *files)
    rows = frame(
        tmp_path,
        *files,
        start_s=[0.1, None],
        end_s=[0.30000000000000004, None],
        channel=pd.array([1, None], dtype="Int64"),
        split=["train", ""],
        dog=["niña, la", "NA"],
        number=["007", ""],
    )
    table = corpus_of(rows, tape=pd.Series(["00", 'a "b"'])).read(tmp_path).table
    written = write_manifest(table, tmp_path / f"manifest{suffix}")
    pd.testing.assert_frame_equal(read_manifest(written).table, table)


def test_listing_files(tmp_path: Path, touch) -> None:
    touch(
        tmp_path,
        "b/2.WAV",
        "b/10.wav",
        "a-b.wav",
        "a/z.flac",
        "a/._z.flac",
        "__MACOSX/a/z.wav",
        ".hidden/q.wav",
        "notes.txt",
        "nin\u0303a.wav",  # composed it stands after "z", decomposed it would stand before
        "niz.wav",
    )
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    assert list_files(tmp_path) == [
        "a-b.wav",
        "a/z.flac",
        "b/10.wav",
        "b/2.WAV",
        "niz.wav",
        "nin\u0303a.wav",
    ]
