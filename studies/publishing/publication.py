"""Publishing keys of a store: copied, described, with checksums last, so that what is whole can be told."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extractors.run.model_check import NAME_OF_JSON
from featurestore.backends.storage import Storage, open_storage
from featurestore.errors import ConfigError
from featurestore.format.row_arrays import CLAIMS_ARRAY
from featurestore.manifest.table import to_text
from featurestore.outputs import REMOTE_SCHEMES, check_folder
from featurestore.printable import json_text
from featurestore.store.key import KeyInfo, key_names, read_key
from featurestore.store.reader import Features
from featurestore.untrusted.documents import DocumentError, read_json_document
from featurestore.upkeep.key_copy import copy_key
from probes.report.methods.document import methods_markdown
from probes.report.methods.wording import as_markdown
from studies.publishing import checksums
from studies.publishing.croissant import croissant
from studies.publishing.described import (
    MARK,
    STORE_FOLDER,
    PublishedKey,
    Words,
    data_card,
    methods_of,
    published_key,
    references_of,
)
from studies.publishing.licences import (
    Licence,
    corpus_licence,
    model_licence,
    parse_corpus_licences,
    require_labels_allowed,
)
from studies.publishing.passed_on import PassedOn, passed_on

README, CROISSANT, METHODS, REFERENCES = "README.md", "croissant.json", "methods.md", "references.bib"
_OURS = {README, CROISSANT, METHODS, REFERENCES, STORE_FOLDER, checksums.NAME, "tables", "certificates"}


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """What is to be published.

    Attributes:
        source: the store.
        infos: its keys that are.
        out: folder or URL of the publication.
        words: what who publishes says of it.
        with_labels: pass on labels and groups.
        corpus_licences: ``DATASET=LICENCE`` for each data set of which it is known.
        certificates: files of `fs model check`.
    """

    source: Storage
    infos: Sequence[KeyInfo]
    out: str
    words: Words
    with_labels: bool = False
    corpus_licences: Sequence[str] = ()
    certificates: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What was published.

    Attributes:
        url: where.
        keys: what.
        licences: of corpora and models.
        warnings: what goes along and may tell more than was meant.
        n_objects, n_bytes: of all of it, the list of checksums left out.
        sha256: of that list.
    """

    url: str
    keys: Sequence[PublishedKey]
    licences: Sequence[Licence]
    warnings: Sequence[str]
    n_objects: int
    n_bytes: int
    sha256: str


def publish(request: PublishRequest, on_progress: Callable[[int, int], None] | None = None) -> Publication:
    """Publish keys. Run again after an interruption, it does what is missing.

    Args:
        request: what, where, and what may go along.
        on_progress: told how many units are copied, and of how many.

    Raises:
        ConfigError: labels whose licence nobody said, a certificate of another model, or a place that holds
            something else, such as another state of a key; nothing is written.
        CorruptData: the source is damaged; what was published of it has no list of checksums.
    """
    features = [Features(request.source, info) for info in request.infos]
    licences = _licences(request, features)
    certificates = _certificates(request.certificates, features)
    check_place(request.out)
    to = open_storage(request.out)
    store = open_storage(store_url(request.out))
    _require_ours(to, store, request.infos)
    told = [passed_on(f, with_labels=request.with_labels) for f in features]
    _require_same_keys(store, [how.told.info(i) for i, how in zip(request.infos, told, strict=True)])
    to.delete(checksums.NAME)  # what is changed now is not whole until the end
    on_unit = units_told(request.infos, on_progress)
    keys = [
        _published(request.source, store, info, how, on_unit)
        for info, how in zip(request.infos, told, strict=True)
    ]
    for name, certificate in certificates.items():
        to.put(name, certificate)
    for key in keys:
        table = to_text(key.table()).to_csv(index=False, lineterminator="\n").encode()
        to.put(key.table_name, table)
    tables = checksums.sums_of(to, (key.table_name for key in keys))
    methods = methods_of(keys)
    said = " ".join(map(as_markdown, methods.sentences))
    to.put(CROISSANT, croissant(request.words, keys, licences, tables, said).encode())
    to.put(METHODS, methods_markdown([methods]).encode())
    to.put(REFERENCES, references_of(keys).encode())
    to.put(README, data_card(request.words, keys, licences, list(certificates)).encode())
    return _with_sums(to, keys, licences, [w for how in told for w in how.warnings])


def units_told(
    infos: Sequence[KeyInfo], on_progress: Callable[[int, int], None] | None
) -> Callable[[], None]:
    """To be called once for each unit of these keys."""
    total, done = sum(len(info.units) for info in infos), itertools.count(1)
    return (lambda: None) if on_progress is None else (lambda: on_progress(next(done), total))


