"""Vectors of clips in memory, the same that a store would hold: for what is asked at once and not kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from extractors.audio.waveform import PreparedClip
from extractors.config import ExtractConfig
from extractors.forward.batching import MAX_BATCH_CLIPS
from extractors.forward.embedder import Embedder
from extractors.forward.unit_result import UnitResult
from extractors.models.registry import find_model
from extractors.run.plan import layers_of, resolve_device
from extractors.run.recipe import Recipe
from featurestore.arrays import FloatArray
from featurestore.audio.segment import AudioError
from featurestore.format.layer_arrays import LayerShape
from featurestore.format.row_arrays import STATUS_OK
from featurestore.store.key import KeyInfo
from featurestore.store.plan import Unit


class ClipVectors:
    """A loaded model that makes vectors of prepared clips.

    Args:
        config: how; its manifest and store are not looked at.
        longest_s: seconds of the longest clip to come.

    Attributes:
        policy: how clips have to be prepared.
        device: where the model is.

    Raises:
        UserError: see `extract`; before any weights are loaded.
    """

    def __init__(self, config: ExtractConfig, *, longest_s: float) -> None:
        source = find_model(config.model, allow_pickle=config.torch_weights)
        recipe = Recipe.of(config, source)
        self.policy = recipe.policy
        self.device = resolve_device(config.device)
        layers = layers_of(config.layers, source.card)
        self._info = KeyInfo(
            model=source.card.name,
            dataset=config.dataset,
            fingerprint={},
            functionals=recipe.functionals,
            layers=layers,
            shape=LayerShape(
                n_functionals=len(recipe.functionals),
                n_features=source.card.n_features,
                unit_rows=1,
                dtype=config.dtype,
            ),
            segments=(),
            versions={},
            model_card={},
        )
        extractor = recipe.load(self.device)
        longest = self.policy.model_samples(longest_s)
        budget = recipe.budget(extractor, self.device, layers, longest_samples=longest)
        self._embedder = Embedder(
            extractor, layers, recipe.functionals, budget, recipe.long_clips, config.precision
        )
        self.batch_clips = budget.first([longest] * MAX_BATCH_CLIPS["cpu"])

    def vectors(self, clips: Sequence[PreparedClip | AudioError]) -> tuple[list[str], FloatArray]:
        """Embed clips together.

        Returns:
            Of each clip the status, as a store says it, and the vector, float32 `[n, d]`: layers in ascending
            order side by side, within each its functionals; NaN where the clip failed.
        """
        unit = Unit(index=0, first_row=0, n_rows=len(clips))
        result = UnitResult(unit, [""] * len(clips), self._info.layers, self._info, {})
        self._embedder.embed(range(len(clips)), clips, result)
        result.close()
        dtype = self._info.shape.dtype
        with np.errstate(over="ignore"):
            stored = [
                result.values[layer].reshape(len(clips), -1).astype(dtype) for layer in self._info.layers
            ]
        x = np.concatenate(stored, axis=1).astype(np.float32)
        for row in np.flatnonzero(~np.isfinite(x).all(axis=1)):
            if result.status[row] == STATUS_OK:
                result.fail(int(row), f"a value is beyond {dtype}")
        return result.status, x
