"""Which recordings are meant, and what their results are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.corpora.audio_files import UNREAD_SUFFIXES, is_audio, list_files, name_some
from featurestore.errors import ConfigError
from featurestore.manifest.table import plain_paths


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An audio file.

    Attributes:
        path: absolute.
        name: what its results are called, with ``/``: its folder's name, what lies between, its own.
    """

    path: str
    name: str


def find_recordings(given: Sequence[Path]) -> list[Recording]:
    """Audio files that were named, and those below folders that were; each once, in this order.

    Two files get two names: where name and folder are the same for both, all of their paths.

    Raises:
        ConfigError: there is no such file or folder, a folder has no audio, or a name cannot stand in tables.
    """
    named: dict[str, str] = {}
    for place in given:
        full = Path(os.path.abspath(place))
        if full.is_dir():
            files = list_files(full)
            if not files:
                raise ConfigError(f"{place}: found no audio in this folder{_unread(full)}")
            pairs = [(str(full / f), f"{full.name}/{f}") for f in files]
        elif full.exists():
            if not is_audio(full.name):
                raise ConfigError(f"{place}: expected an audio file, its suffix is none; see docs/audio.md")
            pairs = [(str(full), f"{full.parent.name}/{full.name}")]
        else:
            raise ConfigError(f"{place}: no such file or folder of recordings; correct the name")
        for path, name in pairs:
            named.setdefault(plain_paths([path])[0], name.lstrip("/"))
    again = {name for name, n in Counter(n.casefold() for n in named.values()).items() if n > 1}
    found = [
        Recording(path=path, name=path.lstrip("/") if name.casefold() in again else name)
        for path, name in named.items()
    ]
    _require_plain(r.path for r in found)
    return found


def _unread(folder: Path) -> str:
    unread = list_files(folder, UNREAD_SUFFIXES)
    return f"; {name_some(unread)} cannot be read: convert such files to WAV or FLAC" if unread else ""


def _require_plain(paths: Iterable[str]) -> None:
    for path in paths:
        if any(c in path for c in "\t\r\n"):
            raise ConfigError(f"{path!r}: a tab or a line end in a name breaks the tables; rename it")
