"""Real recordings in every annotation format, by the tools of others where they are, read back row by row.

Finch songs (3,116 syllables of 60 songs), ESC-10 (400 clips in folders, OGG) and spoken digits (takes 0 to 4:
300 clips). Whole clips are one annotation from 0 to their end. Who wrote a file is at the end of each case's
name: crowsetta, pympi, praatio, Praat itself (as parselmouth), scipy, or, where only a program with windows
writes a format, this file, by the documentation of the format or the code of that program.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
import pytest
import soundfile

from featurestore.corpora.registry import get_corpus

pytestmark = [pytest.mark.shared, pytest.mark.minutes]

CORPORA = ("songs", "esc10", "digits")
MILLISECOND, MICROSECOND = 3, 6  # digits of seconds that a format keeps


@dataclass(frozen=True)
class Recorded:
    """A corpus: the folder of its audio, and rows of file (relative), start_s, end_s and label."""

    audio: Path
    rows: pd.DataFrame

    def by_file(self) -> Iterator[tuple[PurePosixPath, pd.DataFrame]]:
        for file, rows in self.rows.groupby("file", sort=True):
            yield PurePosixPath(str(file)), rows

    def length(self, file: PurePosixPath) -> float:
        return float(soundfile.info(self.audio / file).duration)


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Recorded]:
    """The three corpora by soundfile and their own tables, without any adapter but that of the songs."""
    data = shared / "data"
    digits = pd.read_csv(data / "fsdd/manifest.csv", dtype=str)
    digits = digits[digits["take"].isin(list("01234"))]  # 3,000 files of each format would take minutes
    clips = sorted((data / "esc10").glob("*/*.ogg"))
    songs = (
        get_corpus("birdsong-recognition-dataset").read(data / "bengalese/Bird0", allow_missing=True).table
    )
    found = {
        "songs": Recorded(
            data / "bengalese/Bird0/Wave",
            songs[["start_s", "end_s", "label"]].assign(file=songs["path"].map(lambda p: Path(p).name)),
        ),
        "esc10": whole(
            data / "esc10", [f"{c.parent.name}/{c.name}" for c in clips], [c.parent.name for c in clips]
        ),
        "digits": whole(data / "fsdd", list(digits["path"]), list(digits["digit"])),
    }
    assert [len(found[name].rows) for name in CORPORA] == [3116, 400, 300]
    return found


def whole(audio: Path, files: list[str], labels: list[str]) -> Recorded:
    ends = [soundfile.info(audio / f).duration for f in files]
    return Recorded(audio, pd.DataFrame({"file": files, "start_s": 0.0, "end_s": ends, "label": labels}))


def path_in(folder: Path, file: PurePosixPath, suffix: str) -> Path:
    """Where the annotation of an audio file stands: in the same folder, under the same name."""
    path = folder / file.parent / f"{file.stem}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# --- written by crowsetta ---


def crowsetta_format(name: str) -> Any:
    return pytest.importorskip("crowsetta").formats.by_name(name)


def columns_of(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows["start_s"].to_numpy(), rows["end_s"].to_numpy(), rows["label"].to_numpy(dtype=str)


def aud_seq(corpus: Recorded, folder: Path) -> None:
    make = crowsetta_format("aud-seq")
    for file, rows in corpus.by_file():
        path = path_in(folder, file, ".txt")
        make(*columns_of(rows), path).to_file(path)


def simple_seq(corpus: Recorded, folder: Path) -> None:
    make = crowsetta_format("simple-seq")
    for file, rows in corpus.by_file():
        path = path_in(folder, file, ".csv")
        make(*columns_of(rows), path).to_file(path)


def timit(corpus: Recorded, folder: Path) -> None:
    make = crowsetta_format("timit")
    for file, rows in corpus.by_file():
        path = path_in(folder, file, ".phn")
        rate_hz = soundfile.info(corpus.audio / file).samplerate
        on, off, label = columns_of(rows)
        samples = [np.round(t * rate_hz).astype(int) for t in (on, off)]
        # Between blanks: a label of several words is none that TIMIT can hold.
        make(*samples, np.char.replace(label, " ", "_"), path).to_file(path)


def notmat(corpus: Recorded, folder: Path) -> None:
    make = crowsetta_format("notmat")
    for file, rows in corpus.by_file():
        on, off, label = columns_of(rows)
        path = path_in(folder, file, ".not.mat")
        made = make(on, off, label.astype("<U1"), path, Path(f"{file.stem}.cbin"))  # a label is one letter
        made.to_file(32_000, 5, 0.02, 0.002, dst=path.parent)


def generic_seq(corpus: Recorded, folder: Path) -> None:
    crowsetta = pytest.importorskip("crowsetta")
    all_ = []
    for file, rows in corpus.by_file():
        on, off, label = columns_of(rows)
        seq = crowsetta.Sequence.from_keyword(onsets_s=on, offsets_s=off, labels=label)
        all_.append(crowsetta.Annotation(seq=seq, annot_path=folder / "a.csv", notated_path=Path(file)))
    folder.mkdir(parents=True)
    crowsetta.formats.by_name("generic-seq")(all_).to_file(folder / "all.csv")


def raven_by_crowsetta(corpus: Recorded, folder: Path) -> None:
    make = crowsetta_format("raven")
    for file, rows in corpus.by_file():
        path = path_in(folder, file, ".Table.1.selections.txt")
        table = pd.DataFrame(
            {
                "begin_time_s": rows["start_s"],
                "end_time_s": rows["end_s"],
                "low_freq_hz": 100.0,
                "high_freq_hz": 3000.0,
                "annotation": rows["label"],
            }
        )
        make(table, path, "annotation").to_file(path)


def aud_bbox(corpus: Recorded, folder: Path) -> None:
    make = crowsetta_format("aud-bbox")
    for file, rows in corpus.by_file():
        path = path_in(folder, file, ".txt")
        table = rows.rename(columns={"start_s": "begin_time_s", "end_s": "end_time_s"})
        table = table.assign(low_freq_hz=100.0, high_freq_hz=3000.0).drop(columns="file")
        make(table, path).to_file(path)


# --- written by pympi, praatio, and Praat ---


def elan_by_pympi(corpus: Recorded, folder: Path) -> None:
    pympi = pytest.importorskip("pympi", reason="pip install pympi-ling")
    for file, rows in corpus.by_file():
        path = path_in(folder, file, ".eaf")
        eaf = pympi.Elan.Eaf(author="tests")
        eaf.add_linked_file(str(corpus.audio / file), relpath=f"./{quote(file.name)}", mimetype="audio/x-wav")
        eaf.add_tier("calls")
        eaf.remove_tier("default")
        for start_s, end_s, label in zip(*columns_of(rows), strict=True):
            eaf.add_annotation("calls", round(1000 * start_s), round(1000 * end_s), label)
        with warnings.catch_warnings():  # of its version of the format
            warnings.simplefilter("ignore")
            eaf.to_file(str(path))


def textgrid_by_pympi(mode: str) -> Callable[[Recorded, Path], None]:
    def write(corpus: Recorded, folder: Path) -> None:
        pympi = pytest.importorskip("pympi", reason="pip install pympi-ling")
        for file, rows in corpus.by_file():
            grid = pympi.Praat.TextGrid(xmin=0, xmax=max(corpus.length(file), rows["end_s"].max()))
            tier = grid.add_tier("calls")
            for start_s, end_s, label in zip(*columns_of(rows), strict=True):
                tier.add_interval(start_s, end_s, label)
            grid.to_file(str(path_in(folder, file, ".TextGrid")), codec="utf-8", mode=mode)

    return write


def textgrid_by_praatio(form: str) -> Callable[[Recorded, Path], None]:
    def write(corpus: Recorded, folder: Path) -> None:
        textgrid = pytest.importorskip("praatio.textgrid", reason="pip install praatio")
        for file, rows in corpus.by_file():
            longest = max(corpus.length(file), rows["end_s"].max())
            entries = list(zip(*columns_of(rows), strict=True))
            grid = textgrid.Textgrid(0, longest)
            grid.addTier(textgrid.IntervalTier("calls", entries, 0, longest))
            grid.save(str(path_in(folder, file, ".TextGrid")), form, includeBlankSpaces=True)

    return write


def textgrid_by_praat(command: str) -> Callable[[Recorded, Path], None]:
    def write(corpus: Recorded, folder: Path) -> None:
        praat = pytest.importorskip("parselmouth.praat", reason="pip install praat-parselmouth")
        for file, rows in corpus.by_file():
            longest = max(corpus.length(file), rows["end_s"].max())
            grid = praat.call("Create TextGrid", 0.0, longest, "calls", "")
            n = 1
            for start_s, end_s, label in zip(*columns_of(rows), strict=True):
                for edge in (start_s, end_s):
                    last = praat.call(grid, "Get start time of interval", 1, n)
                    if last + 1e-9 < edge < longest - 1e-9:
                        praat.call(grid, "Insert boundary", 1, float(edge))
                        n += 1
                    if edge == start_s:
                        of_label = n
                praat.call(grid, "Set interval text", 1, of_label, str(label))
            praat.call(grid, command, str(path_in(folder, file, ".TextGrid")))

    return write


def yarden_by_scipy(corpus: Recorded, folder: Path) -> None:
    """One file for the recordings of a folder. Labels are numbers, so each is the number of its class."""
    savemat = pytest.importorskip("scipy.io").savemat
    pytest.importorskip("crowsetta")
    numbers = class_numbers(corpus.rows)
    of_folder: dict[PurePosixPath, list[tuple[str, dict[str, Any]]]] = {}
    for file, rows in corpus.by_file():
        on, off, label = columns_of(rows)
        kinds = np.array([float(numbers[name]) for name in label])
        times = {"segFileStartTimes": on, "segFileEndTimes": off, "segType": kinds, "fs": 32_000.0}
        of_folder.setdefault(file.parent, []).append((file.name, times))
    for parent, songs in of_folder.items():
        keys, elements = np.empty(len(songs), dtype=object), np.empty(len(songs), dtype=object)
        for i, (name, times) in enumerate(songs):
            keys[i], elements[i] = name, times
        (folder / parent).mkdir(parents=True, exist_ok=True)
        savemat(folder / parent / "annotation.mat", {"keys": keys, "elements": elements})


def class_numbers(rows: pd.DataFrame) -> dict[str, int]:
    return {str(name): i for i, name in enumerate(sorted(rows["label"].astype(str).unique()))}


# --- written here, by documentation and code of the programs ---


def lines(path: Path, head: str, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in ([head] if head else []) + rows), encoding="utf-8")


def audacity(corpus: Recorded, folder: Path) -> None:
    """https://manual.audacityteam.org/man/importing_and_exporting_labels.html: six decimals, tabs."""
    for file, rows in corpus.by_file():
        cells = zip(*columns_of(rows), strict=True)
        lines(path_in(folder, file, ".txt"), "", [f"{a:.6f}\t{b:.6f}\t{name}" for a, b, name in cells])


