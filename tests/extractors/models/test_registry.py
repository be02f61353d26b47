from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from extractors import ExtractConfig, extract, find_model
from extractors.models.huggingface.families import FAMILIES
from extractors.models.registry import BUILT_IN, lasting_spec
from extractors.models.weights import hash_weights
from extractors.run.reproduction import same_extraction
from featurestore import open_store
from featurestore.errors import DependencyMissing, ModelError
from tests.extractors.models.test_aves import Malicious
from tests.extractors.models.test_conformance import embed, make_clips
from tests.models import save_aves, save_mms, save_ssl, save_whisper


def test_a_card_is_read_without_loading_weights(tmp_path: Path) -> None:
    source = find_model(str(save_ssl(tmp_path / "my-model", "hubert", "base", do_normalize=True)))
    card = source.card
    assert (card.name, card.family, card.n_layers, card.n_features) == ("my-model", "hubert", 4, 24)
    assert (card.sample_rate_hz, card.hop_samples, card.normalisation) == (
        16_000,
        320,
        "zero-mean-unit-variance",
    )


def test_without_a_preprocessor_config_no_normalisation_is_applied_and_the_card_says_so(
    tmp_path: Path,
) -> None:
    card = find_model(str(save_ssl(tmp_path / "m", "hubert", "base", do_normalize=None))).card
    assert card.normalisation == "none"
    assert "no preprocessor_config.json" in card.normalisation_source


def test_fingerprints_tell_weights_apart(tmp_path: Path) -> None:
    a, b, c = (
        find_model(str(save_ssl(tmp_path / n, "hubert", "base", seed=s))).fingerprint()
        for n, s in (("a", 0), ("b", 0), ("c", 1))
    )
    assert a == b
    assert a["weights_sha256"] != c["weights_sha256"]
    assert a["config"] == c["config"]


def test_keys_left_out_of_config_json_for_being_defaults_do_not_change_the_fingerprint(
    tmp_path: Path,
) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    before = find_model(str(folder)).fingerprint()
    config = json.loads((folder / "config.json").read_text())
    for key in ("layer_norm_eps", "conv_kernel", "hidden_act", "initializer_range"):
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    assert find_model(str(folder)).fingerprint() == before


def test_a_file_changed_in_place_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(3)}, file)
    first = hash_weights([file])
    assert hash_weights([file]) == first
    save_file({"x": torch.ones(4)}, file)
    assert hash_weights([file]) != first


def test_a_file_changed_in_place_with_its_size_and_time_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(3)}, file)
    first, before = hash_weights([file]), file.stat()
    content = file.read_bytes()
    with file.open("r+b") as stream:
        stream.write(content[:-1] + b"\x3f")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    assert hash_weights([file]) != first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "no weights; expected model.safetensors"),
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: (d / "config.json").write_text("{"), "config.json cannot be read"),
        (
            lambda d: (d / "config.json").write_text(json.dumps({"model_type": "bert"})),
            "model_type 'bert'; supported are wav2vec2",
        ),
        (
            lambda d: (d / "config.json").write_text(
                json.dumps({"model_type": "hubert", "conv_dim": [1, 2], "conv_stride": [1]})
            ),
            "not that of a hubert model",
        ),
        (
            lambda d: (
                (d / "model.safetensors")
                .rename(d / "model.safetensors.index.json")
                .write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
            ),
            r"weight file \.\./\.\./elsewhere\.safetensors is missing",
        ),
    ],
)
def test_broken_folders_are_refused_in_one_line(tmp_path: Path, spoil: object, message: str) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message) as error:
        find_model(str(folder))
    assert "\n" not in str(error.value)


def drop(folder: Path, key: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda d: save_ssl(d, "hubert", "base"), "encoder.layers.1.attention.k_proj.weight"),
        (save_mms, "encoder.layers.1.adapter_layer.linear_1.weight"),
        (save_whisper, "encoder.layers.1.fc1.weight"),
    ],
    ids=["block", "attention-adapter", "whisper"],
)
def test_weights_that_lack_a_parameter_are_refused_and_never_random(
    tmp_path: Path, make: Callable[[Path], Path], key: str
) -> None:
    folder = make(tmp_path / "m")
    drop(folder, key)
    with pytest.raises(ModelError, match=rf"lack 1 parameters.*{key.replace('.', '[.]')}"):
        find_model(str(folder)).load("cpu", "fp32")


