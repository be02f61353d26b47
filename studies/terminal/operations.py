"""What `fs` does to stores and corpora, with progress while it lasts and a line on each key afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import CorruptData, KeyNotFound, NotPlain
from featurestore.printable import counted
from featurestore.store.chosen_keys import ChosenKeys, Name, chosen_keys, matching
from featurestore.store.key import KeyInfo, key_names, read_key
from featurestore.store.reader import Features, Store, open_store
from studies.terminal import console, screen
from studies.terminal.command import say_error
from studies.terminal.progress import counting, extract_progress, shares_done, stages_done

if TYPE_CHECKING:
    from extractors.config import ExtractConfig
    from extractors.results import ExtractSummary
    from featurestore.audit import AuditConfig
    from probes.confounds import ConfoundsConfig
    from probes.questions.tasks import ProbeConfig
    from probes.run.probing import ProbeSummary

MOST_NAMED = 10


def run_extraction(configs: Sequence[ExtractConfig], *, quiet: bool) -> bool:
    """Extract with every model and print the summaries.

    Returns:
        False where nothing came of a key (see `failed_throughout`), or a key turned out suspect.
    """
    from extractors.run.extraction import extract_all

    with extract_progress(quiet=quiet) as on_progress:
        summaries = extract_all(configs, on_progress)
    for summary in summaries:
        console.print_extract_summary(summary, configs[0].store)
    suspect = [s for s in summaries if s.selfcheck is not None and s.selfcheck.beyond is not None]
    for summary in suspect:
        console.print_suspect(summary)
    lost = [line for s in summaries if (line := failed_throughout(s, configs[0].store))]
    for line in lost:
        say_error(f"error: {line}")
    return not suspect and not lost


def run_probing(
    config: ProbeConfig, *, quiet: bool, oracle: bool = False, with_tables: bool = True
) -> ProbeSummary:
    """Fit what a configuration asks for, with what there is to know before and after.

    Args:
        config: What to fit.
        quiet: No progress bar.
        oracle: Also show the layer that test scores prefer.
        with_tables: Show the tables of what was asked; a report may follow that shows them all.
    """
    from probes.results.selection import CURVE
    from probes.run.probing import run_probe
    from studies.terminal.learning_curves import print_learning_curves
    from studies.terminal.progress import probe_progress
    from studies.terminal.refits import print_refits

    with probe_progress(quiet=quiet) as on_progress:
        summary = run_probe(
            config, on_progress, on_leakage=console.print_leakage, on_notes=console.print_notes
        )
    console.print_probe_summary(summary, oracle=oracle, with_tables=with_tables)
    if config.curves:
        keys = ["model", "dataset", "label", "classifier", "split", "combine"]
        asked = set(map(tuple, summary.table[keys].drop_duplicates().to_numpy()))
        print_learning_curves(summary.out, {(*q, curve) for q in asked for curve in config.curves})
    if config.refit:
        asked = set(map(tuple, summary.table[list(CURVE)].drop_duplicates().to_numpy()))
        print_refits(summary.out, asked)
    return summary


def compare_confounds(config: ConfoundsConfig, *, quiet: bool) -> None:
    """Find what else explains labels, and say so."""
    from probes.confounds import run_confounds

    with stages_done(quiet=quiet) as told:
        stages = [told and partial(told, what) for what in ("decoding", "fitting")]
        found = run_confounds(config, *stages)
    console.print_confounds(found)


def report_results(results: Path, out: Path, *, oracle: bool, quiet: bool = False, **options: Any) -> None:
    """Write the report of a results folder, and show its tables; `options` are those of `write_report`."""
    from probes.report import load_report_data, write_report

    with stages_done(quiet=quiet) as told:
        data = load_report_data(results, on_progress=told)
        paths = write_report(data, out, oracle=oracle, **options)
    console.print_tables(data, oracle=oracle)
    console.print_report_paths(paths)


def failed_throughout(summary: ExtractSummary, store: str) -> str | None:
    """One line where nothing came of a key, with the reasons counted; None where something did.

    That is where every clip that the run embedded failed. Where it had none to embed, what earlier runs left
    decides: a run that only finds failures is no better for being the second.
    """
    if summary.n_embedded:
        failed, n, when = summary.failed, summary.n_embedded, "of this run failed"
    else:
        failed, n = _failed_earlier(summary, store)
        when = "in the store failed earlier, and there was no other to embed"
    if not n or len(failed) < n:
        return None
    clips = "the only clip" if n == 1 else f"all {n:,} clips"
    return (
        f"{summary.key}: {clips} {when}: {console.reasons(failed)}; mend the audio, or how it is asked for, "
        "and run again with --refresh"
    )


def _failed_earlier(summary: ExtractSummary, store: str) -> tuple[dict[str, str], int]:
    """Utterance id → reason of the clips of a key that failed, and how many clips are committed."""
    model, _, dataset = summary.key.partition("/")
    facts = open_store(store).features(model, dataset).facts
    return console.failures(facts), len(facts)


def list_keys(url: str) -> None:
    """Say what a store holds, one line per key."""
    console.print_keys(chosen_keys(open_store(url).storage))


def show_keys(url: str, model: str | None, dataset: str | None) -> None:
    """Say what there is to know of the chosen keys."""
    store = open_store(url)
    _each(_chosen(store, model, dataset), lambda key: console.print_info(Features(store.storage, key)))


def verify_keys(
    url: str,
    model: str | None,
    dataset: str | None,
    *,
    repair: bool,
    quiet: bool,
    audio: bool = False,
    workers: int | None = None,
) -> bool:
    """Check every key, say what was found; True if nothing is damaged (any more, with `repair`).

    Args:
        url: of the store.
        model: only this.
        dataset: only this.
        repair: mend what can be.
        quiet: no progress bar.
        audio: also compare the audio with what was embedded; True only if all of it could be.
        workers: threads that decode.
    """
    from featurestore.upkeep.verification import foreign_objects, verify_key, verify_root

    out, store = screen.console(), open_store(url)
    # Keys that cannot be read, too: it is these that this is for.
    names, unlisted = key_names(store.storage)
    asked = matching([*names, *unlisted], *_wanted(model, dataset))
    if not asked:
        raise _no_key(store, model, dataset, [*names, *unlisted])
    above = verify_root(store.storage, [m for m, _ in asked], repair=repair)
    for finding in above:
        out.print(f"{finding}")
    intact = repair or not above
    for (m, _), why in unlisted.items():
        if model in (None, m):
            out.print(f"damaged: {m}: {why}")
            intact = False
    keys = [name for name in asked if name not in unlisted]
    for m, d in keys:
        with counting(f"verifying {m}/{d}", _n_units(store, m, d), quiet=quiet) as step:
            report = verify_key(store.storage, m, d, repair=repair, on_unit=step)
        intact &= report.is_mended if repair else report.is_intact
        console.print_key_report(report)
        if audio:
            intact &= _verify_audio(store, m, d, workers=workers, quiet=quiet)
    if model is None and dataset is None:
        for name in foreign_objects(store.storage, keys):
            out.print(f"  foreign: {name}: not part of the store; left alone")
    return intact


def _n_units(store: Store, model: str, dataset: str) -> int:
    """Units of a key's plan; 0 where its document cannot be read."""
    try:
        return len(read_key(store.storage, model, dataset).units)
    except (CorruptData, NotPlain):
        return 0


