"""Fetching a published store: every object held to its checksum, then to the records of its key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from featurestore.backends.storage import Storage, open_storage
from featurestore.backends.website import WEB_SCHEMES, WebFolder
from featurestore.errors import CorruptData, KeyNotFound
from featurestore.format.layer_arrays import parse_layer_name
from featurestore.store.chosen_keys import chosen_keys
from featurestore.upkeep.key_copy import CopySummary, copy_key
from featurestore.upkeep.verification import verify_key
from studies.publishing.checksums import CheckedStorage, read_sums
from studies.publishing.described import STORE_FOLDER
from studies.publishing.publication import README, store_url, units_told


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What was fetched.

    Attributes:
        copies: of each key.
        store: where it is now.
        card: where the licences are told.
    """

    copies: tuple[CopySummary, ...]
    store: str
    card: str


def pull(
    url: str,
    store: str,
    *,
    models: Collection[str] | None = None,
    datasets: Collection[str] | None = None,
    sha256: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Pulled:
    """Copy keys of a publication into a store, and verify them there. Goes on after an interruption.

    Args:
        url: folder or URL of the publication, on a web server too.
        store: folder or URL of the store, which may hold other keys.
        models: only these.
        datasets: only these.
        sha256: of the list of checksums, where it was told by another way; without it the list itself has to
            come over TLS.
        on_progress: told how many units are copied, and of how many.

    Raises:
        StoreError: there is no publication, or the store has another key of the name.
        CorruptData: an object is not as listed; a key that holds it is not there afterwards.
    """
    published = _opened(url, is_list_told=sha256 is not None)
    sums = read_sums(published, sha256)
    prefix = f"{STORE_FOLDER}/"
    of_store = {n.removeprefix(prefix): s for n, s in sums.items() if n.startswith(prefix)}
    CheckedStorage(published, sums).read_unread(n for n in sums if not n.startswith(prefix))
    stored = _opened(store_url(url), of_store, is_list_told=sha256 is not None)
    source, to = CheckedStorage(stored, of_store), open_storage(store)
    keys = chosen_keys(source, models, datasets)
    for why in keys.unreadable.values():
        raise CorruptData(why)
    if not keys.infos:
        held = ", ".join("/".join(k) for k in keys.held) or "none"
        raise KeyNotFound(f"{published.url}: no published key with these names; there are: {held}")
    source.read_unread(n for n in of_store if n.count("/") < 2)
    _require_all_there(source, of_store, keys.known, models, datasets)
    on_unit, copies = units_told(keys.infos, on_progress), []
    for info in keys.infos:
        below = f"{info.path}/"
        # First what is small and tells of the rest; shards are held to the list as they are copied.
        source.read_unread(n for n in of_store if n.startswith(below) and not _is_shard(n, below))
        copies.append(copy_key(source, to, info.model, info.dataset, on_unit=on_unit))
        source.read_unread(n for n in of_store if n.startswith(below))
        report = verify_key(to, info.model, info.dataset)
        if not report.is_intact:
            raise CorruptData(f"{to.url}: {info.path} is damaged after it was copied: {report.findings[0]}")
    return Pulled(copies=tuple(copies), store=to.url, card=f"{published.url}/{README}")


def _opened(url: str, names: Collection[str] = (), *, is_list_told: bool) -> Storage:
    """A folder, a bucket, or what a web server has under these names."""
    if url.split("://")[0] in WEB_SCHEMES:
        return WebFolder(url, names, with_http=is_list_told)
    return open_storage(url)


def _require_all_there(
    source: CheckedStorage,
    listed: Iterable[str],
    known: Collection[tuple[str, str]],
    models: Collection[str] | None,
    datasets: Collection[str] | None,
) -> None:
    """Refuse a publication that lacks a whole key of those asked for, which no listing of it shows.

    Raises:
        CorruptData: the first object of that key.
    """
    there = set(known)
    for name in sorted(listed):
        model, dataset, *rest = name.split("/", 2)[:3] if name.count("/") >= 2 else ("", "")
        is_asked = (models is None or model in models) and (datasets is None or dataset in datasets)
        if rest and is_asked and (model, dataset) not in there:
            source.get(name)


def _is_shard(name: str, below: str) -> bool:
    array, _, rest = name.removeprefix(below).partition("/")
    return rest.startswith("c/") and parse_layer_name(array.replace("frames_", "layer_")) is not None
