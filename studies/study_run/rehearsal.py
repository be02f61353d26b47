"""Probings rehearsed on a corpus that is not embedded yet: what its labels and groups do not allow shows now.

A key with the manifest's rows and no values, in memory, stands for those that are to be embedded. Plans are
made on it by the code that makes them on real keys: so a split that leaves a class out is told before a GPU
has worked for hours, and fits can be counted. Clips that will fail are not known yet: counts are at most.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featurestore.errors import KeyNotFound
from featurestore.layer_list import parse_layers
from studies.study_file.mistakes import Found, Place
from studies.study_run.requests import ProbeCall
from studies.study_run.scope import Pair

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from probes.questions.tasks import ProbeConfig
    from probes.run.probe_plan import Plan

# Two, so that layers can be put side by side.
_LAYERS = (0, 1)
# Plain classifiers do with rows alone.
_STAND_IN = "linear"


class Rehearsal:
    """Plans of probings on manifests.

    Args:
        manifests: of the corpora that are at hand.
        extractions: the calls of `fs extract`.
        n_layers: layers that the keys of each model will hold, where that is known.
        found: takes what is wrong.
    """

    def __init__(
        self,
        manifests: Mapping[str, Path],
        extractions: Mapping[Pair, ExtractConfig],
        n_layers: Mapping[str, Sequence[int] | None],
        found: Found,
    ) -> None:
        self._manifests = manifests
        self._extractions = extractions
        self._held = n_layers
        self._found = found
        self._store = f"memory://rehearsal-{secrets.token_hex(8)}"
        self._made: set[tuple[str, str, tuple[int, ...]]] = set()

    def check(self, calls: Iterable[ProbeCall], pairs: Iterable[Pair]) -> dict[tuple[str, Pair], int]:
        """Plan every call on the pairs that are not embedded yet; what cannot be is noted.

        Returns:
            Fits of each probing on each pair, where they can be counted.
        """
        asked, counts = set(pairs), dict[tuple[str, Pair], int]()
        try:
            for call in calls:
                for dataset in call.config.datasets:
                    models = [m for m in call.config.models if (m, dataset) in asked]
                    # Of a single layer nothing can be put side by side.
                    single = [m for m in models if len(self._layers_of(call.config, m) or _LAYERS) == 1]
                    for alike in (single, [m for m in models if m not in single]):
                        if alike and dataset in self._manifests:
                            self._of_corpus(call, dataset, alike, counts)
        finally:
            for model, dataset, _ in list(self._made):
                self._forget(model, dataset)
        return counts

    def _of_corpus(
        self, call: ProbeCall, dataset: str, models: Sequence[str], counts: dict[tuple[str, Pair], int]
    ) -> None:
        from probes.run.probe_plan import make_plan

        at: Place = ("probings", call.name)
        config, is_counted = self._without_frames(call, dataset, models, at)
        with self._found.of(at):
            n_layers = len(self._layers_of(config, models[0]) or _LAYERS)
            self._make(models[0], dataset, _LAYERS[:n_layers])
            plan = make_plan(
                replace(config, store=self._store, models=(models[0],), datasets=(dataset,), layers=None)
            )
            for model in models if is_counted else ():
                if (n := self._count(plan, config, model)) is not None:
                    key = (call.name, (model, dataset))
                    counts[key] = counts.get(key, 0) + n

    def _without_frames(
        self, call: ProbeCall, dataset: str, models: Sequence[str], at: Place
    ) -> tuple[ProbeConfig, bool]:
        """The call with classifiers that need no frames; those that do need keys that keep them."""
        from probes.classifiers.interface import FRAMES, inputs_of
        from probes.classifiers.registry import get_classifier

        config = call.config
        of_frames = [c for c in config.classifiers if inputs_of(get_classifier(c)) == FRAMES]
        if not of_frames:
            return config, True
        lacking = [m for m in models if not self._extractions[m, dataset].frames]
        if lacking:
            self._found.add(
                (*at, "classifiers"),
                f"classifier {of_frames[0]} looks at frames, which {lacking[0]}/{dataset} does not keep; add "
                "frames: true to extract, or to the model",
            )
        return replace(config, classifiers=(_STAND_IN,), grid={}, combine=("each",), controls=()), False

    def _count(self, plan: Plan, config: ProbeConfig, model: str) -> int | None:
        """Fits on all layers that a model's key will hold, and those that are made again of them."""
        from probes.run.refits import n_refits

        layers = self._layers_of(config, model)
        if layers is None:
            return None
        n_layers = len(layers)
        counted = [t for t in plan.tasks if t.layers[0] == _LAYERS[0]]
        n_fits = sum(len(t.fits) * (n_layers if t.layer is not None else 1) for t in counted)
        return n_fits + (n_refits(counted) if config.refit else 0)

    def _layers_of(self, config: ProbeConfig, model: str) -> set[int] | None:
        """Layers of a model that a call asks for, of those that its key will hold."""
        held = self._held.get(model)
        if held is None:
            return None
        return set(held) & set(parse_layers(config.layers)) if config.layers else set(held)

    def _make(self, model: str, dataset: str, layers: tuple[int, ...]) -> None:
        """A key of a manifest's rows."""
        from featurestore.backends.storage import open_storage
        from featurestore.manifest.table import read_manifest
        from featurestore.store.key import MOST_UNIT_ROWS
        from featurestore.store.key_request import KeyRequest
        from featurestore.store.writer import UnitRows, open_key

        if (model, dataset, layers) in self._made:
            return
        self._forget(model, dataset)
        # Whether a key takes rows without a sample is seen when it is planned.
        manifest = read_manifest(self._manifests[dataset], check_files=False, allow_empty=True)
        ids = manifest.table["utterance_id"].to_numpy(dtype=object)
        request = KeyRequest(
            model=model,
            dataset=dataset,
            fingerprint={},
            functionals=("mean",),
            layers=layers,
            n_features=1,
            unit_rows=min(MOST_UNIT_ROWS, max(1, len(ids))),
        )
        writer, _ = open_key(open_storage(self._store), request, manifest, ids)
        for unit in writer.info.units:
            n = unit.n_rows
            rows = UnitRows(
                status=["ok"] * n,
                n_frames=np.ones(n, dtype=np.int64),
                duration_s=np.ones(n),
                audio_hash=[str(i) for i in ids[unit.first_row : unit.stop_row]],
            )
            values = np.zeros((n, 1, 1), dtype=np.float32)
            blocks = [(layer, values) for layer in layers]
            writer.write_unit(unit, blocks, rows, audio_s=0.0, elapsed_s=0.0, versions={})
        self._made.add((model, dataset, layers))

    def _forget(self, model: str, dataset: str) -> None:
        from featurestore.backends.storage import open_storage
        from featurestore.store.writer import delete_key

        for made in [m for m in self._made if m[:2] == (model, dataset)]:
            with suppress(KeyNotFound):
                delete_key(open_storage(self._store), model, dataset)
            self._made.discard(made)