RAVEN_VIEWS = ("Waveform 1", "Spectrogram 1")
RAVEN_HEAD = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\t"
)


def raven(corpus: Recorded, folder: Path) -> None:
    """Raven Pro's selection tables: a row for each view, nine decimals."""
    for file, rows in corpus.by_file():
        cells = [
            f"{i}\t{view}\t1\t{a:.9f}\t{b:.9f}\t100.0\t3000.0\t{file.name}\t{name}"
            for i, (a, b, name) in enumerate(zip(*columns_of(rows), strict=True), start=1)
            for view in RAVEN_VIEWS
        ]
        lines(path_in(folder, file, ".Table.1.selections.txt"), f"{RAVEN_HEAD}Annotation", cells)


def raven_over_all(corpus: Recorded, folder: Path) -> None:
    """One table of a sequence of files: time counts over all of them, the offset within each."""
    cells, before_s = [], 0.0
    for file, rows in corpus.by_file():
        for a, b, name in zip(*columns_of(rows), strict=True):
            place = f"{before_s + a:.9f}\t{before_s + b:.9f}\t100.0\t3000.0\t{file.name}"
            at = f"D:\\field\\{str(file).replace('/', chr(92))}\t{a:.9f}"
            cells.append(f"{len(cells) + 1}\tSpectrogram 1\t1\t{place}\t{at}\t{name}")
        before_s += corpus.length(file)
    lines(folder / "all.txt", f"{RAVEN_HEAD}Begin Path\tFile Offset (s)\tAnnotation", cells)


