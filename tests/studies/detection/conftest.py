"""A probe that recordings are looked through with, trained once."""

from __future__ import annotations

import pytest

from tests.featurestore.conftest import s3_server as s3_server
from tests.featurestore.conftest import s3_url as s3_url
from tests.studies.detection.planted import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))
