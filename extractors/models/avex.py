"""``avex:NAME``, ``avex:FILE.yml``: a model of Earth Species Project's avex package (BEATs, EfficientNet …).

Loaded through avex's public functions alone: `get_model_spec` and
``load_model(NAME, return_features_only=True)``, or of a file that holds a spec ``load_model(SPEC, …)``. Where
the model is a stack of blocks of one width, layer 0 enters the first block and layer k leaves block k;
otherwise its features are the only layer. Frames are the model's own tokens: of BEATs, all patches of all
times, as avex's own mean over time takes them. Feature maps `[channels, frequency, time]` are averaged over
frequency. A vector is taken where avex calls it the model's embedding.

Clips longer than the model was trained with (5 or 10 s for the published ones) are embedded window by window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from extractors.models.avex_loading import find_spec, load, load_twice
from extractors.models.black_box import (
    Embed,
    MeasuredExtractor,
    measured_hop,
    probe_pair,
    same_together,
)
from extractors.models.huggingface.model_folder import named_line
from extractors.models.interface import Extractor, ModelCard, Precision
from extractors.models.networks.padded_windows import VECTOR_POSITIONS, PaddedWindowExtractor
from extractors.models.torch_tools import LayerTap, probe_clip
from extractors.models.weights import hash_state
from featurestore.errors import DependencyMissing, ModelError
from featurestore.names import suggest_name

# The widest features of avex's models have 2,048 numbers; what has far more is no embedding but a flattened
# map, or the audio itself.
MOST_FEATURES = 16_384


class AvexSource:
    """A model of avex; it is loaded at once, since nothing else tells its layers.

    Args:
        argument: avex's name of the model, or a YAML file with a spec (`.yml`, `.yaml`).

    Raises:
        DependencyMissing: avex is not installed or cannot be imported.
        ModelError: avex has no such model or cannot load it, or what it gives are no features.
    """

    def __init__(self, argument: str | None) -> None:
        self.spec = f"avex:{argument or ''}"
        try:
            import avex
        except Exception as error:  # its own imports may fail in any way, torchaudio's library for one
            raise DependencyMissing(
                f"--model {self.spec}: needs the avex package ({named_line(error, 100)}); "
                "pip install 'featurestore-audio[avex]'"
            ) from error
        self._avex = avex
        self._found = find_spec(avex, argument or "", self.spec)
        audio = self._found.content.audio_config
        self._rate_hz = 16_000 if audio is None else int(audio.sample_rate)
        trained_s = None if audio is None else audio.target_length_seconds
        self._most_samples = None if trained_s is None else int(trained_s) * self._rate_hz
        self._model, self._unused = self._load_checked()
        self.card = self._describe()

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        state = {k: v for k, v in self._model.state_dict().items() if k not in self._unused}
        return {
            "family": "avex",
            "model": self._found.said,
            "avex": version("avex"),
            "state_sha256": hash_state(state),
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`."""
        # Anew rather than moved: avex's models remember the device they were made for.
        model = self._model if device == "cpu" else load(self._avex, self._found, device, self.spec)
        if not self.card.pooled:
            return MeasuredExtractor(_embedding(model, self.card), self.card, device, precision)

        def run(windows: np.ndarray, layers: Sequence[int]) -> list[np.ndarray]:
            with torch.no_grad():
                vectors = model(torch.from_numpy(windows).to(device)).float().cpu().numpy()
            return [vectors] * len(layers)

        def tensors(batch: np.ndarray) -> list[torch.Tensor]:
            return [torch.from_numpy(v) for v in run(batch, [0])]

        together = same_together(tensors, probe_pair(self.card.fixed_samples or 0), "fp32")
        return PaddedWindowExtractor(self.card, run, VECTOR_POSITIONS, together=together)

    def _load_checked(self) -> tuple[Any, list[str]]:
        """Load twice, and refuse what no checkpoint sets, unless its features are the same without."""
        model, again, unset = load_twice(self._avex, self._found, self.spec)
        if unset and not torch.equal(self._features(model), self._features(again)):
            raise ModelError(
                f"--model {self.spec}: no checkpoint sets {len(unset)} parameters (first {unset[0]!r}); its "
                "features depend on them, so the model is refused"
            )
        return model, unset

    def _features(self, model: Any, n_samples: int | None = None) -> torch.Tensor:
        """What it gives of some noise, of a second unless said otherwise."""
        clip = torch.from_numpy(probe_clip(n_samples or self._rate_hz)[None])
        try:
            with torch.no_grad():
                found = model(clip)
        except Exception as error:  # whatever foreign code raises
            if n_samples is not None:
                raise  # too short for it
            raise ModelError(
                f"--model {self.spec}: avex's model does not take a waveform ({named_line(error)})"
            ) from error
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"--model {self.spec}: expected features, avex gives a {type(found).__name__}")
        return found

    def _describe(self) -> ModelCard:
        features = self._features(self._model)
        longer = self._features(self._model, min(2 * self._rate_hz, self._most_samples or 2 * self._rate_hz))
        if features.ndim == 2:
            return self._describe_vector(features)
        frames = as_frames(features, self.spec)
        width = int(frames.shape[2])
        if width > MOST_FEATURES or width != as_frames(longer, self.spec).shape[2]:
            raise ModelError(
                f"--model {self.spec}: expected frames of at most {MOST_FEATURES:,} features, as many for "
                f"every length; avex gives {width:,} of a second, "
                f"{as_frames(longer, self.spec).shape[2]:,} of two"
            )
        clip = torch.from_numpy(probe_clip(self._rate_hz)[None])
        n_blocks = len(find_blocks(self._model, clip, width)[0])

        def n_frames(n_samples: int) -> int:
            return int(as_frames(self._features(self._model, n_samples), self.spec).shape[1])

        return ModelCard(
            **self._common(),
            n_layers=n_blocks + 1,
            n_features=width,
            hop_samples=measured_hop(n_frames, self._rate_hz),
            max_samples=self._most_samples,
        )

    def _describe_vector(self, features: torch.Tensor) -> ModelCard:
        """A card of one vector for a window, which has to be what avex calls the model's embedding."""
        width, own = int(features.shape[1]), getattr(self._model, "embedding_dim", None)
        if width != own:
            called = "it names no embedding" if own is None else f"its embedding has {own:,}"
            raise ModelError(
                f"--model {self.spec}: avex gives one vector of {width:,} numbers for a clip, and {called}; "
                "scores of classes are no features, so the model is refused"
            )
        window = getattr(self._model, "window_samples", self._most_samples)
        if window != self._most_samples or getattr(self._model, "target_sr", self._rate_hz) != self._rate_hz:
            raise ModelError(
                f"--model {self.spec}: model_spec.audio_config: expected the window of the model, {window:,} "
                f"samples at {getattr(self._model, 'target_sr', self._rate_hz):,} Hz; got "
                f"{self._most_samples or 0:,} at {self._rate_hz:,} Hz"
            )
        if window is None:
            raise ModelError(f"--model {self.spec}: nothing says how much of a clip its vector stands for")
        return ModelCard(
            **self._common(),
            n_layers=1,
            n_features=width,
            hop_samples=max(1, window // VECTOR_POSITIONS),
            max_samples=window,
            fixed_samples=window,
            pooled=True,
            repeat_short=False,
        )

    def _common(self) -> dict[str, Any]:
        return {
            "name": suggest_name(self._found.name),
            "family": "avex",
            "sample_rate_hz": self._rate_hz,
            "normalisation": "none",
            "normalisation_source": "avex's models process raw audio themselves",
            "source": "arXiv:2508.11845; github.com/earthspecies/avex",
        }


def _embedding(model: Any, card: ModelCard) -> Embed:
    """A model as a function from waveforms to frames of the layers asked for."""
    if card.n_layers == 1:
        return lambda audio, layers: [as_frames(model(audio), card.name)] * len(layers)
    clip = torch.from_numpy(probe_clip(card.sample_rate_hz)[None]).to(next(model.parameters()).device)
    blocks, time_first = find_blocks(model, clip, card.n_features)
    tap = LayerTap(blocks)

    def embed(audio: torch.Tensor, layers: Sequence[int]) -> Sequence[torch.Tensor]:
        found: list[torch.Tensor] = []
        tap.run(
            layers,
            lambda layer, states: found.append(states.transpose(0, 1) if time_first else states),
            lambda: model(audio),
        )
        return found

    return embed


def find_blocks(model: torch.nn.Module, clip: torch.Tensor, width: int) -> tuple[list[torch.nn.Module], bool]:
    """The longest list of modules that hand on states of this width, and whether those are `[t, b, d]`.

    Args:
        model: run once on `clip`.
        clip: one waveform `[1, n]`, long enough for several frames.
        width: of the model's features.
    """
    shapes: dict[int, tuple[int, ...]] = {}

    def note(module: torch.nn.Module, args: Any, out: Any) -> None:
        state = out[0] if isinstance(out, tuple) else out
        if isinstance(state, torch.Tensor):
            shapes[id(module)] = tuple(state.shape)

    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1]
    handles = [block.register_forward_hook(note) for blocks in lists for block in blocks]
    try:
        with torch.no_grad():
            model(clip)
    finally:
        for handle in handles:
            handle.remove()
    best: tuple[list[torch.nn.Module], bool] = ([], False)
    for blocks in lists:
        seen = {shapes.get(id(block), ()) for block in blocks}
        shape = seen.pop()
        # All alike, `[1, t, d]` or `[t, 1, d]` of the one clip.
        if (
            not seen
            and len(shape) == 3
            and shape[2] == width
            and 1 in shape[:2]
            and len(blocks) > len(best[0])
        ):
            best = (list(blocks), shape[0] != 1)
    return best


def as_frames(features: torch.Tensor, what: str) -> torch.Tensor:
    """A model's features as `[b, t, d]`; maps `[b, d, frequency, t]` are averaged over frequency.

    Raises:
        ModelError: neither; `what` is for the message.
    """
    if features.ndim == 4:
        return features.mean(2).transpose(1, 2)
    if features.ndim != 3:
        raise ModelError(
            f"{what}: expected features of three or four dimensions, got {tuple(features.shape)}"
        )
    return features