def label_studio(corpus: Recorded, folder: Path) -> None:
    """An export as JSON: tasks with regions of `labels`, files taken from local storage."""
    tasks = []
    for number, (file, rows) in enumerate(corpus.by_file(), start=1):
        results = [
            {
                "original_length": corpus.length(file),
                "value": {"start": a, "end": b, "channel": 0, "labels": [str(name)]},
                "id": f"r{number}_{i}",
                "from_name": "label",
                "to_name": "audio",
                "type": "labels",
                "origin": "manual",
            }
            for i, (a, b, name) in enumerate(zip(*(c.tolist() for c in columns_of(rows)), strict=True))
        ]
        done = {"id": number, "completed_by": 1, "was_cancelled": False, "result": results}
        audio = f"/data/local-files/?d={quote(str(file))}"
        tasks.append({"id": number, "annotations": [done], "predictions": [], "data": {"audio": audio}})
    folder.mkdir(parents=True)
    (folder / "project.json").write_text(json.dumps(tasks), encoding="utf-8")


def sonic_visualiser_saved(corpus: Recorded, folder: Path) -> None:
    """A layer of regions as svcore saves it: frames at the rate of the file."""
    for file, rows in corpus.by_file():
        rate = soundfile.info(corpus.audio / file).samplerate
        points = [
            f'<point frame="{round(a * rate)}" value="0" duration="{round(b * rate) - round(a * rate)}" '
            f"label={quoteattr(str(name))} />"
            for a, b, name in zip(*columns_of(rows), strict=True)
        ]
        lines(
            path_in(folder, file, ".svl"),
            '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE sonic-visualiser>\n<sv>\n<data>\n'
            f'<model id="1" name="" sampleRate="{rate}" start="0" end="9" type="sparse" dimensions="3" '
            'resolution="1" notifyOnAdd="true" dataset="0" subtype="region" units="" />\n'
            '<dataset id="0" dimensions="3">',
            [*points, "</dataset>\n</data>\n</sv>"],
        )


