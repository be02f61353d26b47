"""`fs manifest`: a command for each corpus, with that corpus's own options.

Imports nothing heavy: `fs --help` needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featurestore.corpora.option_kinds import OptionKind, kind_of
from studies.terminal.command import Command, Subgroup


class Corpora(Subgroup):
    """One subcommand per corpus, made when it is asked for, each with that corpus's own options."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group.list_commands`."""
        from featurestore.corpora.registry import corpus_names

        return [*super().list_commands(ctx), *corpus_names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group.get_command`."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        from featurestore.corpora.registry import get_corpus

        return _corpus_command(get_corpus(cmd_name))


_OF_KIND: dict[OptionKind, dict[str, Any]] = {
    "text": {},
    "list": {"multiple": True},
    "flag": {"is_flag": True},
    "whole": {"type": int},
    "number": {"type": float},
}
_METAVARS: dict[str, dict[str, Any]] = {"columns": {"metavar": "OURS=THEIRS"}}


# Of annotation tables alone: only these leave something out of a recording.
_BACKGROUND: dict[str, dict[str, Any]] = {
    "background": {
        "is_flag": False,
        "flag_value": "calls",
        "metavar": "[SECONDS]",
        "help": "Add a class of what is not annotated: stretches as long as the calls, or so many seconds.",
    },
    "background_label": {"help": "Label it is a class of; may be left out where there is one."},
    "background_name": {"help": "Name of the class; default: background."},
    "background_rows": {"help": "Rows of it; default: balanced, as many as a class has on average."},
    "background_margin": {"type": float, "help": "Seconds to keep from every annotation; default: 0."},
    "background_seed": {"type": int, "help": "Seed that draws them; default: 0."},
}


def _background(given: dict[str, Any]) -> Any:
    """The `BackgroundRequest` of these options; None without ``--background``."""
    from featurestore.corpora.background import BALANCED, LIKE_CALLS, BackgroundRequest
    from featurestore.errors import ConfigError
    from featurestore.names import is_whole_number

    length, rows = given["background"], given["background_rows"]
    if length is None:
        if odd := [k for k, v in given.items() if v is not None]:
            raise ConfigError(f"--{odd[0].replace('_', '-')} is for --background; give that too")
        return None
    if rows not in (None, BALANCED) and not is_whole_number(str(rows)):
        raise ConfigError(f"--background-rows: expected a whole number or {BALANCED}, got {rows!r}")
    try:
        seconds = None if length == LIKE_CALLS else float(length)
    except ValueError:
        raise ConfigError(f"--background: expected a number of seconds, got {length!r}") from None
    options = {
        "length_s": seconds,
        "label": given["background_label"],
        "name": given["background_name"],
        "rows": int(rows) if rows not in (None, BALANCED) else None,
        "margin_s": given["background_margin"],
        "seed": given["background_seed"],
    }
    return BackgroundRequest(**{k: v for k, v in options.items() if v is not None})


def _repeated(name: str, metavar: str, sentence: str) -> click.Option:
    return click.Option([name], multiple=True, metavar=metavar, help=sentence)


def _corpus_command(corpus: Any) -> click.Command:
    own = [
        click.Option(
            [f"--{name.replace('_', '-')}"],
            help=sentence,
            **_OF_KIND[kind_of(name)],
            **_METAVARS.get(name, {}),
        )
        for name, sentence in corpus.options.items()
    ]
    groups = "; ".join(f"{name}: {meaning}" for name, meaning in corpus.groups.items())

    def run(source: Path, out: Path, **options: Any) -> None:
        from featurestore.corpora.conversion import ManifestRequest, make_manifest
        from studies.terminal.console import print_manifest_report

        given = {k: options.pop(k) for k in list(corpus.options) if k in options}
        background = _background({k: options.pop(k, None) for k in _BACKGROUND})
        request = ManifestRequest(
            corpus=corpus.name,
            source=source,
            out=out,
            options={k: v for k, v in given.items() if v is not None and v != () and v is not False},
            background=background,
            **options,
        )
        print_manifest_report(*make_manifest(request), out)

    path = click.Path(path_type=Path)
    common = [
        click.Argument(["source"], type=path),
        click.Option(["--out"], required=True, type=path, help="Manifest to write, .csv or .parquet."),
        click.Option(["--allow-missing"], is_flag=True, help="Leave out rows whose audio is missing."),
        click.Option(["--group"], help=f"What the group column holds, a label column, or none. {groups}"),
    ]
    tools = [
        click.Option(
            ["--map", "mapping"], type=path, help="CSV (label,from,to) of classes to rename, merge or drop."
        ),
        _repeated("--min-class-size", "COLUMN=N", "Drop labels of classes with fewer rows."),
        _repeated("--derive", "NEW=COLUMN:REGEX", "New label column from what a pattern finds."),
        _repeated("--explode", "COLUMN", "One 0/1 column per class of a column of label sets."),
    ]
    if corpus.takes_file:
        tools += [click.Option([f"--{k.replace('_', '-')}"], **how) for k, how in _BACKGROUND.items()]
    return Command(
        corpus.name,
        callback=run,
        params=[*common, *own, *tools],
        short_help=corpus.title,
        help=f"{corpus.title}\n\nGet it from: {corpus.where}. Licence: {corpus.licence}.",
    )
