"""The page and its suspects, made in a process beside the one that serves, and how far that is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featurestore.apart.subprocess_call import TellingCall
from featurestore.errors import ProcessLost
from probes.report.clips.embedded_keys import EmbeddedKeys
from probes.report.clips.mistakes import mistakes_of
from probes.report.data import load_report_data
from probes.report.html import render_page
from probes.report.methods.document import methods
from probes.report.methods.document import page_context as methods_context

if TYPE_CHECKING:
    from probes.findings.mislabelled import Mislabelled


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """What page is made: of which results, see `probes.report.files.write_report`."""

    results: str
    oracle: bool
    store: str | None


def build(tell: Callable[[Any], None], asked: PageRequest) -> str:
    """Make the page; what it tells are stages (text, done, total), and the suspects of all questions."""
    data = load_report_data(asked.results, on_progress=lambda *stage: tell(stage), most_points=None)
    keys = EmbeddedKeys(data.path, data.run, asked.store)
    wrong = mistakes_of(data, keys)
    tell([found.suspects for found in wrong])
    del wrong
    more = methods_context(methods(data, keys))
    return render_page(data, oracle=asked.oracle, more=more, is_served=True)


@dataclass(eq=False)
class Building:
    """The work, and what has come of it so far.

    Attributes:
        stage: In words, steps done, and of how many.
        suspects: Of each question; None until they are known.
        page: None until it is there.
        failure: Why there will be none, or "": clips can be looked at all the same.
    """

    asked: PageRequest
    stage: tuple[str, int, int] = ("starting", 0, 0)
    suspects: list[Mislabelled] | None = None
    page: str | None = None
    failure: str = ""
    _call: TellingCall | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_stopped: bool = False

    def run(self) -> None:
        """Do it, and return when it is done or was stopped.

        Raises:
            UserError: something in the results folder cannot be read.
        """
        with self._lock:
            if self._is_stopped:
                return
            self._call = TellingCall(build, self.asked)
        try:
            for told in self._call.told():
                if isinstance(told, tuple):
                    self.stage = told
                elif isinstance(told, list):
                    self.suspects = told
                else:
                    self.page = told
        except ProcessLost as error:
            if not self._is_stopped:
                self.failure = f"{error}, which is mostly for want of memory: free some and start again"

    def stop(self) -> None:
        """End it."""
        with self._lock:
            self._is_stopped = True
            if self._call is not None:
                self._call.stop()
