"""How progress and summaries look in a terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len

from featurestore.errors import CorruptData, NotPlain
from featurestore.layer_list import format_layers
from featurestore.manifest.table import CONTRACT_COLUMNS
from featurestore.printable import counted, plain, printable
from studies.terminal.progress import counting, shares_done
from studies.terminal.screen import console, error_console, say_error

if TYPE_CHECKING:
    from extractors.results import ExtractSummary
    from featurestore.audit import AuditConfig
    from featurestore.corpora.interface import CorpusTable
    from featurestore.manifest.labels import LabelReport
    from featurestore.store.reader import Store
    from probes.leakage.kinds import LeakageReport
    from probes.report import ReportPaths
    from probes.run.probing import ProbeSummary
    from probes.saved.chosen_probe import SavedSummary
    from studies.predict import Predictions

MAX_REASONS = 10
SHOWN_ROWS = 10
# Of an error, which is one line.
MAX_REASONS_IN_LINE = 3
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)")


def print_extract_summary(summary: ExtractSummary, store: str) -> None:
    """What a run did: clips, failures with reasons, audio, rate, bytes."""
    out = console()
    for note in summary.notes:
        out.print(f"note: {note}")
    done = summary.n_embedded
    skipped = f", {summary.n_skipped} already in the store" if summary.n_skipped else ""
    out.print(
        f"{summary.key}: {counted(done - len(summary.failed), 'clip')} embedded, "
        f"{len(summary.failed):,} failed"
        f"{skipped}; layers {format_layers(summary.layers)}",
    )
    if done:
        took = max(summary.elapsed_s, 1e-9)
        alone = f"the model alone {done / summary.forward_s:.1f} clips/s" if summary.forward_s else ""
        rate = f"{done / took:.1f} clips/s, {summary.audio_s / took:.1f}× real time"
        together = ""
        if summary.n_together > 1:  # the time is that of all models: it says nothing of this one
            together, rate = f" by {summary.n_together} models together", ""
        rates = "; ".join(filter(None, (rate, alone)))
        out.print(
            f"{format_duration(summary.audio_s)} of audio in {format_duration(summary.elapsed_s)}{together} "
            f"on {summary.device}{f' ({rates})' if rates else ''}"
            f", {format_bytes(summary.n_bytes)} written to {store}",
        )
    if summary.selfcheck is not None and summary.selfcheck.deviations:
        check = summary.selfcheck
        by_layer = ", ".join(f"{layer} {worst:.0e}" for layer, worst in check.deviations.items())
        out.print(
            f"self-check: {counted(check.n_clips, 'clip')} alone, largest relative difference by layer: "
            f"{by_layer}; allowed {check.tolerance:.0e}",
        )
    print_failures(summary.failed)


def print_failures(failed: dict[str, str]) -> None:
    """Failed clips by reason, most frequent first, each with an example."""
    out = console()
    reasons = _alike(failed)
    for reason, ids in reasons[:MAX_REASONS]:
        out.print(f"  failed: {len(ids):,} × {reason} (e.g. {ids[0]!r})")
    if len(reasons) > MAX_REASONS:
        more = counted(len(reasons) - MAX_REASONS, "further reason")
        out.print(f"  and {more}; `fs info` lists them all")


def reasons(failed: Mapping[str, str]) -> str:
    """Why clips failed, counted, within one line: ``3 × no samples in the file, 1 × too short: …``."""
    found = _alike(failed)
    shown = ", ".join(f"{len(ids)} × {reason}" for reason, ids in found[:MAX_REASONS_IN_LINE])
    more = len(found) - MAX_REASONS_IN_LINE
    return shown + (f", and {counted(more, 'further reason')}" if more > 0 else "")


def _alike(failed: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Reasons with the ids that failed for them, most frequent first; numbers that differ are left out.

    ``cut short: 5 of 9 samples …`` and ``cut short: 7 of 9 samples …`` are ``cut short: … of 9 samples …``.
    """
    ids: dict[tuple[str, ...], list[str]] = {}
    numbers: dict[tuple[str, ...], list[list[str]]] = {}
    for i, reason in failed.items():
        parts = _NUMBER.split(reason)
        ids.setdefault(tuple(parts[::2]), []).append(i)
        numbers.setdefault(tuple(parts[::2]), []).append(parts[1::2])
    found = []
    for texts, of in sorted(ids.items(), key=lambda item: -len(item[1])):
        same = [
            of_place[0] if len(set(of_place)) == 1 else "…" for of_place in zip(*numbers[texts], strict=True)
        ]
        found.append(("".join(a + b for a, b in zip(texts, [*same, ""], strict=True)), of))
    return found


