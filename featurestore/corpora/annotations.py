"""What all annotation formats share: which files are read, and which audio each of them describes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.calls import BESIDE_SUFFIX
from featurestore.corpora.audio_files import (
    ALL_SUFFIXES,
    UNREAD_SUFFIXES,
    bare_name,
    is_audio,
    list_files,
    name_some,
)
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import is_reserved
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.column_names import ANNOTATION_COLUMNS
from featurestore.manifest.table import NUMBER_COLUMNS, nfc, plain_paths
from featurestore.printable import counted

# What programs add to the name of the recording: Raven's table number, BirdNET-Analyzer's result kind,
# evsonganaly's .not.mat, and common hand-made endings.
_TAIL = re.compile(
    r"(\.Table\.\d+)?\.selections?$|\.BirdNET\.(selection\.table|results)$"
    r"|\.not$|[._-](labels?|annotations?|audacity)$",
    re.IGNORECASE,
)
_DRIVE = re.compile(r"[A-Za-z]:")
# No system takes a longer one (PATH_MAX of Linux).
_MOST_PATH_CHARACTERS = 4096
# Of labels: each row has a cell for the name of every label that any row has.
_MOST_CELLS = 20_000_000
AUDIO_OPTION = "folder of the audio, where it is not beside the annotations"


class Annotations:
    """Annotation files and their audio, found by exact relation to them and never by a name met elsewhere.

    An annotation without a path in it belongs to the audio of its own name: in its own folder; with
    ``--audio`` in the same folder below that one, or in that one itself. A path in it counts from its own
    folder or from that of all annotations, with ``--audio`` from there. An absolute path that is not on this
    machine is followed by its end: with ``--audio`` by the longest that is there, otherwise only where the
    folder has its name too; a note says so.

    Args:
        source: annotation file or folder of them.
        audio: folder of the audio; default where the annotations are.
        suffixes: those of annotation files, where `source` is a folder.

    Attributes:
        folder, files: where the annotations are; their names relative to it, sorted.
        root: where paths of audio count from.

    Raises:
        ManifestError: no annotation in the folder.
        ConfigError: no folder `audio`.
    """

    def __init__(self, source: Path, audio: str | Path | None, suffixes: tuple[str, ...]) -> None:
        self.folder = source if source.is_dir() else source.parent
        self.files = _annotation_files(source, suffixes) if source.is_dir() else [source.name]
        self.root = self.folder if audio is None else Path(_plain(Path(audio).absolute()))
        if not self.root.is_dir():
            raise ConfigError(f"{self.root}: no such folder of audio; correct --audio")
        self._is_asked = audio is not None
        self._listing = cache(_listing)
        self._paths: dict[str, str] = {}
        self._user: dict[str, str] = {}
        self._followed: dict[str, str] = {}  # the file that was taken, by the path as written
        self._led_here: dict[str, str] = {}  # the other way round
        self._lost: list[str] = []
        self._renamed: dict[str, str] = {}

    def path(self, file: str) -> str:
        """Absolute path of a file that `of_annotation` or `of_name` gave."""
        return self._paths[file]

    def draft(
        self,
        rows: pd.DataFrame,
        notes: Iterable[str] = (),
        *,
        first_notes: Iterable[str] = (),
        groups: Mapping[str, pd.Series] | None = None,
    ) -> Draft:
        """A `Draft` of rows with a column ``file``, of names that the methods here gave."""
        rows.insert(1, "path", rows["file"].map(self._paths).astype("str"))
        return Draft(
            rows=rows,
            groups={**(groups or {}), "recording": rows["file"].map(bare_name)},
            notes=(*first_notes, *self._notes(), *notes),
            hint=self._hint,
        )

    def label_columns(self, table: pd.DataFrame, labels: Iterable[str]) -> dict[str, pd.Series]:
        """Columns of an annotation under names that are none of the manifest's; see `renamed_note`.

        Raises:
            ManifestError: two columns would get one name.
        """
        names = {c: _own_name(c) for c in labels}
        times = Counter(names.values())
        for column, name in names.items():
            if times[name] > 1:
                raise ManifestError(
                    f"column {column!r} and another would both be the label {name!r}; rename one of them"
                )
            if column != name:
                self._renamed[column] = name
        return {name: table[column] for column, name in names.items()}

    def renamed_note(self) -> tuple[str, ...]:
        """The note about label columns that got another name; none where there are none."""
        said = ", ".join(f"{old!r} -> {new!r}" for old, new in self._renamed.items())
        what = "renamed columns whose names the manifest keeps for itself or cannot hold"
        return (f"{what}: {said}",) if said else ()

    def of_rows(self, annotation: str, table: pd.DataFrame, named: pd.Series | None) -> pd.Series:
        """Audio of each row of an annotation: what it names, or that of the annotation's own name."""
        if named is None:
            return pd.Series(self.of_annotation(annotation), index=table.index, dtype="str")
        return named.map({n: self.of_name(n, annotation) for n in named.unique()})

    def of_annotation(self, annotation: str) -> str:
        """Audio of an annotation file (both relative): same name but for suffix and endings.

        Without a match the name that was expected, which is then reported as missing.

        Raises:
            ManifestError: several files fit, or this file fits annotations of two folders.
        """
        path = PurePosixPath(annotation)
        bare = path.stem
        name = _TAIL.sub("", bare)
        inner = PurePosixPath(name)
        is_name = is_audio(name)  # x.wav.txt: of x.wav, or of x.flac
        own = str(path.parent)
        folders = [own] if own == "." or not self._is_asked else [own, "."]
        for folder in folders:
            place = self._folder(self.root / folder)
            for candidate in (bare, name, *([inner.stem] if is_name or inner.suffix == ".cbin" else [])):
                found = self._fitting(place, candidate)
                if len(found) > 1:
                    raise ManifestError(
                        f"{annotation}: several audio files fit this annotation: "
                        f"{name_some([str(PurePosixPath(folder, f)) for f in found])}; rename one of them"
                    )
                if found:
                    file = self._keep(place / found[0])
                    other = self._user.setdefault(file, own)
                    if other == own:
                        return file
                    raise ManifestError(
                        f"{annotation}: {file} fits annotations of this name in {other} and in {own}; keep "
                        "the audio in folders as the annotations are, or read them folder by folder"
                    )
        expected = name if is_name else f"{inner.stem if inner.suffix == '.cbin' else name}.wav"
        self._lost.append(expected)
        return self._keep(self.root / own / expected)

    def of_name(self, written: str, annotation: str) -> str:
        """Audio that an annotation names, with or without folders in front.

        Raises:
            ManifestError: two paths that the annotations name lead to one file, or it is no path of any file.
        """
        if len(written) > _MOST_PATH_CHARACTERS:
            raise ManifestError(
                f"{annotation}: names audio by {len(written):,} characters ({written[:40]!r}…), more than a "
                f"path has ({_MOST_PATH_CHARACTERS:,})"
            )
        path = PurePosixPath(written.strip().replace("\\", "/"))
        own = self.root / PurePosixPath(annotation).parent
        if path.is_absolute() or _DRIVE.match(str(path)):
            return self._of_absolute(path, own, annotation)
        found = self._there(own / path) or self._there(self.root / path)
        if found is None:
            self._lost.append(path.name)
        return self._keep(found or own / path)

    def of_first(self, written: Sequence[str], annotation: str) -> str:
        """Audio that an annotation names in several ways: the first that leads to a file, else the last.

        Raises:
            ManifestError: see `of_name`.
        """
        n_lost = len(self._lost)
        for name in written:
            n_before = len(self._lost)
            file = self.of_name(name, annotation)
            if len(self._lost) == n_before:
                del self._lost[n_lost:]
                break
        return file

    def _of_absolute(self, path: PurePosixPath, own: Path, annotation: str) -> str:
        here = self._there(Path(path)) if path.is_absolute() else None
        if here is not None and not self._is_asked:
            return self._keep(here)
        found = next((f for place in self._ends(path, own) if (f := self._there(place))), None)
        if found is None and here is None:
            self._lost.append(path.name)
            return self._keep(Path(path) if path.is_absolute() else own / path)
        if found is None or found == here:
            return self._keep(found or here or own)
        file = self._keep(found)
        if (other := self._led_here.setdefault(file, str(path))) != str(path):
            raise ManifestError(
                f"{annotation}: {path} and {other} are not on this machine, and {file} is the nearest to "
                "both; name with --audio the folder below which both lie"
            )
        self._followed[str(path)] = file
        return file

    def _ends(self, path: PurePosixPath, own: Path) -> list[Path]:
        """Where an absolute path of another machine may lead, the longest end first."""
        parts = [p for p in path.parts if p != "/" and not _DRIVE.fullmatch(p.rstrip("/"))]
        ends = [PurePosixPath(*parts[i:]) for i in range(len(parts))]
        if self._is_asked:
            return [self.root / end for end in ends]
        found = [folder / end for end in ends[:-1] for folder in (own, self.root)]
        if len(parts) > 1 and own.name.casefold() == parts[-2].casefold():
            found.append(own / parts[-1])
        return found

    def _fitting(self, folder: Path, name: str) -> list[str]:
        """Audio files in `folder` of this name, else of this name and any suffix."""
        there = self._listing(folder)
        return [f for f in there.get(nfc(name), []) if is_audio(f)] or there.get(f"{nfc(name)}/", [])

    def _there(self, path: Path) -> Path | None:
        if os.path.isfile(path):  # unlike Path's, no error where the name is longer than a name can be
            return path
        folder = self._folder(path.parent)
        names = self._listing(folder).get(nfc(path.name), [])
        return folder / names[0] if names else None

    def _folder(self, folder: Path) -> Path:
        """The folder of this name in any Unicode form; the name itself where there is none."""
        missing: list[str] = []
        while not os.path.isdir(folder) and folder != folder.parent:
            missing.append(folder.name)
            folder = folder.parent
        for name in reversed(missing):
            alike = (folder / n for n in self._listing(folder).get(nfc(name), []))
            folder = next((f for f in alike if os.path.isdir(f)), folder / name)
        return folder

    def _keep(self, path: Path) -> str:
        """The name that ids are made of: from the folder of the audio, without ``../`` in front."""
        absolute = _plain(path)
        file = re.sub(r"^(\.\./)+", "", os.path.relpath(absolute, self.root).replace(os.sep, "/"))
        if self._paths.setdefault(file, absolute) != absolute:
            file = absolute
            self._paths[file] = absolute
        return file

    def _notes(self) -> tuple[str, ...]:
        """What was taken for something else."""
        if not (n := len(self._followed)):
            return ()
        first, file = next(iter(self._followed.items()))
        return (
            f"{counted(n, 'path')} of the annotations {'is' if n == 1 else 'are'} not on this machine; taken "
            f"by the end of the path: {file} for {first}" + (" and so on" if n > 1 else ""),
        )

    def _hint(self) -> str:
        """Where files of the names that were not found lie instead, for a message; "" if nowhere."""
        if not self._lost:
            return ""
        wanted = {nfc(stem) for name in self._lost for stem in (name, PurePosixPath(name).stem)}
        near = [
            f
            for f in list_files(self.root, ALL_SUFFIXES)
            if {nfc(PurePosixPath(f).name), nfc(PurePosixPath(f).stem)} & wanted
        ]
        unread = [f for f in near if f.lower().endswith(tuple(UNREAD_SUFFIXES))]
        if unread:
            return f"{name_some(unread)} cannot be read; convert such files to WAV beside them"
        if near:
            found = name_some([str(self.root / f) for f in near])
            return (
                f"not taken, since folder or suffix is another: {found}; if these are the ones, correct the "
                "name, or name their folder with --audio"
            )
        return ""


