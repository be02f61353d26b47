"""What a remote root is opened with: its URL, which holds no secret, and the environment, which may."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from featurestore.errors import ConfigError, DependencyMissing, StoreError

RETRY_VARIABLE = "FEATURESTORE_RETRY_S"
# Rides out a restart of a server or a lost network; below the 5 minutes after which a signed request
# that is tried again may be refused as too old.
RETRY_S = 120.0
# Opening a store is what a user waits for: a wrong address must show soon.
OPEN_RETRY_S = 5.0
BACKOFF_S, MAX_BACKOFF_S = 0.2, 10.0
CONNECT_TIMEOUT_S = 5.0
# A reader that gets no byte for this long gives up the connection and tries again.
READ_TIMEOUT_S = 30.0
WHOLE_READ_TIMEOUT_S = 900.0
# An upload may take this long for every `PUT_STEP_BYTES` begun: links down to 1 MB/s.
PUT_TIMEOUT_S, PUT_STEP_BYTES = 60.0, 64 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")
# What stands before the host, with one slash or two, and where a secret key holds slashes itself.
_USER = re.compile(r"(?<=:/)(/*)(?:[^\s/@]*:\S*@|[^\s/@]*@)")
_OPTIONS = re.compile(r"(:/[^\s?#'\"]*)[?#][^\s'\"]*")
# A region, a host or a key goes into the head of a request. Google's keys are JSON, on several lines.
_HEADER_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")
_ADDRESS_TEXT = re.compile(r"[\x21-\x7e]*")
_MANY_LINES = re.compile("SERVICE_ACCOUNT|CREDENTIALS", re.IGNORECASE)
_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", RETRY_VARIABLE)


@dataclass(frozen=True)
class Service:
    """One kind of object store: how it is called, and what a user can set.

    Attributes:
        name: for people.
        bucket: what its buckets are called.
        keys: environment variables that hold credentials.
        endpoints: environment variables that may hold the address; the last is the usual one.
        allow_http: environment variable that allows an address without encryption.
        region: environment variable that says where buckets are; "" where there is none.
    """

    name: str
    bucket: str
    keys: str
    endpoints: tuple[str, ...]
    allow_http: str
    region: str = ""

    @property
    def endpoint(self) -> str:
        """The variable that holds the address, or could."""
        return next((n for n in self.endpoints if os.environ.get(n)), self.endpoints[-1])

    @property
    def address(self) -> str:
        """What that variable holds, "" where it is not set."""
        return hide_credentials(os.environ.get(self.endpoint, ""))


SERVICES = {
    "s3": Service(
        name="S3",
        bucket="bucket",
        keys="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_ENDPOINT_URL"),
        allow_http="AWS_ALLOW_HTTP",
        region="AWS_REGION",
    ),
    "gs": Service(
        name="Google Cloud Storage",
        bucket="bucket",
        keys="GOOGLE_APPLICATION_CREDENTIALS",
        endpoints=("GOOGLE_BASE_URL",),
        allow_http="GOOGLE_ALLOW_HTTP",
    ),
    "az": Service(
        name="Azure Blob Storage",
        bucket="container",
        keys="AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        endpoints=("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
        allow_http="AZURE_ALLOW_HTTP",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Location:
    """A parsed URL: which kind of store, which bucket, which prefix ("" for the whole bucket)."""

    scheme: str
    bucket: str
    prefix: str

    @property
    def service(self) -> Service:
        """The kind of store."""
        return SERVICES[self.scheme]

    @property
    def url(self) -> str:
        """``scheme://bucket/prefix``."""
        return f"{self.scheme}://{'/'.join(p for p in (self.bucket, self.prefix) if p)}"


def hide_credentials(url: str) -> str:
    """The URL without ``user:password@`` and without its query, which may hold a signature."""
    return re.split(r"[?#]", _USER.sub(r"\1", url), maxsplit=1)[0]


def hide_urls(text: str) -> str:
    """A text with what `hide_credentials` takes out of URLs taken out of those in it."""
    return _OPTIONS.sub(r"\1", _USER.sub(r"\1", text))


def hide_secrets(text: str) -> str:
    """The text without the values of variables that hold secrets."""
    for name, value in environment():
        if re.search("KEY|SECRET|TOKEN|SAS|PASS", name, re.IGNORECASE) and len(value) > 3:
            text = text.replace(value, "***")
    return text


def parse_url(url: str) -> Location:
    """Take a URL apart.

    Raises:
        StoreError: it holds credentials or options, or names no bucket.
    """
    scheme, _, rest = url.partition("://")
    # No bucket has a colon: that is a key and its secret, and the @ behind them was forgotten.
    shown = f"{scheme}://***" if ":" in rest.partition("/")[0] else hide_credentials(url)
    if shown != url:
        raise StoreError(
            f"{shown}: a URL with credentials or options in it is refused, it would end up in logs and "
            f"results; set {SERVICES[scheme].keys} in the environment instead"
        )
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    if not _BUCKET.fullmatch(bucket):
        kind = SERVICES[scheme].bucket
        raise StoreError(f"{shown}: expected {scheme}://{kind}/path, got {bucket!r} for the {kind}")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise StoreError(f"{shown}: expected a path without empty parts, '.' or '..'")
    return Location(scheme=scheme, bucket=bucket, prefix=prefix)


