from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from extractors import find_model
from extractors.models.catalogue import CATALOGUE, facts_for
from extractors.models.huggingface.families import FAMILIES
from extractors.models.interface import Domain, FineTuning, Normalisation
from tests.models import AVES_CONFIG, save_aves, save_ssl

# Sarkar & Magimai-Doss, ICASSP 2025: seven models of 12 blocks, 768 wide, at 16 kHz.
PAPER = (
    "facebook/hubert-base-ls960",
    "facebook/wav2vec2-base",
    "facebook/wav2vec2-base-100h",
    "facebook/wav2vec2-base-960h",
    "microsoft/wavlm-base",
    "patrickvonplaten/wavlm-libri-clean-100h-base",
    "aves-base-bio",
)


def test_entries_are_well_formed_and_unique() -> None:
    ids = [f.model_id for f in CATALOGUE]
    assert len(set(ids)) == len(ids)
    # Folders are known by their last part.
    assert len({i.rsplit("/", 1)[-1] for i in ids}) == len(ids)
    for facts in CATALOGUE:
        assert facts.family in {*FAMILIES, "birdnet"}
        assert facts.domain in get_args(Domain)
        assert facts.fine_tuning in get_args(FineTuning)
        assert facts.normalisation in (None, *get_args(Normalisation))
        assert facts.training_hours is None or facts.training_hours > 0
        assert facts.source


def test_the_papers_models_are_there() -> None:
    entries = {f.model_id: f for f in CATALOGUE}
    found = [entries[i] for i in PAPER]
    assert {(f.n_layers, f.n_features) for f in found} == {(13, 768)}
    assert [f.domain for f in found] == ["speech"] * 6 + ["animal"]
    assert [f.fine_tuning for f in found] == ["none", "none", "ASR", "ASR", "none", "ASR", "none"]
    assert entries["aves-base-bio"].training_hours == 360


def config_of(folder: Path, family: str, blocks: int, width: int) -> Path:
    """A configuration of real size, without weights or preprocessor_config.json."""
    folder.mkdir(parents=True)
    content = {"model_type": family, "num_hidden_layers": blocks, "hidden_size": width}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(b"")  # looked at when it is loaded, not before
    return folder


def test_a_folder_of_a_known_model_has_its_facts_and_its_normalisation(tmp_path: Path) -> None:
    card = find_model(str(config_of(tmp_path / "hubert-base-ls960", "hubert", 12, 768))).card
    assert card.model_id == "facebook/hubert-base-ls960"
    assert (card.domain, card.fine_tuning, card.training_hours) == ("speech", "none", 960)
    assert card.normalisation == "zero-mean-unit-variance"
    assert card.normalisation_source == "the catalogue's card of facebook/hubert-base-ls960"


def test_the_folders_own_preprocessor_config_comes_first(tmp_path: Path) -> None:
    folder = config_of(tmp_path / "hubert-base-ls960", "hubert", 12, 768)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    card = find_model(str(folder)).card
    assert (card.normalisation, card.model_id) == ("none", "facebook/hubert-base-ls960")


def test_a_name_alone_does_not_make_a_tiny_model_the_published_one(tmp_path: Path) -> None:
    card = find_model(str(save_ssl(tmp_path / "hubert-base-ls960", "hubert", "base", do_normalize=None))).card
    assert (card.model_id, card.domain, card.normalisation) == (None, None, "none")


@pytest.mark.parametrize(
    ("name", "model_id", "found"),
    [
        ("hubert-base-ls960", "facebook/hubert-base-ls960", True),
        ("hubert-base-ls960", "somebody/hubert-base-ls960", False),
        ("hubert-base-ls960", None, True),
        ("my-hubert", None, False),
    ],
)
def test_an_id_must_match_in_full(name: str, model_id: str | None, found: bool) -> None:
    facts = facts_for(name, model_id, "hubert", n_layers=13, n_features=768)
    assert (facts is not None) is found


def test_random_weights_have_none_of_the_facts(tmp_path: Path) -> None:
    folder = config_of(tmp_path / "hubert-base-ls960", "hubert", 12, 768)
    card = find_model(f"untrained:{folder}").card
    assert (card.trained, card.model_id, card.domain, card.training_hours) == (False, None, None, None)
    # The input stays that of the trained model, or the two could not be compared.
    assert card.normalisation == "zero-mean-unit-variance"


def test_an_aves_export_of_full_size_is_known_by_its_file_name(tmp_path: Path) -> None:
    folder = save_aves(tmp_path / "download", name="birdaves-biox-large")
    real = AVES_CONFIG | {
        "encoder_num_layers": 24,
        "encoder_embed_dim": 1024,
        "encoder_num_heads": 16,
        "encoder_pos_conv_groups": 16,
    }
    (folder / "birdaves-biox-large.torchaudio.model_config.json").write_text(json.dumps(real))
    card = find_model(str(folder)).card
    assert (card.model_id, card.domain, card.training_hours) == ("birdaves-biox-large", "animal", 2570)
    assert (card.n_layers, card.n_features) == (25, 1024)


def test_the_documentation_lists_every_entry_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    for f in CATALOGUE:
        hours = f"{f.training_hours:,}" if f.training_hours else "?"
        cells = (
            f"`{f.model_id}`",
            f.family,
            f"{f.n_layers} × {f.n_features}",
            f.domain,
            f.fine_tuning,
            hours,
        )
        assert f"| {' | '.join(cells)} |" in page
    for model_type in FAMILIES:
        assert model_type in page
