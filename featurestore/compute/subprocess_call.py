"""A call in a process of its own, which gives all its memory back when it ends.

What Python frees stays with the process, for the most part: after a million rows were planned, half a
gigabyte would lie there while probes are trained.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
    question = path_here() + pickle.dumps((function, args, kwargs))
    command = fresh_python(__name__)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
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


def serve() -> None:
    """What the process does: one call from its standard input, one answer to its standard output."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between
    try:
        function, args, kwargs = pickle.load(sys.stdin.buffer)  # noqa: S301
        found = pickle.dumps((True, function(*args, **kwargs)))
    except KeyboardInterrupt:
        sys.exit(130)  # the caller was interrupted too
    except Exception as error:
        found = pickle.dumps((False, error))
    with answer:
        answer.write(found)
