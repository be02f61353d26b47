"""Python processes of ours import nothing from the folder that they happen to be started in.

``python -c`` and ``python -m``, by which `multiprocessing`, Dask and batch jobs start theirs, look for
modules in the current folder first: a ``signal.py`` beside somebody's recordings would be run, and not
Python's. What this process finds, its children find all the same: they are given its ``sys.path``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Python 3.11 on; see `sys.flags.safe_path`.
SAFE_PATH_VARIABLE = "PYTHONSAFEPATH"


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep the current folder out of the path of every Python process that is started meanwhile.

    Through the environment, which processes of processes and batch jobs inherit.
    """
    before = os.environ.get(SAFE_PATH_VARIABLE)
    os.environ[SAFE_PATH_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH_VARIABLE, None)
        else:
            os.environ[SAFE_PATH_VARIABLE] = before
