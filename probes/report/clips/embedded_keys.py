"""Where the audio is that answers rest on: proven to be that which was embedded when they were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurestore.archives.object_file import is_object
from featurestore.audio.blocks import SoundError, read_header
from featurestore.errors import AudioUnreachable, UserError
from featurestore.fingerprint import digest
from featurestore.printable import printable
from probes.questions.tasks import digest_of_rows
from probes.results.extractions import extraction_record
from probes.results.results_folder import calls_of, split_name, store_of
from probes.results.split_files import kept_split

if TYPE_CHECKING:
    from pathlib import Path

    from featurestore.store.reader import Features
    from probes.report.data import ReportedQuestion

# Of a corpus of many files the first say which rates it has.
MOST_HEADERS = 2000
PLACE_COLUMNS = ("path", "start_s", "end_s", "channel")
_IN_A_BUCKET = (
    "the audio lies in a bucket, which is not asked because a results folder leads there; name the store "
    "with --store"
)
_KEPT = [*PLACE_COLUMNS, "audio_hash", "duration_s"]


@dataclass(frozen=True, kw_only=True)
class EmbeddedAudio:
    """Audio of the utterances of a question.

    Attributes:
        rows: By utterance id: `PLACE_COLUMNS`, audio_hash, duration_s; empty where the audio is not known.
        model_rate_hz: Rate that the model heard it at; None where samples were taken as they are.
        reason: Why it is not known, or "".
    """

    rows: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_KEPT))
    model_rate_hz: int | None = None
    reason: str = ""

    def with_places(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of utterances, with `PLACE_COLUMNS` after ids, the path as ``file``; NaN if unknown."""
        places = self.rows[list(PLACE_COLUMNS)].reindex(table["utterance_id"]).reset_index(drop=True)
        at = list(table.columns).index("utterance_id") + 1
        left, right = table.iloc[:, :at], table.iloc[:, at:]
        known = places.rename(columns={"path": "file"})
        return pd.concat([left.reset_index(drop=True), known, right.reset_index(drop=True)], axis=1)


class EmbeddedKeys:
    """Keys behind a results folder, opened once.

    Args:
        results: The folder.
        run: Its ``_run.json``.
        store: Where the store is now; None: where ``fs probe`` read it, if that is on this machine. What a
            results folder of somebody else names is not fetched from a network.

    Raises:
        StoreError: `store` is given, and there is none. One that the results name may be gone: of its keys it
            is said that they cannot be read.
    """

    def __init__(self, results: Path, run: Mapping[str, Any], store: str | None = None) -> None:
        from featurestore import open_store

        if store is not None:
            open_store(store)
        self._results, self._run, self._store = results, run, store
        self._opened: dict[str, Features | str] = {}

    def of(self, question: ReportedQuestion) -> EmbeddedAudio:
        """The audio of the rows of a question, in the key of the model of its answer."""
        features = self._features(f"{question.answer['model']}/{question.dataset}")
        if isinstance(features, str):
            return EmbeddedAudio(reason=features)
        rows = features.index.set_index("utterance_id")[_KEPT]
        reason = self._difference(question, features, rows)
        if reason:
            return EmbeddedAudio(reason=reason)
        if self._store is None and any(map(is_object, rows["path"])):
            return EmbeddedAudio(reason=_IN_A_BUCKET)
        return EmbeddedAudio(rows=rows, model_rate_hz=_model_rate_hz(features.attrs["fingerprint"]))

    def extraction(self, path: str) -> Mapping[str, Any] | None:
        """`probes.results.extractions.extraction_record` of a key; None where nobody knows.

        Earlier versions kept none: then the store is asked, if its embeddings are made as those probed were.
        """
        kept = self._run.get("extractions", {}).get(path)
        if kept is not None:
            return dict(kept)
        features = self._features(path)
        digests = {
            s.get("extraction") for s in self._run.get("splits", []) if f"{s['model']}/{s['dataset']}" == path
        }
        if isinstance(features, str) or digests != {digest(features.attrs["fingerprint"])}:
            return None
        return extraction_record(features)

    def native_rates(self, path: str) -> list[int]:
        """Rates of the files of a key in Hz, the most frequent first; empty where they are not at hand."""
        features = self._features(path)
        if isinstance(features, str):
            return []
        rates: list[int] = []
        for file in features.index["path"].unique()[:MOST_HEADERS]:
            if self._store is None and is_object(str(file)):
                continue
            try:
                rates.append(read_header(str(file)).sample_rate_hz)
            except SoundError:
                continue
            except AudioUnreachable:
                break
        return [rate for rate, _ in Counter(rates).most_common()]

    def _features(self, path: str) -> Features | str:
        if path not in self._opened:
            self._opened[path] = self._open(path)
        return self._opened[path]

    def _open(self, path: str) -> Features | str:
        """A key, or why it cannot be read."""
        from featurestore import open_store

        store = self._store or self._recorded(path)
        if store is None:
            return "the results do not say which store they are of; name it with --store"
        if "://" in store and self._store is None:
            return f"the store {printable(store)} is not on this machine; name it with --store to look there"
        model, _, dataset = path.partition("/")
        try:
            features = open_store(store).features(model, dataset)
            assert len(features.index) >= 0  # reads it, and finds rows whose audio is not proven
        except (UserError, OSError) as error:
            return printable(str(error))
        return features

    def _recorded(self, path: str) -> str | None:
        """The store of the last call that asked this key."""
        calls = list(reversed(calls_of(self._run)))
        known = [c for c in calls if path in c.get("keys", {})] or calls
        return store_of(known[0]) if known and known[0]["config"].get("store") else None

    def _difference(self, question: ReportedQuestion, features: Features, rows: pd.DataFrame) -> str:
        """Why the key is not known to hold what the answers are about, or ""."""
        name = f"{features.model}/{features.dataset}"
        described = {split_name(s): s for s in self._run.get("splits", [])}
        fits = question.answer_fits.drop_duplicates("split_seed")
        for fit in fits.to_dict("records"):
            found = {str(k): v for k, v in fit.items()}
            split = described.get(split_name(found))
            kept = None if split is None else kept_split(self._results, split)
            if (
                kept is None
                or "label" not in kept
                or str(int(found["fold"])) not in kept
                or not found["data"]
            ):
                return f"the results, of an earlier version, do not say what audio of {name} they are about"
            if not set(kept["utterance_id"]) <= set(rows.index):
                return f"the store no longer holds all clips of {name} that were probed"
            if _digest(features.attrs["fingerprint"], rows, kept, str(int(found["fold"]))) != found["data"]:
                return f"the store holds other audio or embeddings of {name} now than were probed"
        return ""


def _digest(fingerprint: Any, rows: pd.DataFrame, kept: pd.DataFrame, fold: str) -> str:
    """`probes.questions.tasks.data_digest` of a split that was kept, with the audio of the store now."""
    from featurestore.manifest.labels import is_multilabel
    from probes.classifiers.multilabel import rarest_label

    cells = kept["label"].to_numpy(dtype=object)
    label = rarest_label(cells) if is_multilabel(pd.Series(cells, dtype=object)) else cells
    ids = kept["utterance_id"].to_numpy(dtype=object)
    hashes = rows["audio_hash"].reindex(ids).to_numpy(dtype=object)
    return digest_of_rows(fingerprint, ids, hashes, label, kept[fold].to_numpy(dtype=object))


def _model_rate_hz(fingerprint: Mapping[str, Any]) -> int | None:
    heard = fingerprint.get("input", {})
    expands = str(heard.get("resampler", "")).startswith("none")
    return None if expands else heard.get("sample_rate_hz")