def test_weights_that_hidden_states_do_not_need_may_be_lacking(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    drop(folder, "masked_spec_embed")
    find_model(str(folder)).load("cpu", "fp32")
    folder = save_whisper(tmp_path / "w")
    drop(folder, "decoder.layers.0.fc1.weight")
    find_model(str(folder)).load("cpu", "fp32")


def test_a_damaged_weights_file_is_one_line(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="cannot be loaded"):
        find_model(str(folder)).load("cpu", "fp32")


@pytest.mark.parametrize("prefix", ["", "hubert."], ids=["base-model", "with-head"])
def test_weights_published_as_pytorch_model_bin_give_the_same_features(tmp_path: Path, prefix: str) -> None:
    """As on the hub: pickled, weight normalisation under its old names, often below a head."""
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    clips = make_clips([5000, 7000])
    before = embed(find_model(str(folder)).load("cpu", "fp32"), clips)
    published = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
            name = name.replace(f"parametrizations.weight.{new}", old)
        published[prefix + name] = tensor
    assert f"{prefix}encoder.pos_conv_embed.conv.weight_g" in published
    if prefix:
        published["lm_head.weight"] = torch.zeros(32, 24)
    torch.save(published, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors; pickled weights .*--torch-weights"):
        find_model(str(folder))
    after = embed(find_model(str(folder), allow_pickle=True).load("cpu", "fp32"), clips)
    for layer in before:
        np.testing.assert_array_equal(after[layer][1], before[layer][1])


def test_a_pytorch_model_bin_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    (folder / "model.safetensors").unlink()
    torch.save({"x": Malicious(tmp_path / "ran"), "y": torch.zeros(20_000)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        find_model(str(folder), allow_pickle=True).load("cpu", "fp32")
    assert not (tmp_path / "ran").exists()


def hub_cache(root: Path, model_id: str, source: Path) -> Path:
    """A repository as the hub's client would have left it in its cache."""
    folder = root / f"models--{model_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    snapshot = folder / "snapshots" / "abc123"
    snapshot.parent.mkdir()
    return source.rename(snapshot)


def test_a_hub_id_is_read_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = hub_cache(tmp_path / "hub", "someone/tiny-hubert", save_ssl(tmp_path / "m", "hubert", "base"))
    source = find_model("someone/tiny-hubert")
    assert source.card.name == "tiny-hubert"
    source.load("cpu", "fp32")
    assert find_model("untrained:someone/tiny-hubert").card.name == "tiny-hubert-untrained"
    # The snapshot's own folder is named after a commit; the model's name stands above it.
    assert find_model(str(snapshot)).card.name == "tiny-hubert"


def test_a_hub_id_that_cannot_be_had_is_one_line() -> None:
    said = r"not a folder here.*(the hub gave no such model|the hub was not reached)"
    with pytest.raises(ModelError, match=said) as error:
        find_model("nobody/no-such-model")
    assert "\n" not in str(error.value)


def test_a_hub_out_of_reach_is_not_said_to_lack_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("an error happened") from OSError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreached)
    with pytest.raises(
        ModelError, match=r"the hub was not reached \(OSError: no route to the hub\)"
    ) as error:
        find_model("whisper")
    assert "hub ids look like openai/whisper-tiny, openai/whisper-base, openai/whisper-small;" in str(
        error.value
    )
    assert "no such model" not in str(error.value)

    def refused(*_: object, **__: object) -> str:
        raise HFValidationError("no id")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refused)
    with pytest.raises(ModelError, match="the hub gave no such model") as error:
        find_model("someone/whisper")
    assert "hub ids look like" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./nowhere", "there is no such folder"),
        ("~no-such-user/m", "there is no such folder"),
        ("onnx:~no-such-user/m.onnx", "there is no file ~no-such-user/m.onnx"),
        ("untrained:", "expected untrained:MODEL"),
        ("untrained", "expected untrained:MODEL"),
        ("untrained:./nowhere", "there is no such folder"),
        ("hear", "expected hear:MODULE"),
        ("hear:no_such_module", "no_such_module cannot be imported"),
        ("hear:json", "module json has no load_model"),
        ("hear:tests.extractors.hear_tiny:nowhere.pt", "no weights file nowhere.pt"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        find_model(spec)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.ckpt"
    file.write_bytes(b"x")
    with pytest.raises(
        ModelError, match=r"expected a model folder, a \.torchaudio\.pt, \.onnx or \.tflite file"
    ):
        find_model(str(file))


# Untrained


def test_untrained_needs_no_weights_and_a_seed_decides_them(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "my-hubert", "hubert", "base")
    (folder / "model.safetensors").unlink()
    clips = make_clips([5000])
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    first, again, other = (
        embed(find_model(spec).load("cpu", "fp32"), clips)[3][0]
        for spec in (f"untrained:{folder}", f"untrained:0:{folder}", f"untrained:1:{folder}")
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)

    zero, one = find_model(f"untrained:{folder}"), find_model(f"untrained:1:{folder}")
    assert (zero.card.name, one.card.name) == ("my-hubert-untrained", "my-hubert-untrained-1")
    assert not zero.card.trained
    assert zero.fingerprint()["untrained"]["seed"] == 0
    assert zero.fingerprint()["config"] == one.fingerprint()["config"]
    assert zero.fingerprint() != one.fingerprint()


def test_untrained_differs_from_trained_in_weights_alone(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "wavlm", "base", do_normalize=True)
    trained, untrained = find_model(str(folder)), find_model(f"untrained:{folder}")
    assert trained.fingerprint()["config"] == untrained.fingerprint()["config"]
    assert "weights_sha256" not in untrained.fingerprint()
    for field in ("family", "n_layers", "n_features", "sample_rate_hz", "hop_samples", "normalisation"):
        assert getattr(trained.card, field) == getattr(untrained.card, field)


def test_untrained_aves_needs_its_configuration_alone(tmp_path: Path) -> None:
    folder = save_aves(tmp_path / "m")
    (folder / "aves-tiny.torchaudio.pt").unlink()
    source = find_model(f"untrained:{folder}")
    assert (source.card.name, source.card.trained) == ("m-untrained", False)
    assert len(embed(source.load("cpu", "fp32"), make_clips([5000]))) == 4


# Registered by other packages


def register(folder: Path, value: str, code: str) -> None:
    """An installed package that registers an extractor, as pip would leave it."""
    info = folder / "lab_extractors-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-extractors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[featurestore.extractors]\nlab = {value}\nmfcc = {value}\n")
    (folder / "lab_extractors.py").write_text(code)


LAB = """
from extractors.models.logmel_mfcc import LogMelSource

class LabSource(LogMelSource):
    def __init__(self, argument):
        super().__init__(argument)
        self.argument = argument

def nonsense(argument):
    return 7
"""


def test_an_installed_package_can_register_an_extractor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path / "site", "lab_extractors:LabSource", LAB)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    sources: list[Any] = [find_model("lab"), find_model("lab:44100")]
    assert [s.argument for s in sources] == [None, "44100"]
    assert type(sources[0]).__module__ == "lab_extractors"
    # A built-in name stays what it is.
    assert type(find_model("mfcc")).__module__ == "extractors.models.logmel_mfcc"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("lab_extractors:nonsense", "gave a int; expected a ModelSource"),
        ("lab_extractors:missing", "cannot be imported"),
    ],
)
def test_a_registered_extractor_that_does_not_work_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    register(tmp_path / "site", value, LAB)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "lab_extractors", raising=False)
    with pytest.raises(ModelError, match=message) as error:
        find_model("lab")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*BUILT_IN, "lab", "logmel:44100", "untrained:3", "hear:m"])
