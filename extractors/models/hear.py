"""``hear:MODULE[:WEIGHTS]``: any importable module with the HEAR API.

The API (https://hearbenchmark.com/hear-api.html): ``load_model(path)`` gives a model with a `sample_rate`;
``get_timestamp_embeddings(audio, model)`` takes mono audio `[sounds, samples]` between −1 and 1 and gives
embeddings `[sounds, timestamps, features]` and their times in ms. There is one layer. Importing the module
runs its code: name only modules you would run yourself. Models in PyTorch only.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import torch

from extractors.models.black_box import MeasuredExtractor, measured_hop
from extractors.models.huggingface.model_folder import named_line
from extractors.models.interface import Extractor, ModelCard, Precision
from extractors.models.torch_tools import probe_clip
from extractors.models.weights import hash_state, hash_weights
from featurestore.errors import ModelError
from featurestore.names import suggest_name


class HearSource:
    """A module with the HEAR API; its model is loaded at once, since nothing else tells its width.

    Args:
        argument: ``MODULE`` or ``MODULE:WEIGHTS``.

    Raises:
        ModelError: the module cannot be imported, lacks a function of the API, or its model does not answer
            as the API says.
    """

    def __init__(self, argument: str | None) -> None:
        module_name, _, weights = (argument or "").partition(":")
        self.spec = f"hear:{argument or ''}"
        if not module_name:
            raise ModelError("--model hear: expected hear:MODULE or hear:MODULE:WEIGHTS")
        self._module = self._import(module_name)
        self._weights = weights
        if weights and not Path(weights).exists():
            raise ModelError(f"--model {self.spec}: there is no weights file {weights}")
        self._model = self._load_model()
        self.card = self._describe(module_name)

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        content: dict[str, Any] = {"family": "hear", "module": self._module.__name__, **self._version()}
        if self._weights and Path(self._weights).is_file():
            content["weights_sha256"] = hash_weights([Path(self._weights)])
        # What the package brings itself, or made at random while loading.
        content["state_sha256"] = hash_state(self._model.state_dict())
        return content

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`."""
        model = self._model.to(device).eval()

        def embed(audio: torch.Tensor, layers: Sequence[int]) -> Sequence[torch.Tensor]:
            return [self._timestamps(audio, model)] * len(layers)

        return MeasuredExtractor(embed, self.card, device, precision)

    def _import(self, name: str) -> Any:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever its code raises
            raise ModelError(
                f"--model {self.spec}: module {name} cannot be imported ({named_line(error)})"
            ) from error
        lacking = [f for f in ("load_model", "get_timestamp_embeddings") if not hasattr(module, f)]
        if lacking:
            raise ModelError(f"--model {self.spec}: module {name} has no {lacking[0]}, so no HEAR API")
        return module

    def _load_model(self) -> Any:

        load = self._module.load_model
        needs_path = any(
            p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            for p in inspect.signature(load).parameters.values()
        )
        try:
            model = load(self._weights) if self._weights or needs_path else load()
        except Exception as error:
            raise ModelError(f"--model {self.spec}: load_model failed ({named_line(error)})") from error
        if not isinstance(model, torch.nn.Module):
            raise ModelError(
                f"--model {self.spec}: load_model gave a {type(model).__name__}; expected a PyTorch model"
            )
        if not isinstance(getattr(model, "sample_rate", None), int | float):
            raise ModelError(
                f"--model {self.spec}: the model has no sample_rate, which the HEAR API asks for"
            )
        return model.to("cpu").eval()

    def _describe(self, module_name: str) -> ModelCard:

        rate = int(self._model.sample_rate)

        def run(n_samples: int) -> torch.Tensor:
            with torch.no_grad():
                return self._timestamps(torch.from_numpy(probe_clip(n_samples)[None]), self._model)

        try:
            frames = run(rate)
        except Exception as error:
            raise ModelError(
                f"--model {self.spec}: get_timestamp_embeddings failed on one second of noise "
                f"({named_line(error)})"
            ) from error
        if frames.ndim != 3 or frames.shape[0] != 1 or frames.shape[1] < 1:
            raise ModelError(
                f"--model {self.spec}: get_timestamp_embeddings gave {tuple(frames.shape)}; "
                "expected (sounds, timestamps, features)"
            )
        name = suggest_name(module_name)
        if self._weights:
            name = f"{name}-{suggest_name(Path(self._weights).stem)}"
        return ModelCard(
            name=name,
            family="hear",
            n_layers=1,
            n_features=int(frames.shape[2]),
            sample_rate_hz=rate,
            hop_samples=measured_hop(lambda n: int(run(n).shape[1]), rate),
            normalisation="none",
            normalisation_source="the HEAR API takes audio between -1 and 1",
        )

    def _timestamps(self, audio: torch.Tensor, model: Any) -> torch.Tensor:
        frames, _times_ms = self._module.get_timestamp_embeddings(audio, model)
        return frames  # type: ignore[no-any-return]

    def _version(self) -> dict[str, str]:
        """Version of the installed package the module is from, if it is from one."""
        top = self._module.__name__.partition(".")[0]
        for package in packages_distributions().get(top, []):
            try:
                return {"package": f"{package} {version(package)}"}
            except PackageNotFoundError:
                continue
        return {}
