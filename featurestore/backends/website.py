"""A folder on a web server: what is in it is known by name beforehand, since a web server lists nothing.

Files are got over TLS, with the time-outs and the patience of a bucket (`featurestore.backends.remote`); a
redirection is followed to an address with TLS only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlsplit

from zarr.abc.store import Store as ZarrStore

from featurestore.backends.remote_errors import reason_of, status_of
from featurestore.backends.remote_settings import (
    OPEN_RETRY_S,
    hide_credentials,
    import_obstore,
    make_web_client,
    refuse_fork,
    retry_seconds,
)
from featurestore.errors import StoreError
from featurestore.names import object_parts, prefix_parts

WEB_SCHEMES = ("https", "http")


class WebFolder:
    """A folder on a web server, read only; see `Storage` for what each method does.

    Args:
        url: ``https://host/path``.
        names: of its files; "/" between the parts.
        with_http: whether ``http://`` will do, where anybody on the way may change what is sent.

    Raises:
        StoreError: the URL is not one, holds credentials or options, or is not encrypted.
        DependencyMissing: obstore is not installed.
    """

    def __init__(self, url: str, names: Collection[str] = (), *, with_http: bool = False) -> None:
        shown = hide_credentials(url)
        if shown != url:
            raise StoreError(
                f"{shown}: a URL with credentials or options in it is refused, it would end up in logs; "
                "expected https://host/path"
            )
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in WEB_SCHEMES and bool(parts.hostname)
        except ValueError:  # half of an IPv6 address
            is_address = False
        if not is_address:
            raise StoreError(f"{shown}: expected https://host/path")
        if parts.scheme == "http" and not with_http:
            raise StoreError(
                f"{shown}: is not encrypted, so anybody on the way may change it; use https://, or give the "
                "checksum that you were told by another way (--sha256)"
            )
        self.url = url.rstrip("/")
        self._names = frozenset(names)
        refuse_fork(self.url)
        obs = import_obstore()
        self._get: Any = obs.get
        self._errors: tuple[type[Exception], ...] = (obs.exceptions.BaseError, OSError, ValueError)
        # Who has no list yet asks a server for the first time.
        self._retry_s = retry_seconds() if names else min(retry_seconds(), OPEN_RETRY_S)
        try:
            self._client = make_web_client(self.url, retry_s=self._retry_s, with_http=with_http)
        except self._errors:
            raise StoreError(f"{shown}: expected https://host/path") from None

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`."""
        object_parts(key, self.url)
        refuse_fork(self.url)
        try:
            return bytes(self._get(self._client, key).bytes())
        except FileNotFoundError:
            return None
        except self._errors as error:
            # `from None`: the original may hold what a redirection was signed with.
            raise StoreError(f"{self.url}: cannot read {key}: {self._why(str(error))}") from None

    def _why(self, text: str) -> str:
        host = urlsplit(self.url).netloc
        if status := status_of(text):
            return f"{host} answered HTTP {status}"
        reason = reason_of(text) or "nothing that can be understood"
        return (
            f"{host} did not answer within {self._retry_s:g} s ({reason}); check the address, the network "
            "and the server's certificate (SSL_CERT_FILE names an authority of your own)"
        )

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`; of the names that were given."""
        below = prefix_parts(prefix, self.url)
        n = len(below)
        return sorted({p[n] for p in (name.split("/") for name in self._names) if p[:n] == below and p[n:]})

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Nothing is written here."""
        raise StoreError(f"{self.url}: is on a web server, and read only")

    def delete(self, key: str) -> None:
        """Nothing is deleted here."""
        raise StoreError(f"{self.url}: is on a web server, and read only")

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """A web server does not say what is there, and how large."""
        raise StoreError(f"{self.url}: is on a web server, which lists nothing; `fs pull` it first")

    def strangers(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `Storage.strangers`: a web server shows none."""
        return iter(())

    def zarr_store(self) -> ZarrStore:
        """Nothing is opened here."""
        raise StoreError(f"{self.url}: is on a web server; `fs pull` it, then open the copy")