def test_a_name_is_recorded_as_a_name_whatever_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    register(tmp_path / "site", "lab_extractors:LabSource", LAB)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    folder = save_ssl(tmp_path / name, "hubert", "base")
    assert lasting_spec(name) == name
    assert lasting_spec(f"./{name}") == str(folder)
    assert find_model(f"./{name}").card.family == "hubert"


def test_paths_are_recorded_so_that_another_folder_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = save_ssl(tmp_path / "tiny", "hubert", "base")
    (work / "w.pt").write_bytes(b"weights")
    # The hub's cache holds links to files of other names: the suffix must stay.
    weights = save_aves(tmp_path / "aves") / "aves-tiny.torchaudio.pt"
    (work / "b.torchaudio.pt").symlink_to(weights)
    for spec, lasting in {
        "../tiny": str(folder),
        "~/tiny": str(folder),
        "untrained:../tiny": f"untrained:{folder}",
        "untrained:3:../tiny": f"untrained:3:{folder}",
        "hear:module:w.pt": f"hear:module:{work / 'w.pt'}",
        "hear:module": "hear:module",
        "birdnet": "birdnet",
        "birdnet:stage-1": "birdnet:stage-1",
        "birdnet:w.pt": f"birdnet:{work / 'w.pt'}",
        "birdnet:stage-1:w.pt": f"birdnet:stage-1:{work / 'w.pt'}",
        "b.torchaudio.pt": str(work / "b.torchaudio.pt"),
        "facebook/hubert-base-ls960": "facebook/hubert-base-ls960",
        "untrained:facebook/hubert-base-ls960": "untrained:facebook/hubert-base-ls960",
        "catch22:44100": "catch22:44100",
    }.items():
        assert lasting_spec(spec) == lasting
    assert find_model(lasting_spec("untrained:3:../tiny")).card.name == "tiny-untrained-3"


