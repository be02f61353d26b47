"""What all annotation formats share: which files to read, and which audio each of them describes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from featurestore.corpora.tables import AUDIO_SUFFIXES, list_files, name_some, nfc
from featurestore.errors import ConfigError, ManifestError

# What programs add to the name of the recording: Raven's table number, BirdNET-Analyzer's result kind,
# evsonganaly's .not.mat, and common hand-made endings.
_TAIL = re.compile(
    r"(\.Table\.\d+)?\.selections?$|\.BirdNET\.(selection\.table|results)$"
    r"|\.not$|[._-](labels?|annotations?|audacity)$",
    re.IGNORECASE,
)
AUDIO_OPTION = "folder of the audio, where it is not beside the annotations"


class AudioIndex:
    """Audio files below a folder, found by name or by the name of their annotation file.

    Args:
        source: annotation file or folder of them.
        audio: folder of the audio; default where the annotations are.
        suffixes: what counts as audio, lower case.
    """

    def __init__(
        self, source: Path, audio: str | Path | None, suffixes: Iterable[str] = AUDIO_SUFFIXES
    ) -> None:
        beside = source if source.is_dir() else source.parent
        self.root = Path(audio).absolute() if audio is not None else beside
        if not self.root.is_dir():
            raise ConfigError(f"{self.root}: no such folder of audio; correct --audio")
        self._beside = self.root == beside
        self._suffixes = frozenset(suffixes)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for file in list_files(self.root, suffixes):
            name = nfc(PurePosixPath(file).name)
            self._by_name.setdefault(name, []).append(file)
            self._by_stem.setdefault(PurePosixPath(name).stem, []).append(file)

    def of_annotation(self, annotation: str) -> str:
        """Audio of an annotation file (both relative): same name but for suffix and endings.

        The same folder goes first, then any. Without a match the name that was expected, which is then
        reported as missing.

        Raises:
            ManifestError: several files fit.
        """
        path = PurePosixPath(annotation)
        bare = path.stem
        name = _TAIL.sub("", bare)
        inner = PurePosixPath(name)
        is_name = inner.suffix.lower() in self._suffixes  # x.wav.txt: of x.wav, or of x.flac
        for candidate in (bare, name, *([inner.stem] if is_name else [])):
            for index in (self._by_name, self._by_stem):
                fitting = index.get(nfc(candidate), [])
                if fitting:
                    return self._one(fitting, str(path.parent), annotation)
        expected = str(path.parent / name) if self._beside else name
        return expected if is_name else f"{expected}.wav"

    def of_name(self, written: str, annotation: str) -> str:
        """Audio that an annotation names, with or without folders in front.

        Raises:
            ManifestError: several files fit.
        """
        path = PurePosixPath(written.replace("\\", "/"))
        folder = PurePosixPath(annotation).parent
        if path.is_absolute() or re.match(r"[A-Za-z]:", str(path)):  # of another machine, most likely
            path = PurePosixPath(path.name)
        for candidate in (folder / path, path):
            if (self.root / candidate).is_file():
                return str(candidate)
        fitting = self._by_name.get(nfc(path.name), [])
        if fitting:
            return self._one(fitting, str(folder), annotation)
        return str(folder / path) if self._beside else str(path)

    def _one(self, fitting: list[str], folder: str, annotation: str) -> str:
        near = [f for f in fitting if str(PurePosixPath(f).parent) == folder] or fitting
        if len(near) > 1:
            raise ManifestError(
                f"{annotation}: several audio files fit this annotation: {name_some(near)}; "
                "rename one, or point --audio at the right folder"
            )
        return near[0]


def annotation_files(source: Path, suffixes: Iterable[str]) -> tuple[Path, list[str]]:
    """The folder of the annotations and the files in it, relative and sorted.

    Raises:
        ManifestError: none.
    """
    suffixes = tuple(suffixes)
    if source.is_file():
        return source.parent, [source.name]
    files = list_files(source, suffixes)
    if not files:
        raise ManifestError(f"{source}: found no annotation file ({', '.join(suffixes)}) here")
    return source, files
