"""Which recordings are meant, and what their results are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.archives.names import kind_of, member_path, plain_member, split_member
from featurestore.archives.object_file import is_object, look_at_all, objects_below, split_object
from featurestore.archives.opened import member_problem
from featurestore.corpora.audio_files import UNREAD_SUFFIXES, is_audio, list_files, name_some
from featurestore.errors import ConfigError
from featurestore.manifest.table import nfc, plain_paths, read_manifest

_MANIFESTS = (".csv", ".parquet")
# What ends the path of a URL, or parts names elsewhere.
_ODD = frozenset("?#\\")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An audio file, an object in a bucket, or a member of an archive.

    Attributes:
        path: absolute, or a URL; see `featurestore.archives.names`.
        name: what its results are called, with ``/``: its folder's name, what lies between, its own.
    """

    path: str
    name: str


def find_recordings(given: Sequence[str | os.PathLike[str]]) -> list[Recording]:
    """Recordings that were named, and those below folders and in tables that were; each once, in this order.

    Two files get two names: where name and folder are the same for both, all of their paths.

    Args:
        given: audio files, folders, members of archives, manifests, all of whose files are meant; of
            files, folders and archives also URLs in a bucket.

    Raises:
        ConfigError: there is no such file or folder, a folder has no audio, or a name cannot stand in tables.
        ManifestError: a manifest breaks its contract.
        AudioUnreachable: the service of a bucket does not answer, or refuses.
    """
    named: dict[str, str] = {}
    for place in (os.fspath(one) for one in given):
        if split_member(place) is not None:
            pairs = [_member(place)]
        elif is_object(place):
            pairs = _in_bucket(place)
        else:
            pairs = _on_disk(place)
        for path, name in pairs:
            named.setdefault(plain_paths([path])[0], name.lstrip("/"))
    again = {name for name, n in Counter(n.casefold() for n in named.values()).items() if n > 1}
    found = [
        Recording(path=path, name=_whole_name(path) if name.casefold() in again else name)
        for path, name in named.items()
    ]
    _require_plain(r.path for r in found)
    return found


def _on_disk(place: str) -> list[tuple[str, str]]:
    """Paths and names of what a file, a folder or a manifest stands for."""
    full = Path(os.path.abspath(place))
    if full.is_dir():
        files = list_files(full)
        if not files:
            raise ConfigError(
                f"{place}: found no audio in this folder{_unread(list_files(full, UNREAD_SUFFIXES))}"
            )
        return [(str(full / f), f"{full.name}/{f}") for f in files]
    if not full.exists():
        raise ConfigError(f"{place}: no such file or folder of recordings; correct the name")
    if full.suffix.lower() in _MANIFESTS:
        paths = dict.fromkeys(read_manifest(full).table["path"])
        return [(path, _name(path)) for path in paths]
    _require_audio(place)
    return [(str(full), _name(str(full)))]


def _in_bucket(place: str) -> list[tuple[str, str]]:
    """URLs and names of an object, or of all audio below a folder of a bucket."""
    try:
        if is_audio(place):
            split_object(place)
            if look_at_all([place])[place] is not None:
                return [(place, _name(place))]
        below = objects_below(place)
        folder = place.rstrip("/")
        inner = {url: url.removeprefix(f"{folder}/") for url in below}
        shown = [url for url in below if not any(map(_is_hidden, inner[url].split("/")))]
        found = sorted((u for u in shown if is_audio(u)), key=lambda u: (nfc(u), u))
        odd = [inner[url] for url in found if _ODD & set(inner[url])]
        if odd:
            raise ConfigError(
                f"{place}: {name_some(odd)}: a name of audio in a bucket may hold no ?, # and backslash; "
                "rename it there, or name the others in a manifest"
            )
        for url in found:
            split_object(url)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{place.partition('?')[0]}: cannot be looked through ({error})") from None
    if found:
        return [(url, f"{folder.rpartition('/')[2]}/{inner[url]}") for url in found]
    if not below:
        if kind_of(place) is not None:
            _require_audio(place)
        raise ConfigError(f"{place}: no audio of this name, and no folder of recordings; correct the name")
    unread = [inner[u] for u in shown if u.lower().endswith(tuple(UNREAD_SUFFIXES))]
    raise ConfigError(f"{place}: found no audio in this folder{_unread(unread)}")


def _member(place: str) -> tuple[str, str]:
    """Path and name of a member of an archive."""
    archive, member = split_member(place) or (place, "")
    path = member_path(archive if is_object(archive) else os.path.abspath(archive), member)
    if problem := member_problem(path):
        raise ConfigError(f"{place}: {problem}; correct the name")
    return path, _name(path)


def _name(path: str) -> str:
    """What results are called: the folder's name and the file's, or the archive's name and the member's."""
    archive, member = split_member(path) or (path, "")
    parts = archive.split("/")
    return f"{parts[-1]}/{plain_member(member)}" if member else "/".join(parts[-2:])


def _whole_name(path: str) -> str:
    archive, member = split_member(path) or (path, "")
    return "/".join(filter(None, [archive.replace("://", "/").lstrip("/"), plain_member(member)]))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _require_audio(place: str) -> None:
    if is_audio(place):
        return
    if kind_of(place) is not None:
        raise ConfigError(
            f"{place}: is an archive; name a recording in it ({place}::NAME), or a manifest (CSV) whose "
            "column path names them"
        )
    raise ConfigError(f"{place}: expected an audio file, its suffix is none; see docs/audio.md")


def _unread(names: Sequence[str]) -> str:
    return f"; {name_some(names)} cannot be read: convert such files to WAV or FLAC" if names else ""


def _require_plain(paths: Iterable[str]) -> None:
    for path in paths:
        if any(c in path for c in "\t\r\n"):
            raise ConfigError(f"{path!r}: a tab or a line end in a name breaks the tables; rename it")
