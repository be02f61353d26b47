"""Calls in a process of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from featurestore.compute.subprocess_call import call_apart
from featurestore.errors import ConfigError


def answer(n: int) -> tuple[int, int]:
    print("what is printed is no part of the answer")
    return n + 1, os.getpid()


def refuse(what: str) -> None:
    raise ConfigError(f"expected nothing, got {what}")


def vanish(code: int) -> None:
    os._exit(code)


def test_the_answer_comes_from_another_process() -> None:
    found, process = call_apart(answer, 41)
    assert found == 42
    assert process != os.getpid()


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(ConfigError, match="expected nothing, got much"):
        call_apart(refuse, "much")


def test_a_process_that_ends_without_an_answer_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="the process of vanish ended with 3 and no answer"):
        call_apart(vanish, 3)


def test_it_finds_modules_where_this_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    import only_here  # type: ignore[import-not-found]

    assert call_apart(only_here.double, 4) == 8
