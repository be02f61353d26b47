"""A model's certificate: what is within the tolerance, and that what is not is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import cli
from extractors import ExtractConfig, extract, find_model
from extractors.models.huggingface.kaldi_fbank import KaldiFilterBank
from extractors.models.huggingface.mel_spectrogram import MelSpectrogram
from extractors.models.huggingface.model_folder import TransformersSource
from extractors.models.huggingface.wav2vec_family import ClipGroupNorm
from extractors.models.interface import Reference
from featurestore import open_store
from featurestore.store.history import read_checks
from tests.conftest import write_clips
from tests.models import N_LAYERS, save_ssl, save_whisper


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["model", "check", *map(str, words)])


@pytest.mark.parametrize("family", ["hubert", pytest.param("whisper", marks=pytest.mark.slow)])
def test_an_exact_model_is_as_transformers_computes_it(tmp_path: Path, family: str) -> None:
    folder = save_whisper(tmp_path / "m") if family == "whisper" else save_ssl(tmp_path / "m", family, "base")
    result = run(folder, "--out", tmp_path / "new" / "c.json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads((tmp_path / "new" / "c.json").read_text())
    assert found["within_tolerance"] is True
    assert (found["device"], found["precision"], found["tolerance"]) == ("cpu", "fp32", 1e-5)
    assert found["reference"].startswith("transformers ")
    assert found["reference"] in result.stdout
    assert "torch" in found["versions"]
    assert "weights_sha256" in found["fingerprint"]
    n_layers = 3 if family == "whisper" else N_LAYERS
    assert [layer["layer"] for layer in found["layers"]] == list(range(n_layers))
    assert all(0 <= layer[kind] < 1e-5 for layer in found["layers"] for kind in ("batch", "reference"))
    assert len(set(found["clip_samples"])) < len(found["clip_samples"])  # two are alike


@pytest.mark.parametrize("kind", ["clap", "clap-fused-stage", "convnext", "efficientnet"])
def test_networks_over_a_spectrogram_are_as_transformers_computes_them(
    kind: str, model_spec: Callable[[str], str], tmp_path: Path
) -> None:
    folder = model_spec(kind).removeprefix("stage-2:")
    n_stages = 3 if kind == "efficientnet" else 2
    for stage in ("", *(f"stage-{k}:" for k in range(1, n_stages + 1))):
        result = run(f"{stage}{folder}", "--out", tmp_path / f"{stage}.json")
        assert (result.exit_code, result.stderr) == (0, ""), (stage, result.output)
        found = json.loads((tmp_path / f"{stage}.json").read_text())
        assert found["reference"].startswith("transformers "), stage
        assert len(found["layers"]) == find_model(f"{stage}{folder}").card.n_layers
        assert all(0 <= layer[of] < 1e-5 for layer in found["layers"] for of in ("batch", "reference")), stage


@pytest.mark.parametrize(
    "kind", ["wav2vec2-bert", "wav2vec2-bert-relative", "wav2vec2-bert-rotary", "ast", "conformer-relative"]
)
def test_transformers_over_filter_banks_and_conformers_are_as_transformers_computes_them(
    kind: str, model_spec: Callable[[str], str], tmp_path: Path
) -> None:
    result = run(model_spec(kind), "--out", tmp_path / "c.json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["reference"].startswith("transformers ")
    assert all(0 <= layer[of] < 1e-5 for layer in found["layers"] for of in ("batch", "reference"))


@pytest.mark.parametrize("stage", ["", "stage-1:", "stage-2:"])
def test_a_picture_of_other_frames_is_seen_by_the_reference(
    stage: str, model_spec: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = MelSpectrogram.__call__
    monkeypatch.setattr(MelSpectrogram, "__call__", lambda self, x: own(self, x.roll(3, dims=1)))
    result = run(f"{stage}{model_spec('convnext')}", "--out", tmp_path / "c.json")
    assert result.exit_code == 1
    layers = json.loads((tmp_path / "c.json").read_text())["layers"]
    assert all(layer["batch"] < 1e-5 < layer["reference"] for layer in layers)


@pytest.mark.parametrize("kind", ["wav2vec2-bert", "ast"])
def test_other_bands_are_seen_by_the_reference(
    kind: str, model_spec: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = KaldiFilterBank.__call__
    monkeypatch.setattr(KaldiFilterBank, "__call__", lambda self, x: own(self, x).roll(1, dims=2))
    result = run(model_spec(kind), "--out", tmp_path / "c.json")
    assert result.exit_code == 1
    layers = json.loads((tmp_path / "c.json").read_text())["layers"]
    assert all(layer["batch"] < 1e-5 < layer["reference"] for layer in layers)


def test_clips_that_see_each_other_are_told_from_clips_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    monkeypatch.setattr(ClipGroupNorm, "forward", lambda self, x: self.norm(x))
    result = run(folder, "--out", tmp_path / "c.json")
    assert result.exit_code == 1
    [line] = result.stderr.strip().splitlines()
    assert f"error: --model {folder}: layer " in line
    assert "allowed 1e-05" in line
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["within_tolerance"] is False
    assert all(layer["batch"] > 1e-3 and layer["reference"] < 1e-5 for layer in found["layers"])


def test_another_computation_than_the_reference_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_ssl(tmp_path / "m", "hubert", "base")
    own = TransformersSource.reference

    def spoiled(source: TransformersSource) -> Reference:
        reference = own(source)
        assert reference is not None

        def states(clip: np.ndarray) -> list[np.ndarray]:
            first, *others = reference.states(clip)
            return [first, 1.001 * others[0], others[1][:-1], *others[2:]]

        return Reference(reference.name, states)

    monkeypatch.setattr(TransformersSource, "reference", spoiled)
    result = run(folder, "--out", tmp_path / "c.json")
    assert result.exit_code == 1
    assert "layer 2 deviates by inf" in result.stderr
    deviations = [layer["reference"] for layer in json.loads((tmp_path / "c.json").read_text())["layers"]]
    assert deviations[1] == pytest.approx(1e-3, rel=0.01)
    assert deviations[2] is None  # other frames
    assert max(deviations[0], deviations[3]) < 1e-5


def test_what_nothing_else_computes_says_so_and_mistakes_are_one_line(tmp_path: Path) -> None:
    result = run("mfcc")
    assert result.exit_code == 0
    assert "reference: none" in result.stdout
    (tmp_path / "notes.txt").write_text("mine")
    for words, expected in (
        ((tmp_path / "gone",), "there is no such folder"),
        (("logmel", "--out", tmp_path / "notes.txt"), "this is no certificate of fs model check of ours"),
        (("logmel", "--device", "tpu"), "--device: expected auto"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert expected in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_certificate_is_kept_in_the_keys_of_its_model_alone(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", (9000, 5000))
    folders = [save_ssl(tmp_path / name, "hubert", "base", seed=i) for i, name in enumerate("ab")]
    store = str(tmp_path / "store")
    for folder in folders:
        extract(ExtractConfig(manifest=manifest, dataset="d", model=str(folder), store=store))
    result = run(folders[1], "--store", store)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "b/d: kept" in result.stdout
    storage = open_store(store).storage
    assert read_checks(storage, "a/d") == []
    [check] = read_checks(storage, "b/d")
    assert (check.clips, check.is_within) == ("noise", True)
    assert check.from_reference is not None
    assert 0 <= check.from_reference < 1e-5
    other = run(save_ssl(tmp_path / "c", "hubert", "base", seed=7), "--store", store)
    assert other.exit_code == 2
    assert "expected a key that was embedded by" in other.stderr
    assert "found a/d, b/d" in other.stderr