def sonic_visualiser_exported(corpus: Recorded, folder: Path) -> None:
    """The same, exported as CSV with a header row: nine decimals after a blank."""
    for file, rows in corpus.by_file():
        cells = zip(*columns_of(rows), strict=True)
        rows_ = [f" {a:.9f},0, {b - a:.9f},{name}" for a, b, name in cells]
        lines(path_in(folder, file, ".csv"), "TIME,VALUE,DURATION,LABEL", rows_)


def below(file: PurePosixPath) -> str:
    """The folder of a file; "" where it lies in that of the audio."""
    return "" if str(file.parent) == "." else str(file.parent)


def birdnet_table(corpus: Recorded, folder: Path) -> None:
    """BirdNET-Analyzer, `analyze/utils.py`: selection tables, a decimal or so of seconds."""
    head = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
        "Species Code\tConfidence\tBegin Path\tFile Offset (s)"
    )
    for file, rows in corpus.by_file():
        cells = [
            f"{i}\tSpectrogram 1\t1\t{a}\t{b}\t0\t15000\t{name}\tcode\t0.9000\t/data/{file}\t{a}"
            for i, (a, b, name) in enumerate(zip(*columns_of(rows), strict=True), start=1)
        ]
        lines(path_in(folder, file, ".BirdNET.selection.table.txt"), head, cells)


