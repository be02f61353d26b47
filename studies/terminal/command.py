"""How `fs` takes its words and says what is wrong with them: one line and an exit code.

Imports nothing heavy: `fs --help` needs it.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from featurestore.audio.decoder_noise import hush_decoders
from featurestore.backends.remote_settings import hide_urls
from featurestore.errors import Mistakes, UserError
from featurestore.printable import printable, shell_words

EXIT_INTERNAL = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
# What the system says of a place is no bug, and what can be done about it.
_OF_A_PLACE = {
    errno.ENOSPC: "free some and run the same command again",
    errno.EDQUOT: "free some and run the same command again",
    errno.ENAMETOOLONG: "expected the name of a file or folder",
    errno.ELOOP: "correct the links, or give another place",
    errno.EACCES: "give another place, or have its permissions changed",
    errno.EROFS: "give another place, or have its permissions changed",
    errno.EPERM: "give another place, or have its permissions changed",
    errno.EIO: "run the same command again, or give another place",
    errno.ESTALE: "run the same command again, or give another place",
}
_SHOWN_OF_A_NAME = 200


class Command(click.Command):
    """A command that refuses an option given twice which holds one value: the first would be lost."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command.parse_args`."""
        if not ctx.resilient_parsing:  # resilient: the shell completes a line that is not yet whole
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            _refuse_repetition(order, ctx)
        return super().parse_args(ctx, args)


def _refuse_repetition(order: Sequence[click.Parameter], ctx: click.Context) -> None:
    for parameter, n in Counter(order).items():
        one_value = isinstance(parameter, click.Option) and not (parameter.multiple or parameter.is_flag)
        if one_value and n > 1:
            name = max(parameter.opts, key=len)
            raise click.UsageError(f"{name} was given {n} times and takes one value; keep one", ctx)


@contextmanager
def plain_messages() -> Iterator[None]:
    """Warnings and log lines of any library, which may quote names and texts, are text on one line too."""
    formatwarning, last = warnings.formatwarning, logging.lastResort

    def one_line(message: Warning | str, *where: Any, **more: Any) -> str:
        return formatwarning(printable(message), *where, **more)

    formatter = last.formatter if last else None
    warnings.formatwarning = one_line
    if last:
        last.setFormatter(_OneLine())
    try:
        yield
    finally:
        warnings.formatwarning = formatwarning
        if last:
            last.setFormatter(formatter)


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name that logging calls
        return printable(super().formatMessage(record))


class Subgroup(click.Group):
    """Commands under a name of `fs`; the group above says what is wrong."""

    command_class = Command


class Group(click.Group):
    """Turns errors into one line and an exit code; tracebacks only with ``--debug``."""

    command_class = Command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """See `click.Command.make_context`."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            self._say_usage(error)
            raise click.exceptions.Exit(EXIT_USER) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """See `click.Group.resolve_command`; names the command below another that is called so."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            groups = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
            below = [
                f"{name} {args[0]}"
                for name, group in groups.items()
                if isinstance(group, click.Group) and args[0] in group.list_commands(ctx)
            ]
            if not below:
                raise
            hint = f"no such command {args[0]!r}; did you mean {' or '.join(map(repr, below))}?"
            raise click.UsageError(hint, error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """See `click.Command.invoke`."""
        debug = bool(ctx.params.get("debug"))
        hush_decoders()
        try:
            with plain_messages(), _heeding_sigterm():
                return super().invoke(ctx)
        except UserError as error:
            if debug:
                raise
            for line in error.lines if isinstance(error, Mistakes) else (error,):
                say_error(f"error: {line}")
            ctx.exit(EXIT_USER)
        except KeyboardInterrupt as stop:
            how, code = ("interrupted", EXIT_INTERRUPTED)
            if isinstance(stop, Terminated):
                how, code = ("terminated", EXIT_TERMINATED)
            command = shell_words(["fs", *sys.argv[1:]])
            click.secho(hide_urls(f"{how}: what was finished is kept; to go on: {command}"), err=True)
            ctx.exit(code)
        except click.UsageError as error:
            self._say_usage(error)
            ctx.exit(EXIT_USER)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # `fs ls | head`: the reader has gone, which is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except Exception as error:
            if debug:
                raise
            if isinstance(error, OSError) and error.errno in _OF_A_PLACE:
                say_error(f"error: {_shown_name(error)}{error.strerror}; {_OF_A_PLACE[error.errno]}")
                ctx.exit(EXIT_USER)
            reason = " ".join(str(error).split())
            say_error(f"internal error: {type(error).__name__}: {reason} (a bug; `fs --debug …` shows where)")
            ctx.exit(EXIT_INTERNAL)

    def _say_usage(self, error: click.UsageError) -> None:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return
        message = " ".join(error.format_message().split()).rstrip(".")
        of = error.ctx.command_path if error.ctx is not None else self.name
        say_error(f"error: {message[:1].lower()}{message[1:]}; `{of} --help` lists what there is")


class Terminated(KeyboardInterrupt):
    """SIGTERM came: everything that heeds Ctrl-C heeds it too."""


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, by way of all that tidies up; a batch system that stops a job sends it.

    Python's own way is to be gone at once, and temporary folders and claims stay. A second one does that.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _shown_name(error: OSError) -> str:
    if not error.filename:
        return ""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"{name if len(name) <= _SHOWN_OF_A_NAME else f'{name[:_SHOWN_OF_A_NAME]}…'}: "


def say_error(line: str) -> None:
    """One line in red on standard error."""
    # Whatever a message repeats of a command line: a secret in a URL is in no log.
    click.secho(printable(hide_urls(line)), fg="red", err=True)
