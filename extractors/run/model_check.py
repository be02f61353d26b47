"""A model before anything is embedded with it: its layers in a batch, alone, and by somebody else's code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extractors.audio.normalising import normalise
from extractors.models.arithmetic import products_in
from extractors.models.interface import Extractor, ModelSource, Precision, Referenced
from extractors.models.package_versions import versions_here
from extractors.models.registry import load_model
from extractors.run.selfcheck import deviation, tolerance
from featurestore.checks import CheckRecord

# Lengths of the clips in seconds: unsorted, two alike, down to what gives a few frames.
LENGTHS_S = (0.75, 0.32, 0.56, 0.32, 0.94, 0.075)
NAME_OF_JSON = "featurestore model check"


@dataclass(frozen=True, kw_only=True)
class LayerCheck:
    """Largest deviation of a layer's frames, relative to the largest value of the clip.

    Attributes:
        layer: hidden state.
        batch: of a clip among others, from the same clip alone.
        reference: of a clip alone, from the reference; None without one.
    """

    layer: int
    batch: float
    reference: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """What checking a model found.

    Attributes:
        model: what stands after ``--model``.
        name: its name in a store.
        fingerprint: what decides its outputs.
        device: it ran on.
        precision: of its arithmetic.
        versions: of packages.
        reference: whose computation it was compared with; None: nothing independent computes it.
        tolerance: largest deviation allowed.
        clip_samples: lengths of the clips, which were in one batch.
        layers: what was found, by layer.
    """

    model: str
    name: str
    fingerprint: Mapping[str, Any]
    device: str
    precision: Precision
    versions: Mapping[str, str]
    reference: str | None
    tolerance: float
    clip_samples: Sequence[int]
    layers: Sequence[LayerCheck]

    @property
    def beyond(self) -> list[LayerCheck]:
        """Layers that deviate further than allowed."""
        return [found for found in self.layers if max(found.batch, found.reference or 0.0) > self.tolerance]

    def to_record(self) -> CheckRecord:
        """The certificate as a key keeps it: the largest deviations."""
        from_reference = [layer.reference for layer in self.layers if layer.reference is not None]
        return CheckRecord(
            clips="noise",
            n_clips=len(self.clip_samples),
            device=self.device,
            precision=self.precision,
            tolerance=self.tolerance,
            alone=max(layer.batch for layer in self.layers),
            versions=dict(self.versions),
            reference=self.reference,
            from_reference=max(from_reference) if self.reference is not None else None,
        )

    def to_json(self) -> str:
        """The certificate as a file; a deviation that is no number is null there."""
        fields = dataclasses.asdict(self)
        for layer in fields["layers"]:
            for kind in ("batch", "reference"):
                if layer[kind] is not None and not np.isfinite(layer[kind]):
                    layer[kind] = None
        whole = {"made_by": NAME_OF_JSON, "within_tolerance": not self.beyond, **fields}
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def check_model(source: ModelSource, spec: str, *, device: str, precision: Precision) -> ModelCheck:
    """Embed some noise and tones in one batch, each alone, and by the model's reference, and compare.

    Args:
        source: the model.
        spec: what the user wrote after ``--model``.
        device: torch device to embed on; a reference runs on the CPU in float32.
        precision: of the arithmetic.

    Raises:
        ModelError: it cannot be loaded.
    """
    extractor = load_model(source, device, precision, compiled=False, spec=spec)
    clips = _clips(extractor)
    layers = list(range(source.card.n_layers))
    with products_in(precision):
        together = _frames(extractor, clips, layers)
        alone = [_frames(extractor, [clip], layers) for clip in clips]
    del extractor  # of a large model two copies may not fit
    reference = source.reference() if isinstance(source, Referenced) else None
    expected = None if reference is None else [reference.states(clip) for clip in clips]
    return ModelCheck(
        model=spec,
        name=source.card.name,
        fingerprint=source.fingerprint(),
        device=device,
        precision=precision,
        versions=versions_here(),
        reference=None if reference is None else reference.name,
        tolerance=tolerance(precision, "float32", device),
        clip_samples=[len(clip) for clip in clips],
        layers=[
            LayerCheck(
                layer=k,
                batch=max(_apart(together[k][i], own[k][0]) for i, own in enumerate(alone)),
                reference=None
                if expected is None
                else max(_apart(own[k][0], by[k]) for own, by in zip(alone, expected, strict=True)),
            )
            for k in layers
        ],
    )


def _clips(extractor: Extractor) -> list[np.ndarray]:
    """Clips of different loudness, so that a neighbour would be seen, scaled as the model is given them."""
    card = extractor.card
    rng = np.random.default_rng(0)
    clips = []
    for i, seconds in enumerate(LENGTHS_S):
        n = min(round(seconds * card.sample_rate_hz), card.max_samples or 2**31)
        tone = np.sin(0.02 * (i + 3) * np.arange(n))
        clip = (0.2 + 0.15 * (i % 5)) * (tone + rng.standard_normal(n))
        if extractor.n_frames(n) > 0:
            clips.append(normalise(clip.astype(np.float32), card.normalisation))
    return clips


def _frames(
    extractor: Extractor, clips: Sequence[np.ndarray], layers: Sequence[int]
) -> dict[int, list[np.ndarray]]:
    """Layer → valid frames `[t, d]` of each clip."""
    found: dict[int, list[np.ndarray]] = {}

    def on_layer(layer: int, frames: Any, n_valid: Sequence[int]) -> None:
        found[layer] = [frames[i, :n].float().cpu().numpy().copy() for i, n in enumerate(n_valid)]

    extractor.forward(clips, layers, on_layer)
    return found


def _apart(got: np.ndarray, expected: np.ndarray) -> float:
    """See `deviation`; infinite where there are other frames than expected."""
    return deviation(got, expected) if got.shape == expected.shape else float("inf")
