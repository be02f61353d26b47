"""Files of ELAN, made after its format (EAF 3.0)."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError

COLUMNS = ["utterance_id", "start_s", "end_s"]
WAV = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/field/day 1/a.wav" MIME_TYPE="audio/x-wav" {}/>'


def eaf(
    *tiers: str, media: str = WAV.format('RELATIVE_MEDIA_URL="./a.wav"'), units: str = "milliseconds"
) -> str:
    times = (0, 780, 1590, 2340, 4085, None, 6001)
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{i}"' + ("" if t is None else f' TIME_VALUE="{t}"') + "/>"
        for i, t in enumerate(times)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00Z" '
        'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="{units}">{media}<PROPERTY NAME="lastUsedAnnotationId"/>'
        f"</HEADER><TIME_ORDER>{slots}</TIME_ORDER>{''.join(tiers)}"
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/></ANNOTATION_DOCUMENT>\n'
    )


def aligned(name: str, *spans: tuple[str, int, int, str], parent: str = "") -> str:
    ref = f' PARENT_REF="{parent}"' if parent else ""
    inner = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{i}" '
        f'TIME_SLOT_REF1="ts{a}" TIME_SLOT_REF2="ts{b}">'
        f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i, a, b, text in spans
    )
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID={quoteattr(name)}{ref}>{inner}</TIER>'


def referring(name: str, parent: str, *refs: tuple[str, str, str]) -> str:
    inner = "".join(
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{i}" ANNOTATION_REF="{ref}"><ANNOTATION_VALUE>{text}'
        "</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
        for i, ref, text in refs
    )
    return f'<TIER LINGUISTIC_TYPE_REF="ref" PARENT_REF="{parent}" TIER_ID={quoteattr(name)}>{inner}</TIER>'


CALLS = aligned(
    "calls", ("a1", 1, 2, "señal &amp; &lt;b&gt;"), ("a2", 2, 3, " "), ("a3", 3, 4, "01"), ("a4", 4, 5, "?")
)
CALLER = referring("caller", "calls", ("a5", "a3", "Rex"), ("a6", "a3", "Bo"))


def test_a_tier_with_what_depends_on_it(tmp_path: Path, touch, write, listing) -> None:
    notes = aligned("parts", ("a7", 1, 2, "first half"), parent="calls")
    write(tmp_path / "a.eaf", eaf(CALLS, CALLER, notes))
    write(tmp_path / "b.eaf", eaf(aligned("calls", ("a1", 5, 6, "x"), ("a2", 0, 6, "NA")), media=""))
    found = get_corpus("elan").read(touch(tmp_path, "a.wav", "b.flac"))
    assert listing(found.table, [*COLUMNS, "label", "caller", "selection"]) == [
        ("a:0.78-1.59", 0.78, 1.59, "señal & <b>", "", "a1"),
        ("a:2.34-4.085", 2.34, 4.085, "01", "Rex Bo", "a3"),
        ("b:0-6.001", 0.0, 6.001, "NA", "", "a2"),
    ]
    assert found.notes == (
        "left out 1 annotation without text",
        "left out 2 annotations without times of their own, which ELAN spreads evenly between their "
        "neighbours",
    )


def test_several_tiers(tmp_path: Path, touch, write, listing) -> None:
    birds = aligned("bird, 2", ("b1", 0, 1, "song"))
    write(tmp_path / "a.eaf", eaf(CALLS, birds, CALLER))
    corpus = get_corpus("elan")
    touch(tmp_path, "a.wav")
    with pytest.raises(ManifestError, match=r"one tier with times, found 'calls', 'bird, 2'; name one"):
        corpus.read(tmp_path)
    with pytest.raises(ManifestError, match=r"tier 'caller' has no annotations with times of their own"):
        corpus.read(tmp_path, tier="caller")
    with pytest.raises(ManifestError, match=r"expected 'Calls', found 'calls'"):
        corpus.read(tmp_path, tier="Calls")
    assert listing(corpus.read(tmp_path, tier="bird, 2").table, [*COLUMNS, "bird, 2"]) == [
        ("a:0-0.78", 0.0, 0.78, "song")
    ]
    every = corpus.read(tmp_path, tier="*").table
    assert listing(every, ["utterance_id", "label", "tier"]) == [
        ("a:0.78-1.59", "señal & <b>", "calls"),
        ("a:2.34-4.085", "01", "calls"),
        ("a:0-0.78", "song", "bird, 2"),
    ]


def test_the_recording_is_the_one_that_the_file_links(tmp_path: Path, touch, write) -> None:
    corpus = get_corpus("elan")
    song = aligned("calls", ("a1", 0, 1, "x"))
    touch(tmp_path, "notes.wav", "day 1/a.wav", "far/b.wav")
    # where it was on another machine: by folder and name, and not the file of the annotation's own name
    write(tmp_path / "notes.eaf", eaf(song, media=WAV.format('RELATIVE_MEDIA_URL="../gone/a.wav"')))
    found = corpus.read(tmp_path / "notes.eaf")
    assert list(found.table["utterance_id"]) == ["day 1/a:0-0.78"]
    assert "taken by the end of the path: day 1/a.wav for /C:/field/day 1/a.wav" in found.notes[0]
    # from the annotation itself, with signs for blanks and an offset of the recording
    moved = WAV.replace("day 1/a", "x").format('RELATIVE_MEDIA_URL="./day%201/a.wav" TIME_ORIGIN="500"')
    write(tmp_path / "notes.eaf", eaf(song, media=moved))
    found = corpus.read(tmp_path / "notes.eaf")
    assert list(found.table["utterance_id"]) == ["day 1/a:0.5-1.28"]
    assert found.notes == ("times moved by the offset (TIME_ORIGIN) of the recording: 500 ms in notes.eaf",)
    # never one of its name elsewhere
    write(tmp_path / "notes.eaf", eaf(song, media=WAV.replace("day 1/a", "b").format("")))
    with pytest.raises(
        ManifestError, match=r"1 of 1 audio file .*not taken, since folder or suffix is another"
    ):
        corpus.read(tmp_path / "notes.eaf")
    # a video and the sound of it, which lies beside
    video = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///v/notes.mp4" MIME_TYPE="video/mp4" {}/>'
    write(tmp_path / "notes.eaf", eaf(song, media=video.format("")))
    assert list(corpus.read(tmp_path / "notes.eaf").table["utterance_id"]) == ["notes:0-0.78"]
    write(tmp_path / "notes.eaf", eaf(song, media=video.format('TIME_ORIGIN="40"')))
    with pytest.raises(ManifestError, match="its video has an offset, and no audio is linked"):
        corpus.read(tmp_path / "notes.eaf")
    two = WAV.format("") + WAV.replace("a.wav", "c.wav").format("")
    write(tmp_path / "notes.eaf", eaf(song, media=two))
    with pytest.raises(ManifestError, match="names several recordings"):
        corpus.read(tmp_path / "notes.eaf")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read as a file of ELAN: no XML"),
        ("ELAN\n", "no XML"),
        (eaf(CALLS)[:-30], "no XML"),
        ("<svg/>", "expected an element 'ANNOTATION_DOCUMENT', found 'svg'"),
        (
            eaf(CALLS).replace("<ANNOTATION_DOC", "<!DOCTYPE x SYSTEM 'x.dtd'><ANNOTATION_DOC", 1),
            "DOCTYPE 'x'",
        ),
        (eaf(CALLS, units="PAL-frames"), "expected times in milliseconds, got 'PAL-frames'"),
        (eaf(CALLS).replace('"780"', '"0.78"'), "expected whole milliseconds, got '0.78'"),
        (eaf(), "expected one tier with times, found none"),
        (eaf(CALLS).replace('REF1="ts3"', 'REF1="ts99"'), "slot 'ts99' is not in its times"),
    ],
)
def test_files_that_are_none(tmp_path: Path, touch, write, content: str, said: str) -> None:
    write(tmp_path / "a.eaf", content)
    with pytest.raises(ManifestError) as error:
        get_corpus("elan").read(touch(tmp_path, "a.wav"))
    assert said in str(error.value)
    assert str(tmp_path / "a.eaf") in str(error.value)
    assert "\n" not in str(error.value)
