"""`fs serve` in a terminal: one address, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

from studies.terminal.command import Terminated, say_error
from studies.terminal.screen import console


def serve_report(results: Path, *, port: int | None, oracle: bool, store: str | None) -> None:
    """Serve the report of a results folder until the user ends it.

    Args:
        results: The folder.
        port: Of 127.0.0.1; None: any that is free.
        oracle: Also show the layer that test scores prefer.
        store: Where the feature store is now; None: where it was.

    Raises:
        UserError: the port cannot be had, or the results cannot be read; the latter also later, when what is
            damaged is read.
    """
    from probes.report.served.server import ReportServer, check_port
    from probes.report.served.site import Site

    check_port(port)
    site = Site(results, oracle=oracle, store=store)
    with ReportServer(site, port, on_bug=say_error) as server:
        site.start(on_failure=server.shutdown)
        console().print(f"{server.url}   ends with Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt as stop:
            if isinstance(stop, Terminated):
                raise
        finally:
            site.stop()
