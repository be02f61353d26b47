"""A look inside the layers of a store: what `fs inspect` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.arrays import FloatArray, IntArray
from featurestore.compute.memory import available_bytes, format_size
from featurestore.errors import ConfigError
from featurestore.printable import counted
from probes.codes import codes, group_codes
from probes.geometry.aligned_rows import AlignedRows, LayerRows, aligned_rows
from probes.geometry.nearest import Nearest, nearest_of_other_groups, standardised
from probes.geometry.plane import NEIGHBOURS, neighbour_plane, principal_plane
from probes.geometry.request import InspectConfig
from probes.geometry.separability import separability
from probes.geometry.shape import Held, shape_of
from probes.geometry.similarity import MEMORY_BYTES, debiased_cka
from probes.geometry.suspects import LEAST_AGREEMENT, class_codes, neighbour_votes, probe_votes, suspects
from probes.splits import PATH

# Layers are kept after they were read once where all of them take no more of the free memory than this.
HELD_SHARE = 0.4
# One layer as read, standardised, scaled to unit length, and what is computed of it.
COPIES_OF_LAYER = 4


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        scope: A sentence on the utterances that CKA and geometry are of.
        cka: Columns model_a, layer_a, model_b, layer_b, cka, n_rows, dataset: all ordered pairs; empty where
            one layer was asked for.
        geometry: One row per model and layer: dataset, model, layer, n_rows, n_features, the attributes of
            `probes.geometry.shape.Shape` and, with a label, of `probes.geometry.separability.Separability`.
        neighbours: Columns utterance_id, neighbour_rank, neighbour_id, cosine, label, neighbour_label, group,
            neighbour_group, dataset, model, layer; None where not asked for.
        suspects: See `probes.geometry.suspects.suspects`; None without a label, and where several layers
            and no results were asked for.
        plane: A map of one layer (`probes.geometry.plane`): utterance_id, x, y, label, group, map, dataset,
            model, layer; None for several layers.
        variance_shares: Shares of the variance that x and y of `plane` hold; None of t-SNE.
        n_judged: Utterances that had votes, of which `suspects` are some.
        agreement: Of how many of these votes name the label, see `probes.geometry.suspects.Judged`.
        notes: What a reader has to know.
    """

    scope: str
    cka: pd.DataFrame
    geometry: pd.DataFrame
    neighbours: pd.DataFrame | None
    suspects: pd.DataFrame | None
    plane: pd.DataFrame | None
    variance_shares: tuple[float, float] | None
    n_judged: int
    agreement: float
    notes: tuple[str, ...]


def inspect_store(
    config: InspectConfig, on_progress: Callable[[int, int], object] | None = None
) -> Inspection:
    """Look inside the layers that are asked for; see `Inspection`.

    Args:
        config: What is asked.
        on_progress: Called with steps done, and how many there are.

    Raises:
        UserError: see `probes.geometry.aligned_rows.aligned_rows`; or memory does not suffice.
    """
    rows = aligned_rows(config)
    alone = rows.layers[0] if len(rows.layers) == 1 else None
    if config.list_neighbours and alone is None:
        raise ConfigError(
            f"neighbours: they are listed of one layer of one model, these are {len(rows.layers)} layers; "
            "choose one with --model and --layers"
        )
    sample = rows.drawn(config.rows, config.seed)
    notes = list(rows.notes)
    held = _held(sample)
    total = len(sample.layers) + 1
    step = on_progress or (lambda done, of: None)
    cka = _cka(sample, held, lambda done, of: step(0, total))
    geometry = []
    for i, (layer, values) in enumerate(zip(sample.layers, held, strict=True)):
        step(i, total)
        geometry.append(_geometry(sample, layer, values.block(0, len(sample)), config))
    closer = _Closer(rows, alone, config)
    step(total - 1, total)
    suspected = closer.suspects(notes)
    plane = None if alone is None else closer.plane()
    found = Inspection(
        scope=_scope(sample, rows, config),
        cka=cka,
        geometry=pd.DataFrame(geometry),
        neighbours=closer.neighbours() if config.list_neighbours else None,
        suspects=suspected,
        plane=plane,
        variance_shares=closer.variance_shares,
        n_judged=closer.n_judged,
        agreement=closer.agreement,
        notes=(*notes, *_on_groups(rows, is_default=config.group is None)),
    )
    step(total, total)
    return found


