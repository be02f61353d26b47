"""`fs publish` and `fs pull`: what was given away or fetched, in lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featurestore.backends.storage import open_storage
from featurestore.errors import CorruptData, KeyNotFound
from featurestore.printable import counted
from featurestore.store.chosen_keys import chosen_keys
from featurestore.store.reader import open_store
from studies.terminal import console, screen
from studies.terminal.progress import shares_done


def publish_keys(
    store: str,
    out: str,
    models: Sequence[str],
    datasets: Sequence[str],
    *,
    title: str | None,
    licence: str | None,
    creators: Sequence[str],
    url: str | None,
    labels: bool,
    corpus_licences: Sequence[str],
    certificates: Sequence[Path],
    quiet: bool,
) -> None:
    """Publish keys and say what went along, under which licences, and what did not."""
    from studies.publishing.described import Words
    from studies.publishing.licences import UNKNOWN
    from studies.publishing.publication import PublishRequest, publish

    source = open_store(store).storage
    keys = chosen_keys(source, models or None, datasets or None)
    for why in keys.unreadable.values():
        raise CorruptData(why)
    if not keys.infos:
        raise KeyNotFound(
            f"{source.url}: no key with these models and data sets; `fs ls` lists what there is"
        )
    words = Words(
        title=title or f"Embeddings of {', '.join(dict.fromkeys(k.dataset for k in keys.infos))}",
        licence=licence or UNKNOWN,
        creators=tuple(creators),
        url=url or "",
    )
    request = PublishRequest(
        source=source,
        infos=keys.infos,
        out=out,
        words=words,
        with_labels=labels,
        corpus_licences=corpus_licences,
        certificates=certificates,
    )
    with shares_done("publishing", quiet=quiet) as progress:
        done = publish(request, progress)
    console.print_remarks(done.warnings)
    to = screen.console()
    for key in done.keys:
        to.print(f"{key.path}: left out: {'; '.join(key.left_out)}")
    to.print(f"licence of the embeddings: {words.licence}")
    for x in done.licences:
        to.print(f"licence of {x.what}: {x.text} ({x.known_from})")
    size = console.format_bytes(done.n_bytes)
    to.print(f"{counted(len(done.keys), 'key')} published in {done.url}: {done.n_objects:,} objects, {size}")
    to.print(f"SHA-256 of SHA256SUMS, to be told by another way: {done.sha256}")


def pull_keys(
    url: str,
    store: str,
    models: Sequence[str],
    datasets: Sequence[str],
    *,
    sha256: str | None,
    quiet: bool,
) -> None:
    """Fetch keys of a publication and say what came."""
    from studies.publishing.pulling import pull

    with shares_done("pulling", quiet=quiet) as progress:
        done = pull(
            url, store, models=models or None, datasets=datasets or None, sha256=sha256, on_progress=progress
        )
    where = open_storage(store).url
    for copy in done.copies:
        console.print_copied(copy, where)
    screen.console().print(f"every object is as listed, every unit as recorded; licences: {done.card}")
