"""A web server with TLS, and a certificate of an authority that only the tests trust."""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class WebServer:
    """What it serves, where, and the certificate of its authority."""

    folder: Path
    url: str
    authority: Path
    elsewhere: dict[str, str]  # folder → address of the server that its files are at now


def _handler(folder: Path, elsewhere: dict[str, str]) -> Callable[..., http.server.SimpleHTTPRequestHandler]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            for at, to in elsewhere.items():
                if self.path.startswith(f"{at}/"):
                    self.send_response(302)
                    self.send_header("Location", to + self.path.removeprefix(at))
                    self.end_headers()
                    return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    return functools.partial(Handler, directory=str(folder))


def certificates(folder: Path) -> tuple[Path, Path]:
    """An authority, and a certificate with its key for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def signed(subject: str, of: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("authority"))
        builder = builder.public_key(of.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - day).not_valid_after(now + day)
        made = builder.add_extension(extension, critical=False).sign(authority_key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    authority, served = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(signed("authority", authority_key, x509.BasicConstraints(True, None)))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    served.write_bytes(
        signed("server", key, x509.SubjectAlternativeName([address])) + key.private_bytes(*pem)
    )
    return authority, served


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[WebServer]:
    """An empty folder that is served over TLS."""
    pytest.importorskip("cryptography")
    folder = tmp_path / "www"
    folder.mkdir()
    authority, served = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    elsewhere: dict[str, str] = {}
    with _served(folder, elsewhere, context) as address:
        yield WebServer(folder, f"https://{address}", authority, elsewhere)


@contextlib.contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """The address of a folder served without TLS."""
    with _served(folder, {}, None) as address:
        yield f"http://{address}"


@contextlib.contextmanager
def _served(folder: Path, elsewhere: dict[str, str], context: ssl.SSLContext | None) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder, elsewhere)) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
