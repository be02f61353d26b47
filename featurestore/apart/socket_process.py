"""A process of ours beside this one that is asked over a socket, and may be lost.

It ends when its socket does, however the process at the other end came to its end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import IO, Any, NoReturn

from featurestore.apart.subprocess_call import fresh_python, path_here

_READY = "ready"


class Lost(Exception):
    """A process is no longer there; the message says how it ended.

    Args:
        how: the message.
        stopped_by: the signal that ended it; 0 for none.
    """

    def __init__(self, how: str, stopped_by: int = 0) -> None:
        super().__init__(how)
        self.stopped_by = stopped_by

    @property
    def is_passing(self) -> bool:
        """Whether it may be for want of memory, of room or of a process, and no fault of what was asked."""
        return self.stopped_by in (0, signal.SIGKILL, signal.SIGTERM)


class SocketProcess:
    """A fresh Python that runs `serve` of a module, which begins with `answering`; one thread asks at a time.

    Args:
        module: its name.
        options: texts for it; see `answering`.
        environment: variables that are other there than here.
        error_output: where it says what it says of itself; None: where this process does.

    Raises:
        OSError: none can be started.
    """

    def __init__(
        self,
        module: str,
        *options: str,
        environment: Mapping[str, str],
        error_output: IO[bytes] | None = None,
    ) -> None:
        here, there = socket.socketpair()
        with there:
            try:
                self._process = subprocess.Popen(
                    [*fresh_python(module), str(there.fileno()), *options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=error_output,
                    pass_fds=(there.fileno(),),
                    env={**os.environ, **environment},
                    process_group=0,  # the terminal's Ctrl-C is for us to answer
                )
            except BaseException:
                here.close()
                raise
        self.connection = Connection(here.detach())

    def begin(self) -> None:
        """Wait until it can be asked.

        Raises:
            Lost: it ended before.
        """
        try:
            if self._process.stdin is not None:
                with self._process.stdin as path:
                    path.write(path_here())
            if self.connection.recv() != _READY:
                raise EOFError
        except (EOFError, OSError) as error:
            raise self.lost() from error

    def lost(self) -> Lost:
        """How it ended; it is killed if it has not."""
        self.kill()  # it may have closed its end and not be gone yet
        code = self._process.wait()
        if code >= 0:
            return Lost(f"exit code {code}")
        return Lost(signal.Signals(-code).name, -code)

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()

    def close(self) -> None:
        """End it, if it has not ended, and leave no trace of it."""
        self.kill()
        self._process.wait()
        self.connection.close()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def forget(self) -> None:
        """In a fork of the process that started it: it is the other's."""
        self.connection.close()
        self._process.returncode = 0


def answering() -> tuple[Connection, list[str]]:
    """In the process: the connection, which the asker waits to hear `ready` of, and the options."""
    # Ctrl-C and a batch system's signal are for the asker to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor, *options = sys.argv[1:]
    threading.Thread(target=_end_with, args=(int(descriptor),), daemon=True).start()
    return Connection(int(descriptor)), options


def ready(connection: Connection[Any, Any]) -> None:
    """In the process: whatever takes time before the first question is done."""
    connection.send(_READY)


def _end_with(descriptor: int) -> NoReturn:
    """End this process, whatever it is at, when the asker's end of the socket is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)  # nothing but that it hangs up
    poll.poll()
    os._exit(0)