def birdnet_csv(corpus: Recorded, folder: Path) -> None:
    cells = [
        f"{a},{b},Genus species,{name},0.9000,/data/{file}"
        for file, rows in corpus.by_file()
        for a, b, name in zip(*columns_of(rows), strict=True)
    ]
    lines(
        folder / "BirdNET_CombinedTable.csv",
        "Start (s),End (s),Scientific name,Common name,Confidence,File",
        cells,
    )


def birdnet_kaleidoscope(corpus: Recorded, folder: Path) -> None:
    head = "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,confidence,lat,lon,week,overlap"
    cells = [
        f"/data,{below(file)},{file.name},{a},{b - a},G s,{name},0.9000,-1,-1,-1,0"
        for file, rows in corpus.by_file()
        for a, b, name in zip(*columns_of(rows), strict=True)
    ]
    lines(folder / "BirdNET_Kaleidoscope.csv", head, cells)


def kaleidoscope(corpus: Recorded, folder: Path) -> None:
    """Kaleidoscope's user guide: ``cluster.csv``."""
    head = (
        "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,Fmax,DATE,TIME,HOUR,TOP1MATCH*,TOP1DIST,"
        "MANUAL ID"
    )
    cells = [
        f"D:\\field,{below(file)},{file.name},0,{a:.6f},{b - a:.6f},900,1500,2200,"
        f"2024-05-01,04:00:00,4,{name},0.3,"
        for file, rows in corpus.by_file()
        for a, b, name in zip(*columns_of(rows), strict=True)
    ]
    lines(folder / "cluster.csv", head, cells)


def arbimon(corpus: Recorded, folder: Path) -> None:
    """Its server's routes of pattern matchings; a recording lies in the folder of its site."""
    head = (
        "id,recording,site,year,month,day,hour,minute,species,songtype,x1,x2,y1,y2,frequency,validated,url,"
        "score"
    )
    cells = [
        f"{i},{r.file.rpartition('/')[2]},{r.file.rpartition('/')[0] or 'here'},2024,5,1,4,0,{r.label},Song,"
        f"{r.start_s},{r.end_s},100,3000,24000,present,https://x,0.9"
        for i, r in enumerate(corpus.rows.itertuples(), start=1)
    ]
    lines(folder / "matches.csv", head, cells)


def semicolons(corpus: Recorded, folder: Path) -> None:
    """A table as a spreadsheet of much of Europe saves it."""
    cells = [
        f"{r.file};{str(r.start_s).replace('.', ',')};{str(r.end_s).replace('.', ',')};{r.label}"
        for r in corpus.rows.itertuples()
    ]
    lines(folder / "all.csv", "audiofilename;start;end;what", cells)


@dataclass(frozen=True)
class Case:
    """How rows are written and read back.

    Attributes:
        write: puts annotations of a corpus into a folder.
        corpus: name of the format here.
        label: column of the label.
        digits: of seconds that are kept; None for all.
        options: of the reader.
        said: what becomes of a label in the format.
    """

    write: Callable[[Recorded, Path], None]
    corpus: str
    label: str = "label"
    digits: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    said: Callable[[str], str] = str


