"""A data set that a benchmark is asked about: a manifest, and the columns that matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Corpus:
    """One data set, as asked for."""

    name: str
    manifest: Path
    label: str
    group: str

    @classmethod
    def parse(cls, text: str) -> Corpus:
        """``NAME=MANIFEST:LABEL:GROUP``, taken apart."""
        name, _, rest = text.partition("=")
        parts = rest.rsplit(":", 2)
        if len(parts) != 3:
            raise SystemExit(f"expected NAME=MANIFEST:LABEL:GROUP, got {text!r}")
        return cls(name, Path(parts[0]), parts[1], parts[2])