def _verify_audio(store: Store, model: str, dataset: str, *, workers: int | None, quiet: bool) -> bool:
    """Compare the audio of one key with what was embedded; True if all of it is that."""
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
        screen.console().print(f"  audio: not compared: {error}")
        return False
    console.print_audio_proof(proof)
    return not proof.other and not proof.unproved


def copy_keys(source: str, target: str, model: str | None, dataset: str | None, *, quiet: bool) -> None:
    """Copy the chosen keys and say what was copied."""
    from featurestore.backends.storage import open_storage
    from featurestore.upkeep.key_copy import copy_key

    store, to = open_store(source), open_storage(target)

    def copy(key: KeyInfo) -> None:
        with counting(f"copying {key.path}", len(key.units), quiet=quiet) as step:
            done = copy_key(store.storage, to, key.model, key.dataset, on_unit=step)
        console.print_copied(done, to.url)

    keys = _chosen(store, model, dataset)
    if failed := _each(keys, copy) + len(keys.unreadable):
        n_keys = len(keys.infos) + len(keys.unreadable)
        raise CorruptData(f"{counted(failed, 'key')} of {n_keys} could not be copied, see above")


def remove_key(url: str, model: str, dataset: str) -> None:
    """Remove one key."""
    from featurestore.store.writer import delete_key

    store = open_store(url)
    # A key that cannot be read can be removed all the same.
    if "zarr.json" not in store.storage.children(f"{model}/{dataset}"):
        read_key(store.storage, model, dataset)  # says so: a wrong name is an error, not a success
    delete_key(store.storage, model, dataset)
    screen.console().print(f"{model}/{dataset} removed from {store.url}")


