"""Layer lists as people write them: ``0-6,12``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from featurestore.errors import ConfigError

_PART = re.compile(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", re.ASCII)


def parse_layers(spec: str) -> tuple[int, ...]:
    """Layers named by a list such as ``"0-6,12"``: sorted, each once, ends included.

    Raises:
        ConfigError: a part is no number or range, or a range is empty.
    """
    layers: set[int] = set()
    for part in spec.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ConfigError(
                f"layers {spec!r}: expected numbers and ranges such as 0-6,12, got {part.strip()!r}"
            )
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        if last < first:
            raise ConfigError(f"layers {spec!r}: the range {part.strip()} is empty; write {last}-{first}")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def format_layers(layers: Iterable[int]) -> str:
    """The shortest list that `parse_layers` reads back: ``0-6,12``."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
