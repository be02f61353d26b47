from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.raven import RAVEN
from featurestore.errors import ConfigError, ManifestError

HEADER = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]
COLUMNS = ["utterance_id", "start_s", "end_s", "channel", "group"]


def table(*rows: str, extra: tuple[str, ...] = ("Species",)) -> str:
    """Rows with blanks for tabs."""
    lines = ["\t".join([*HEADER, *extra]), *(r.replace(" ", "\t").replace("_", " ") for r in rows)]
    return "\r\n".join(lines) + "\r\n"


def test_views_are_merged_and_channels_kept(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "night, 1.Table.1.selections.txt",
        table(
            "2 Spectrogram_1 2 154.387792767 155 2878.2 4049 01",
            "2 Waveform_1 2 154.387792767 155 0 24000 01",
            "1 Waveform_1 1 3 4.5 0 24000 NA",
            "1 Spectrogram_1 1 3 4.5 100 200 NA",
            "3 Spectrogram_1 1 3 4.5 500 900 NA",
            "4 Spectrogram_1 1 9 9.5 500 900 ",
        ),
    )
    touch(tmp_path, "night, 1.wav", "day.wav")
    found = RAVEN.read(tmp_path)
    assert listing(found.table, [*COLUMNS, "path", "split", "Species"]) == [
        (
            "night, 1:154.387792767-155#1",
            154.387792767,
            155.0,
            1,
            "night, 1",
            str(tmp_path / "night, 1.wav"),
            "",
            "01",
        ),
        ("night, 1:3-4.5#0", 3.0, 4.5, 0, "night, 1", str(tmp_path / "night, 1.wav"), "", "NA"),
        # The same stretch, selected twice by its number: not a view of it.
        ("night, 1:3-4.5#0~2", 3.0, 4.5, 0, "night, 1", str(tmp_path / "night, 1.wav"), "", "NA"),
        ("night, 1:9-9.5#0", 9.0, 9.5, 0, "night, 1", str(tmp_path / "night, 1.wav"), "", ""),
    ]
    assert found.notes == (
        "dropped 2 rows repeating a selection, as the views of Raven do",
        "1 row names the same sound as an earlier row: night, 1:3-4.5#0~2",
    )


def test_label_columns_are_found_or_chosen(tmp_path: Path, touch, write) -> None:
    write(
        tmp_path / "a.txt",
        table(
            "1 Spectrogram_1 1 0 1 0 1 dog 0.9 440 x",
            extra=("Species", "Confidence", "Peak Freq (Hz)", "Note"),
        ),
    )
    touch(tmp_path, "a.wav")
    labels = list(RAVEN.read(tmp_path).table.columns)[7:]
    assert labels == ["Species", "Confidence", "Note", "selection", "low_hz", "high_hz"]
    chosen = RAVEN.read(tmp_path, label_column="Species").table
    assert list(chosen.columns)[7:] == ["Species", "selection", "low_hz", "high_hz"]
    assert list(RAVEN.read(tmp_path, label_column=["Note", "Species"]).table.columns)[7:9] == [
        "Note",
        "Species",
    ]
    with pytest.raises(ManifestError, match=r"column 'Call' is not there"):
        RAVEN.read(tmp_path, label_column="Call")
    with pytest.raises(ConfigError, match="no option 'labels'; it has audio, label_column"):
        RAVEN.read(tmp_path, labels="Species")


def test_detections_without_labels(tmp_path: Path, touch, write, listing) -> None:
    write(tmp_path / "a.txt", table("1 Spectrogram_1 1 0 1 0 1", extra=()))
    found = RAVEN.read(touch(tmp_path, "a.wav"))
    assert listing(found.table) == [("a:0-1#0", str(tmp_path / "a.wav"), 0.0, 1.0, 0, "", "a", "1", "0", "1")]
    assert found.notes == ("no column beside Raven's own and measurements, so there are no labels",)


def test_several_tables_and_other_text(tmp_path: Path, touch, write, listing) -> None:
    write(tmp_path / "s1/rec.selections.txt", table("1 Spectrogram_1 1 0 1 0 1 dog"))
    write(
        tmp_path / "s2/rec.BirdNET.selection.table.txt",
        table("1 Spectrogram_1 1 0 1 0 1 0.5", extra=("Confidence",)),
    )
    write(tmp_path / "README.txt", "how to\n")
    touch(tmp_path, "s1/rec.wav", "s2/rec.FLAC")
    found = RAVEN.read(tmp_path)
    assert listing(found.table, [*COLUMNS, "Species", "Confidence"]) == [
        ("s1/rec:0-1#0", 0.0, 1.0, 0, "s1/rec", "dog", ""),
        ("s2/rec:0-1#0", 0.0, 1.0, 0, "s2/rec", "", "0.5"),
    ]
    assert found.notes == ("passed over 1 file without a column 'Begin Time (s)': README.txt",)


