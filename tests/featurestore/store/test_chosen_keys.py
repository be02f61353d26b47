"""Keys are chosen by the names of models and data sets, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

from featurestore.backends.storage import open_storage
from featurestore.store.chosen_keys import chosen_keys, matching
from tests.featurestore.scenario import fill

KEYS = [("a", "x"), ("a", "y"), ("b", "x")]


def test_names_left_open_match_all() -> None:
    assert matching(KEYS, None, None) == KEYS
    assert matching(KEYS, ("a",), None) == [("a", "x"), ("a", "y")]
    assert matching(KEYS, None, ("x",)) == [("a", "x"), ("b", "x")]
    assert matching(KEYS, ("b",), ("y",)) == []
    assert matching(KEYS, (), None) == []


def test_a_key_that_cannot_be_read_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "s")
    fill(storage)
    sound = chosen_keys(storage)
    (name,) = sound.names
    assert sound.held == sound.known == (name,)
    assert not sound.unreadable
    (tmp_path / "s" / name[0] / "other").mkdir()
    (tmp_path / "s" / name[0] / "other" / "zarr.json").write_bytes(b"{")
    damaged = chosen_keys(storage, (name[0],))
    assert damaged.known == (name, (name[0], "other"))
    assert damaged.held == tuple(damaged.names) == (name,)
    assert list(damaged.unreadable) == [(name[0], "other")]
    assert damaged.left_out[0].startswith("left out: ")
    assert not chosen_keys(storage, None, (name[1],)).unreadable
    assert not chosen_keys(storage, ("no such",)).infos
