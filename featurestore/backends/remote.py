"""Objects in S3, Google Cloud Storage or Azure Blob Storage, through obstore.

Credentials and the endpoint come from the environment of the process and stay there: a URL that holds
some is refused, and no message, pickle or stored object repeats them.

A request that fails by a lost connection, a time-out, a 429 or a 5xx is tried again, at first after 0.2 s,
then after about twice as long each time, up to 10 s, until 120 s have passed since the first try (the numbers
are in `featurestore.backends.remote_settings`). An outage shorter than that is a pause; a longer one is one
error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import zarr.storage
from zarr.abc.store import ByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, BufferPrototype

from featurestore.backends.read_only_view import ReadOnlyView
from featurestore.backends.remote_errors import explain, is_outage, is_unsupported, names_no_bucket
from featurestore.backends.remote_settings import (
    OPEN_RETRY_S,
    PUT_STEP_BYTES,
    PUT_TIMEOUT_S,
    READ_TIMEOUT_S,
    WHOLE_READ_TIMEOUT_S,
    check_environment,
    environment,
    import_obstore,
    make_client,
    parse_url,
    pauses,
    refuse_fork,
    retry_seconds,
)
from featurestore.errors import StoreError
from featurestore.names import object_parts, prefix_parts

# The most that S3, GCS and Azure take in one request.
MAX_PUT_BYTES = 5_000_000_000


class ObjectStorage:
    """A prefix of a bucket; see `Storage` for what each method does.

    Picklable: what travels is the URL, and the other process uses its own environment.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…`` or ``az://container/prefix``.

    Raises:
        StoreError: the URL is not one, or holds credentials.
        DependencyMissing: obstore is not installed.
    """

    def __init__(self, url: str) -> None:
        self.location = parse_url(url)
        check_environment()
        refuse_fork(self.url)
        self._retry_s = retry_seconds()
        self._obs = import_obstore()
        self._clients: dict[tuple[int, bool], Any] = {}
        self._is_down = False
        self._has_conditional_put = True
        self._client()

    def __repr__(self) -> str:
        return f"ObjectStorage({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStorage, (self.url,)

    @property
    def url(self) -> str:
        """``scheme://bucket/prefix``."""
        return self.location.url

    def check(self) -> None:
        """Ask for one listing, with little patience.

        Raises:
            StoreError: nobody answers, there is no such bucket, or it may not be listed.
        """
        self._is_down = True
        with self._explained("cannot open it", listing=True):
            self._obs.list_with_delimiter(self._client())

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        path = self._path(key)
        with self._explained(f"cannot read {key}"):
            try:
                return bytes(self._obs.get(self._client(), path).bytes())
            except FileNotFoundError as error:
                if names_no_bucket(error):
                    raise
                return None

    def look(self, key: str) -> Mapping[str, Any] | None:
        """Size, ETag and time of an object, as `obstore.head` has them; None where there is none."""
        path = self._path(key)
        with self._explained(f"cannot look at {key}"):
            try:
                return dict(self._obs.head(self._client(), path))
            except FileNotFoundError as error:
                if names_no_bucket(error):
                    raise
                return None

    def read_part(self, key: str, start: int, stop: int) -> tuple[bytes | None, str]:
        """Bytes ``start:stop`` of an object, None where there is none, and the ETag of that version."""
        path = self._path(key)
        with self._explained(f"cannot read {key}"):
            try:
                found = self._obs.get(self._client(), path, options={"range": (start, stop)})
                return bytes(found.bytes()), str(found.meta["e_tag"] or "")
            except FileNotFoundError as error:
                if names_no_bucket(error):
                    raise
                return None, ""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Storage.put`: one PUT request whatever the size, never a multipart upload.

        The server shows the object when it has all of it, and an upload that breaks off leaves nothing,
        not even invisible parts that cost money. One object is at most `MAX_PUT_BYTES`.

        With `if_absent` the PUT is conditional (``If-None-Match: *`` or the service's own way), so that of
        several writers exactly one wins. A server that refuses or ignores conditions is asked first
        whether the object exists: two writers in the same few milliseconds may then both win. Where the
        reply to a first try was lost, an object with exactly these bytes counts as written by this call.
        """
        path = self._path(key)
        if len(data) > MAX_PUT_BYTES:
            raise StoreError(
                f"{self.url}: {key} has {len(data)} bytes, one object holds at most {MAX_PUT_BYTES}; "
                "use a smaller --unit-rows"
            )
        with self._explained(f"cannot write {key}"):
            if if_absent:
                return self._create(path, data)
            self._obs.put(self._client(len(data) // PUT_STEP_BYTES + 1), path, data, use_multipart=False)
            return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        path = self._path(key)
        deadline = time.monotonic() + self._patience_s
        with self._explained(f"cannot delete {key}"), contextlib.suppress(FileNotFoundError):
            for pause_s in pauses():
                try:
                    self._obs.delete(self._client(), path)
                    return
                except Exception as error:
                    # A DELETE whose reply is lost is not tried again by the client.
                    if not is_outage(error) or time.monotonic() > deadline:
                        raise
                time.sleep(pause_s)

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Storage.objects`."""
        start = self._prefix(prefix)
        with self._explained(f"cannot list {prefix or 'the keys'}", listing=True):
            for page in self._obs.list(self._client(), start):
                for found in page:
                    yield found["path"], found["size"]

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`."""
        start = self._prefix(prefix)
        with self._explained(f"cannot list {prefix or 'the keys'}", listing=True):
            found = self._obs.list_with_delimiter(self._client(), start)
        paths = [*found["common_prefixes"], *(o["path"] for o in found["objects"])]
        return sorted({p.rstrip("/").rpartition("/")[2] for p in paths})

    def strangers(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `Storage.strangers`: a bucket holds objects only."""
        self._prefix(prefix)
        return iter(())

    def zarr_store(self) -> ZarrStore:
        """See `Storage.zarr_store`.

        Zarr keeps up to ``zarr.config["async.concurrency"]`` (10) shards in flight: that, and not the
        size of the layer, bounds what is held beside the result.
        """
        return _Reader(self)

    def _create(self, path: str, data: bytes) -> bool:
        client = self._client(len(data) // PUT_STEP_BYTES + 1)
        deadline = time.monotonic() + self._patience_s
        for attempt, pause_s in enumerate(pauses()):
            if self._exists(path):
                return attempt > 0 and self._obs.get(self._client(), path).bytes() == data
            mode = "create" if self._has_conditional_put else "overwrite"
            try:
                self._obs.put(client, path, data, mode=mode, use_multipart=False)
                return True
            except self._obs.exceptions.AlreadyExistsError:
                # S3 answers 409 where another conditional write was under way, and the client calls that
                # "exists" too although nothing may have been written: look, and try again.
                if time.monotonic() > deadline:
                    raise
            except Exception as error:
                if is_unsupported(error):
                    self._has_conditional_put = False
                # Nor is a conditional PUT tried again by the client.
                elif not is_outage(error) or time.monotonic() > deadline:
                    raise
            time.sleep(pause_s)
        raise AssertionError("not reached")

    def _exists(self, path: str) -> bool:
        try:
            self._obs.head(self._client(), path)
        except FileNotFoundError:
            return False
        return True

    def _path(self, key: str) -> str:
        object_parts(key, self.url)
        return key

    def _prefix(self, prefix: str) -> str | None:
        return "/".join(prefix_parts(prefix, self.url)) or None

    def _client(self, put_steps: int = 0) -> Any:
        """The client for reading, or for uploads of so many `PUT_STEP_BYTES`.

        While nobody answers, it is one that gives up soon: a run that has waited in vain once ends, and
        does not wait again for everything it wants to tidy up.
        """
        key = (put_steps, self._is_down)
        if key not in self._clients:
            silence_s = OPEN_RETRY_S if self._is_down else READ_TIMEOUT_S
            try:
                self._clients[key] = make_client(
                    self.location,
                    retry_s=self._patience_s,
                    timeout_s=PUT_TIMEOUT_S * put_steps if put_steps else WHOLE_READ_TIMEOUT_S,
                    # An upload has no limit on silence: it would count the time of sending as well.
                    read_timeout_s=None if put_steps else silence_s,
                )
            except (self._obs.exceptions.BaseError, OSError, ValueError) as error:
                if isinstance(error, StoreError):
                    raise
                raise self._error(error, "cannot open it") from None
        return self._clients[key]

    @property
    def _patience_s(self) -> float:
        return min(self._retry_s, OPEN_RETRY_S) if self._is_down else self._retry_s

    @contextlib.contextmanager
    def _explained(self, doing: str, *, listing: bool = False) -> Iterator[None]:
        refuse_fork(self.url)
        try:
            yield
            self._is_down = False
        except StoreError:
            raise
        except (self._obs.exceptions.BaseError, OSError, ValueError, NotImplementedError) as error:
            ours = self._error(error, doing, listing=listing)
            self._is_down = is_outage(error)
            # `from None`: the original holds what must not be shown, even under --debug.
            raise ours from None

    def _error(self, error: Exception, doing: str, *, listing: bool = False) -> StoreError:
        service, retried_s = self.location.service, self._patience_s
        return explain(
            error, service=service, url=self.url, doing=doing, retried_s=retried_s, listing=listing
        )


class _Reader(ReadOnlyView, zarr.storage.ObjectStore[Any]):
    """Zarr's view of an `ObjectStorage`: read-only, with our errors."""

    _storage: ObjectStorage

    def __init__(self, storage: ObjectStorage) -> None:
        super().__init__(storage._client(), read_only=True)
        self._storage = storage

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, or a range of them; None where there is no such object.

        Raises:
            StoreError: the store did not answer, or refused.
        """
        with self._storage._explained(f"cannot read {key}"):
            return await super().get(self._storage._path(key), prototype, byte_range)


_OPEN: dict[tuple[str, tuple[tuple[str, str], ...]], ObjectStorage] = {}


def open_remote(url: str) -> ObjectStorage:
    """Open a remote root, and find out whether it answers.

    Within a process a URL is opened and checked once, as long as the environment stays the same.

    Raises:
        StoreError: the URL is not one or holds credentials; nobody answers; there is no such bucket; it
            may not be listed.
        DependencyMissing: obstore is not installed.
    """
    key = (url, environment())
    found = _OPEN.get(key)
    if found is None:
        found = ObjectStorage(url)
        found.check()
        _OPEN[key] = found
    return found


_BUCKETS: dict[tuple[str, tuple[tuple[str, str], ...]], ObjectStorage] = {}


def open_bucket(url: str) -> ObjectStorage:
    """A bucket whose objects are known by name: it need not let itself be listed.

    Nothing is asked for yet; the first answer is waited for with the patience that opening a store has.

    Raises:
        StoreError: the URL is not one or holds credentials.
        DependencyMissing: obstore is not installed.
    """
    key = (url, environment())
    found = _BUCKETS.get(key)
    if found is None:
        found = ObjectStorage(url)
        found._is_down = True
        _BUCKETS[key] = found
    return found
