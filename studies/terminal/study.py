"""`fs study`: a study file carried out, stage by stage, each of which goes on where it was."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import Mistakes
from featurestore.fingerprint import digest
from featurestore.outputs import check_folder
from featurestore.printable import counted, enumerated, shell_words
from studies.study_file.reading import read_study
from studies.study_run.forecast import Forecast, ProbingTime
from studies.study_run.scope import Pair, scope_of
from studies.terminal.command import say_error
from studies.terminal.screen import console, error_console

if TYPE_CHECKING:
    from studies.study_run.key_plan import KeyState
    from studies.study_run.prepared import Half, Prepared
    from studies.study_run.readiness import Keys, Readiness
    from studies.study_run.stage_record import StageRecord

# Between two looks at a store that another machine writes to.
POLL_S = 5.0
SAY_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options that the commands of `fs study` share.

    Attributes:
        file: the study file.
        overrides: ``KEY=VALUE`` put over what the file says.
        only: corpora, models and probings by name.
        is_dry: print the plan and stop.
        measure: run a few batches of models that no rate is known of.
        wait: for keys that another process embeds.
        cluster: in place of the file's.
        device: in place of the file's.
        quiet: no progress bars.
    """

    file: Path
    overrides: Sequence[str] = ()
    only: Sequence[str] = ()
    is_dry: bool = False
    measure: bool = False
    wait: bool = True
    cluster: str | None = None
    device: str | None = None
    quiet: bool = False


def run_study(options: StudyOptions, half: Half) -> bool:
    """Do what is left of a study, or of one half of it.

    Returns:
        False where an extraction went wrong; nothing was probed then.

    Raises:
        Mistakes: what is wrong with the file, before anything is done.
        UserError: as the stages raise it.
    """
    began = time.perf_counter()
    glance = _Glance(options, half) if half != "extract" else None
    if glance is not None and glance.is_finished:
        _say_nothing_to_do(options, began)
        return True
    with tempfile.TemporaryDirectory(prefix="fs-study-") as scratch:
        study = _prepared(options, half, Path(scratch))
        if options.is_dry:
            _show_plan(study, options, half)
            return True
        n_done, forecasts, probing = 0, list[Forecast](), ProbingTime()
        if half != "probe":
            done = _extract(study, options, forecasts)
            if done is None:
                return False
            n_done += done
        if half != "extract":
            n_done += _probe(study, options, half, probing)
            n_done += _confound(study, options)
        if forecasts := [*forecasts, *probing.forecasts]:
            _tell_forecasts(study, half, forecasts)
        if half == "both":
            n_done += _report(study)
        if glance is not None and options.wait:
            glance.note_finished(_record(study))
    if not n_done:
        _say_nothing_to_do(options, began)
    return True


def _tell_forecasts(study: Prepared, half: Half, forecasts: Sequence[Forecast]) -> None:
    """Say what the plan predicted and the run took; the half that has results keeps it with them."""
    from studies.terminal.study_text import print_forecasts

    print_forecasts(forecasts)
    if half != "extract":
        _record(study).keep_forecasts(forecasts)


def _say_nothing_to_do(options: StudyOptions, began: float) -> None:
    seconds = time.perf_counter() - began
    console().print(f"nothing to do: all of {options.file} is done (seen in {seconds:.1f} s)")


class _Glance:
    """Whether a study is as it was when all of it was done, as files tell; see `LastSeen`."""

    def __init__(self, options: StudyOptions, half: Half) -> None:
        from studies.study_run.last_seen import LastSeen

        file = read_study(options.file, options.overrides)
        scope = scope_of(file, options.only)
        asked = [half, str(options.cluster), str(options.device)]
        self._results = file.results
        self._seen = LastSeen(file, scope, asked, with_report=half == "both")
        self._read = self._seen.read()

    @property
    def is_finished(self) -> bool:
        """Whether nothing has changed since."""
        from studies.study_run.last_seen import finished_before

        before = finished_before(self._results)
        return bool(before) and before == self._now()

    def note_finished(self, record: StageRecord) -> None:
        """Note that all is done, unless something that was read has changed meanwhile."""
        now = self._now() if self._seen.read() == self._read else None
        if now is not None and now != record.finished:
            record.finish(now)

    def _now(self) -> str | None:
        made = self._seen.made() if self._read is not None else None
        return None if made is None else digest([self._read, made])


