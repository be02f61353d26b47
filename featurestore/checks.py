"""What comparing embeddings with the same ones, computed another way, found; it is kept inside their key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from featurestore.printable import counted
from featurestore.untrusted.document_shape import by_name, fields, nothing_or, number, one_of, text, whole

Clips = Literal["stored", "noise"]
# A deviation that is no number is kept as null.
_deviation = nothing_or(number(0))
_CHECK = fields(
    {
        "clips": one_of("stored", "noise"),
        "n_clips": whole(1, 2**31),
        "device": text,
        "precision": text,
        "tolerance": number(0),
        "alone": _deviation,
        "versions": by_name(text),
    },
    {"reference": nothing_or(text), "from_reference": _deviation},
)


@dataclass(frozen=True, kw_only=True)
class CheckRecord:
    """One comparison, over all layers of a model.

    Attributes:
        clips: ``stored``: clips of the key, as stored, with each embedded again alone; ``noise``: clips of
            noise and tones, in one batch, with each alone.
        n_clips: how many.
        device: they were embedded on.
        precision: of the arithmetic.
        tolerance: largest deviation allowed, relative to the largest value of a clip and layer.
        alone: largest deviation found.
        versions: of packages.
        reference: whose computation of the same clips they were compared with too; None: nobody's.
        from_reference: largest deviation from that.
    """

    clips: Clips
    n_clips: int
    device: str
    precision: str
    tolerance: float
    alone: float
    versions: Mapping[str, str]
    reference: str | None = None
    from_reference: float | None = None

    @property
    def is_within(self) -> bool:
        """Whether nothing deviates further than allowed."""
        return max(self.alone, self.from_reference or 0.0) <= self.tolerance

    def sentence(self) -> str:
        """All of it but the versions."""
        what = (
            f"{counted(self.n_clips, 'clip')} embedded again alone, {_shown(self.alone)} from what is stored"
            if self.clips == "stored"
            else f"{counted(self.n_clips, 'clip')} of noise, in a batch {_shown(self.alone)} from alone"
        )
        reference = (
            ""
            if self.reference is None or self.from_reference is None
            else f" and alone {_shown(self.from_reference)} from {self.reference}"
        )
        verdict = "" if self.is_within else ": MORE THAN ALLOWED"
        return (
            f"{what}{reference}, at most, of the largest value (allowed {self.tolerance:.0e}; {self.device}, "
            f"{self.precision}){verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """As kept."""
        deviations = {
            name: value if value is None or math.isfinite(value) else None
            for name, value in (("alone", self.alone), ("from_reference", self.from_reference))
        }
        if self.reference is None:
            del deviations["from_reference"]
        return {**vars(self), "versions": dict(self.versions), **deviations}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Inverse of `to_json`.

        Raises:
            ShapeError: it is none.
        """
        _CHECK(value, "check")
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        if known["alone"] is None:
            known["alone"] = math.inf
        if known.get("reference") is not None and known.get("from_reference") is None:
            known["from_reference"] = math.inf
        return cls(**known)


def _shown(deviation: float) -> str:
    return f"{deviation:.1e}" if math.isfinite(deviation) else "no number"
