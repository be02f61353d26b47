"""A bucket in memory, behind the client that is used for all of them."""

from __future__ import annotations

from typing import Any

import pytest

from featurestore.archives import object_file


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Objects of ``s3://bucket``."""
    stores = pytest.importorskip("obstore.store")
    memory = stores.MemoryStore()
    monkeypatch.setattr("featurestore.backends.remote.make_client", lambda *_a, **_k: memory)
    monkeypatch.setattr("featurestore.backends.remote._BUCKETS", {})
    monkeypatch.setattr(object_file, "_looks", type(object_file._looks)())
    return memory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Ranges that were fetched."""
    from featurestore.backends.remote import ObjectStorage

    ranges: list[tuple[int, int]] = []
    read = ObjectStorage.read_part

    def counted(self: Any, key: str, start: int, stop: int) -> tuple[bytes | None, str]:
        ranges.append((start, stop))
        return read(self, key, start, stop)

    monkeypatch.setattr(ObjectStorage, "read_part", counted)
    return ranges
