"""What differs between the runs behind two results folders: options, versions, embeddings, clips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurestore.calls import Call, Slot
from featurestore.printable import shell_words
from probes.report.run_info import OPTIONS
from probes.results.results_folder import calls_of

if TYPE_CHECKING:
    from probes.report.data import ReportData

NOT_RECORDED = "not recorded"
NOT_GIVEN = "not given"


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """One thing that is not the same.

    Attributes:
        what: An option, a package, a key or a question.
        a: Its value in A.
        b: Its value in B.
    """

    what: str
    a: str
    b: str


def run_differences(a: ReportData, b: ReportData) -> list[RunDifference]:
    """What differs between the ``_run.json`` of two folders: options, then versions, embeddings, clips."""
    return [
        *_differences(_options(a.run), _options(b.run), NOT_GIVEN),
        *_differences(_versions(a.run), _versions(b.run), NOT_RECORDED),
        *_of_embeddings(a.run, b.run),
        *_differences(_clips(a.run), _clips(b.run), None),
    ]


def _differences(a: Mapping[str, str], b: Mapping[str, str], absent: str | None) -> Iterator[RunDifference]:
    """What two tables of names and values do not share; names of one alone only if `absent` says so."""
    for name in [*a, *(n for n in b if n not in a)]:
        if absent is None and not (name in a and name in b):
            continue
        first, second = a.get(name, absent or ""), b.get(name, absent or "")
        if first != second:
            yield RunDifference(what=name, a=first, b=second)


def _options(run: Mapping[str, Any]) -> dict[str, str]:
    """Options of all calls of `fs probe`: every value that was given, in sorted order."""
    found = {}
    for option, name in (*OPTIONS.items(), ("--grid", "grid")):
        values = {text for call in calls_of(run) for text in _texts(call["config"].get(name))}
        if values:
            found[option] = ", ".join(sorted(values))
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value not in (None, {}):
        yield value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _versions(run: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(version) for name, version in run.get("versions", {}).items()}


def _of_embeddings(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[RunDifference]:
    """Keys that both probed and that are made otherwise, as their fingerprints say."""
    first, second = _fingerprints(a), _fingerprints(b)
    for path in (p for p in first if p in second and first[p] != second[p]):
        told = ["; ".join([*own[path], *_made(run, path)]) for own, run in ((first, a), (second, b))]
        yield RunDifference(what=f"embeddings of {path}", a=told[0], b=told[1])


def _fingerprints(run: Mapping[str, Any]) -> dict[str, list[str]]:
    """Digests of the fingerprints of each key, as text."""
    found: dict[str, set[str]] = {}
    for s in run.get("splits", []):
        if s.get("extraction"):
            digest = f"fingerprint {s['extraction'][:12]}"
            found.setdefault(f"{s['model']}/{s['dataset']}", set()).add(digest)
    return {path: sorted(digests) for path, digests in found.items()}


def _made(run: Mapping[str, Any], path: str) -> list[str]:
    """The calls that made a key, each once."""
    calls = (text for call in calls_of(run) for text in _made_by(call.get("keys", {}).get(path, [])))
    return list(dict.fromkeys(calls))


def _made_by(calls: Sequence[Any]) -> Iterator[str]:
    for entry in calls:
        try:
            call = Call.from_json(entry)
        except ValueError:
            continue  # of another version: the fingerprint says whether anything differs
        if call.makes_key:
            words = [f"<{w.value}>" if isinstance(w, Slot) else w for w in call.words]
            yield shell_words(["fs", *words])


def _clips(run: Mapping[str, Any]) -> dict[str, str]:
    """Digest of the ids, labels and groups that each question's split was drawn from."""
    found: dict[str, set[str]] = {}
    for s in run.get("splits", []):
        if s.get("clips"):
            what = f"clips, labels or groups of {s['label']} · {s['dataset']} · split: {s['split']}"
            found.setdefault(what, set()).add(f"digest {s['clips'][:12]}")
    return {what: ", ".join(sorted(digests)) for what, digests in found.items()}