def print_probe_summary(summary: ProbeSummary, *, oracle: bool = False) -> None:
    """The tables of what was asked, and how much was fitted."""
    from probes.report.load import QUESTION_KEYS

    asked = set(map(tuple, summary.table[QUESTION_KEYS].drop_duplicates().to_numpy()))
    print_tables(summary.out, oracle=oracle, only=asked)
    cached = f", {counted(summary.n_cached, 'fit')} there already" if summary.n_cached else ""
    console().print(
        f"{counted(summary.n_fitted, 'fit')} in {format_duration(summary.seconds)}{cached}; "
        f"results in {summary.out}",
    )


def print_tables(
    results: str | Path, *, oracle: bool = False, only: Collection[tuple[str, ...]] | None = None
) -> None:
    """Layers × models for every question of a results folder; `only`: for some, named as `Question.name`."""
    from probes.report.load import load_report_data
    from probes.report.tables import legend, terminal_tables
    from probes.report.warn import undertrained

    out, data = console(), load_report_data(results)
    shown = [q for q in data.questions if only is None or q.name in only]
    others = len(data.questions) - len(shown)
    data = replace(data, questions=shown)
    for table in terminal_tables(data, oracle=oracle):
        out.print(table)
        out.print()
    out.print(legend(data, oracle=oracle), style="dim")
    if others:
        out.print(f"{counted(others, 'other question')} in this folder: fs report {results} --out …")
    for sentence in undertrained(data):
        out.print(f"note: {sentence}", style="yellow")


def print_saved_probe(saved: SavedSummary) -> None:
    """What was saved, how good it was, and whether it is the one that was recorded."""
    from probes.splits import held_out

    out, card = console(), saved.card
    n, differ = card.reproduced["n_test"], card.reproduced["n_differ"]
    split, _, fold = card.split
    place = f"{'layer' if len(card.layers) == 1 else card.combine} {format_layers(card.layers)}"
    name, prefix = ("mAP", "map") if card.multilabel else ("UAR", "uar")
    val, test = (100 * card.scores.get(f"{prefix}_{part}", float("nan")) for part in ("val", "test"))
    out.print(
        f"{card.label} by {card.classifier} on {place} of {card.model}, trained on {card.dataset} "
        f"(split {split}: {held_out(split)}; fold {fold}, seed {card.seed}); "
        f"{name} {val:.1f} % on validation, {test:.1f} % on {counted(n, 'test clip')}"
    )
    out.print(f"fitted again: {n - differ} of {n} test predictions are those on record")
    if differ:
        out.print(
            "note: this probe is not quite the one whose scores these are; another machine or other versions "
            "round otherwise",
            style="yellow",
        )
    out.print(f"probe: {saved.folder}   use it with: fs predict --probe {saved.folder} --manifest …")


def print_predictions(found: Predictions, path: Path) -> bool:
    """How many rows got which class, failures with reasons, and where the table is; False if none got one."""
    out, table = console(), found.table
    ok = table["status"] == "ok"
    counts = Counter(table.loc[ok, "prediction"])
    shown = ", ".join(f"{name} {n}" for name, n in counts.most_common(MAX_REASONS))
    more = f", … ({len(counts)} in all)" if len(counts) > MAX_REASONS else ""
    out.print(f"{int(ok.sum())} labelled: {shown}{more}" if counts else "nothing labelled")
    rows = table[~ok]
    failed = dict(zip(rows["utterance_id"], rows["status"].str.removeprefix("failed: "), strict=True))
    print_failures(failed)
    out.print(f"predictions: {path}")
    if ok.any():
        return True
    n = counted(len(table), "clip")
    say_error(f"error: none of {n} could be labelled: {reasons(failed)}")
    return False


