"""What a verification found in a key: kinds of findings, which of them are damage, and what was mended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featurestore.store.ledger import Record

Kind = Literal["missing", "changed", "damaged", "wrong", "torn", "stale", "leftover", "foreign"]
DAMAGE: tuple[Kind, ...] = ("missing", "changed", "damaged", "wrong")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: ``missing``, ``changed`` (not the checksum recorded), ``damaged`` (cannot be decoded) and
            ``wrong`` (contradicts its status, plan or manifest) are damage; ``torn`` (an uncommitted
            unit's objects), ``stale`` (behind the ledger), ``leftover`` and ``foreign`` are not.
        key: ``model/dataset``.
        unit: the unit it belongs to, None for what belongs to the key.
        object: object name below the root.
        message: what was expected and what is there.
        remedy: how it is mended, where that is not by what `repair` does with such an object.
    """

    kind: Kind
    key: str
    unit: int | None
    object: str
    message: str
    remedy: str = ""

    @classmethod
    def of(
        cls, key: str, kind: Kind, name: str, message: str, unit: int | None = None, remedy: str = ""
    ) -> Finding:
        """A finding about the object of a key that has this name below it; "" is the key itself."""
        object_ = f"{key}/{name}" if name else key
        return cls(kind=kind, key=key, unit=unit, object=object_, message=message, remedy=remedy)

    @property
    def is_damage(self) -> bool:
        """Whether committed values are affected."""
        return self.kind in DAMAGE

    def __str__(self) -> str:
        where = f" (unit {self.unit})" if self.unit is not None else ""
        return f"{self.kind}: {self.object}{where}: {self.message}"


@dataclass(kw_only=True)
class KeyReport:
    """What was found in one key.

    Attributes:
        key: ``model/dataset``.
        n_units: units of the plan.
        n_committed: units with a record.
        n_bytes: bytes of committed objects read.
        findings: everything found.
        repaired: what `repair` did, one line each.
        unrepaired: damage that `repair` could do nothing about.
        records: unit → the record that the findings are about.
    """

    key: str
    n_units: int = 0
    n_committed: int = 0
    n_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    unrepaired: list[str] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict, repr=False)

    def find(self, kind: Kind, name: str, message: str, unit: int | None = None, remedy: str = "") -> None:
        """Add a finding about an object of the key; see `Finding.of`."""
        self.findings.append(Finding.of(self.key, kind, name, message, unit, remedy))

    def give_up(self, what: str, why: str) -> None:
        """Say what `repair` could do nothing about."""
        self.unrepaired.append(f"not repaired: {what}; {why}")

    @property
    def is_intact(self) -> bool:
        """No damage; units may still be pending."""
        return not any(f.is_damage for f in self.findings)

    @property
    def is_mended(self) -> bool:
        """All damage found is repaired: what is left to do is an extraction."""
        return self.is_intact or (bool(self.repaired) and not self.unrepaired)
