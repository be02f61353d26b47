"""`fs` as tests call it, in this process, and what they ask of its answer."""

from __future__ import annotations

from click.testing import CliRunner, Result

import cli


def fs(*arguments: object) -> Result:
    """What `fs` with these arguments does."""
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def good(*arguments: object) -> Result:
    """The same, where it has to succeed."""
    result = fs(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def one_line_error(result: Result, *parts: str) -> None:
    """Exit code 2 and exactly one line on standard error that holds these parts."""
    assert result.exit_code == 2, (result.output, result.exception)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0], lines[0]