def attach_labels(
    url: str, manifest: Path, model: str | None, dataset: str | None, *, without_audio: bool
) -> None:
    """Replace the labels stored with the chosen keys."""
    from featurestore.manifest.table import read_manifest
    from featurestore.store.sound_identity import Sounds
    from featurestore.upkeep.new_labels import attach_manifest

    store = open_store(url)
    infos = _chosen(store, model, dataset).infos
    # The audio may long be elsewhere: labels need none.
    table = read_manifest(manifest, check_files=False, allow_empty=all(i.cut_by_librosa for i in infos))
    for done in attach_manifest(store.storage, infos, table, sounds=Sounds(), without_audio=without_audio):
        console.print_attached(done, table.label_columns)


def export_keys(request: dict[str, Any], *, quiet: bool) -> None:
    """Write keys to files of other tools and say what was written."""
    from featurestore.exchange import export

    with shares_done("exporting", quiet=quiet) as progress:
        summary = export(**request, on_progress=progress)
    console.print_export(summary)


def import_keys(request: dict[str, Any], *, quiet: bool) -> None:
    """Read a file of another tool into a store and say what was read."""
    from featurestore.exchange import import_

    with shares_done("importing", quiet=quiet) as progress:
        summary = import_(**request, on_progress=progress)
    console.print_import(summary)


def audit_corpus(config: AuditConfig, out: Path | None, grouped: Path | None, *, quiet: bool) -> bool:
    """Audit a manifest, say what was found, write the page; True if there is no fault.

    Args:
        config: What to audit.
        out: Folder of the page.
        grouped: Manifest to write in which copies share a group.
        quiet: No progress bar.
    """
    from featurestore.audit import check_grouped_target, run_audit, with_copies_grouped, write_audit
    from featurestore.manifest.table import read_manifest, write_manifest

    if grouped is not None:
        check_grouped_target(grouped, config.manifest)
    with shares_done("decoding", quiet=quiet) as progress:
        report = run_audit(config, progress)
    console.print_audit(report)
    if out is not None:
        paths = write_audit(report, out)
        screen.console().print(f"page: {paths.html}   all of it: {paths.csv}")
    if grouped is not None:
        assert report.copies is not None  # what `run_audit` made has them
        read = read_manifest(config.manifest, check_files=False, allow_empty=True)
        table = with_copies_grouped(read.table, report.copies)
        write_manifest(table, grouped)
        n = counted(table["group"].nunique(), "group")
        screen.console().print(f"{grouped}: {counted(len(table), 'utterance')} in {n}, copies together")
    return report.n_faults == 0


def _each(keys: ChosenKeys, do: Callable[[KeyInfo], None]) -> int:
    """Do something with each key, and name those whose records are damaged: the others are not kept from it.

    Returns:
        How many were named.

    Raises:
        CorruptData: there is no other key.
    """
    left_out = []
    for key in keys.infos:
        try:
            do(key)
        except CorruptData as error:
            if len(keys.infos) == 1:
                raise
            left_out.append(f"left out: {error}")
    console.print_left_out(left_out)
    return len(left_out)


def _chosen(store: Store, model: str | None, dataset: str | None) -> ChosenKeys:
    """Keys of this model and dataset, either of which may be left open; those that cannot be read are named.

    Raises:
        KeyNotFound: there is none.
        CorruptData: there is one, and it cannot be read.
    """
    keys = chosen_keys(store.storage, *_wanted(model, dataset))
    if not keys.infos:
        for why in keys.unreadable.values():
            raise CorruptData(why)
        raise _no_key(store, model, dataset, keys.held)
    console.print_left_out(keys.left_out)
    return keys


def _wanted(*names: str | None) -> list[tuple[str] | None]:
    return [None if name is None else (name,) for name in names]


def _no_key(store: Store, model: str | None, dataset: str | None, held: Sequence[Name]) -> KeyNotFound:
    shown = ", ".join("/".join(name) for name in held[:MOST_NAMED]) or "no key"
    more = f" and {len(held) - MOST_NAMED} more" if len(held) > MOST_NAMED else ""
    return KeyNotFound(
        f"{store.url}: no key with model {model or '*'} and dataset {dataset or '*'}; it has {shown}{more}"
    )