CASES = {
    "aud-seq-crowsetta": Case(aud_seq, "audacity"),
    "aud-bbox-crowsetta": Case(aud_bbox, "audacity"),
    "simple-seq-crowsetta": Case(simple_seq, "simple-seq"),
    "generic-seq-crowsetta": Case(generic_seq, "generic-seq"),
    "timit-crowsetta": Case(timit, "timit", "phone", said=lambda label: label.replace(" ", "_")),
    "notmat-crowsetta": Case(notmat, "notmat", said=lambda label: label[:1]),
    "raven-crowsetta": Case(raven_by_crowsetta, "raven", "annotation"),
    "yarden-scipy": Case(yarden_by_scipy, "yarden"),
    "elan-pympi": Case(elan_by_pympi, "elan", digits=MILLISECOND),
    "textgrid-pympi": Case(textgrid_by_pympi("normal"), "textgrid", digits=MICROSECOND),
    "textgrid-short-pympi": Case(textgrid_by_pympi("short"), "textgrid", digits=MICROSECOND),
    "textgrid-praatio": Case(textgrid_by_praatio("long_textgrid"), "textgrid"),
    "textgrid-short-praatio": Case(textgrid_by_praatio("short_textgrid"), "textgrid"),
    "textgrid-praat": Case(textgrid_by_praat("Save as text file"), "textgrid"),
    "textgrid-short-praat": Case(textgrid_by_praat("Save as short text file"), "textgrid"),
    "audacity": Case(audacity, "audacity", digits=MICROSECOND),
    "raven": Case(raven, "raven", "Annotation"),
    "raven-sequence": Case(raven_over_all, "raven", "Annotation"),
    "label-studio": Case(label_studio, "label-studio"),
    "sonic-visualiser-svl": Case(sonic_visualiser_saved, "sonic-visualiser"),
    "sonic-visualiser-csv": Case(sonic_visualiser_exported, "sonic-visualiser"),
    "birdnet-table": Case(birdnet_table, "birdnet", "common_name"),
    "birdnet-csv": Case(birdnet_csv, "birdnet", "common_name"),
    "birdnet-kaleidoscope": Case(birdnet_kaleidoscope, "birdnet", "common_name"),
    "kaleidoscope": Case(kaleidoscope, "kaleidoscope", "TOP1MATCH", digits=MICROSECOND),
    "arbimon": Case(arbimon, "arbimon", "species"),
    "table": Case(
        semicolons, "table", "what", options=(("columns", "path=audiofilename,start_s=start,end_s=end"),)
    ),
}


@pytest.mark.filterwarnings("ignore:Passing a dict to DataFrame.from_records")  # crowsetta 5.1
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("corpus", CORPORA)
def test_rows_come_back(recorded: dict[str, Recorded], tmp_path: Path, corpus: str, name: str) -> None:
    case, truth = CASES[name], recorded[corpus]
    case.write(truth, tmp_path / "a")
    found = get_corpus(case.corpus).read(tmp_path / "a", audio=truth.audio, **dict(case.options)).table
    paths = found["path"].map(lambda p: Path(p).relative_to(truth.audio).as_posix())
    got = found.assign(file=paths).sort_values(["file", "start_s"])
    wanted = truth.rows.sort_values(["file", "start_s"])
    assert got["file"].tolist() == wanted["file"].tolist()
    numbers = class_numbers(truth.rows)
    said = (lambda label: str(numbers[label])) if case.corpus == "yarden" else case.said
    assert got[case.label].tolist() == [said(str(label)) for label in wanted["label"]]
    for column in ("start_s", "end_s"):
        times = wanted[column].to_numpy()
        if case.digits is None:
            np.testing.assert_allclose(got[column], times, rtol=0, atol=1e-9)
        else:  # rounded as they were written, and then read to the last bit
            np.testing.assert_allclose(got[column], times.round(case.digits), rtol=0, atol=10.0**-9)


def test_digits_by_their_names(recorded: dict[str, Recorded]) -> None:
    """Spoken digits need no table: their names say what, who and which."""
    pattern = r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)"
    found = get_corpus("folder").read(recorded["digits"].audio, pattern=pattern).table
    published = pd.read_csv(recorded["digits"].audio / "manifest.csv", dtype=str)
    columns = ["digit", "speaker", "take"]
    stems = found["path"].map(lambda p: Path(p).stem)
    assert dict(zip(stems, found[columns].itertuples(index=False, name=None), strict=True)) == dict(
        zip(published["utterance_id"], published[columns].itertuples(index=False, name=None), strict=True)
    )