def plain_http(service: Service) -> bool:
    """Whether the endpoint of the environment is plain HTTP, and the user allows that.

    Raises:
        StoreError: it is and the user does not, or it holds credentials.
    """
    allowed = os.environ.get(service.allow_http, "").lower() in ("true", "1", "yes")
    for name in service.endpoints:
        value = os.environ.get(name)
        if not value:
            continue
        if hide_credentials(value) != value:
            raise StoreError(
                f"{name}: a URL with credentials or options in it is refused; set {service.keys} instead"
            )
        if value.startswith("http://") and not allowed:
            raise StoreError(
                f"{name}: {value} is not encrypted; use https://, or set {service.allow_http}=true if you "
                "trust the network"
            )
        return value.startswith("http://")
    return False


def check_environment() -> None:
    """Refuse values that cannot be sent; the client does not, and takes the process down.

    Raises:
        ConfigError: a variable holds a line break, say, or an address a blank.
    """
    addresses = {name for service in SERVICES.values() for name in service.endpoints}
    for name, value in environment():
        allowed = _ADDRESS_TEXT if name.upper() in addresses else _HEADER_TEXT
        if not (_MANY_LINES.search(name) or allowed.fullmatch(value)):
            odd = next(c for c in value if not allowed.fullmatch(c))
            expected = (
                "an address in ASCII without blanks" if allowed is _ADDRESS_TEXT else "text on one line"
            )
            raise ConfigError(f"{name}: expected {expected}, got {odd!a} in it; set it again without")


def environment() -> tuple[tuple[str, str], ...]:
    """The variables that decide how a remote root is reached; never to be shown."""
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.upper().startswith(_VARIABLES)))


def retry_seconds() -> float:
    """For how long a failed request is tried again: `RETRY_S`, or what the environment says.

    Raises:
        ConfigError: the environment says something that is no such number.
    """
    text = os.environ.get(RETRY_VARIABLE, "")
    try:
        value = float(text) if text else RETRY_S
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise ConfigError(f"{RETRY_VARIABLE}: expected seconds from 0 to 86400, got {text!r}")
    return value


def pauses() -> Iterator[float]:
    """Seconds to wait between tries that are ours and not the client's: as the client does, for ever."""
    pause_s = BACKOFF_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, MAX_BACKOFF_S)


def import_obstore() -> Any:
    """The client library.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        import obstore
    except ImportError:
        raise DependencyMissing(
            "what is at s3://, gs://, az:// and https:// needs obstore: pip install 'featurestore-audio[s3]'"
        ) from None
    return obstore


# Processes in which the client's threads run.
_pids: set[int] = set()


def refuse_fork(url: str) -> None:
    """Raise a `StoreError` in a process forked from one that has a client."""
    # It has the client but not the client's threads, and would wait for ever.
    if _pids and os.getpid() not in _pids:
        raise StoreError(
            f"{url}: this process was forked from one with a remote store open, and cannot read it; "
            "start workers by 'spawn' (PyTorch: DataLoader(..., multiprocessing_context='spawn'))"
        )


def make_client(location: Location, *, retry_s: float, timeout_s: float, read_timeout_s: float | None) -> Any:
    """An obstore client that sees the keys below the location's prefix.

    Args:
        location: which root.
        retry_s: for how long failed requests are tried again.
        timeout_s: how long one try may take in all.
        read_timeout_s: how long one try may go without a byte; None for no such limit.

    Raises:
        StoreError: the endpoint of the environment is refused.
        Exception: the environment lacks something the service needs; as the client raises it.
    """
    from obstore.store import AzureStore, GCSStore, S3Store

    common = _request_settings(retry_s, timeout_s, read_timeout_s, with_http=plain_http(location.service))
    common["prefix"] = location.prefix or None
    _pids.add(os.getpid())
    if location.scheme == "s3":
        # One DELETE per object: not every S3 server knows the bulk request.
        return S3Store(location.bucket, config={"disable_bulk_delete": True}, **common)
    if location.scheme == "gs":
        return GCSStore(location.bucket, **common)
    return AzureStore(location.bucket, **common)


def make_web_client(url: str, *, retry_s: float, with_http: bool) -> Any:
    """An obstore client that gets what is below an ``https://`` address, or also an ``http://`` one."""
    from obstore.store import HTTPStore

    settings = _request_settings(retry_s, WHOLE_READ_TIMEOUT_S, READ_TIMEOUT_S, with_http=with_http)
    _pids.add(os.getpid())
    return HTTPStore.from_url(url, **settings)


def _request_settings(
    retry_s: float, timeout_s: float, read_timeout_s: float | None, *, with_http: bool
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=timeout_s),
    }
    if with_http:
        options["allow_http"] = True
    if read_timeout_s is not None:
        options["read_timeout"] = timedelta(seconds=read_timeout_s)
    return {
        "client_options": options,
        "retry_config": {
            "backoff": {
                "init_backoff": timedelta(seconds=BACKOFF_S),
                "max_backoff": timedelta(seconds=MAX_BACKOFF_S),
                "base": 2,
            },
            # Never the limit: time is.
            "max_retries": 10_000,
            "retry_timeout": timedelta(seconds=retry_s),
        },
    }
