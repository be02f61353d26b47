"""What all annotation formats share: which files to read, and which audio each of them describes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.calls import BESIDE_SUFFIX
from featurestore.corpora.tables import (
    AUDIO_SUFFIXES,
    UNREAD_SUFFIXES,
    count,
    is_reserved,
    list_files,
    name_some,
    nfc,
    plain_path,
)
from featurestore.errors import ConfigError, ManifestError

# What programs add to the name of the recording: Raven's table number, BirdNET-Analyzer's result kind,
# evsonganaly's .not.mat, and common hand-made endings.
_TAIL = re.compile(
    r"(\.Table\.\d+)?\.selections?$|\.BirdNET\.(selection\.table|results)$"
    r"|\.not$|[._-](labels?|annotations?|audacity)$",
    re.IGNORECASE,
)
_DRIVE = re.compile(r"[A-Za-z]:")
AUDIO_OPTION = "folder of the audio, where it is not beside the annotations"


class AudioIndex:
    """Audio files of annotations, found by their exact relation to them and never by a name met elsewhere.

    An annotation without a path in it belongs to the audio of its own name: in its own folder; with
    ``--audio`` in the same folder below that one, or in that one itself. A path in it counts from its own
    folder or from that of all annotations, with ``--audio`` from there. An absolute path that is not on this
    machine is followed by its end: with ``--audio`` by the longest that is there, otherwise only where the
    folder has its name too; a note says so.

    Args:
        source: annotation file or folder of them.
        audio: folder of the audio; default where the annotations are.
    """

    def __init__(self, source: Path, audio: str | Path | None) -> None:
        beside = source if source.is_dir() else source.parent
        self.root = Path(plain_path(str(Path(audio).absolute()))) if audio is not None else beside
        if not self.root.is_dir():
            raise ConfigError(f"{self.root}: no such folder of audio; correct --audio")
        self._is_asked = audio is not None
        self._names: dict[str, dict[str, list[str]]] = {}
        self._paths: dict[str, str] = {}
        self._user: dict[str, str] = {}
        self._followed: dict[str, str] = {}
        self._lost: list[str] = []

    def path(self, file: str) -> str:
        """Absolute path of a file that `of_annotation` or `of_name` gave."""
        return self._paths[file]

    def rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of a `Draft` from rows with a column ``file``: ``path`` is put behind it."""
        rows.insert(1, "path", rows["file"].map(self._paths).astype("str"))
        return rows

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
        is_name = inner.suffix.lower() in AUDIO_SUFFIXES  # x.wav.txt: of x.wav, or of x.flac
        own = str(path.parent)
        folders = [own] if own == "." or not self._is_asked else [own, "."]
        for folder in folders:
            place = self._folder(self.root / folder)
            for candidate in (bare, name, *([inner.stem] if is_name or inner.suffix == ".cbin" else [])):
                found = self._fitting(place, candidate)
                if len(found) > 1:
                    raise ManifestError(
                        f"{annotation}: several audio files fit this annotation: "
                        f"{name_some([_join(folder, f) for f in found])}; rename one of them"
                    )
                if found:
                    file = self._keep(place / found[0])
                    return self._used_by(file, own, annotation)
        expected = name if is_name else f"{inner.stem if inner.suffix == '.cbin' else name}.wav"
        self._lost.append(expected)
        return self._keep(self.root / own / expected)

    def of_name(self, written: str, annotation: str) -> str:
        """Audio that an annotation names, with or without folders in front.

        Raises:
            ManifestError: two paths that the annotations name lead to one file.
        """
        path = PurePosixPath(written.strip().replace("\\", "/"))
        own = self.root / PurePosixPath(annotation).parent
        if path.is_absolute() or _DRIVE.match(str(path)):
            return self._of_absolute(path, own, annotation)
        found = self._there(own / path) or self._there(self.root / path)
        if found is None:
            self._lost.append(path.name)
        return self._keep(found or own / path)

    def notes(self) -> tuple[str, ...]:
        """What was taken for something else."""
        if not self._followed:
            return ()
        first, file = next(iter(self._followed.items()))
        n = len(self._followed)
        return (
            f"{count(n, 'path')} of the annotations {'is' if n == 1 else 'are'} not on this machine; taken "
            f"by the end of the path: {file} for {first}" + (" and so on" if n > 1 else ""),
        )

    def hint(self) -> str:
        """Where files of the names that were not found lie instead, for a message; "" if nowhere."""
        if not self._lost:
            return ""
        wanted = {nfc(stem) for name in self._lost for stem in (name, PurePosixPath(name).stem)}
        near = [
            f
            for f in list_files(self.root, AUDIO_SUFFIXES | UNREAD_SUFFIXES)
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
        for other, taken in self._followed.items():
            if taken == file and other != str(path):
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

    def _used_by(self, file: str, folder: str, annotation: str) -> str:
        other = self._user.setdefault(file, folder)
        if other != folder:
            raise ManifestError(
                f"{annotation}: {file} fits annotations of this name in {other} and in {folder}; keep the "
                "audio in folders as the annotations are, or read them folder by folder"
            )
        return file

    def _fitting(self, folder: Path, name: str) -> list[str]:
        """Audio files in `folder` of this name, else of this name and any suffix."""
        there = self._listing(folder)
        return [f for f in there.get(nfc(name), []) if _is_audio(f)] or there.get(f"{nfc(name)}/", [])

    def _there(self, path: Path) -> Path | None:
        if path.is_file():
            return path
        folder = self._folder(path.parent)
        names = self._listing(folder).get(nfc(path.name), [])
        return folder / names[0] if names else None

    def _folder(self, folder: Path) -> Path:
        """The folder of this name in any Unicode form; the name itself where there is none."""
        if folder.is_dir() or folder == folder.parent:
            return folder
        above = self._folder(folder.parent)
        names = self._listing(above).get(nfc(folder.name), [])
        return next((above / n for n in names if (above / n).is_dir()), above / folder.name)

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        """Files in a folder by their composed name; audio also by its name without suffix and with ``/``."""
        key = str(folder)
        if key not in self._names:
            found: dict[str, list[str]] = {}
            if folder.is_dir():
                for name in sorted(os.listdir(folder)):
                    if not name.startswith("."):
                        found.setdefault(nfc(name), []).append(name)
                        if _is_audio(name):
                            found.setdefault(f"{PurePosixPath(nfc(name)).stem}/", []).append(name)
            self._names[key] = found
        return self._names[key]

    def _keep(self, path: Path) -> str:
        """The name that ids are made of: from the folder of the audio, without ``../`` in front."""
        absolute = plain_path(str(path))
        file = os.path.relpath(absolute, self.root).replace(os.sep, "/")
        while file.startswith("../"):
            file = file[3:]
        if self._paths.setdefault(file, absolute) != absolute:
            file = absolute
            self._paths[file] = absolute
        return file


def _is_audio(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def bare_name(file: str) -> str:
    """A file's name without its suffix: what recordings are called as a group."""
    return str(PurePosixPath(file).with_suffix(""))


def own_columns(table: pd.DataFrame, labels: Iterable[str], renamed: dict[str, str]) -> dict[str, pd.Series]:
    """Columns of an annotation under names that are none of the manifest's; `renamed` takes down which.

    Raises:
        ManifestError: two columns would get one name.
    """
    names = {c: own_name(c) for c in labels}
    for column, name in names.items():
        if list(names.values()).count(name) > 1:
            raise ManifestError(
                f"column {column!r} and another would both be the label {name!r}; rename one of them"
            )
        if column != name:
            renamed[column] = name
    return {name: table[column] for column, name in names.items()}


def own_name(column: str) -> str:
    """A label column's name: without blanks around it, and none of the manifest's."""
    bare = " ".join(column.split())
    return f"annotated_{bare}" if is_reserved(bare) else bare


def renamed_note(renamed: Mapping[str, str]) -> tuple[str, ...]:
    """The note about columns that got another name; none where there are none."""
    said = ", ".join(f"{old!r} -> {new!r}" for old, new in renamed.items())
    return (
        (f"renamed columns whose names the manifest keeps for itself or cannot hold: {said}",) if said else ()
    )


def annotation_files(source: Path, suffixes: Iterable[str]) -> tuple[Path, list[str]]:
    """The folder of the annotations and the files in it, relative and sorted; no manifests written there.

    Raises:
        ManifestError: none.
    """
    suffixes = tuple(suffixes)
    if source.is_file():
        return source.parent, [source.name]
    # A manifest that was written into this folder is no annotation.
    files = [f for f in list_files(source, suffixes) if not (source / f"{f}{BESIDE_SUFFIX}").exists()]
    if not files:
        raise ManifestError(f"{source}: found no annotation file ({', '.join(suffixes)}) here")
    return source, files