def require_few_cells(n_names: int, n_rows: int, where: object) -> None:
    """Refuse what a page of names for a page of rows would become.

    Raises:
        ManifestError: they are more cells than annotations have.
    """
    if n_names * n_rows > _MOST_CELLS:
        raise ManifestError(
            f"{where}: {counted(n_names, 'name')} of labels for {counted(n_rows, 'row')}, more than "
            f"{_MOST_CELLS:,} cells; names of labels are few, what is said under them differs"
        )


def label_table(rows: Sequence[Mapping[str, str]], path: Path) -> pd.DataFrame:
    """What was said of each row, by the name of the label, a column for each; NaN where nothing was.

    Raises:
        ManifestError: so many names for so many rows are no labels.
    """
    names = dict.fromkeys(name for said in rows for name in said)
    require_few_cells(len(names), len(rows), path)
    return pd.DataFrame(list(rows), columns=list(names), dtype=object)


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several annotations: a label that one lacks is empty there; number and box come last."""
    filled = [t for t in tables if len(t)] or list(tables[:1])
    rows = pd.concat(filled, ignore_index=True)
    text = [c for c in rows.columns if c not in ("file", *NUMBER_COLUMNS)]
    rows[text] = rows[text].fillna("")
    last = [c for c in ANNOTATION_COLUMNS if c in rows]
    return rows[[c for c in rows if c not in last] + last]


def _listing(folder: Path) -> dict[str, list[str]]:
    """Files in a folder by their composed name; audio also by its name without suffix and with ``/``."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if not name.startswith("."):
            found.setdefault(nfc(name), []).append(name)
            if is_audio(name):
                found.setdefault(f"{PurePosixPath(nfc(name)).stem}/", []).append(name)
    return found


def _own_name(column: str) -> str:
    """A label column's name: without blanks around it, and none of the manifest's."""
    bare = " ".join(column.split())
    return f"annotated_{bare}" if is_reserved(bare) else bare


def _plain(path: Path) -> str:
    return plain_paths([str(path)])[0]


def _annotation_files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    # A manifest that was written into this folder is no annotation.
    files = [f for f in list_files(folder, suffixes) if not (folder / f"{f}{BESIDE_SUFFIX}").exists()]
    if not files:
        raise ManifestError(f"{folder}: found no annotation file ({', '.join(suffixes)}) here")
    return files


def annotation_format(
    name: str,
    title: str,
    reader: Callable[..., Draft],
    *,
    options: Mapping[str, str] = {"audio": AUDIO_OPTION},
    groups: Mapping[str, str] = {},
    citation: str = "",
) -> Corpus:
    """A `Corpus` that is the user's own annotations; its groups end with the recording."""
    return Corpus(
        name=name,
        title=title,
        licence="yours",
        citation=citation,
        where="your own annotations",
        groups={**groups, "recording": "one audio file"},
        options=options,
        reader=reader,
        takes_file=True,
    )