def check_place(out: str) -> None:
    """Refuse a folder that nothing can be written into; of a URL the first request tells."""
    if out.split("://")[0] not in (*REMOTE_SCHEMES, "memory"):
        check_folder(Path(out))


def store_url(out: str) -> str:
    """Where the store of a publication is."""
    return f"{out.rstrip('/')}/{STORE_FOLDER}"


def _licences(request: PublishRequest, features: Sequence[Features]) -> list[Licence]:
    """Of every corpus and model once.

    Raises:
        ConfigError: labels are to go along, and a corpus has none that is known.
    """
    given = parse_corpus_licences(request.corpus_licences, (f.dataset for f in features))
    corpora = {x.what: x for x in (corpus_licence(f, given) for f in features)}
    models = {x.what: x for x in map(model_licence, features)}
    if request.with_labels:
        require_labels_allowed(corpora.values())
    return [*corpora.values(), *models.values()]


def _certificates(files: Sequence[Path], features: Sequence[Features]) -> dict[str, bytes]:
    """Name in the publication → content, of certificates of models that are published."""
    found: dict[str, bytes] = {}
    models = {json.dumps(f.info.fingerprint.get("model"), sort_keys=True): f.model for f in features}
    for file in files:
        try:
            said = read_json_document(file)
        except DocumentError as error:
            raise ConfigError(
                f"--certificate {file}: {error}; `fs model check MODEL --out` writes one"
            ) from error
        if not isinstance(said, dict) or said.get("made_by") != NAME_OF_JSON:
            raise ConfigError(f"--certificate {file}: this is none of `fs model check MODEL --out`")
        model = models.get(json.dumps(said.get("fingerprint"), sort_keys=True))
        if model is None:
            published = ", ".join(sorted(set(models.values())))
            raise ConfigError(
                f"--certificate {file}: it is of the model {said.get('name')!r} with other weights or "
                f"settings than those published ({published}); check the model that was used"
            )
        told = {**said, "model": os.path.basename(str(said.get("model", "")).rstrip("/"))}
        found[f"certificates/{model}.json"] = (json_text(told, indent=1) + "\n").encode()
    return found


def _require_ours(to: Storage, store: Storage, infos: Sequence[KeyInfo]) -> None:
    """Refuse a place that holds something else, or keys that would be published unasked.

    Raises:
        ConfigError: it does.
    """
    others = sorted(set(to.children("")) - _OURS)
    readme = to.get(README)
    if others or (readme is not None and not readme.startswith(MARK.encode())):
        raise ConfigError(
            f"--out {to.url}: holds {(others or [README])[0]!r}, which is of no publication; choose an empty "
            "place"
        )
    there, _ = key_names(store)
    if more := sorted(set(there) - {(i.model, i.dataset) for i in infos}):
        raise ConfigError(
            f"--out {to.url}: {'/'.join(more[0])} was published there and is not asked for now; ask for it "
            f"too, or take it away with `fs rm {store.url} --model {more[0][0]} --dataset {more[0][1]}`"
        )


def _require_same_keys(store: Storage, infos: Sequence[KeyInfo]) -> None:
    """Refuse to mix two states of a key: what is published of the earlier one stays as it is.

    Raises:
        ConfigError: a key was published there before its store grew, or from another store.
    """
    for info in infos:
        if store.get(f"{info.path}/zarr.json") and read_key(store, info.model, info.dataset) != info:
            raise ConfigError(
                f"--out {store.url}: holds another state of {info.path}, from before the store grew or was "
                "made anew; choose an empty place"
            )


def _published(
    source: Storage, store: Storage, info: KeyInfo, how: PassedOn, on_unit: Callable[[], None]
) -> PublishedKey:
    copy_key(source, store, info.model, info.dataset, told=how.told, on_unit=on_unit)
    features = Features(store, how.told.info(info))
    n_bytes = sum(size for _, size in store.objects(info.path))
    return published_key(features, how.left_out, n_bytes)


def _with_sums(
    to: Storage, keys: Sequence[PublishedKey], licences: Sequence[Licence], warnings: Sequence[str]
) -> Publication:
    """Read everything back, and put its checksums last."""
    is_claim = f"/{CLAIMS_ARRAY}/c/"
    sizes: dict[str, Any] = {n: s for n, s in to.objects("") if n != checksums.NAME and is_claim not in n}
    text = checksums.sums_text(checksums.sums_of(to, sizes))
    to.put(checksums.NAME, text)
    return Publication(
        url=to.url,
        keys=keys,
        licences=licences,
        warnings=warnings,
        n_objects=len(sizes),
        n_bytes=sum(sizes.values()),
        sha256=hashlib.sha256(text).hexdigest(),
    )