def print_report_paths(paths: ReportPaths) -> None:
    """Where the report was written, the page last."""
    out = console()
    out.print(f"table: {paths.csv}   figure: {paths.png}, {paths.svg}")
    out.print(f"report: {paths.html.resolve()}")


def print_manifest_report(found: CorpusTable, reports: list[LabelReport], out: Path) -> None:
    """What a manifest holds, what was changed or left out, and what its groups are."""
    screen = console()
    labels = [c for c in found.table.columns if c not in CONTRACT_COLUMNS]
    screen.print(f"{out}: {counted(len(found.table), 'utterance')}, labels {', '.join(labels) or 'none'}")
    screen.print(f"group: {found.group or 'none'}")
    if found.missing:
        screen.print(
            f"missing: {len(found.missing)} audio files (first {found.missing[0]!r}), "
            f"{counted(found.n_rows_lost, 'row')} left out",
        )
    for note in found.notes:
        screen.print(f"note: {note}")
    for report in reports:
        for line in str(report).split("\n"):
            screen.print(line)


def print_keys(url: str) -> None:
    """One line per key."""
    from featurestore.store.key import find_keys
    from featurestore.store.reader import open_store

    keys, unreadable = find_keys(open_store(url).storage)
    lines = [("model", "dataset", "layers", "functionals", "features", "rows", "dtype")]
    for key in keys:
        names = (printable(key.model), printable(key.dataset), format_layers(key.layers))
        rows = sum(s.n_rows for s in key.segments)
        functionals = printable(",".join(key.functionals))
        lines.append((*names, functionals, str(key.shape.n_features), str(rows), key.shape.dtype))
    # Aligned here: Rich takes as long over a table of 1,000 rows as everything else together.
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    right = (4, 5)
    for line in lines:
        gaps = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        cells = [g + c if i in right else c + g for i, (c, g) in enumerate(zip(line, gaps, strict=True))]
        click.echo(printable("  ".join(cells).rstrip()))
    print_left_out(unreadable)


def print_left_out(unreadable: Mapping[tuple[str, str], str]) -> None:
    """Keys that cannot be read and were left out, on standard error."""
    for why in unreadable.values():
        error_console().print(f"left out: {why}", style="yellow")


def print_info(url: str, model: str | None, dataset: str | None) -> None:
    """Size, completeness, settings and failures of each key."""
    from extractors.models.package_versions import NOT_COMPARED
    from featurestore.fingerprint import flatten
    from featurestore.store.reader import open_store

    out = console()
    store = open_store(url)

    def show(m: str, d: str) -> None:
        features = store.features(m, d)
        records = features.ledger.values()
        planned = sum(s.n_rows for s in features.info.segments)
        failed = {i: why for r in records for i, why in r.failed.items()}
        shape, settings = features.info.shape, flatten(features.info.fingerprint)
        hosts = ", ".join(sorted({r.host for r in records}))
        out.print(plain(f"{m}/{d}", style="bold"))
        facts = {
            "utterances": f"{len(features.rows)} of {planned} committed, {len(failed)} failed",
            "units": f"{len(features.units)} of {len(features.info.units)}, {shape.unit_rows} rows each",
            "layers": f"{format_layers(features.layers)}, each {shape.n_functionals} × {shape.n_features}",
            "frames": "not kept" if features.info.frames is None else f"kept in {features.info.frames.dtype}",
            "labels": ", ".join(features.label_columns) or "none",
            "size": format_bytes(sum(o.n_bytes for r in records for o in r.objects.values())),
            "audio": format_duration(sum(r.audio_s for r in records)),
            "work": f"{format_duration(sum(r.elapsed_s for r in records))} on {hosts or '-'}",
            **{k: str(v) for k, v in settings.items() if not k.startswith("model.config")},
            **{f"made with {k}": v for k, v in features.info.versions.items() if k != NOT_COMPARED},
        }
        later = {
            v[NOT_COMPARED]
            for v in (features.info.versions, *(r.versions for r in records))
            if NOT_COMPARED in v
        }
        if later:
            facts["values not compared with"] = "; ".join(sorted(later))
        for name, value in facts.items():
            out.print(f"  {name + ':':32} {value}")
        print_failures(failed)

    _each(store, chosen_keys(store, model, dataset), show)