def _scope(sample: AlignedRows, rows: AlignedRows, config: InspectConfig) -> str:
    """``calls: 5,000 of 61,920 utterances with a label 'call', drawn with seed 0; mean side by side``."""
    some = len(sample) < len(rows)
    number = (f"{len(sample):,} of " if some else "") + counted(len(rows), "utterance")
    label = f" with a label {config.label!r}" if config.label else ""
    drawn = f", drawn with seed {config.seed}" if some else ""
    names = {", ".join(f) for f in sample.functionals.values()}
    functionals = names.pop() if len(names) == 1 else "all stored functionals"
    return f"{sample.dataset}: {number}{label}{drawn}; {functionals} side by side"


def _held(sample: AlignedRows) -> list[LayerRows | Held]:
    """All layers in memory where they fit; else they are read whenever they are needed."""
    n_bytes = [4 * layer.shape[0] * layer.shape[1] for layer in sample.layers]
    _require_memory(max(n_bytes) * COPIES_OF_LAYER, "draw fewer utterances with --rows")
    if sum(n_bytes) > HELD_SHARE * available_bytes():
        return list(sample.layers)
    return [Held(layer.block(0, len(sample))) for layer in sample.layers]


def _require_memory(needed: int, advice: str) -> None:
    free = available_bytes()
    if needed > free:
        raise ConfigError(
            f"memory: a layer needs {format_size(needed)}, there are {format_size(free)}; {advice}"
        )


