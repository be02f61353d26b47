"""Which keys the CPU half can take: complete, of the study's settings, with the labels of its manifests.

Neither audio nor models are needed for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from featurestore.errors import FingerprintMismatch, KeyNotFound
from featurestore.layer_list import parse_layers
from featurestore.printable import counted, json_text
from studies.study_run.key_plan import surplus
from studies.study_run.scope import Pair

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from featurestore.manifest.table import Manifest
    from featurestore.store.key import KeyInfo
    from featurestore.store.reader import Features


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """A key as the CPU half sees it.

    Attributes:
        pair: model and corpus.
        lacks: what it waits for; "" where the key is complete.
        n_done, n_rows: utterances embedded, and planned.
        info: the key; None where there is none.
    """

    pair: Pair
    lacks: str = ""
    n_done: int = 0
    n_rows: int = 0
    info: KeyInfo | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it can be probed."""
        return not self.lacks


class Keys:
    """The keys of a study's store, looked at again and again.

    Args:
        store: path or URL.
        extractions: what `fs extract` is asked for, by model and corpus.
        manifests: of the corpora that are at hand here.
    """

    def __init__(
        self, store: str, extractions: Mapping[Pair, ExtractConfig], manifests: Mapping[str, Path]
    ) -> None:
        self._store = store
        self._extractions = extractions
        self._paths = manifests
        self._manifests: dict[str, Manifest] = {}

    def look(self, pairs: Iterable[Pair]) -> list[Readiness]:
        """How far each key is.

        Raises:
            FingerprintMismatch: one was made with other settings than the file has.
            CorruptData: one cannot be read.
        """
        from featurestore.backends.storage import open_storage
        from featurestore.store.reader import open_store

        wanted = list(pairs)
        # Not there yet is no error; out of reach is one.
        if open_storage(self._store).get("zarr.json") is None:
            return [Readiness(pair=pair, lacks="there is no store yet") for pair in wanted]
        store = open_store(self._store)
        found = []
        for pair in wanted:
            try:
                features = store.features(*pair)
            except KeyNotFound:
                found.append(Readiness(pair=pair, lacks="not begun"))
                continue
            found.append(self._of_key(pair, features))
        return found

    def _of_key(self, pair: Pair, features: Features) -> Readiness:
        from featurestore.store.ledger import is_complete

        info, config = features.info, self._extractions[pair]
        check_given(self._store, info, config)
        layers = list(parse_layers(config.layers)) if config.layers else list(info.layers)
        done = [u for u in info.units if is_complete(features.ledger.get(u.index), u, layers)]
        n_rows, n_done = sum(u.n_rows for u in info.units), sum(u.n_rows for u in done)
        lacks = ""
        if len(done) < len(info.units):
            lacks = f"{n_done:,} of {counted(n_rows, 'utterance')} embedded"
        elif said := self._other_rows(pair[1], features):
            lacks = f"{said}; `fs study extract` brings it up to date"
        return Readiness(pair=pair, lacks=lacks, n_done=n_done, n_rows=n_rows, info=info)

    def _other_rows(self, corpus: str, features: Features) -> str:
        """How the manifest here differs from the key's in what probes read; "" where it does not."""
        from featurestore.manifest.table import read_manifest
        from featurestore.store.stored_manifest import changes

        if corpus not in self._paths:
            return ""
        if corpus not in self._manifests:
            # Whether rows may hold no audio was asked when the key was made.
            path = self._paths[corpus]
            self._manifests[corpus] = read_manifest(path, check_files=False, allow_empty=True)
        here, stored = self._manifests[corpus], features.manifest
        if self._extractions[features.model, corpus].channel == "each":
            return ""  # rows are made of the manifest's
        missing = set(here.table["utterance_id"]) - set(stored.table["utterance_id"])
        if missing:
            n = counted(len(missing), "utterance")
            return f"{n} of the manifest not in the key (such as {min(missing)!r})"
        if gone := surplus(stored, here):
            return gone
        said = [c for c in changes(stored, here) if c != "labels unchanged" and not c.startswith("places ")]
        return f"other labels in the manifest than in the key ({'; '.join(said[:3])})" if said else ""


def check_given(store: str, info: KeyInfo, config: ExtractConfig) -> None:
    """Refuse a key that was asked for with other options than the file has.

    Raises:
        FingerprintMismatch: with every option that differs. Keys of earlier versions do not say.
    """
    from extractors.run.recipe import given_of

    given = info.model_card.get("given")
    if not isinstance(given, Mapping):
        return
    asked = {k: _plain(v) for k, v in given_of(config).items()}
    stored = {k: _plain(v) for k, v in given.items()}
    # The same model may lie elsewhere on another machine.
    for options in (asked, stored):
        options["model"] = json_text(PurePath(str(options["model"]).strip('"')).name)
    differ = [
        f"{name}: stored {stored.get(name, 'default')}, asked {asked.get(name, 'default')}"
        for name in dict.fromkeys((*stored, *asked))
        if stored.get(name) != asked.get(name)
    ]
    if differ:
        raise FingerprintMismatch(
            f"{store}: key {info.path} was made with other settings than the study file has: "
            f"{'; '.join(differ)}; give the model another name in the file, or remove the key with `fs rm`"
        )


def _plain(value: Any) -> str:
    return json_text(list(value) if isinstance(value, tuple) else value)
