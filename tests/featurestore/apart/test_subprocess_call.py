"""Calls in a process of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore.apart.subprocess_call import TellingCall, call_apart
from featurestore.errors import ConfigError, ProcessLost


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


def count(tell: Callable[[object], None], n: int) -> str:
    print("what is printed is not told")
    for i in range(n):
        tell((i, os.getpgrp()))
    return "done"


def refuse_after_one(tell: Callable[[object], None]) -> None:
    tell(1)
    raise ConfigError("expected one, got two")


def tell_for_ever(tell: Callable[[object], None]) -> None:
    while True:
        tell(os.getpid())


def vanish_after_one(tell: Callable[[object], None]) -> None:
    tell(1)
    os._exit(3)


def test_a_telling_call_tells_and_then_answers() -> None:
    *told, answer = TellingCall(count, 3).told()
    assert [i for i, _ in told] == [0, 1, 2]
    assert answer == "done"
    # Of a group of its own: Ctrl-C is not sent there.
    assert {group for _, group in told} != {os.getpgrp()}


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (refuse_after_one, ConfigError, "expected one, got two"),
        (vanish_after_one, ProcessLost, "the process of vanish_after_one ended with 3 and no answer"),
    ],
)
def test_a_telling_call_that_fails_says_so(
    function: Callable[..., None], error: type[Exception], said: str
) -> None:
    told = TellingCall(function).told()
    assert next(told) == 1
    with pytest.raises(error, match=said):
        next(told)


def test_a_telling_call_ends_when_it_is_stopped() -> None:
    call = TellingCall(tell_for_ever)
    process = next(call.told())
    call.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