def _each(
    store: Store, keys: Sequence[tuple[str, str]], do: Callable[[str, str], None]
) -> list[tuple[str, str]]:
    """Do something with each key, and name those whose records are damaged: the others are not kept from it.

    Returns:
        The keys named.

    Raises:
        CorruptData: there is no other key.
    """
    failed: dict[tuple[str, str], str] = {}
    for m, d in keys:
        try:
            do(m, d)
        except CorruptData as error:
            if len(keys) == 1:
                raise
            failed[m, d] = str(error)
    print_left_out(failed)
    return list(failed)


def verify_store(
    url: str,
    model: str | None,
    dataset: str | None,
    *,
    repair: bool,
    quiet: bool,
    audio: bool = False,
    workers: int | None = None,
) -> bool:
    """Check every key, print what was found; True if nothing is damaged (any more, with `repair`).

    Args:
        url: of the store.
        model: only this.
        dataset: only this.
        repair: mend what can be.
        quiet: no progress bar.
        audio: also compare the audio with what was embedded; True only if all of it could be.
        workers: threads that decode.
    """
    from featurestore.store.key import key_names
    from featurestore.store.reader import open_store
    from featurestore.upkeep.verification import foreign_objects, verify_key, verify_root

    out = console()
    store = open_store(url)
    # Keys that cannot be read, too: it is these that this is for.
    names, unlisted = key_names(store.storage)
    keys = _of(store, [*names, *unlisted], model, dataset)
    above = verify_root(store.storage, [m for m, _ in keys], repair=repair)
    for finding in above:
        out.print(f"{finding}")
    intact = repair or not above
    for (m, _), why in unlisted.items():
        if model in (None, m):
            out.print(f"damaged: {m}: {why}")
            intact = False
    keys = [name for name in keys if name not in unlisted]
    for m, d in keys:
        with counting(f"verifying {m}/{d}", _n_units(store, m, d), quiet=quiet) as step:
            report = verify_key(store.storage, m, d, repair=repair, on_unit=step)
        intact &= report.is_mended if repair else report.is_intact
        damage = sum(f.is_damage for f in report.findings)
        pending = report.n_units - report.n_committed
        state = "intact" if report.is_intact else f"{damage} damaged"
        out.print(
            f"{report.key}: {state}; {report.n_committed} of {report.n_units} units committed"
            f"{f', {pending} pending' if pending else ''}, {format_bytes(report.n_bytes)} checked",
        )
        for finding in report.findings:
            out.print(f"  {finding}")
        for line in (*report.repaired, *report.unrepaired):
            out.print(f"  {line}")
        if audio:
            intact &= _prove_audio(store, m, d, workers=workers, quiet=quiet)
    if model is None and dataset is None:
        for name in foreign_objects(store.storage, keys):
            out.print(f"  foreign: {name}: not part of the store; left alone")
    return intact


def _n_units(store: Store, model: str, dataset: str) -> int:
    """Units of a key's plan; 0 where its document cannot be read."""
    from featurestore.store.key import read_key

    try:
        return len(read_key(store.storage, model, dataset).units)
    except (CorruptData, NotPlain):
        return 0


