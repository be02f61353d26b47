from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from extractors import find_model
from extractors.weights import hash_weights
from featurestore.errors import ModelError
from tests.models import save_ssl


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


def test_a_file_changed_in_place_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(3)}, file)
    first = hash_weights([file])
    assert hash_weights([file]) == first
    save_file({"x": torch.ones(4)}, file)
    assert hash_weights([file]) != first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "no weights; expected model.safetensors"),
        (
            lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
            "pickled weights are not read",
        ),
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: (d / "config.json").write_text("{"), "config.json cannot be read"),
        (
            lambda d: (d / "config.json").write_text(json.dumps({"model_type": "bert"})),
            "model_type 'bert'; supported are wav2vec2",
        ),
    ],
)
def test_broken_folders_are_refused_in_one_line(tmp_path: Path, spoil: object, message: str) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message) as error:
        find_model(str(folder))
    assert "\n" not in str(error.value)


def test_weights_that_lack_a_parameter_are_refused_and_never_random(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layers.1.attention.k_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 parameters.*layers\.1\.attention\.k_proj"):
        find_model(str(folder)).load("cpu", "fp32")


def test_a_damaged_weights_file_is_one_line(tmp_path: Path) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="cannot be loaded"):
        find_model(str(folder)).load("cpu", "fp32")


def test_a_hub_id_that_cannot_be_had_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"not a folder here.*the hub gave no such model"):
        find_model("nobody/no-such-model")