def report_study(options: StudyOptions) -> None:
    """Write the report of what a study has found so far."""
    with tempfile.TemporaryDirectory(prefix="fs-study-") as scratch:
        study = _prepared(options, "probe", Path(scratch))
        if not _report(study):
            console().print(f"nothing to do: {study.file.place(study.file.study.report.out)} is up to date")


def show_status(options: StudyOptions) -> None:
    """How far a study is, as the store and the results tell; neither audio nor models are needed."""
    with tempfile.TemporaryDirectory(prefix="fs-study-") as scratch:
        study = _prepared(options, "probe", Path(scratch))
        _show_plan(study, options, "probe")


def write_scripts(options: StudyOptions, out: Path) -> None:
    """Write the batch jobs of a study, and say how they are submitted."""
    from studies.study_run.job_scripts import SUBMIT, write_job_scripts

    with tempfile.TemporaryDirectory(prefix="fs-study-") as scratch:
        study = _prepared(options, "probe", Path(scratch))
        written = write_job_scripts(study.file, study.scope, out, options.overrides)
    screen = console()
    screen.print(f"{', '.join(written.names)} in {written.folder}")
    screen.print(f"{counted(written.n_tasks, 'array task')} for the GPU half; submit both with:")
    screen.print(shell_words(["bash", str(written.folder / SUBMIT)]))


def _prepared(options: StudyOptions, half: Half, scratch: Path) -> Prepared:
    # What follows takes pandas and the models' code: not before it is known that anything is left.
    from studies.study_run.prepared import prepare

    file = read_study(options.file, options.overrides)
    scope = scope_of(file, options.only)
    return prepare(
        file,
        scope,
        scratch,
        half=half,
        is_dry=options.is_dry,
        cluster=options.cluster,
        device=options.device,
    )


def _keys(study: Prepared) -> Keys:
    from studies.study_run.readiness import Keys

    return Keys(study.file.store, study.extractions, study.corpora.manifests)


def _record(study: Prepared) -> StageRecord:
    from studies.study_run.stage_record import StageRecord

    return StageRecord(study.file.results, study.file.document)


def _show_plan(study: Prepared, options: StudyOptions, half: Half) -> None:
    from studies.study_run.key_plan import key_states
    from studies.study_run.probe_state import probing_states
    from studies.terminal.study_text import print_key_states, print_probing_states, print_readiness

    keys = _keys(study).look(study.scope.pairs)
    if half == "probe":
        print_readiness(keys)
    else:
        states = dict(key_states(study.extractions, measure=options.measure))
        print_key_states(list(states.values()))
        _require_possible(list(states.values()))
    if half != "extract":
        ready = {key.pair for key in keys if key.is_ready}
        rehearsed = _rehearse(study, [key.pair for key in keys if not key.is_ready])
        states_of_probings = probing_states(study.probes, ready, rehearsed, _record(study).seconds_of_a_fit)
        print_probing_states(states_of_probings)
        for state in states_of_probings:
            if state.problem:
                study.file.found.add(("probings", state.name), state.problem)
        study.file.found.raise_if_any()


def _rehearse(study: Prepared, pairs: Sequence[Pair]) -> dict[tuple[str, Pair], int]:
    """Plan probings on keys that are not there yet; returns how many fits that is.

    Raises:
        Mistakes: probings that cannot be.
    """
    from studies.study_run.rehearsal import Rehearsal

    found = study.file.found
    manifests = study.corpora.manifests
    counts = Rehearsal(manifests, study.extractions, study.held, found).check(study.probes, pairs)
    found.raise_if_any()
    return counts


def _require_possible(states: Sequence[KeyState]) -> None:
    """Refuse keys that cannot be gone on with, before any is touched.

    Raises:
        Mistakes: all of them.
    """
    if lines := [f"{s.model}/{s.corpus}: {s.problem}" for s in states if s.problem]:
        raise Mistakes(lines)