def test_audio_elsewhere(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "tables/2024/a.txt", table("1 Spectrogram_1 1 0 1 0 1 dog"))
    touch(tmp_path / "sound", "2024/a.wav")
    with pytest.raises(ManifestError, match=r"1 of 1 audio file .* missing, .*: 2024/a.wav;"):
        RAVEN.read(tmp_path / "tables")
    for source, audio in (("tables", "sound"), ("tables/2024/a.txt", "sound/2024"), ("tables", "sound/2024")):
        found = RAVEN.read(tmp_path / source, audio=tmp_path / "tables/.." / audio)
        assert list(found.table["path"]) == [str(tmp_path / "sound/2024/a.wav")]
    with pytest.raises(ConfigError, match="no such folder of audio"):
        RAVEN.read(tmp_path / "tables", audio=tmp_path / "nowhere")


def test_audio_of_another_folder_is_named_and_not_taken(tmp_path: Path, touch, write) -> None:
    for site in ("site1", "site2"):
        write(tmp_path / f"tables/{site}/20230501_060000.txt", table("1 Spectrogram_1 1 0 1 0 1 dog"))
    touch(tmp_path, "tables/site2/20230501_060000.WAV", "flat/20230501_060000.WAV")
    with pytest.raises(
        ManifestError, match=r"1 of 2 .*: site1/20230501_060000.wav; not taken, .*site2/2023.*with --audio"
    ):
        RAVEN.read(tmp_path / "tables")
    with pytest.raises(ManifestError, match="fits annotations of this name in site1 and in site2"):
        RAVEN.read(tmp_path / "tables", audio=tmp_path / "flat")


def test_two_files_of_one_name(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "a.txt", table("1 Spectrogram_1 1 0 1 0 1 dog"))
    touch(tmp_path, "a.wav", "a.flac")
    with pytest.raises(ManifestError, match=r"several audio files fit this annotation: a.flac, a.wav"):
        RAVEN.read(tmp_path)


def test_a_chunk_does_not_fit_the_whole(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "rec.002.txt", table("1 Spectrogram_1 1 0 1 0 1 dog"))
    with pytest.raises(ManifestError, match=r"missing, .*: rec.002.wav;"):
        RAVEN.read(touch(tmp_path, "rec.wav", "rec.001.wav"))


def test_begin_file(tmp_path: Path, touch, write, listing) -> None:
    extra = ("Begin File", "End File", "File Offset (s)", "Call")
    write(
        tmp_path / "all.txt",
        table(
            "1 Spectrogram_1 1 3 4 0 1 a.wav a.wav 3 up",
            "2 Spectrogram_1 1 63.5 64.25 0 1 b.wav b.wav 3.5 down",
            "3 Spectrogram_1 1 119 121 0 1 b.wav c.wav 59 up",
            extra=extra,
        ),
    )
    touch(tmp_path, "rec/a.wav", "rec/b.wav", "rec/c.wav")
    found = RAVEN.read(tmp_path / "all.txt", audio=tmp_path / "rec")
    assert listing(found.table, [*COLUMNS, "Call"]) == [
        ("a:3-4#0", 3.0, 4.0, 0, "a", "up"),
        ("b:3.5-4.25#0", 3.5, 4.25, 0, "b", "down"),
        ("b:59-61#0", 59.0, 61.0, 0, "b", "up"),
    ]
    assert found.notes == ("1 selection run on into a second file",)
    (tmp_path / "rec/b.wav").unlink()
    with pytest.raises(ManifestError, match=r"1 of 2 audio files .* costs 2 of 3 rows: rec/b.wav;"):
        RAVEN.read(tmp_path, audio=tmp_path / "rec")


def test_several_files_without_offset_are_refused(tmp_path: Path, touch, write) -> None:
    rows = ("1 Spectrogram_1 1 3 4 0 1 a.wav up", "2 Spectrogram_1 1 63 64 0 1 b.wav up")
    write(tmp_path / "all.txt", table(*rows, extra=("Begin File", "Call")))
    touch(tmp_path, "a.wav", "b.wav")
    with pytest.raises(ManifestError, match=r"2 files in 'Begin File' but no column 'File Offset \(s\)'"):
        RAVEN.read(tmp_path)
    write(tmp_path / "all.txt", table(rows[0], extra=("Begin File", "Call")))
    found = RAVEN.read(tmp_path)
    assert list(found.table["start_s"]) == [3.0]
    assert found.notes[0].endswith("which is wrong if others were open before it: all.txt")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1 Spectrogram_1 1 abc 1 0 1 dog", r"row 2: expected a number of seconds in 'Begin Time \(s\)'"),
        ("1 Spectrogram_1 0 0 1 0 1 dog", "row 2: expected a channel counted from 1, got '0'"),
        ("1 Spectrogram_1 L 0 1 0 1 dog", "row 2: expected a channel counted from 1, got 'L'"),
    ],
)
def test_bad_cells_are_named_by_their_row(tmp_path: Path, touch, write, row: str, said: str) -> None:
    write(tmp_path / "a.txt", table(row))
    with pytest.raises(ManifestError, match=said):
        RAVEN.read(touch(tmp_path, "a.wav"))


def test_quotes_and_an_empty_channel_are_plain_text(tmp_path: Path, touch, write, listing) -> None:
    write(tmp_path / "a.txt", table('1 Spectrogram_1  0 1 0 1 "dog', '2 Spectrogram_1  1 2 0 1 cat"'))
    found = RAVEN.read(touch(tmp_path, "a.wav"))
    assert listing(found.table, ["utterance_id", "channel", "Species"]) == [
        ("a:0-1", None, '"dog'),
        ("a:1-2", None, 'cat"'),
    ]
