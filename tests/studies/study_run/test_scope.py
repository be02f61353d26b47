"""``--only``: which part of a study is meant."""

from __future__ import annotations

import pytest

from featurestore.errors import ConfigError
from studies.study_run.scope import parse_only


def test_only_takes_kinds_and_names() -> None:
    assert parse_only(["model=a,b", "corpora=c", "models=d"]) == {"model": ("a", "b", "d"), "corpus": ("c",)}
    for wrong in ("model", "model=", "layer=3"):
        with pytest.raises(ConfigError, match="expected corpus=NAME, model=NAME or probing=NAME"):
            parse_only([wrong])