def _extract(study: Prepared, options: StudyOptions, forecasts: list[Forecast]) -> int | None:
    """Embed what is left.

    Args:
        study: the study.
        options: of the command.
        forecasts: takes what the plan predicted, and what was taken.

    Returns:
        How many things were done; None where a key came to nothing or is suspect.
    """
    from featurestore.backends.storage import open_storage
    from studies.study_run.forecast import embedding_forecasts
    from studies.study_run.key_plan import key_states
    from studies.terminal import operations
    from studies.terminal.console import print_manifest_report
    from studies.terminal.study_text import print_key_states

    n_done = 0
    for made in study.corpora.made:
        if made.put():
            print_manifest_report(made.table, list(made.reports), made.target)
            n_done += 1
    states = dict(key_states(study.extractions))
    _require_possible(list(states.values()))
    left = [pair for pair, state in states.items() if not state.is_complete]
    if not left:
        return n_done
    _rehearse(study, left)
    print_key_states(list(states.values()))
    all_well = True
    for pair in left:
        all_well &= operations.run_extraction([study.extractions[pair]], quiet=options.quiet)
    forecasts += embedding_forecasts(open_storage(study.file.store), [states[pair] for pair in left])
    if not all_well:
        say_error("error: nothing is probed, since an extraction went wrong, see above")
        return None
    return n_done + len(left)


def _probe(study: Prepared, options: StudyOptions, half: Half, spent: ProbingTime) -> int:
    """Fit what is left, on keys as they are complete.

    Args:
        study: the study.
        options: of the command.
        half: what the command does.
        spent: takes how long it took.

    Returns:
        How many calls fitted something, or were looked at again.
    """
    from studies.study_run.probe_state import pairs_of_call

    keys, record = _keys(study), _record(study)
    waits, with_tables = options.wait, half == "probe"
    needed = list(dict.fromkeys(p for call in study.probes for p in pairs_of_call(call.config)))
    n_done, taken, said = 0, set[Pair](), _Waiting()
    while True:
        found = keys.look(needed)
        ready = {key.pair: key for key in found if key.is_ready}
        lacking = [key for key in found if not key.is_ready]
        if not lacking or not waits:
            break
        if half == "both":
            _require_fresh(lacking)
        if fresh := {pair: key for pair, key in ready.items() if pair not in taken}:
            n_done += _fit(study, options, record, ready, fresh, spent, with_tables=with_tables)
            taken = set(ready)
            continue
        said.tell(lacking)
        time.sleep(POLL_S)
    for key in lacking:
        error_console().print(f"left out: {'/'.join(key.pair)}: {key.lacks}", style="yellow")
    if not ready:
        raise Mistakes(
            [f"{study.file.store}: no key of the study is complete yet; `fs study extract` makes them"]
        )
    return n_done + _fit(study, options, record, ready, ready, spent, with_tables=with_tables)


def _require_fresh(lacking: Sequence[Readiness]) -> None:
    """Refuse to wait for what this process has just seen to: another process may embed, not change labels.

    Raises:
        Mistakes: a key that is whole and says something else than its manifest.
    """
    if stale := [key for key in lacking if key.info is not None and key.n_done == key.n_rows]:
        raise Mistakes([f"{'/'.join(key.pair)}: {key.lacks}" for key in stale])


def _fit(
    study: Prepared,
    options: StudyOptions,
    record: StageRecord,
    ready: dict[Pair, Readiness],
    fresh: dict[Pair, Readiness],
    spent: ProbingTime,
    *,
    with_tables: bool,
) -> int:
    """Fit what the keys allow: whole calls whose keys are all ready, and of others the keys that are fresh.

    Returns:
        How many calls were made.
    """
    from featurestore.store.reader import open_store
    from studies.study_run.probe_state import on_keys, pairs_of_call
    from studies.terminal import operations

    store, n_done = open_store(study.file.store), 0
    for call in study.probes:
        is_whole = all(pair in ready for pair in pairs_of_call(call.config))
        for config in [call.config] if is_whole else on_keys(call.config, fresh):
            of = [ready[pair] for pair in pairs_of_call(config)]
            stage = f"probing {call.name}: {', '.join(config.labels)} of {', '.join(config.datasets)}"
            inputs = record.inputs("probe", config.to_json(), of, store)
            if record.is_done(stage, inputs):
                continue
            console().print(stage)
            done = operations.run_probing(config, quiet=options.quiet, with_tables=with_tables)
            spent.add(done.n_fitted, done.seconds, record.seconds_of_a_fit(call.name))
            record.spend(call.name, done.n_fitted, done.seconds)
            record.note(stage, inputs)
            n_done += 1
    return n_done


