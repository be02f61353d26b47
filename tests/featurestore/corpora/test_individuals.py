"""Individual birds, in lists as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError

TRN = "wavfilename,PC1101,PC11 02\na_day1.wav,1,\nb_day1.wav,,1\n"
TST = "wavfilename,PC1103,PC1101\nc_day2.wav,0,1.0\nd_day2.wav,1,0\n"


@pytest.fixture
def copy(tmp_path: Path, touch, write) -> Path:
    for condition in ("fg", "bg"):
        write(tmp_path / f"csv/pipit-withinyear-{condition}-trn.csv", TRN)
        write(tmp_path / f"csv/pipit-withinyear-{condition}-tst.csv", TST)
        names = [f"wav/pipit-{condition}/{x}.wav" for x in ("a_day1", "b_day1", "c_day2", "d_day2")]
        touch(tmp_path, *names)
    write(tmp_path / "csv/readme.csv", "a,b\n1,2\n")
    return tmp_path


@pytest.mark.parametrize("condition", ["fg", "bg"])
def test_lists_and_their_clips(copy: Path, listing, condition: str) -> None:
    found = get_corpus("individuals").read(copy, task="pipit-withinyear", condition=condition)
    where = f"wav/pipit-{condition}"
    assert listing(found.table, ["utterance_id", "split", "individual", "condition", "group"]) == [
        (f"{where}/a_day1", "train", "PC1101", condition, ""),
        (f"{where}/b_day1", "train", "PC11 02", condition, ""),
        (f"{where}/c_day2", "test", "PC1101", condition, ""),
        (f"{where}/d_day2", "test", "PC1103", condition, ""),
    ]
    assert found.notes == ("tested and not trained: PC1103",)


def test_which_task(copy: Path, write) -> None:
    corpus = get_corpus("individuals")
    assert len(corpus.read(copy).table) == 4
    write(copy / "csv/pipit-acrossyear-fg-trn.csv", TRN)
    with pytest.raises(
        ConfigError, match=r"say with --task which; there is pipit-acrossyear, pipit-withinyear"
    ):
        corpus.read(copy)
    with pytest.raises(ConfigError, match="did you mean 'pipit-withinyear'"):
        corpus.read(copy, task="pipit-withinyer")
    with pytest.raises(ManifestError, match=r"one list pipit-acrossyear-fg-tst.csv, found none"):
        corpus.read(copy, task="pipit-acrossyear")
    with pytest.raises(ConfigError, match="--condition: expected fg or bg, got 'background'"):
        corpus.read(copy, condition="background")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TRN.replace("a_day1.wav,1,", "a_day1.wav,1,1"), "row 2: expected a 1 for one individual, got 2"),
        (TRN.replace("a_day1.wav,1,", "a_day1.wav,,"), "row 2: expected a 1 for one individual, got 0"),
        (TRN.replace("b_day1.wav,,1", "b_day1.wav,,yes"), "row 3: expected 1 or nothing for each individual"),
        (TRN.replace("b_day1.wav", " "), "row 3: 'wavfilename' is empty"),
        (TRN.replace("wavfilename", "file"), "column 'wavfilename' is not there"),
        ("wavfilename\na_day1.wav\n", "expected a column for each individual"),
        (TRN.replace("b_day1", "z_day1"), "1 of 4 audio files of individuals"),
    ],
)
def test_lists_that_are_none(copy: Path, write, content: str, said: str) -> None:
    write(copy / "csv/pipit-withinyear-fg-trn.csv", content)
    with pytest.raises(ManifestError) as error:
        get_corpus("individuals").read(copy)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