def _cka(
    sample: AlignedRows, held: list[LayerRows | Held], on_tile: Callable[[int, int], object]
) -> pd.DataFrame:
    columns = ["model_a", "layer_a", "model_b", "layer_b", "cka", "n_rows", "dataset"]
    if len(held) < 2:
        return pd.DataFrame(columns=columns)
    memory = min(MEMORY_BYTES, available_bytes() // 2)
    values = debiased_cka(held, memory_bytes=memory, on_tile=on_tile)
    names = [(layer.model, layer.layer) for layer in sample.layers]
    lines = [(*a, *b) for a in names for b in names]
    table = pd.DataFrame(lines, columns=columns[:4])
    return table.assign(cka=values.reshape(-1), n_rows=len(sample), dataset=sample.dataset)


def _barriers(rows: AlignedRows) -> list[IntArray]:
    """What no neighbour may share: the group, and the sound itself."""
    return [group_codes(rows.group), group_codes(rows.audio_hash)]


def _geometry(
    sample: AlignedRows, layer: LayerRows, x: FloatArray, config: InspectConfig
) -> dict[str, object]:
    """One line of the table of layers."""
    line: dict[str, object] = {
        "dataset": sample.dataset,
        "model": layer.model,
        "layer": layer.layer,
        "n_rows": len(x),
        "n_features": x.shape[1],
        **asdict(shape_of(x)),
    }
    if sample.label is not None:
        y = codes(sample.label)[1]
        z, barriers = standardised(x), _barriers(sample)
        near = nearest_of_other_groups(z, barriers, config.n_neighbours)
        found = separability(z, y, barriers[0], near, config.seed)
        line |= {
            "label": config.label,
            "n_classes": len(np.unique(y)),
            "grouped_by": sample.grouped_by,
            "n_neighbours": config.n_neighbours,
            **asdict(found),
        }
    return line


def _on_groups(rows: AlignedRows, *, is_default: bool) -> list[str]:
    """Notes on classes that have no neighbour of theirs in another group, and on what groups are."""
    if rows.label is None:
        return []
    pairs = pd.DataFrame({"label": rows.label, "group": group_codes(rows.group)}).drop_duplicates()
    groups = pairs["label"].value_counts()
    n = int((groups < 2).sum())
    notes = []
    if rows.grouped_by == PATH and is_default:
        notes.append(
            "Neighbours are of other audio files; where one recording is in several, name it with --group."
        )
    if n:
        classes = counted(len(groups), "class", "classes")
        notes.append(
            f"{n} of {classes} lie in one group each ({rows.grouped_by}), such as {groups.idxmin()!r}: their "
            "clips have no neighbour of their class and are not judged by neighbours; --group names other "
            "groups."
        )
    return notes


class _Closer:
    """What takes all utterances of one layer; read once, when it is first needed."""

    def __init__(self, rows: AlignedRows, layer: LayerRows | None, config: InspectConfig) -> None:
        self._rows, self._layer, self._config = rows, layer, config
        self._read: FloatArray | None = None
        self._found: Nearest | None = None
        self.variance_shares: tuple[float, float] | None = None
        self.n_judged, self.agreement = 0, float("nan")

    def _values(self) -> FloatArray:
        assert self._layer is not None
        if self._read is None:
            n, d = self._layer.shape
            _require_memory(4 * n * d * COPIES_OF_LAYER, "choose fewer --functionals")
            self._read = self._layer.block(0, n)
        return self._read

    def _near(self) -> Nearest:
        if self._found is None:
            z = standardised(self._values())
            self._found = nearest_of_other_groups(z, _barriers(self._rows), self._config.n_neighbours)
        return self._found

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table, and in every row whose it is."""
        layer = self._layer
        model, number = ("", None) if layer is None else (layer.model, layer.layer)
        return table.assign(dataset=self._rows.dataset, model=model, layer=number)

    def neighbours(self) -> pd.DataFrame:
        """Neighbours of every utterance, nearest first."""
        rows, near = self._rows, self._near()
        row, rank = np.nonzero(near.there)
        other = near.position[row, rank]
        label = np.full(len(rows), "", dtype=object) if rows.label is None else rows.label
        table = pd.DataFrame(
            {
                "utterance_id": rows.utterance_id[row],
                "neighbour_rank": rank + 1,
                "neighbour_id": rows.utterance_id[other],
                "cosine": near.cosine[row, rank],
                "label": label[row],
                "neighbour_label": label[other],
                "group": rows.group[row],
                "neighbour_group": rows.group[other],
            }
        )
        return self._named(table)

    def suspects(self, notes: list[str]) -> pd.DataFrame | None:
        """Suspect utterances, by neighbours in the one layer, by probes, or by both."""
        rows, label, results = self._rows, self._config.label, self._config.results
        if rows.label is None or label is None or (self._layer is None and results is None):
            return None
        classes = sorted(set(rows.label))
        y = class_codes(rows.label, classes)
        near = None
        if self._layer is not None:
            near = neighbour_votes(self._near(), y, group_codes(rows.group), len(classes))
        answers = None
        if results is not None:
            answers, more = probe_votes(Path(results), rows, label, classes)
            notes += more
        table, judged = suspects(rows, classes, near, answers)
        self.n_judged, self.agreement = judged.n, judged.agreement
        if not judged.n:
            return None  # `_on_groups` says why
        if judged.agreement < LEAST_AGREEMENT:
            notes.append(
                f"No suspects: votes name the given {label} of {100 * judged.agreement:.0f} % of the "
                "utterances only, so what they say elsewhere is no evidence against a label; choose another "
                "layer."
            )
            return None
        return self._named(table)

    def plane(self) -> pd.DataFrame:
        """The map of the utterances: all by principal components, those drawn by t-SNE, which is slow."""
        rows, config = self._rows, self._config
        z = standardised(self._values())
        if config.map == NEIGHBOURS:
            at = rows.drawn_positions(config.rows, config.seed)
            rows, xy = rows.taken(at), neighbour_plane(z[at], config.seed)
        else:
            xy, self.variance_shares = principal_plane(z)
        label = np.full(len(rows), "", dtype=object) if rows.label is None else rows.label
        table = pd.DataFrame(
            {
                "utterance_id": rows.utterance_id,
                "x": xy[:, 0],
                "y": xy[:, 1],
                "label": label,
                "group": rows.group,
                "map": config.map,
            }
        )
        return self._named(table)
