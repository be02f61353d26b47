from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.folder import FOLDER
from featurestore.errors import ConfigError, ManifestError


def test_class_folders(tmp_path: Path, touch, listing) -> None:
    touch(tmp_path, "niña, la/2.wav", "007/b.flac", "007/a.wav", "007/notes.txt", "NA/x.OGG")
    found = FOLDER.read(tmp_path, label="call")
    assert listing(found.table, ["utterance_id", "path", "split", "group", "call"]) == [
        ("007/a", str(tmp_path / "007/a.wav"), "", "", "007"),
        ("007/b", str(tmp_path / "007/b.flac"), "", "", "007"),
        ("NA/x", str(tmp_path / "NA/x.OGG"), "", "", "NA"),
        ("niña, la/2", str(tmp_path / "niña, la/2.wav"), "", "", "niña, la"),
    ]


def test_parts_and_subfolders(tmp_path: Path, touch, listing) -> None:
    touch(tmp_path, "train/dog/rex/1.wav", "Valid/dog/2.wav", "test/cat/tom/a/3.wav")
    assert listing(FOLDER.read(tmp_path).table, ["utterance_id", "split", "group", "label"]) == [
        ("Valid/dog/2", "val", "", "dog"),
        ("test/cat/tom/a/3", "test", "cat/tom/a", "cat"),
        ("train/dog/rex/1", "train", "dog/rex", "dog"),
    ]


def test_labels_in_file_names(tmp_path: Path, touch, listing) -> None:
    touch(tmp_path, "rec/7_jackson_0.wav", "rec/0_theo_12.wav", "rec/readme.wav")
    found = FOLDER.read(tmp_path, pattern=r"(?P<digit>\d)_(?P<group>[a-z]+)_(?P<take>\d+)\.wav$")
    assert listing(found.table, ["utterance_id", "group", "digit", "take"]) == [
        ("rec/0_theo_12", "theo", "0", "12"),
        ("rec/7_jackson_0", "jackson", "7", "0"),
    ]
    assert found.notes == ("passed over 1 file named otherwise: rec/readme.wav",)


def test_parts_in_file_names(tmp_path: Path, touch) -> None:
    touch(tmp_path, "dog_train.wav", "dog_valid.wav", "cat.wav")
    table = FOLDER.read(tmp_path, pattern=r"^(?P<animal>[a-z]+)(_(?P<split>\w+))?\.wav").table
    assert list(table["split"]) == ["", "train", "val"]
    assert list(table["animal"]) == ["cat", "dog", "dog"]


@pytest.mark.parametrize(("pattern", "said"), [("(", "not a regular expression"), ("x", "named groups")])
def test_bad_patterns(tmp_path: Path, touch, pattern: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FOLDER.read(touch(tmp_path, "a/1.wav"), pattern=pattern)


def test_loose_files_are_named(tmp_path: Path, touch) -> None:
    with pytest.raises(ManifestError, match=r"outside of one: stray.wav; move them, or say with --pattern"):
        FOLDER.read(touch(tmp_path, "a/1.wav", "stray.wav"))


def test_a_flat_folder_is_told_of_patterns(tmp_path: Path, touch) -> None:
    with pytest.raises(ManifestError, match=r"outside of one: 0_ann.wav, 1_bob.wav; .* such as --pattern"):
        FOLDER.read(touch(tmp_path, "0_ann.wav", "1_bob.wav"))