def _prove_audio(store: Store, model: str, dataset: str, *, workers: int | None, quiet: bool) -> bool:
    """Compare the audio of one key with what was embedded and say what came of it."""
    from featurestore.compute.task_runners import decoding_threads
    from featurestore.store.sound_identity import Sounds
    from featurestore.upkeep.audio_proof import STEP_ROWS, prove_audio

    features = store.features(model, dataset)
    sounds = Sounds(n_threads=workers or decoding_threads())
    try:
        steps = -(-len(features.facts) // STEP_ROWS)
        with counting(f"comparing audio of {model}/{dataset}", steps, quiet=quiet) as step:
            proof = prove_audio(features, sounds, step)
    except CorruptData as error:
        console().print(f"  audio: not compared: {error}")
        return False
    console().print(
        f"  audio: {proof.n_proved:,} rows hold what their ids stand for, {len(proof.other):,} do not, "
        f"{len(proof.unproved):,} could not be compared; {proof.n_failed:,} failed and hold nothing",
    )
    for line in (*proof.other, *proof.unproved)[:SHOWN_ROWS]:
        console().print(f"    {line}")
    more = len(proof.other) + len(proof.unproved) - SHOWN_ROWS
    if more > 0:
        console().print(f"    and {more:,} more")
    return not proof.other and not proof.unproved


def copy_keys(source: str, target: str, model: str | None, dataset: str | None, *, quiet: bool) -> None:
    """Copy the chosen keys and say what was copied."""
    from featurestore.backends.storage import open_storage
    from featurestore.store.reader import open_store
    from featurestore.upkeep.key_copy import copy_key

    store = open_store(source)
    to = open_storage(target)

    def copy(m: str, d: str) -> None:
        with counting(f"copying {m}/{d}", _n_units(store, m, d), quiet=quiet) as step:
            done = copy_key(store.storage, to, m, d, on_unit=step)
        pending = f", {done.n_pending} not extracted yet" if done.n_pending else ""
        console().print(
            f"{done.key}: {counted(done.n_copied, 'unit')} copied, {done.n_present} were there{pending}; "
            f"{format_bytes(done.n_bytes)} written to {to.url}",
        )

    keys, left_out = _choose(store, model, dataset)
    if failed := len(_each(store, keys, copy)) + len(left_out):
        n_keys = len(keys) + len(left_out)
        raise CorruptData(f"{counted(failed, 'key')} of {n_keys} could not be copied, see above")


def remove_keys(url: str, model: str, dataset: str) -> None:
    """Remove one key."""
    from featurestore.store.key import read_key
    from featurestore.store.reader import open_store
    from featurestore.store.writer import delete_key

    store = open_store(url)
    # A key that cannot be read can be removed all the same.
    if "zarr.json" not in store.storage.children(f"{model}/{dataset}"):
        read_key(store.storage, model, dataset)  # says so: a wrong name is an error, not a success
    delete_key(store.storage, model, dataset)
    console().print(f"{model}/{dataset} removed from {store.url}")


def attach(url: str, manifest: Path, model: str | None, dataset: str | None, *, without_audio: bool) -> None:
    """Replace the labels stored with the chosen keys."""
    from featurestore.manifest.table import read_manifest
    from featurestore.store.key import read_key
    from featurestore.store.reader import open_store
    from featurestore.store.sound_identity import Sounds
    from featurestore.upkeep.new_labels import attach_manifest

    store = open_store(url)
    # The audio may long be elsewhere: labels need none.
    table = read_manifest(manifest, check_files=False)
    infos = [read_key(store.storage, m, d) for m, d in chosen_keys(store, model, dataset)]
    for done in attach_manifest(store.storage, infos, table, sounds=Sounds(), without_audio=without_audio):
        _print_notes(done.notes)
        labels = ", ".join(table.label_columns) or "none"
        # Nothing to compare with where the manifest before was damaged.
        changed = [] if done.changes is None else done.changes or ["nothing changed"]
        said = "; ".join([f"labels {labels} attached to {counted(done.n_rows, 'utterance')}", *changed])
        console().print(f"{done.key}: {said}")


def export_keys(request: dict[str, Any], *, quiet: bool) -> None:
    """Write keys to files of other tools and say what was written."""
    from featurestore.exchange import export

    with shares_done("exporting", quiet=quiet) as progress:
        summary = export(**request, on_progress=progress)
    _print_notes(summary.notes)
    keys = ", ".join(f"{k.model}/{k.dataset}" for k in summary.keys)
    console().print(f"{keys} written to {summary.out}, {format_bytes(summary.n_bytes)}")


def import_keys(request: dict[str, Any], *, quiet: bool) -> None:
    """Read a file of another tool into a store and say what was read."""
    from featurestore.exchange import import_

    with shares_done("importing", quiet=quiet) as progress:
        summary = import_(**request, on_progress=progress)
    _print_notes(summary.notes)
    console().print(
        f"{', '.join(f'{k.model}/{k.dataset}' for k in summary.keys)} imported into {summary.store}",
    )


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        console().print(f"note: {note}")


def audit_corpus(config: AuditConfig, out: Path | None, grouped: Path | None = None, *, quiet: bool) -> bool:
    """Audit a manifest, print what was found, write the page; True if there is no fault.

    Args:
        config: What to audit.
        out: Folder of the page.
        grouped: Manifest to write in which copies share a group.
        quiet: No progress bar.
    """
    from featurestore.audit import audit_text, run_audit, with_copies_grouped, write_audit
    from featurestore.manifest.table import read_manifest, write_manifest

    with shares_done("decoding", quiet=quiet) as progress:
        report = run_audit(config, progress)
    for part in audit_text(report):
        console().print(part)
    if out is not None:
        paths = write_audit(report, out)
        console().print(f"page: {paths.html}   all of it: {paths.csv}")
    if grouped is not None:
        assert report.copies is not None  # what `run_audit` made has them
        table = with_copies_grouped(read_manifest(config.manifest, check_files=False).table, report.copies)
        write_manifest(table, grouped)
        n = counted(table["group"].nunique(), "group")
        console().print(f"{grouped}: {counted(len(table), 'utterance')} in {n}, copies together")
    return report.n_faults == 0


def print_leakage(reports: Sequence[LeakageReport]) -> None:
    """What the parts of the splits share, on standard error, before training."""
    from probes.leakage.kinds import sentences

    err = error_console()
    for line in sentences(reports):
        err.print(f"leakage: {line}", style="yellow")
    # How was compared matters where something was found, or where not all could be.
    told = [r for r in reports if not r.complete or any(leak.kind == "similar" for leak in r.leaks)]
    for note in dict.fromkeys(n for r in told for n in r.notes):
        err.print(f"note: {note}", style="dim")


def print_notes(notes: Sequence[str]) -> None:
    """What a reader of the scores has to know of labels and splits, on standard error, before training."""
    err = error_console()
    for note in notes:
        err.print(f"note: {note}", style="yellow")


def chosen_keys(store: Store, model: str | None, dataset: str | None) -> list[tuple[str, str]]:
    """Keys of this model and dataset, either of which may be left open; those that cannot be read are named.

    Raises:
        KeyNotFound: there is none.
        CorruptData: there is one, and it cannot be read.
    """
    return _choose(store, model, dataset)[0]


def _choose(
    store: Store, model: str | None, dataset: str | None
) -> tuple[list[tuple[str, str]], dict[tuple[str, str], str]]:
    """`chosen_keys`, and those that were named, with the reason."""
    from featurestore.store.key import find_keys

    keys, unreadable = find_keys(store.storage)
    sound = [(k.model, k.dataset) for k in keys]
    chosen = _of(store, [*sound, *unreadable], model, dataset)
    left_out = {name: unreadable[name] for name in chosen if name in unreadable}
    if len(left_out) == len(chosen):
        raise CorruptData(next(iter(left_out.values())))
    print_left_out(left_out)
    return [name for name in chosen if name not in left_out], left_out


def _of(
    store: Store, keys: Iterable[tuple[str, str]], model: str | None, dataset: str | None
) -> list[tuple[str, str]]:
    from featurestore.errors import KeyNotFound

    chosen = [(m, d) for m, d in keys if model in (None, m) and dataset in (None, d)]
    if not chosen:
        raise KeyNotFound(f"{store.url}: no key with model {model or '*'} and dataset {dataset or '*'}")
    return chosen


def format_bytes(n: float) -> str:
    """``1.5 MB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def format_duration(seconds: float) -> str:
    """``1 h 02 min``, ``3 min 20 s`` or ``4.1 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