class _Waiting:
    """Says what is waited for: when that changes, and once a minute."""

    def __init__(self) -> None:
        self._last = ""
        self._at = 0.0

    def tell(self, lacking: Sequence[Readiness]) -> None:
        first = lacking[0]
        more = f" and {counted(len(lacking) - 1, 'other key')}" if len(lacking) > 1 else ""
        text = (
            f"waiting for {'/'.join(first.pair)} ({first.lacks}){more}; Ctrl-C stops, --no-wait leaves it out"
        )
        if text != self._last or time.monotonic() - self._at > SAY_EVERY_S:
            error_console().print(text)
            self._last, self._at = text, time.monotonic()


def _confound(study: Prepared, options: StudyOptions) -> int:
    """Find what else explains the labels, once all keys are there."""
    from featurestore.store.reader import open_store
    from studies.terminal import operations

    config = study.confounds
    if config is None:
        return 0
    if not study.scope.is_whole:
        error_console().print("note: confounds are left out with --only", style="dim")
        return 0
    keys = _keys(study).look((m, d) for d in config.datasets for m in config.models)
    if lacking := [key for key in keys if not key.is_ready]:
        error_console().print(f"note: confounds wait for {'/'.join(lacking[0].pair)}", style="yellow")
        return 0
    record = _record(study)
    said = {name: str(value) for name, value in vars(config).items()}
    inputs = record.inputs("confounds", [said, record.folder_digest()], keys, open_store(config.store))
    if record.is_done("confounds", inputs) and (config.out / "confound_scores.csv").is_file():
        return 0
    operations.compare_confounds(config, quiet=options.quiet)
    record.note("confounds", inputs)
    return 1


def _report(study: Prepared) -> int:
    """Write the report, where anything that it shows has changed."""
    from probes.results.declared_contrasts import write_contrasts
    from studies.study_run.facts import declared_contrasts
    from studies.terminal import operations
    from studies.terminal.paper_table_text import show_paper_table

    file = study.file
    contrasts = declared_contrasts(file, study.facts)
    write_contrasts(file.results, contrasts)
    out, oracle = file.place(file.study.report.out), file.study.report.oracle
    published = file.study.report.published
    record = _record(study)
    shown = [
        str(out),
        oracle,
        published,
        record.folder_digest(),
        _times(study),
        [asdict(c) for c in contrasts],
    ]
    inputs = record.inputs("report", shown)
    if record.is_done("report", inputs) and all(page.is_file() for page in file.pages):
        return 0
    check_folder(out)
    operations.report_results(file.results, out, oracle=oracle)
    if published:
        show_paper_table(file, study.facts, published, out)
    if others := _others(study):
        console().print(f"note: the results also hold {others}, which the file does not name", style="yellow")
    record.note("report", inputs)
    return 1


def _others(study: Prepared) -> str:
    """Models and corpora of the results that the study does not name: of an earlier file or of `fs probe`."""
    from probes.results.results_folder import read_results

    table, names = read_results(study.file.results), study.file.names
    found = [f"model {m}" for m in sorted(set(table["model"]) - set(names("model")))]
    found += [f"data set {d}" for d in sorted(set(table["dataset"]) - set(names("corpus")))]
    return enumerated(found)


def _times(study: Prepared) -> list[str]:
    """Sizes and times of tables of confounds, which a report may show."""
    folder = study.confounds.out if study.confounds is not None else None
    if folder is None or not folder.is_dir():
        return []
    found = [(p, p.stat()) for p in sorted(folder.glob("*.csv"))]
    return [f"{p.name} {s.st_size} {s.st_mtime_ns}" for p, s in found]
