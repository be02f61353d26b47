"""What a config.json asks for, before a model is made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extractors.models.registry import find_model
from featurestore.errors import ModelError
from tests.extractors.models.test_model_trust import change_config
from tests.models import save_aves, save_ssl


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers: expected a whole number from 1 to 1,000"),
        ({"num_hidden_layers": True}, "num_hidden_layers: expected a whole number"),
        ({"hidden_size": 10**6}, "hidden_size: expected a whole number from 1 to 65,536"),
        ({"conv_dim": [16] * 100}, "conv_dim: expected a list of 1 to 64"),
        ({"num_hidden_layers": 1000}, "asks for at least 4,612,256 parameters, the weights have"),
        ({"do_stable_layer_norm": "false"}, "do_stable_layer_norm: expected true or false"),
    ],
)
def test_a_config_that_no_weights_fill_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    change_config(folder, **change)
    with pytest.raises(ModelError, match=said) as caught:
        find_model(str(folder)).load("cpu", "fp32")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [lambda d: save_ssl(d, "hubert", "base"), save_aves])
def test_random_weights_have_to_fit_into_memory(tmp_path: Path, save: Callable[[Path], Path]) -> None:
    folder = save(tmp_path / "m")
    (file,) = (f for f in folder.glob("*config.json") if f.name != "preprocessor_config.json")
    changes = dict.fromkeys(("hidden_size", "encoder_embed_dim"), 65_536)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(ModelError, match=r"parameters, [\d.]+ GB; this machine has .* of memory"):
        find_model(f"untrained:{folder}").load("cpu", "fp32")


def test_a_word_is_no_answer_to_do_normalize(tmp_path: Path) -> None:
    """Taken by its truth, "false" normalised."""
    folder = save_ssl(tmp_path / "m", "hubert", "base", do_normalize=False)
    file = folder / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"do_normalize": false', '"do_normalize": "false"'))
    with pytest.raises(
        ModelError, match=r'preprocessor_config.json: do_normalize: expected true or false, got "f'
    ):
        find_model(str(folder))
