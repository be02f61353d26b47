"""`avex:NAME` and `avex:FILE.yml` against a stand-in with avex's documented interface, and its faults.

avex itself asks for torchaudio and torchvision builds that match the installed PyTorch; where those do not
exist (CPU builds of the newest PyTorch) it does not import. The stand-in has its functions, a BEATs-like
stack whose blocks hand on `[t, b, d]`, an EfficientNet-like feature map, and a vector for a window. As avex
does, it loads checkpoints without looking at what they lack, and pickles as code.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from extractors import find_model
from extractors.models.avex_loading import AvexSpec, find_spec
from featurestore.errors import ModelError
from tests.extractors.models.test_conformance import RELATIVE, embed, make_clips, worst
from tests.fuzz import Damaged, changed, flipped, require_answer_or_one_line

CONFIGS = """
from pydantic import BaseModel, ConfigDict


class AudioConfig(BaseModel):
    sample_rate: int = 16_000
    target_length_seconds: int | None = None


class ModelSpec(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    pretrained: bool = True
    device: str = "cuda"
    audio_config: AudioConfig | None = None
"""
PACKAGE = """
import torch
from safetensors.torch import load_file
from torch import nn

from .configs import AudioConfig, ModelSpec

__version__ = "1.4.0"
RATE = 16_000


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x, self_attn_padding_mask=None):
        mixed = torch.tanh(self.linear(x)) + x.mean(0, keepdim=True)  # over time: padding would be seen
        return mixed, None, None


class Beats(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv1d(1, 10, 400, 320)
        self.other = nn.ModuleList(nn.Linear(3, 3) for _ in range(9))  # longer, never run
        self.layers = nn.ModuleList(Block(10) for _ in range(3))

    def forward(self, wav, padding_mask=None):
        if wav.shape[-1] < 400:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        x = self.patches(wav[:, None]).permute(2, 0, 1)  # [t, b, d]
        for layer in self.layers:
            x, _, _ = layer(x, self_attn_padding_mask=padding_mask)
        return x.transpose(0, 1)


class EfficientNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 7, (2, 3))

    def forward(self, wav, padding_mask=None):
        spectrum = torch.stft(wav, 256, 128, window=torch.hann_window(256), return_complex=True).abs()
        return self.features(spectrum[:, None])  # [b, d, frequency, t]


class Perch(nn.Module):
    embedding_dim, window_samples, target_sr = 12, 80_000, RATE

    def __init__(self):
        super().__init__()
        self.bands = nn.Linear(400, 12)
        self.norm = nn.LayerNorm(12)
        self.classifier = nn.Linear(12, 3)  # never run

    def forward(self, wav, padding_mask=None):
        wav = nn.functional.pad(wav, (0, self.window_samples - wav.shape[1]))
        return self.norm(self.bands(wav.unfold(1, 400, 400)).square().mean(1))


class Scores(Perch):
    embedding_dim = None


class Echo(nn.Module):
    def forward(self, wav, padding_mask=None):
        return wav[:, None]  # as many "features" as samples


CLASSES = {"beats": Beats, "efficientnet": EfficientNet, "perch2": Perch, "birdnet": Scores, "echo": Echo}


def list_model_classes():
    return [*CLASSES, "birdmae"]


def get_model_spec(name):
    if name not in ("beats", "efficientnet", "forgetful", "eat"):
        return None
    kind = {"forgetful": "beats", "eat": "eat_hf"}.get(name, name)
    return ModelSpec(name=kind, audio_config=AudioConfig(sample_rate=RATE, target_length_seconds=10))


def load_model(model, device="cpu", checkpoint_path=None, return_features_only=False):
    assert return_features_only
    made = CLASSES[get_model_spec(model).name if isinstance(model, str) else model.name]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in made.named_parameters():  # weights of another training
            if model != "forgetful" or name != "layers.1.linear.weight":
                p.copy_(torch.randn(p.shape, generator=generator) / 5)
    if checkpoint_path:
        safe = checkpoint_path.endswith(".safetensors")
        state = load_file(checkpoint_path) if safe else torch.load(checkpoint_path, weights_only=False)
        made.load_state_dict(state, strict=False)
    return made.to(device)
