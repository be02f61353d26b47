"""How summaries look in a terminal; nothing here changes anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.cells import cell_len

from featurestore.errors import CorruptData
from featurestore.layer_list import format_layers
from featurestore.manifest.column_names import ANNOTATION_COLUMNS
from featurestore.manifest.table import learnable_columns
from featurestore.printable import counted, plain, printable
from studies.terminal.command import say_error
from studies.terminal.screen import console, error_console

if TYPE_CHECKING:
    import pandas as pd

    from extractors.results import ExtractSummary
    from extractors.run.dry_run import Estimate
    from featurestore.audit import AuditReport
    from featurestore.corpora.interface import CorpusTable
    from featurestore.exchange import ExportSummary, ImportSummary
    from featurestore.manifest.labels import LabelReport
    from featurestore.store.chosen_keys import ChosenKeys
    from featurestore.store.reader import Features
    from featurestore.upkeep.audio_proof import AudioProof
    from featurestore.upkeep.key_copy import CopySummary
    from featurestore.upkeep.key_report import KeyReport
    from featurestore.upkeep.new_labels import Attached
    from probes.confounds import Confounds
    from probes.findings.question_findings import QuestionFindings
    from probes.leakage.kinds import LeakageReport
    from probes.report import ReportData, ReportPaths
    from probes.report.data import ReportedQuestion
    from probes.run.probing import ProbeSummary
    from probes.saved.chosen_probe import SavedSummary
    from studies.prediction import Predictions

MAX_REASONS = 10
MAX_UNPROVED_ROWS = 10
# Of an error, which is one line.
MAX_REASONS_IN_LINE = 3
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)")


def print_extract_summary(summary: ExtractSummary, store: str) -> None:
    """What a run did: clips, failures with reasons, audio, rate, bytes."""
    out = console()
    print_remarks(summary.notes)
    done = summary.n_embedded
    skipped = f", {summary.n_skipped} already in the store" if summary.n_skipped else ""
    out.print(
        f"{summary.key}: {counted(done - len(summary.failed), 'clip')} embedded, "
        f"{len(summary.failed):,} failed"
        f"{skipped}; layers {format_layers(summary.layers)}",
    )
    if done:
        took = max(summary.elapsed_s, 1e-9)
        # Of clips that all failed the model saw none.
        seen = summary.forward_s and len(summary.failed) < done
        alone = f"the model alone {done / summary.forward_s:.1f} clips/s" if seen else ""
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
        layer, worst = max(check.deviations.items(), key=lambda of: of[1])
        one = check.n_clips == 1
        said = f"{'is' if one else 'are'} the same"
        if worst:
            verb = "differs" if one else "differ"
            said = f"{verb} by {worst:.0e} of the largest value at most (layer {layer})"
        out.print(
            f"self-check: {counted(check.n_clips, 'clip')} embedded again alone {said}; allowed "
            f"{check.tolerance:.0e}"
        )
    print_failures(summary.failed)


def print_estimates(estimates: Iterable[Estimate]) -> None:
    """What a run would do and cost; the store is left as it is."""
    out = console()
    for e in estimates:
        unreadable = f", {len(e.unreadable)} whose header cannot be read" if e.unreadable else ""
        batches = counted(e.n_batches, "batch", "batches")
        lines = [
            f"{e.key}: {counted(e.n_clips, 'clip')}, {e.n_to_do:,} to embed{unreadable}",
            f"  {counted(e.n_units, 'unit')}, {batches}; {format_duration(e.audio_s)} of audio as the model "
            f"sees it, {100 * e.padding:.1f} % padding",
            f"  {format_bytes(e.n_bytes)} of values in {counted(e.n_objects, 'file')}, before compression",
        ]
        if e.n_bytes_by_codec:
            sizes = ", ".join(f"{name} {format_bytes(n)}" for name, n in e.n_bytes_by_codec.items())
            lines.append(f"  as stored under --codec {sizes} (from clips measured)")
        if e.n_units:
            work = f"{e.flops / 1e9:.4g} GFLOP, " if e.flops else ""
            lines.append(
                f"  {work}about {format_duration(e.seconds)} on {', '.join(e.devices)} "
                f"(from {counted(e.n_measured, 'batch', 'batches')} measured; decoding alone "
                f"{format_duration(e.decode_s)})"
            )
        if e.unreadable:
            lines.append(f"  cannot be read: {e.unreadable[0]!r}{' …' if len(e.unreadable) > 1 else ''}")
        for line in [*lines, *(f"  note: {note}" for note in e.notes)]:
            out.print(line)


def print_suspect(summary: ExtractSummary) -> None:
    """One line on standard error: a clip alone gives other values than those stored."""
    check = summary.selfcheck
    assert check is not None
    assert check.beyond is not None
    utterance, layer, found = check.beyond
    say_error(
        f"error: {summary.key}: the self-check got other values than are stored for clip {utterance!r} at "
        f"layer {layer}: {found:.2g} of its largest value, allowed {check.tolerance:.2g}; this key is "
        "suspect: the model does not treat clips of a batch apart, or the audio changed meanwhile; embed it "
        "again with --overwrite --batch-seconds 0.001"
    )


def print_failures(failed: dict[str, str]) -> None:
    """Failed clips by reason, most frequent first, each with an example."""
    out = console()
    reasons = _by_reason(failed)
    for reason, ids in reasons[:MAX_REASONS]:
        out.print(f"  failed: {len(ids):,} × {reason} (e.g. {ids[0]!r})")
    if len(reasons) > MAX_REASONS:
        more = counted(len(reasons) - MAX_REASONS, "further reason")
        out.print(f"  and {more}; `fs info` lists them all")


def failures(table: pd.DataFrame) -> dict[str, str]:
    """Utterance id → reason, of the rows whose status says that they failed."""
    rows = table[table["status"] != "ok"]
    return dict(zip(rows["utterance_id"], rows["status"].str.removeprefix("failed: "), strict=True))


def reasons(failed: Mapping[str, str]) -> str:
    """Why clips failed, counted, within one line: ``3 × no samples in the file, 1 × too short: …``."""
    found = _by_reason(failed)
    shown = ", ".join(f"{len(ids)} × {reason}" for reason, ids in found[:MAX_REASONS_IN_LINE])
    more = len(found) - MAX_REASONS_IN_LINE
    return shown + (f", and {counted(more, 'further reason')}" if more > 0 else "")


def _by_reason(failed: Mapping[str, str]) -> list[tuple[str, list[str]]]:
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


def print_probe_summary(summary: ProbeSummary, *, oracle: bool = False, with_tables: bool = True) -> None:
    """The tables of what was asked, and how much was fitted."""
    from probes.report.data import QUESTION_KEYS, load_report_data

    if with_tables:
        asked = set(map(tuple, summary.table[QUESTION_KEYS].drop_duplicates().to_numpy()))
        print_tables(load_report_data(summary.out), oracle=oracle, only=asked)
    cached = f", {counted(summary.n_cached, 'fit')} there already" if summary.n_cached else ""
    console().print(
        f"{counted(summary.n_fitted, 'fit')} in {format_duration(summary.seconds)}{cached}; "
        f"results in {summary.out}",
    )


def print_findings(
    question: ReportedQuestion, findings: QuestionFindings, *, with_choices: bool = False
) -> None:
    """What the scores of one question say of its models, in sentences.

    `with_choices` adds a line on how firmly layers are chosen: a resampling of all validation rows.
    """
    from probes.findings.sentences import choice_summary, headline

    sentences = headline(findings.model_comparisons, findings.shown(str(question.answer["model"])))
    if with_choices and (chosen := choice_summary(findings.choices)):
        sentences.append(chosen)
    if sentences:
        console().print(plain(question.title), style="bold")
        for sentence in sentences:
            console().print(f"  {printable(sentence)}")
        console().print()


def print_tables(
    data: ReportData, *, oracle: bool = False, only: Collection[tuple[str, ...]] | None = None
) -> None:
    """Layers × models for every question of a results folder, or for those whose name is in `only`.

    Of all questions also how models rank over data sets.
    """
    from probes.report.caveats import explained_by_confounds, undertrained
    from probes.report.tables import legend, terminal_tables

    out, shown = console(), [q for q in data.questions if only is None or q.name in only]
    others = len(data.questions) - len(shown)
    if only is not None:  # a copy has to find all findings again
        # Declared contrasts are corrected over all questions: they are told where all are.
        data = replace(data, questions=shown, contrasts=())
    try:
        explained = explained_by_confounds(data)
    except CorruptData as error:  # of another command: scores are shown all the same
        explained = [f"note: {error}"]
    for sentence in explained:
        out.print(sentence, style="bold yellow")
    for table in terminal_tables(data, oracle=oracle):
        out.print(table)
        out.print()
    for question in shown:
        # A report asks for the choices anyway; after each `fs probe` they would cost too much.
        print_findings(question, data.findings[question.name], with_choices=only is None)
    for one in () if only is not None else data.across_datasets:
        for sentence in one.sentences:
            out.print(printable(sentence))
    out.print(legend(data, oracle=oracle), style="dim")
    if others:
        out.print(f"{counted(others, 'other question')} in this folder: fs report {data.path} --out …")
    for sentence in undertrained(data):
        out.print(f"note: {sentence}", style="yellow")


def print_saved_probe(saved: SavedSummary) -> None:
    """What was saved, how good it was, and whether it is the one that was recorded."""
    from probes.splits import held_out

    out, card = console(), saved.card
    n, differ = card.reproduced["n_test"], card.reproduced["n_differ"]
    split, _, fold = card.split
    place = f"{'layer' if len(card.layers) == 1 else card.combine} {format_layers(card.layers)}"
    name, prefix = ("mAP", "map") if card.multilabel else ("R²", "r2") if card.is_numbers else ("UAR", "uar")
    val, test = (100 * card.scores.get(f"{prefix}_{part}", float("nan")) for part in ("val", "test"))
    out.print(
        f"{card.label} by {card.classifier} on {place} of {card.model}, trained on {card.dataset} "
        f"(split {split}: {held_out(split)}; fold {fold}, seed {card.seed}); "
        f"{name} {val:.1f} % on validation, {test:.1f} % on {counted(n, 'test clip')}"
    )
    if card.is_numbers:
        r, ccc, mae = (card.scores.get(f"{m}_test", float("nan")) for m in ("pearson", "ccc", "mae"))
        out.print(
            f"on these Pearson's r {r:.3f}, Lin's concordance {ccc:.3f}, mean absolute error {mae:.4g}; the "
            f"numbers that it learned from are {card.numbers['mean']:.4g} ± {card.numbers['scale']:.4g}"
        )
    out.print(f"fitted again: {n - differ} of {n} test predictions are those on record")
    if card.refit:
        rows = {"train+val": "training and validation clips", "all": "training, validation and test clips"}
        epochs = f", {counted(card.refit['n_epochs'], 'epoch')}" if "n_epochs" in card.refit else ""
        score = card.refit.get("score_test")
        out.print(
            f"saved is the same fitted on all {card.refit['n_rows']:,} {rows[card.refit['rows']]}{epochs}; "
            + (
                "no clip is left to score it: the scores above are those of the fit on training clips alone"
                if score is None
                else f"{name} {100 * score:.1f} % on the test clips"
            )
        )
    if card.calibration:
        c = card.calibration
        out.print(
            f"calibrated on {counted(int(c['n_rows']), 'validation clip')}: temperature "
            f"{c['temperature']:.3g}, negative log-likelihood {c['nll_before']:.3f} before, "
            f"{c['nll_after']:.3f} after"
        )
    if differ:
        out.print(
            "note: this probe is not quite the one whose scores these are; another machine or other versions "
            "round otherwise",
            style="yellow",
        )
    out.print(
        f"probe: {saved.folder}   use it with: fs predict --probe {saved.folder} --manifest …"
        + ("" if card.is_numbers else f", or on recordings: fs detect --probe {saved.folder} FOLDER --out …")
    )


def print_predictions(found: Predictions, path: Path) -> bool:
    """How many rows got which class or number, failures with reasons, and where the table is.

    Returns:
        False if no row got one.
    """
    from probes.saved.prediction_intervals import IntervalRule, interval_sentences
    from probes.saved.prediction_sets import set_sentences

    out, table = console(), found.table
    ok = table["status"] == "ok"
    said = table.loc[ok, "prediction"]
    if found.probe.card.is_numbers:
        shown = f"from {said.min():.4g} to {said.max():.4g}, median {said.median():.4g}"
    else:
        counts = Counter(said)
        shown = ", ".join(f"{name} {n}" for name, n in counts.most_common(MAX_REASONS))
        shown += f", … ({len(counts)} in all)" if len(counts) > MAX_REASONS else ""
    out.print(f"{len(said)} labelled: {shown}" if len(said) else "nothing labelled")
    failed = failures(table)
    print_failures(failed)
    if isinstance(found.rule, IntervalRule):
        print_remarks(interval_sentences(found.rule))
    elif found.rule is not None:
        print_remarks(set_sentences(found.rule, table.loc[ok, "set_size"].to_numpy(dtype="int64")))
    out.print(f"predictions: {path}")
    if ok.any():
        return True
    n = counted(len(table), "clip")
    say_error(f"error: none of {n} could be labelled: {reasons(failed)}")
    return False


def print_report_paths(paths: ReportPaths) -> None:
    """A line for each file of a report, the page last."""
    out = console()
    for path in paths.others:
        out.print(f"wrote {path}")
    out.print(f"report: {paths.html.resolve()}")


def print_manifest_report(found: CorpusTable, reports: list[LabelReport], out: Path) -> None:
    """What a manifest holds, what was changed or left out, and what its groups are."""
    screen = console()
    kept = [c for c in ANNOTATION_COLUMNS if c in found.table]
    labels = learnable_columns(found.table.columns)
    screen.print(f"{out}: {counted(len(found.table), 'utterance')}, labels {', '.join(labels) or 'none'}")
    if kept:
        screen.print(f"of the annotations: {', '.join(kept)}")
    screen.print(f"group: {found.group or 'none'}")
    if found.missing:
        screen.print(
            f"missing: {len(found.missing)} audio files (first {found.missing[0]!r}), "
            f"{counted(found.n_rows_lost, 'row')} left out",
        )
    print_remarks(found.notes)
    for report in reports:
        for line in str(report).split("\n"):
            screen.print(line)


def print_keys(keys: ChosenKeys) -> None:
    """One line per key."""
    lines = [("model", "dataset", "layers", "functionals", "features", "rows", "dtype")]
    for key in keys.infos:
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
    print_left_out(keys.left_out)


def print_left_out(sentences: Iterable[str]) -> None:
    """Keys that cannot be read and were left out, on standard error."""
    for sentence in sentences:
        error_console().print(sentence, style="yellow")


def print_info(features: Features) -> None:
    """Size, completeness, settings and failures of a key."""
    from extractors.models.package_versions import NOT_COMPARED
    from featurestore.fingerprint import flatten
    from featurestore.store.history import read_checks

    out, info, records = console(), features.info, features.ledger.values()
    shape = info.shape
    planned = sum(s.n_rows for s in info.segments)
    failed = {i: why for r in records for i, why in r.failed.items()}
    hosts = ", ".join(sorted({r.host for r in records}))
    out.print(plain(info.path, style="bold"))
    facts = {
        "utterances": f"{len(features.rows)} of {planned} committed, {len(failed)} failed",
        "units": f"{len(features.units)} of {len(info.units)}, {shape.unit_rows} rows each",
        "layers": f"{format_layers(features.layers)}, each {shape.n_functionals} × {shape.n_features}",
        "frames": "not kept" if info.frames is None else f"kept in {info.frames.dtype}",
        "labels": ", ".join(features.label_columns) or "none",
        "size": format_bytes(sum(o.n_bytes for r in records for o in r.objects.values())),
        "audio": format_duration(sum(r.audio_s for r in records)),
        "work": f"{format_duration(sum(r.elapsed_s for r in records))} on {hosts or '-'}",
        **{k: str(v) for k, v in flatten(info.fingerprint).items() if not k.startswith("model.config")},
        **{f"made with {k}": v for k, v in info.versions.items() if k != NOT_COMPARED},
    }
    versions = (info.versions, *(r.versions for r in records))
    later = sorted({v[NOT_COMPARED] for v in versions if NOT_COMPARED in v})
    if later:
        facts["values not compared with"] = "; ".join(later)
    for check in read_checks(features.storage, info.path):
        facts["checked"] = "; ".join(filter(None, (facts.get("checked"), check.sentence())))
    for name, value in facts.items():
        out.print(f"  {name + ':':32} {value}")
    print_failures(failed)


def print_key_report(report: KeyReport) -> None:
    """What a verification found in a key, and what was mended."""
    out = console()
    damage = sum(f.is_damage for f in report.findings)
    pending = report.n_units - report.n_committed
    state = "intact" if report.is_intact else f"{damage} damaged"
    out.print(
        f"{report.key}: {state}; {report.n_committed} of {report.n_units} units committed"
        f"{f', {pending} pending' if pending else ''}, {format_bytes(report.n_bytes)} checked",
    )
    for line in (*report.findings, *report.repaired, *report.unrepaired):
        out.print(f"  {line}")


def print_audio_proof(proof: AudioProof) -> None:
    """How many rows hold what their ids stand for, and the first of those that do not."""
    out = console()
    out.print(
        f"  audio: {proof.n_proved:,} rows hold what their ids stand for, {len(proof.other):,} do not, "
        f"{len(proof.unproved):,} could not be compared; {proof.n_failed:,} failed and hold nothing",
    )
    lines = [*proof.other, *proof.unproved]
    for line in lines[:MAX_UNPROVED_ROWS]:
        out.print(f"    {line}")
    if len(lines) > MAX_UNPROVED_ROWS:
        out.print(f"    and {len(lines) - MAX_UNPROVED_ROWS:,} more")


def print_copied(done: CopySummary, url: str) -> None:
    """What was copied of a key."""
    pending = f", {done.n_pending} not extracted yet" if done.n_pending else ""
    console().print(
        f"{done.key}: {counted(done.n_copied, 'unit')} copied, {done.n_present} were there{pending}; "
        f"{format_bytes(done.n_bytes)} written to {url}",
    )


def print_attached(done: Attached, labels: Sequence[str]) -> None:
    """What became of the labels of a key."""
    print_remarks(done.notes)
    # Nothing to compare with where the manifest before was damaged.
    changed = [] if done.changes is None else done.changes or ["nothing changed"]
    names = ", ".join(labels) or "none"
    said = "; ".join([f"labels {names} attached to {counted(done.n_rows, 'utterance')}", *changed])
    console().print(f"{done.key}: {said}")


def print_export(summary: ExportSummary) -> None:
    """What was written to files of other tools."""
    print_remarks(summary.notes)
    keys = ", ".join(f"{k.model}/{k.dataset}" for k in summary.keys)
    console().print(f"{keys} written to {summary.out}, {format_bytes(summary.n_bytes)}")


def print_import(summary: ImportSummary) -> None:
    """What was read from a file of another tool."""
    print_remarks(summary.notes)
    keys = ", ".join(f"{k.model}/{k.dataset}" for k in summary.keys)
    console().print(f"{keys} imported into {summary.store}")


def print_audit(report: AuditReport) -> None:
    """What is wrong with a corpus."""
    from featurestore.audit import audit_text

    for part in audit_text(report):
        console().print(part)


def print_confounds(found: Confounds) -> None:
    """What else explains a label, and where the tables are."""
    from probes.confounds.terminal_text import confounds_text

    print_notes(found.notes)
    for part in confounds_text(found):
        console().print(part)
    kept = f", {counted(found.n_kept, 'clip')} measured earlier" if found.n_kept else ""
    console().print(f"{counted(found.n_measured, 'clip')} decoded{kept}; tables in {found.out}")


def print_remarks(notes: Iterable[str]) -> None:
    """Notes about what was done."""
    for note in notes:
        console().print(f"note: {note}")


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
