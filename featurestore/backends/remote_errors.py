"""What went wrong with an object store, in one line and without a secret.

The client's own messages hold request URLs (with signatures, on Azure), response bodies and addresses;
nothing of them is shown but the HTTP status, the server's error code and the host that was asked.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from featurestore.backends.remote_settings import Service, hide_credentials, hide_secrets
from featurestore.errors import StoreError

KEPT = "nothing stored before is lost, run the same command again"
# Where clients on EC2, ECS, GCE and Azure machines ask for a machine's own credentials.
_METADATA_HOSTS = ("169.254.169.254", "169.254.170.2", "metadata.google.internal", "fd00:ec2::254")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_DENIED_ERRORS = ("PermissionDeniedError", "UnauthenticatedError")
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}


def names_no_bucket(error: Exception) -> bool:
    """Whether a "not found" is about the bucket and not about one object."""
    return _code(str(error)) in _NO_BUCKET


def is_outage(error: Exception) -> bool:
    """Whether the service said nothing, or that it cannot answer now."""
    text = str(error)
    status = status_of(text)
    return (
        status.startswith("5")
        or status == "429"
        or (not status and not _code(text) and bool(reason_of(text)))
    )


def is_unsupported(error: Exception) -> bool:
    """Whether a conditional PUT was refused, by ``AWS_CONDITIONAL_PUT=disabled`` or by the server."""
    return isinstance(error, NotImplementedError) or status_of(str(error)) == "501"


def explain(
    error: Exception, *, service: Service, url: str, doing: str, retried_s: float, listing: bool = False
) -> StoreError:
    """Turn an error of the client into ours.

    Args:
        error: what the client raised.
        service: which kind of store.
        url: the root, without credentials.
        doing: what was tried, such as ``cannot write tiny/calls/zarr.json``.
        retried_s: how long was tried.
        listing: whether it was a listing, where "not found" can only mean the bucket.
    """
    text = str(error)
    code, status = _code(text), status_of(text)
    # On Azure with a token in the URL the client hides the URL.
    host = host_of(text) or service.address or service.name
    bucket = urlsplit(url).netloc
    if any(h in text for h in _METADATA_HOSTS):
        why = (
            f"no credentials for {service.name} in the environment of this process, and this machine has "
            f"none of its own; set {service.keys}"
        )
    elif status == "301" or "redirect without LOCATION" in text:
        why = (
            f"{service.bucket} {bucket!r} is in another region; set "
            f"{service.region or service.endpoint} to that of the {service.bucket}"
        )
    elif code in _NO_BUCKET or (listing and status == "404"):
        why = (
            f"there is no {service.bucket} {bucket!r} at {host}; make it, or mend the name "
            f"or {service.endpoint}"
        )
    elif code in _DENIED or status in ("401", "403") or type(error).__name__ in _DENIED_ERRORS:
        why = (
            f"access denied ({_said(status, code)}); check {service.keys}, and that they may list, read, "
            f"write and delete in {service.bucket} {bucket!r}"
        )
    elif status:
        why = f"{host} answered {_said(status, code)}, and again for {retried_s:g} s"
    elif reason_of(text):
        why = (
            f"{host} did not answer within {retried_s:g} s ({reason_of(text)}); "
            f"check {service.endpoint} and the network"
        )
    else:
        first_line = hide_secrets(hide_credentials(" ".join(text.partition("\n")[0].split())))[:160]
        why = f"{first_line.rstrip('.')}; check {service.keys} and {service.endpoint}"
    return StoreError(f"{url}: {doing}: {why}; {KEPT}")


def _code(text: str) -> str:
    # In XML as S3, GCS and Azure send it, or as the client writes it for one object of a bulk request.
    found = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)
    return (found[1] or found[2]) if found else ""


def status_of(text: str) -> str:
    """The HTTP status in a message of the client, "" where there is none."""
    found = re.search(r"status code: (\d{3})\b", text)
    return found[1] if found else ""


def _said(status: str, code: str) -> str:
    return " ".join(part for part in ("HTTP" if status else "", status, code) if part) or "no reason given"


def host_of(text: str) -> str:
    """The address of the server in a message of the client, "" where there is none."""
    found = re.search(r"\b(?:GET|PUT|POST|HEAD|DELETE) (https?://[^\s/?#]+)", text)
    return hide_credentials(found[1]) if found else ""


def reason_of(text: str) -> str:
    """Why a message of the client says that there was no answer; "" where it says nothing known."""
    for sign, reason in (
        ("dns error", "the host name is not known"),
        ("ConnectionRefused", "connection refused"),
        ("kind: Connect,", "no connection"),
        ("kind: Timeout", "timed out"),
        ("TimedOut", "timed out"),
        ("error sending request", "connection lost"),
        ("request or response body error", "connection lost"),
        ("error decoding response body", "connection lost"),
    ):
        if sign in text:
            return reason
    return ""
