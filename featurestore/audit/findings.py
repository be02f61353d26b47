"""What an audit says, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from featurestore.audit.copies import Copies

MAX_EXAMPLES = 8  # of a finding on the page; JSON and CSV hold all

#: "fault": rows that are wrong or will fail; "warning": probably wrong; "note": good to know.
Severity = Literal["fault", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One instance of a finding.

    Attributes:
        name: Utterance id, file or class.
        detail: What was measured.
        row: Place in the manifest, for a spectrogram; None where it is no utterance.
        other: Place of the clip that it is a copy of or like, for a second spectrogram.
        other_name: Utterance id of that clip.
    """

    name: str
    detail: str = ""
    row: int | None = None
    other: int | None = None
    other_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of thing that was found.

    Attributes:
        kind: Short name, such as "clipped".
        severity: See `Severity`.
        text: One sentence that says how many and what follows.
        count: How many rows, files, classes or pairs.
        examples: All of them, worst first; none where a number says it all.
    """

    kind: str
    severity: Severity
    text: str
    count: int
    examples: tuple[Example, ...] = ()


def listed(kind: str, severity: Severity, text: str, examples: Iterable[Example]) -> list[Finding]:
    """The finding that lists all of its examples, and counts them; none where there are none."""
    found = tuple(examples)
    if not found:
        return []
    return [Finding(kind=kind, severity=severity, text=text, count=len(found), examples=found)]


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """All that an audit found.

    Attributes:
        manifest: What was audited.
        key: Model and data set in the store, "" if none was given.
        model_rate_hz: Sample rate of the model that energy was compared with.
        facts: Numbers about the corpus, by name.
        findings: Faults first, then warnings and notes.
        labels: One mapping per label: classes, sizes, what one clip is worth.
        rates: One mapping per source rate: files, clips, energy above the model's Nyquist frequency.
        copies: Which clips are one sound; not part of the JSON, whose findings name them.
    """

    manifest: str
    key: str
    model_rate_hz: int
    facts: Mapping[str, Any]
    findings: tuple[Finding, ...]
    labels: tuple[Mapping[str, Any], ...] = ()
    rates: tuple[Mapping[str, Any], ...] = ()
    copies: Copies | None = None

    @property
    def n_faults(self) -> int:
        """Findings that are faults."""
        return self.counts()["fault"]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "copies"}
        return {**values, "findings": [asdict(f) for f in self.findings]}

    def counts(self) -> dict[str, int]:
        """Findings by severity: ``{"fault": 1, "warning": 0, "note": 3}``."""
        return {s: sum(f.severity == s for f in self.findings) for s in SEVERITIES}


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Faults first; within a severity as found."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))
