"""A model folder from anybody: it says what the architecture and the weights are, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from extractors.models.registry import find_model
from featurestore.errors import ModelError
from tests.extractors.models.test_conformance import embed, make_clips
from tests.models import save_ast, save_ssl, save_w2v_bert, save_whisper

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "hubert": lambda d: save_ssl(d, "hubert", "base"),
    "wavlm": lambda d: save_ssl(d, "wavlm", "large"),
    "wav2vec2-bert": save_w2v_bert,
    "whisper": save_whisper,
    "ast": save_ast,
}
# What transformers would take from config.json and act on.
ACTED_ON: dict[str, Any] = {
    "attn_implementation": "someone/kernel",
    "_attn_implementation": "someone/kernel",
    "_attn_implementation_internal": "someone/kernel",
    "experts_implementation": "someone/kernel",
    "auto_map": {"AutoModel": "someone/code--modeling.Model", "AutoConfig": "configuration.Config"},
    "fusion_config": {"patch_embeddings": True},
    "dtype": "float16",
    "chunk_size_feed_forward": 1,
    "return_dict": False,
}


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def split_weights(folder: Path, *, pickled: bool, factor: float = 1.0) -> None:
    """Beside the single file: an index of one shard, whose weights are the file's times `factor`."""
    tensors = {k: v * factor for k, v in load_file(folder / "model.safetensors").items()}
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(tensors, folder / "pytorch_model.bin")
        stem, suffix = "pytorch_model", "bin"
        torch.save(tensors, folder / "pytorch_model-00001-of-00001.bin")
    else:
        stem, suffix = "model", "safetensors"
        save_file(tensors, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    names = dict.fromkeys(tensors, f"{stem}-00001-of-00001.{suffix}")
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_a_single_file_beside_an_index_is_refused_since_one_is_hashed_and_the_other_loaded(
    tmp_path: Path, pickled: bool
) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    split_weights(folder, pickled=pickled, factor=2.0)
    with pytest.raises(ModelError, match=r"expected .*, found both, .*keep the one") as error:
        find_model(str(folder), allow_pickle=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_an_index_alone_is_hashed_and_loaded(tmp_path: Path, pickled: bool) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    clips = make_clips([5000, 7000])
    single = find_model(str(folder))
    before, digest = embed(single.load("cpu", "fp32"), clips), single.fingerprint()["weights_sha256"]
    split_weights(folder, pickled=pickled)
    (folder / ("pytorch_model.bin" if pickled else "model.safetensors")).unlink()
    source = find_model(str(folder), allow_pickle=pickled)
    assert (source.fingerprint()["weights_sha256"] == digest) is not pickled
    after = embed(source.load("cpu", "fp32"), clips)
    for layer in before:
        np.testing.assert_array_equal(after[layer][1], before[layer][1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("untrained", [False, True], ids=["trained", "untrained"])
def test_what_else_config_json_says_decides_nothing(tmp_path: Path, family: str, untrained: bool) -> None:
    """Neither what runs (a kernel or code of the hub), nor how the model is computed."""
    folder = FAMILIES[family](tmp_path / "m")
    spec = f"untrained:{folder}" if untrained else str(folder)
    clips = make_clips([5000, 7000])
    plain = find_model(spec)
    before, fingerprint = embed(plain.load("cpu", "fp32"), clips), plain.fingerprint()
    change_config(folder, **ACTED_ON)
    source = find_model(spec)
    assert source.fingerprint() == fingerprint
    after = embed(source.load("cpu", "fp32"), clips)
    for layer in before:
        np.testing.assert_array_equal(after[layer][1], before[layer][1])


def test_a_kernel_of_the_hub_never_reaches_the_kernel_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.modeling_utils as modeling

    asked: list[str] = []
    monkeypatch.setattr(modeling, "lazy_import_flash_attention", lambda name, *a, **k: asked.append(name))
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    change_config(folder, attn_implementation="someone/kernel")
    for spec in (str(folder), f"untrained:{folder}"):
        find_model(spec).load("cpu", "fp32")
    assert asked == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: change_config(d, transformers_weights="other.safetensors"), "names a file of weights"),
        (lambda d: change_config(d, quantization_config={"quant_method": "bnb"}), "not quantised"),
        (
            lambda d: (d / "adapter_config.json").write_text(
                json.dumps({"base_model_name_or_path": "someone/else", "peft_type": "LORA"})
            ),
            "adapter's weights are not read",
        ),
    ],
    ids=["other-file", "quantised", "adapter"],
)
def test_a_folder_that_says_that_its_weights_are_others_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    spoil(folder)
    with pytest.raises(ModelError, match=message) as error:
        find_model(str(folder))
    assert "\n" not in str(error.value)
    find_model(f"untrained:{folder}")  # which reads no weights
