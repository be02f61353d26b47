"""Who may talk to a Dask cluster: TLS with certificates of one run, or those of the user.

Whoever reaches a scheduler, a worker or a nanny without TLS makes it run any code. So what we start asks
every connection for a certificate that is made for this run and known to this run alone.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurestore.compute.dask_runner import import_part
from featurestore.errors import ConfigError

#: Where dashboards listen: they ask for no certificate and show names of tasks and call stacks.
LOOPBACK = "127.0.0.1"
PROTOCOL = "tls://"
# The settings of a user's own certificates, by the names that Dask reads from the environment.
_VARIABLES = ", ".join(
    f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")
)


def temporary_security(of: Any = None) -> Any:
    """A `distributed.Security`, or `of` a class below it, with its own certificate and key, in memory only.

    Raises:
        DependencyMissing: `cryptography` or `distributed` is not installed.
    """
    kind = of or import_part("distributed").Security
    import_part("cryptography")
    return kind.temporary()


@contextmanager
def security_of_jobs(folder: Path, *, in_shell: bool) -> Iterator[Any]:
    """As `temporary_security`, for workers in jobs, who read certificate and key from files.

    The files lie in a new folder that only this user may enter, and only their paths stand in job scripts and
    lists of processes. A worker that its nanny starts anew reads them again: they stay until the end.

    Args:
        folder: where the jobs' machines look too.
        in_shell: whether a shell reads the jobs' command, so that paths have to be quoted.

    Raises:
        ConfigError: `folder` cannot be written.
        DependencyMissing: `cryptography` or `distributed` is not installed.
    """
    security = temporary_security(_class_of_jobs(import_part("distributed")))
    try:
        private = tempfile.TemporaryDirectory(prefix=".fs-cluster-", dir=folder)  # mode 0700
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot keep the workers' certificate here ({error.strerror}); name a folder that "
            "the jobs see too as shared_temp_directory in the cluster file"
        ) from error
    with private as place:
        cert, key = (os.path.join(place, name) for name in ("cert.pem", "key.pem"))
        _write_private(cert, security.tls_worker_cert)
        _write_private(key, security.tls_worker_key)
        # The certificate is its own authority.
        paths = {"ca_file": cert, "cert": cert, "key": key}
        security.paths = {k: shlex.quote(v) if in_shell else v for k, v in paths.items()}
        yield security


def _class_of_jobs(distributed: Any) -> Any:
    class JobSecurity(distributed.Security):  # type: ignore[misc]
        """Gives paths to what writes the command of a worker; all else has the certificate in memory."""

        paths: Mapping[str, str]

        def get_tls_config_for_role(self, role: str) -> dict[str, Any]:
            config: dict[str, Any] = super().get_tls_config_for_role(role)
            return {**config, **self.paths} if role == "worker" else config

    return JobSecurity


def _write_private(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def configured_security(address: str) -> Any:
    """The user's own certificates, which Dask's configuration names, for a scheduler at a ``tls://`` address.

    Raises:
        ConfigError: none are named, or they cannot be read.
    """
    security = import_part("distributed").Security()
    if not (security.tls_ca_file and security.tls_client_cert):
        raise ConfigError(
            f"cluster {address!r}: expected certificate files in Dask's configuration, got none; "
            f"set {_VARIABLES}"
        )
    try:
        security.get_connection_args("client")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"cluster {address!r}: cannot use the certificate files of Dask's configuration "
            f"({error.strerror or error}); check {_VARIABLES}"
        ) from error
    return security
