"""``avex:NAME``: a model of Earth Species Project's avex package (BEATs, EAT, EfficientNet, AVES2 …).

Loaded through avex's public functions alone: `get_model_spec` and
``load_model(NAME, return_features_only=True)``. Where the model is a stack of blocks of one width, layer 0
enters the first block and layer k leaves block k; otherwise its features are the only layer. Frames are
the model's own tokens: of BEATs, all patches of all times, as avex's own mean over time takes them.
Feature maps `[channels, frequency, time]` are averaged over frequency.

Clips longer than the model was trained with (10 s for the published ones) are embedded window by window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from extractors.models.black_box import Embed, MeasuredExtractor, measured_hop
from extractors.models.huggingface.model_folder import named_line
from extractors.models.interface import Extractor, ModelCard, Precision
from extractors.models.torch_tools import LayerTap, probe_clip
from extractors.models.weights import hash_state
from featurestore.errors import DependencyMissing, ModelError
from featurestore.names import suggest_name


class AvexSource:
    """A model avex has registered; it is loaded at once, since nothing else tells its layers.

    Args:
        argument: avex's name of the model.

    Raises:
        DependencyMissing: avex is not installed or cannot be imported.
        ModelError: avex has no such model or cannot load it.
    """

    def __init__(self, argument: str | None) -> None:
        self.spec = f"avex:{argument or ''}"
        self._name = argument or ""
        try:
            import avex
        except Exception as error:  # its own imports may fail in any way, torchaudio's library for one
            raise DependencyMissing(
                f"--model {self.spec}: needs the avex package ({named_line(error, 100)}); "
                "pip install 'featurestore-audio[avex]'"
            ) from error
        self._avex = avex
        self._model_spec = avex.get_model_spec(self._name)
        if self._model_spec is None:
            raise ModelError(
                f"--model {self.spec}: avex {version('avex')} has no such model; "
                "`python -c 'import avex; avex.list_models()'` lists those it has"
            )
        self._model = self._load_checked()
        self.card = self._describe()

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {
            "family": "avex",
            "model": self._name,
            "avex": version("avex"),
            "state_sha256": hash_state(self._model.state_dict()),
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`."""
        # Anew rather than moved: avex's models remember the device they were made for.
        model = self._model if device == "cpu" else self._load_model(device)
        return MeasuredExtractor(_embedding(model, self.card), self.card, device, precision)

    def _load_model(self, device: str) -> Any:
        try:
            return self._avex.load_model(self._name, device=device, return_features_only=True).eval()
        except Exception as error:
            raise ModelError(f"--model {self.spec}: avex cannot load it ({named_line(error)})") from error

    def _load_checked(self) -> Any:
        """Load twice, and refuse parameters that no checkpoint set: avex does not check, they are random."""
        models = []
        for seed in (1, 2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                models.append(self._load_model("cpu"))
        first, second = (m.state_dict() for m in models)
        random = [k for k, v in first.items() if not torch.equal(v, second[k])]
        if random:
            raise ModelError(
                f"--model {self.spec}: {len(random)} parameters differ from one load to the next (first "
                f"{random[0]!r}); no checkpoint sets them, so the model is refused"
            )
        return models[0]

    def _describe(self) -> ModelCard:

        audio = self._model_spec.audio_config
        rate = 16_000 if audio is None else int(audio.sample_rate)
        trained_s = None if audio is None else audio.target_length_seconds
        clip = torch.from_numpy(probe_clip(rate)[None])

        def run(n_samples: int) -> torch.Tensor:
            with torch.no_grad():
                return as_frames(self._model(torch.from_numpy(probe_clip(n_samples)[None])))

        features = run(rate)
        n_blocks = len(find_blocks(self._model, clip, features.shape[-1])[0])
        return ModelCard(
            name=suggest_name(self._name),
            family="avex",
            n_layers=n_blocks + 1,
            n_features=int(features.shape[2]),
            sample_rate_hz=rate,
            hop_samples=measured_hop(lambda n: int(run(n).shape[1]), rate),
            normalisation="none",
            normalisation_source="avex's models process raw audio themselves",
            max_samples=None if trained_s is None else int(trained_s) * rate,
            source="arXiv:2508.11845; github.com/earthspecies/avex",
        )


def _embedding(model: Any, card: ModelCard) -> Embed:
    """A model as a function from waveforms to frames of the layers asked for."""
    if card.n_layers == 1:
        return lambda audio, layers: [as_frames(model(audio))] * len(layers)
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


def as_frames(features: torch.Tensor) -> torch.Tensor:
    """A model's features as `[b, t, d]`; maps `[b, d, frequency, t]` are averaged over frequency.

    Raises:
        ModelError: neither.
    """
    if features.ndim == 4:
        return features.mean(2).transpose(1, 2)
    if features.ndim != 3:
        raise ModelError(f"avex: expected features of three or four dimensions, got {tuple(features.shape)}")
    return features
