"""What a study, `fs detect`, `fs publish` and an audit leave behind, damaged in every way.

An answer or one line, quickly, and never more; other documents of `fs` are in `tests/test_fuzz_documents.py`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from featurestore.backends.storage import open_storage
from featurestore.errors import ConfigError, CorruptData, Mistakes
from featurestore.exchange.key_export import MARKER, MARKER_FORMAT, _is_export
from probes.report.beside import AUDIT_NAME, TABLES, read_beside
from probes.results.declared_contrasts import (
    CONTRASTS_NAME,
    DeclaredContrast,
    ModelSet,
    read_contrasts,
    write_contrasts,
)
from studies.detection.detection import RUN_NAME, _open_results
from studies.detection.unit_files import FORMAT, RECORDS, read_records
from studies.publishing.checksums import NAME, read_sums
from studies.publishing.publication import _certificates
from studies.study_file.document import read_document
from studies.study_file.reading import read_study
from studies.study_run.last_seen import STUDY_NAME, finished_before
from studies.study_run.stage_record import StageRecord
from tests.fuzz import Damaged, changed, flipped, require_answer_or_one_line
from tests.studies.conftest import STUDY

SAMPLE, ALL = 5, 400
# Decoders of Arrow end the process on some crafted files: the whole is run by name.
amounts = pytest.mark.parametrize("n", [SAMPLE, pytest.param(ALL, marks=pytest.mark.minutes)])


def reading(path: Path, read: Callable[[], Any]) -> Callable[[bytes], Any]:
    def put_and_read(data: bytes) -> Any:
        path.write_bytes(data)
        return read()

    return put_and_read


def damaged_json(document: Any, n: int) -> Iterator[Damaged]:
    rng = random.Random(n)
    yield from flipped(json.dumps(document).encode(), rng, n)
    yield from changed(document, rng, 4 * n, json.dumps)


# --- studies ---

MORE = """\
report: {out: report, published: false}
contrasts:
  trained: {a: [logmel], b: [mfcc]}
