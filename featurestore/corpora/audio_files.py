"""Audio files of a copy of a corpus: which there are, which are passed over, and how they are named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.errors import ManifestError
from featurestore.manifest.table import nfc
from featurestore.printable import counted

# Formats that libsndfile reads (https://libsndfile.github.io/libsndfile/formats.html).
_SUFFIXES = ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .rf64 .caf"
AUDIO_SUFFIXES = frozenset(_SUFFIXES.split())
# Audio that it does not.
_UNREAD = ".aac .amr .cbin .m4a .mp4 .wac .webm .wma"
UNREAD_SUFFIXES = frozenset(_UNREAD.split())
ALL_SUFFIXES = AUDIO_SUFFIXES | UNREAD_SUFFIXES
MAX_NAMED = 10


def stem(name: str) -> str:
    """File name without folders and last suffix, of a name with ``/``."""
    return PurePosixPath(name).stem


def is_audio(name: str) -> bool:
    """Whether a file of this name is audio that can be read."""
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES


def bare_name(file: str) -> str:
    """A file's name without its suffix: what recordings are called as a group."""
    return str(PurePosixPath(file).with_suffix(""))


def list_files(root: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES) -> list[str]:
    """Files below `root` with one of these suffixes (any case), relative, with ``/``, sorted.

    Hidden files (``._name.wav`` of macOS archives) and ``__MACOSX`` are passed over. The order is that
    of the composed (NFC) names, the same on every file system.

    Raises:
        ManifestError: a folder cannot be read.
    """
    wanted = tuple(s.lower() for s in suffixes)
    found = [name for name in _walk(root) if name.lower().endswith(wanted)]
    return sorted(found, key=lambda name: (nfc(name), name))


def _walk(root: Path) -> Iterator[str]:
    """Every file below `root` that is not hidden, relative."""

    def stop(error: OSError) -> None:
        raise ManifestError(
            f"{error.filename}: this folder cannot be read ({error.strerror}); allow it, or move it elsewhere"
        )

    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=stop):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            inner[:] = []
            continue
        seen.add(real)
        inner[:] = [d for d in inner if not d.startswith(".") and d != "__MACOSX"]
        relative = PurePosixPath(os.path.relpath(folder, root).replace(os.sep, "/"))
        yield from (str(relative / n) for n in names if not n.startswith("."))


def left_out(root: Path, read: Iterable[str] = AUDIO_SUFFIXES, of: Iterable[str] = ()) -> tuple[str, ...]:
    """The note about files below `root` with other suffixes than those `read`, counted by suffix.

    Args:
        root: the folder.
        read: the suffixes that are read, lower case.
        of: only files with one of these suffixes count; default all.
    """
    wanted, only = tuple(read), tuple(of)
    sizes: Counter[str] = Counter()
    folders: dict[bool, set[str]] = {True: set(), False: set()}
    for name in _walk(root):
        is_read = name.lower().endswith(wanted)
        if is_read or not only or name.lower().endswith(only):
            folders[is_read].update(map(str, PurePosixPath(name).parents))
            sizes[PurePosixPath(name).suffix.lower() or "without a suffix"] += not is_read
    said = [f"{n:,} {suffix}" for suffix, n in sorted(sizes.items(), key=lambda i: (-i[1], i[0])) if n]
    if not said:
        return ()
    n = sum(sizes.values())
    empty = sorted(folders[False] - folders[True])
    lost = f"; nothing is read from {name_some(empty)}" if empty else ""
    return (
        f"left out {counted(n, 'file')} that {'is' if n == 1 else 'are'} not read: {', '.join(said)}{lost}",
    )


def first_file(root: Path, names: Sequence[str]) -> Path:
    """The first of `names` that exists below `root`.

    Raises:
        ManifestError: none does.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    found = "no such file" if len(names) == 1 else "none of them"
    raise ManifestError(f"{root}: expected {' or '.join(names)} in this folder, found {found}")


def named_files(
    root: Path,
    pattern: str,
    suffixes: Iterable[str] = AUDIO_SUFFIXES,
    *,
    name_of: Callable[[str], str] = stem,
    why: str = "named otherwise",
) -> tuple[pd.Series, pd.DataFrame, tuple[str, ...]]:
    """Files whose names say what they hold, sorted, what the groups found in them, and the notes on others.

    Args:
        root: the folder.
        pattern: regular expression, of whose named groups one is never left out.
        suffixes: the suffixes that are read, lower case.
        name_of: the name that is meant, of a relative one; default without folders and suffix.
        why: what is said of all others with these suffixes.
    """
    files = pd.Series(list_files(root, suffixes), dtype="str")
    parts = files.map(name_of).str.extract(pattern)
    other = parts.isna().all(axis=1)
    notes = (*passed_over(list(files[other]), why), *left_out(root, suffixes, ALL_SUFFIXES))
    return files[~other].reset_index(drop=True), parts[~other].reset_index(drop=True), notes


def clip_rows(root: Path, files: pd.Series, **columns: pd.Series) -> pd.DataFrame:
    """Rows of a `Draft`: the files below `root`, then `columns`, all with the same index."""
    places = files.map({f: str(root / f) for f in files.unique()}).astype("str")
    return pd.DataFrame({"file": files, "path": places, **columns})


def passed_over(files: Sequence[str], why: str) -> tuple[str, ...]:
    """The note about files that are no clips of the corpus; none where there are none."""
    return (f"passed over {counted(len(files), 'file')} {why}: {name_some(files)}",) if len(files) else ()


def name_some(names: Sequence[str]) -> str:
    """The first ten names and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