"""


@pytest.fixture
def avex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in as an installed package."""
    site = tmp_path / "site"
    (site / "avex").mkdir(parents=True)
    (site / "avex" / "__init__.py").write_text(PACKAGE)
    (site / "avex" / "configs.py").write_text(CONFIGS)
    (site / "avex-1.4.0.dist-info").mkdir()
    (site / "avex-1.4.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: avex\nVersion: 1.4.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    for name in ("avex", "avex.configs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import avex

    yield avex
    for name in ("avex", "avex.configs"):
        monkeypatch.delitem(sys.modules, name, raising=False)


AUDIO = {"sample_rate": 16_000, "target_length_seconds": 5}


def spec_file(folder: Path, name: str, checkpoint: str | None = None, **spec: Any) -> str:
    """What to write after ``--model`` for a spec of one's own."""
    said: dict[str, Any] = {"model_spec": {"name": name, "audio_config": AUDIO, **spec}}
    if checkpoint:
        said["checkpoint_path"] = checkpoint
    file = folder / f"own-{name}.yml"
    file.write_text(yaml.safe_dump(said))
    return f"avex:{file}"


def save_weights(folder: Path, model: torch.nn.Module, *, without: str = "") -> str:
    """Trained weights of a model, but for some; named from the folder of a spec."""
    generator = torch.Generator().manual_seed(7)
    state = {k: torch.randn(v.shape, generator=generator) for k, v in model.state_dict().items()}
    save_file({k: v for k, v in state.items() if k not in without.split()}, folder / "own.safetensors")
    return "own.safetensors"


def test_layers_are_the_inputs_and_outputs_of_the_blocks(avex: Any) -> None:
    source = find_model("avex:beats")
    card = source.card
    assert (card.name, card.n_layers, card.n_features, card.sample_rate_hz) == ("beats", 4, 10, 16_000)
    assert (card.max_samples, card.hop_samples) == (160_000, 320)
    extractor: Any = source.load("cpu", "fp32")
    assert extractor.runs_together
    clips = make_clips((9000, 5000, 9000, 1300))
    found = embed(extractor, clips)
    model = avex.load_model("beats", return_features_only=True).eval()
    for i, clip in enumerate(clips):
        with torch.no_grad():
            wav = torch.from_numpy(clip)[None]
            x = model.patches(wav[:, None]).permute(2, 0, 1)
            states = [x]
            for layer in model.layers:
                states.append(layer(states[-1])[0])
            assert torch.equal(states[-1].transpose(0, 1), model(wav))
        assert extractor.n_frames(len(clip)) == len(states[0])
        for layer, state in enumerate(states):
            assert worst([found[layer][i]], [state[:, 0].numpy()]) < RELATIVE, layer


def test_feature_maps_are_averaged_over_frequency(avex: Any) -> None:
    source = find_model("avex:efficientnet")
    assert (source.card.n_layers, source.card.n_features) == (1, 7)
    clips = make_clips((9000, 5000))
    found = embed(source.load("cpu", "fp32"), clips)
    model = avex.load_model("efficientnet", return_features_only=True).eval()
    for i, clip in enumerate(clips):
        with torch.no_grad():
            [maps] = model(torch.from_numpy(clip)[None]).numpy()
        assert worst([found[0][i]], [maps.mean(1).T]) < RELATIVE


def refusal(spec: str) -> str:
    with pytest.raises(ModelError) as caught:
        find_model(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parameters_that_no_checkpoint_sets_are_refused(avex: Any, tmp_path: Path) -> None:
    said = refusal("avex:forgetful")
    assert "no checkpoint sets 1 parameters (first 'layers.1.linear.weight')" in said
    # Of a checkpoint that lacks some, what is left is the same at every load: ones, or another training's.
    for lacking in ("norm.weight", "bands.bias"):
        weights = save_weights(tmp_path, avex.CLASSES["perch2"](), without=lacking)
        said = refusal(spec_file(tmp_path, "perch2", weights))
        assert f"no checkpoint sets 1 parameters (first '{lacking}')" in said
    # All of another network's.
    save_weights(tmp_path, torch.nn.Linear(2, 2))
    assert "no checkpoint sets 6 parameters" in refusal(spec_file(tmp_path, "perch2", "own.safetensors"))


def test_a_spec_that_avex_has_not_registered_is_a_file(avex: Any, tmp_path: Path) -> None:
    lacking = "classifier.weight classifier.bias"  # which nothing reads
    weights = save_weights(tmp_path, avex.CLASSES["perch2"](), without=lacking)
    source = find_model(spec_file(tmp_path, "perch2", weights))
    card = source.card
    assert (card.name, card.n_layers, card.n_features, card.pooled) == ("own-perch2", 1, 12, True)
    assert (card.max_samples, card.fixed_samples, card.repeat_short) == (80_000, 80_000, False)
    again = find_model(spec_file(tmp_path, "perch2", weights))
    assert source.fingerprint() == again.fingerprint()
    model = avex.CLASSES["perch2"]().eval()
    model.load_state_dict(load_file(tmp_path / "own.safetensors"), strict=False)
    clips = make_clips((80_000, 9000, 40_000))
    found = embed(source.load("cpu", "fp32"), clips)[0]
    for clip, frames, n in zip(clips, found, (64, 8, 32), strict=True):
        with torch.no_grad():
            vector = model(torch.from_numpy(clip)[None]).numpy()
        assert worst([frames], [np.repeat(vector, n, 0)]) < RELATIVE


def test_the_weights_of_a_spec_are_those_of_its_checkpoint(avex: Any, tmp_path: Path) -> None:
    weights = save_weights(tmp_path, avex.CLASSES["beats"]())
    source = find_model(spec_file(tmp_path, "beats", weights))
    assert (source.card.n_layers, source.card.max_samples) == (4, 80_000)
    assert source.fingerprint()["state_sha256"] != find_model("avex:beats").fingerprint()["state_sha256"]


class Code:
    """What a pickle runs when it is read as pickles are."""

    def __init__(self, made: Path) -> None:
        self._made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._made,)


def test_no_pickle_runs_code(avex: Any, tmp_path: Path) -> None:
    torch.save({"classifier.bias": Code(tmp_path / "ran")}, tmp_path / "own.pt")
    assert "avex cannot load it (UnpicklingError" in refusal(spec_file(tmp_path, "perch2", "own.pt"))
    assert not (tmp_path / "ran").exists()
    torch.save({k: v + 1 for k, v in avex.CLASSES["perch2"]().state_dict().items()}, tmp_path / "own.pt")
    assert find_model(spec_file(tmp_path, "perch2", "own.pt")).card.pooled


def test_what_avex_gives_has_to_be_features(avex: Any, tmp_path: Path) -> None:
    assert "one vector of 12 numbers for a clip, and it names no embedding" in refusal(
        spec_file(tmp_path, "birdnet")
    )
    assert "avex gives 16,000 of a second, 32,000 of two" in refusal(spec_file(tmp_path, "echo"))
    other = {"sample_rate": 32_000, "target_length_seconds": 5}
    assert "80,000 samples at 16,000 Hz; got 160,000 at 32,000 Hz" in refusal(
        spec_file(tmp_path, "perch2", audio_config=other)
    )


def test_a_spec_says_what_has_to_be_known_of_its_model(avex: Any, tmp_path: Path) -> None:
    def file(name: str = "perch2", checkpoint: str | None = None, **spec: Any) -> str:
        return refusal(spec_file(tmp_path, name, checkpoint, **spec))

    assert "model_spec.audio_config: lacks 'sample_rate'" in file(audio_config={"target_length_seconds": 5})
    assert "model_spec.pretrained: expected true, or a checkpoint_path" in file(pretrained=False)
    assert "model_spec.name: expected a class of avex" in file("perhc")
    assert "avex takes no such model_spec" in file(odd=1)
    assert "checkpoint_path: there is no file" in file(checkpoint="gone.safetensors")
    assert "runs code of a hub repository" in file("birdmae")
    assert "runs code of a hub repository" in refusal("avex:eat")
    assert "there is no such file" in refusal(f"avex:{tmp_path / 'gone.yml'}")
    (tmp_path / "no.yml").write_text("- 1")
    assert "no.yml: the document: expected an object" in refusal(f"avex:{tmp_path / 'no.yml'}")


def test_damaged_specs_are_read_or_one_line(avex: Any, tmp_path: Path) -> None:
    """Every byte of one with a bit changed, every value another, and odd names of files and of settings."""
    (tmp_path / "w.pt").touch()
    spec = {"name": "perch2", "pretrained": True, "device": "cpu", "audio_config": AUDIO}
    document = {"model_spec": spec, "checkpoint_path": "w.pt"}
    file, rng = tmp_path / "own.yml", random.Random(0)

    def read(data: bytes) -> AvexSpec:
        file.write_bytes(data)
        found = find_spec(avex, str(file), "avex:own.yml")
        assert found.content.name in avex.list_model_classes()
        assert found.checkpoint is None or "://" in found.checkpoint or Path(found.checkpoint).is_file()
        return found

    text = yaml.safe_dump(document).encode()
    assert read(text).checkpoint == str(tmp_path / "w.pt")
    n_read, n_refused = require_answer_or_one_line(flipped(text, rng, len(text)), read)
    assert n_read
    assert n_refused
    n_read, n_refused = require_answer_or_one_line(changed(document, rng, 1000, json.dumps), read)
    assert n_read
    assert n_refused

    def odd() -> Iterator[Damaged]:
        places = ("~nobody-of-this-name/w.pt", "~", "/", "..", "w.pt/", "\0", "x" * 300, "http://[")
        for place in places:
            yield Damaged(json.dumps({**document, "checkpoint_path": place}).encode(), repr(place))
        for key in (1, None, True, 0.5, "self", "model_config", "__class__", "x" * 9000):
            named = {"model_spec": {**spec, key: 1}}
            yield Damaged(yaml.safe_dump(named).encode(), f"a key {str(key)[:20]!r}")

    n_read, n_refused = require_answer_or_one_line(odd(), read)
    assert n_refused >= 12


def test_a_name_avex_does_not_know_is_one_line(avex: Any) -> None:
    with pytest.raises(ModelError, match=r"avex 1\.4\.0 has no such model") as error:
        find_model("avex:nope")
    assert "\n" not in str(error.value)


def test_too_short_clips_are_foretold(avex: Any) -> None:
    extractor = find_model("avex:beats").load("cpu", "fp32")
    assert [extractor.n_frames(n) for n in (0, 1, 399, 400, 719, 720)] == [0, 0, 0, 1, 1, 2]


def test_fingerprints_name_the_package_and_hash_the_weights(avex: Any) -> None:
    content = find_model("avex:beats").fingerprint()
    assert (content["family"], content["model"], content["avex"]) == ("avex", "beats", "1.4.0")
    assert content["state_sha256"] != find_model("avex:efficientnet").fingerprint()["state_sha256"]


def test_order_and_subset_of_layers(avex: Any) -> None:
    extractor = find_model("avex:beats").load("cpu", "fp32")
    clips = make_clips((9000, 5000))
    every, some = embed(extractor, clips), embed(extractor, clips, [1, 3])
    assert list(some) == [1, 3]
    for layer in some:
        np.testing.assert_array_equal(some[layer][1], every[layer][1])