confounds: {corpora: [tones], label: kind}
"""


@amounts
def test_study_files(tmp_path: Path, n: int) -> None:
    """All mistakes are told together, each in a line of its own."""
    file, rng = tmp_path / "study.yaml", random.Random(n)

    def read() -> Any:
        try:
            found = read_study(file)
            found.found.raise_if_any()
            return found.study, found.results, found.store, found.pages
        except Mistakes as error:
            # The longest speaks for all: each has to be a line of its own.
            raise ConfigError(max(error.lines, key=lambda line: line.count("\n"))) from error

    text = STUDY + MORE
    require_answer_or_one_line(flipped(text.encode(), rng, n), reading(file, read))
    require_answer_or_one_line(changed(yaml.safe_load(text), rng, 4 * n, json.dumps), reading(file, read))
    if n == SAMPLE:  # the parser takes its time with what follows
        return
    laughs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    odd = [laughs, "[" * 5000, "- " * 3000, "a: !!python/object/apply:os.system [x]", "? [a]\n: b", "&a [*a]"]
    require_answer_or_one_line((Damaged(t.encode(), t[:30]) for t in odd), reading(file, read))


@amounts
def test_what_a_study_keeps_of_its_stages(tmp_path: Path, n: int) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    document, _ = read_document(tmp_path / "study.yaml")
    record = StageRecord(tmp_path, document)
    record.spend("main", 3, 1.5)
    record.note("extract", "abc")
    record.finish("seen")
    file = tmp_path / STUDY_NAME

    def read() -> Any:
        found = StageRecord(tmp_path, document)
        found.is_done("extract", "abc"), found.seconds_of_a_fit("main"), finished_before(tmp_path)
        found.spend("main", 1, 1.0)
        found.note("probe", "abc")  # and it is written again
        return True

    assert (
        require_answer_or_one_line(damaged_json(json.loads(file.read_text()), n), reading(file, read))[1] == 0
    )


@amounts
def test_declared_contrasts(tmp_path: Path, n: int) -> None:
    sets = (ModelSet(name="", models=("a",)), ModelSet(name="x", models=("b", "c")))
    write_contrasts(tmp_path, [DeclaredContrast(name="n", family="f", a=sets[0], b=sets[1])])
    file = tmp_path / CONTRASTS_NAME
    read = reading(file, lambda: [c.title for c in read_contrasts(tmp_path)])
    require_answer_or_one_line(damaged_json(json.loads(file.read_text()), n), read)


@amounts
def test_what_lies_beside_results(tmp_path: Path, n: int) -> None:
    audit = {"findings": [{"kind": "copies", "severity": "serious", "text": "two"}]}
    file = tmp_path / AUDIT_NAME
    require_answer_or_one_line(damaged_json(audit, n), reading(file, lambda: read_beside(tmp_path).audit))
    file.unlink(missing_ok=True)
    for name, (texts, numbers) in TABLES.items():
        columns = [*texts, *numbers]
        text = ",".join(columns) + "\n" + ",".join(["x"] * len(texts) + ["0.5"] * len(numbers)) + "\n"
        read = reading(tmp_path / name, lambda: read_beside(tmp_path).tables)
        read(text.encode())
        require_answer_or_one_line(flipped(text.encode(), random.Random(n), n), read)
        (tmp_path / name).unlink()


# --- detections ---


def record(name: str = "a/x.wav", **changes: Any) -> dict[str, Any]:
    return {
        "format": FORMAT, "run": "r", "path": "/a/x.wav", "name": name, "stamp": [9, 9], "audio_hash": "h",
        "rate_hz": 16000, "duration_s": 2.0, "n_windows": 3, "n_silent": 0, "n_failed": 0,
        "files": {f"raven/{name}.Table.1.selections.txt": "0" * 64},
        "events": [[0.0, 1.0, None, "up", 0.9, 2]],
    } | changes  # fmt: skip


@amounts
def test_results_of_detections(tmp_path: Path, n: int) -> None:
    run = tmp_path / RUN_NAME
    file = tmp_path / RECORDS / "a" / "x.wav.json"
    file.parent.mkdir(parents=True)
    decides = {"probe": {"label": "l"}, "window_s": 0.5, "thresholds": {"up": 0.5}}
    content = {"format": FORMAT, "decides": decides}
    run.write_text(json.dumps(content))
    file.write_text(json.dumps(record()))

    def begin() -> Any:
        for overwrite in (False, True):
            request: Any = SimpleNamespace(out=tmp_path, overwrite=overwrite)
            _open_results(request, decides, "r")
        return True

    require_answer_or_one_line(damaged_json(content, n), reading(run, begin))
    run.write_text(json.dumps(content))
    require_answer_or_one_line(damaged_json(record(), n), reading(file, lambda: read_records(tmp_path)))


@pytest.mark.parametrize("way", ["the name of the recording", "the name of a file", "an absolute name"])
def test_no_record_of_others_removes_a_file_elsewhere(tmp_path: Path, way: str) -> None:
    """`fs detect --overwrite` removes what records name of an earlier run."""
    out, mine = tmp_path / "out", tmp_path / "mine.json"
    mine.write_text("precious")
    digest = hashlib.sha256(b"precious").hexdigest()
    (out / RECORDS / "a").mkdir(parents=True)
    said = {
        "the name of the recording": record(name="../../mine", files={}),
        "the name of a file": record(files={"../mine.json": digest}),
        "an absolute name": record(files={str(mine): digest}),
    }[way]
    (out / RECORDS / "a" / "x.wav.json").write_text(json.dumps(said))
    (out / RUN_NAME).write_text(json.dumps({"format": FORMAT, "decides": {"probe": {}}}))
    request: Any = SimpleNamespace(out=out, overwrite=True)
    with pytest.raises(CorruptData, match=r"not a record of `fs detect`.*expected one of"):
        _open_results(request, {"probe": {"label": "l"}}, "another")
    assert mine.read_text() == "precious"


# --- what is published ---


@amounts
def test_lists_of_checksums(tmp_path: Path, n: int) -> None:
    file = tmp_path / NAME
    text = "".join(f"{'ab' * 32}  {name}\n" for name in ("README.md", "features.zarr/zarr.json"))
    read = reading(file, lambda: sorted(read_sums(open_storage(str(tmp_path)))))
    require_answer_or_one_line(flipped(text.encode(), random.Random(n), 4 * n), read)
    names = [
        "../x",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "a\\b",
        "a\0b",
        "a\rb",
        "x" * 100_000,
        "\ud800",
        "é",
        " ",
    ]
    odd = [text + f"{'0' * 64}  {name}\n" for name in names] + [text * 2, text.upper(), text.rstrip(), "\n"]
    crafted = (Damaged(t.encode("utf-8", "surrogatepass"), repr(t[-40:])) for t in odd)
    _, n_refused = require_answer_or_one_line(crafted, read)
    assert n_refused == len(odd) - 4  # a long name, two odd ones, and a list without its last line end


@amounts
def test_certificates(tmp_path: Path, n: int) -> None:
    fingerprint = {"weights_sha256": "ab", "family": "x"}
    said = {"made_by": "model_check.json", "name": "m", "model": "/home/me/m/", "fingerprint": fingerprint}
    info = SimpleNamespace(fingerprint={"model": fingerprint})
    features: Any = [SimpleNamespace(model="m", info=info)]
    file = tmp_path / "c.json"
    read = reading(file, lambda: _certificates([file], features))
    from extractors.run.model_check import NAME_OF_JSON

    said["made_by"] = NAME_OF_JSON
    found = read(json.dumps(said).encode())
    assert json.loads(found["certificates/m.json"])["model"] == "m"
    require_answer_or_one_line(damaged_json(said, n), read)
    read(json.dumps(said | {"model": "/" * 500_000 + "x"}).encode())


@amounts
def test_marks_of_exports(tmp_path: Path, n: int) -> None:
    (tmp_path / "mine").write_text("x")
    file = tmp_path / MARKER
    read = reading(file, lambda: _is_export(tmp_path))
    require_answer_or_one_line(damaged_json({"format": MARKER_FORMAT, "version": 1}, n), read)


def test_sums_are_read_of_what_is_a_file(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(Exception, match=NAME):
        read_sums(open_storage(str(tmp_path)))
