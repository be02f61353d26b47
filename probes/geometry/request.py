"""What is asked of `fs inspect`, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import ConfigError
from featurestore.layer_list import parse_layers
from probes.geometry.plane import MAPS, PRINCIPAL

# What covers a space of a thousand dimensions no worse than all rows, in minutes for forty layers.
DEFAULT_ROWS = 5_000
# Fewer utterances say nothing of how a layer is shaped.
LEAST_ROWS = 10
DEFAULT_NEIGHBOURS = 10
MOST_NEIGHBOURS = 1_000


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """A call of `inspect_store`.

    Attributes:
        store: Path or URL of the feature store.
        dataset: Data set; may be None where the store has one.
        models: Models of the store; all when empty.
        layers: Layers such as "0-6,12"; all when None.
        functionals: Statistics that stand side by side; all that are stored when empty.
        label: Label column; its utterances without a label are left out.
        group: Column whose values are no neighbours of their own: `group`, `path` (the audio file) or a label
            column. None: the manifest's group where it has one, else the audio file.
        rows: So many utterances are drawn for what is measured of every layer; None: all.
        seed: Draws them.
        n_neighbours: Neighbours that purity, suspects and the list of neighbours look at.
        list_neighbours: Also list the neighbours of every utterance, of the one layer asked for.
        results: Folder of `fs probe` whose answers say who may be mislabelled; None: neighbours alone do.
        map: How the one layer asked for is drawn in a plane, of `probes.geometry.plane.MAPS`.
    """

    store: str
    dataset: str | None = None
    models: tuple[str, ...] = ()
    layers: str | None = None
    functionals: tuple[str, ...] = ()
    label: str | None = None
    group: str | None = None
    rows: int | None = DEFAULT_ROWS
    seed: int = 0
    n_neighbours: int = DEFAULT_NEIGHBOURS
    list_neighbours: bool = False
    results: Path | None = None
    map: str = PRINCIPAL

    def __post_init__(self) -> None:
        for name in ("models", "functionals"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigError(f"{name}: expected a list of names, got the text {value!r}")
            object.__setattr__(self, name, tuple(dict.fromkeys(value)))
        if self.layers is not None:
            parse_layers(self.layers)
        if self.rows is not None and self.rows < LEAST_ROWS:
            raise ConfigError(f"rows: expected all, or {LEAST_ROWS} utterances or more, got {self.rows}")
        if self.seed < 0:
            raise ConfigError(f"seed: expected at least 0, got {self.seed}")
        if not 1 <= self.n_neighbours <= MOST_NEIGHBOURS:
            raise ConfigError(f"neighbours: expected 1 to {MOST_NEIGHBOURS:,}, got {self.n_neighbours}")
        if self.map not in MAPS:
            raise ConfigError(f"map: expected {' or '.join(MAPS)}, got {self.map!r}")
        if self.results is not None and self.label is None:
            raise ConfigError("results: answers about which label? add --label")
