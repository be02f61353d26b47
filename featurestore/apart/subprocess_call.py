"""A call in a process of its own, which gives all its memory back when it ends.

What Python frees stays with the process, for the most part: after a million rows were planned, half a
gigabyte would lie there while probes are trained. And what is computed apart does not keep the threads of
this process waiting.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ParamSpec, TypeVar

from featurestore.errors import ProcessLost

P = ParamSpec("P")
R = TypeVar("R")

# Python's own modules alone until it has the caller's path, which then says where everything else is.
_CODE = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from {} import serve; serve()"


def fresh_python(module: str) -> list[str]:
    """The command of a fresh Python that runs `serve` of a module, once it has `path_here` as its input.

    Unlike with `multiprocessing`, the caller's script is not run again there, so it needs no guard; and a
    daemonic process, as workers of Dask are, may start it too.
    """
    return [sys.executable, "-P", "-c", _CODE.format(module)]


def path_here() -> bytes:
    """Where this process finds modules, for a `fresh_python`."""
    return pickle.dumps(sys.path)


def call_apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """``function(*args, **kwargs)``, computed by a fresh Python of the same environment.

    Args:
        function: of a module, so that it can be found there by name.
        args: picklable, as `kwargs` and what the function returns or raises must be.
        kwargs: see `args`.

    Raises:
        RuntimeError: the process ended without an answer.
        Exception: whatever the function raises.
    """
    question = _question(function, args, kwargs)
    with _started() as child:
        try:
            answer, _ = child.communicate(question)
        except BaseException:
            child.kill()
            raise
    if child.returncode or not answer:
        raise RuntimeError(f"the process of {function.__name__} ended with {child.returncode} and no answer")
    # Our own child wrote it, nobody else can.
    succeeded, value = pickle.loads(answer)  # noqa: S301
    if not succeeded:
        raise value
    result: R = value
    return result


class TellingCall:
    """A call as in `call_apart` that goes on beside its caller, and tells how far it is.

    Ctrl-C is not sent there, so that it ends with the caller and says nothing of its own: by `stop`, or,
    where the caller is no more, the next time that it tells something.

    Args:
        function: of a module; its first argument is what it calls to tell something.
        args: its others, picklable, as what it tells, returns and raises must be.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._name = function.__name__
        self._child = _started(start_new_session=True)
        assert self._child.stdin is not None
        with self._child.stdin as to:
            to.write(_question(function, args, {}, tells=True))

    def told(self) -> Iterator[Any]:
        """What it tells, and at last what it returns.

        Raises:
            ProcessLost: the process ended before that.
            Exception: whatever the function raises.
        """
        assert self._child.stdout is not None
        with self._child.stdout as answers:
            succeeded = None
            while succeeded is None:
                try:
                    succeeded, value = pickle.load(answers)  # noqa: S301, our own child's
                except EOFError:
                    code = self._child.wait()
                    raise ProcessLost(
                        f"the process of {self._name} ended with {code} and no answer"
                    ) from None
                if succeeded is not None:
                    self._child.wait()
                if succeeded is False:
                    raise value
                yield value

    def stop(self) -> None:
        """End the process; what it has not told is lost."""
        self._child.kill()
        self._child.wait()


def _started(**options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(fresh_python(__name__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)


def _question(function: Callable[..., Any], args: Any, kwargs: Any, *, tells: bool = False) -> bytes:
    return path_here() + pickle.dumps((function, args, kwargs, tells))


def serve() -> None:
    """What the process does: one call from its standard input, one answer to its standard output."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between

    def write(succeeded: bool | None, value: Any) -> None:  # None: told before it is known
        answer.write(pickle.dumps((succeeded, value)))
        answer.flush()

    try:
        function, args, kwargs, tells = pickle.load(sys.stdin.buffer)  # noqa: S301
        told = (partial(write, None),) if tells else ()
        write(True, function(*told, *args, **kwargs))
    except KeyboardInterrupt:
        sys.exit(130)  # the caller was interrupted too
    except BrokenPipeError:
        os._exit(1)  # the caller is no more
    except Exception as error:
        write(False, error)