def test_a_key_made_by_name_beside_a_folder_is_made_by_name_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_ssl(tmp_path / "logmel", "hubert", "base")
    soundfile.write("a.wav", make_clips([8000])[0], 16_000)
    Path("m.csv").write_text("path\na.wav\n")
    extract(ExtractConfig(manifest=Path("m.csv"), dataset="d", model="logmel", store="s"))
    info = open_store("s").features("logmel", "d").info
    assert info.model_card["given"]["model"] == "logmel"
    again = same_extraction(
        info.fingerprint, info.model_card["given"], manifest=Path("m.csv"), store="t", dataset="d",
        name="n", layers="0",
    )  # fmt: skip
    assert again.model == "logmel"


def test_every_line_of_the_registries_leads_somewhere() -> None:
    import importlib

    from extractors.models.huggingface.families import Family, find_family

    for model_type in FAMILIES:
        assert isinstance(find_family(model_type), Family)
    for target in BUILT_IN.values():
        module, _, attribute = target.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycatch22", "avex", "ai_edge_litert"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyMissing, match=r"featurestore-audio\[catch22\]"):
        find_model("catch22")
    with pytest.raises(DependencyMissing, match=r"featurestore-audio\[avex\]"):
        find_model("avex:esp_aves2_sl_beats_all")
    with pytest.raises(DependencyMissing, match=r"featurestore-audio\[birdnet\]"):
        find_model("birdnet")


def test_the_catalogue_and_the_registry_load_no_heavy_library() -> None:
    code = (
        "import sys, extractors.models.catalogue, extractors.models.registry; "
        "print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "model", ["logmel", "mfcc:44100", "hear:module", "avex:beats", "birdnet", "net.tflite"]
)
def test_only_an_architecture_can_be_untrained(model: str) -> None:
    with pytest.raises(ModelError, match=f"untrained:{model}: {model} has no initialiser") as error:
        find_model(f"untrained:{model}")
    assert "\n" not in str(error.value)


# HEAR


@pytest.mark.slow
def test_a_hear_model_takes_a_weights_file(tmp_path: Path) -> None:
    from tests.extractors import hear_tiny

    state = {k: 2 * v for k, v in hear_tiny.load_model().state_dict().items()}
    torch.save(state, tmp_path / "twice.pt")
    plain = find_model("hear:tests.extractors.hear_tiny")
    other = find_model(f"hear:tests.extractors.hear_tiny:{tmp_path / 'twice.pt'}")
    assert (plain.card.name, other.card.name) == (
        "tests.extractors.hear_tiny",
        "tests.extractors.hear_tiny-twice",
    )
    assert plain.fingerprint() != other.fingerprint()
    clips = make_clips([3000])
    a, b = (embed(s.load("cpu", "fp32"), clips)[0][0] for s in (plain, other))
    assert not np.allclose(a, b)
