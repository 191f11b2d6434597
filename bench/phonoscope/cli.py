"""The command line. Every command is a few lines over a function of the package."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
import typer.core
import typer.main
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from phonoscope.errors import PhonoscopeError, UserError

WRONG = 2
FAILED = 4
INTERNAL = 70
STOPPED = 130
SHOWN = 5
TRACKING_HELP = "MLflow tracking URI; a sqlite file in the store by default; `none`."


class _Commands(typer.core.TyperGroup):
    """The commands; what goes wrong in one ends as a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. An error that nobody meant to raise passes, for `_brief`."""
        try:
            return super().invoke(ctx)
        except PhonoscopeError as error:
            _complain(str(error))
            if _debug:
                traceback.print_exc()
            raise typer.Exit(WRONG) from error
        except KeyboardInterrupt:
            _complain("stopped; run the same command again, it resumes")
            raise typer.Exit(STOPPED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="The evaluation and benchmark harness for audio-visual generation.",
)
weights_app = typer.Typer(no_args_is_help=True, help="List, fetch and accept network weights.")
app.add_typer(weights_app, name="weights")
build_app = typer.Typer(no_args_is_help=True, help="Write corpora that are made of others.")
app.add_typer(build_app, name="build")

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with further plugins; repeatable."),
]
Store = Annotated[
    str | None,
    typer.Option("--store", help="Folder or URL of results; runs/<protocol> by default."),
]
EngineName = Annotated[str, typer.Option(help="serial, processes or ray.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes; all cores by default.", min=1)]
Device = Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1.")]
Limit = Annotated[int | None, typer.Option(help="Only the first samples of each data set.", min=1)]
MoreSystems = Annotated[
    list[str] | None,
    typer.Option("--system", help="A system plugin to run besides the protocol's; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and failures.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Run the command line."""
    sys.excepthook = _brief
    # Not `app()`, which would put typer's own hook in the place of ours.
    typer.main.get_command(app)()


def _brief(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show a bug of ours as one message, and its traceback only after `--debug`."""
    if _debug:
        sys.__excepthook__(kind, error, trace)
    _complain(f"internal error: {kind.__name__}: {error}; `phonoscope --debug ...` shows where")
    sys.exit(INTERNAL)


_debug = False


def _note(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[yellow]note:[/] {escape(text)}")


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(text)}")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    global _debug
    _debug = debug
    if version:
        import phonoscope

        typer.echo(f"phonoscope {phonoscope.__version__}")
        raise typer.Exit


@app.command("list")
def list_plugins(
    kind: Annotated[
        str, typer.Argument(help="metrics, systems, datasets, boards, views")
    ] = "metrics",
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List plugins.

    Examples: `phonoscope list metrics`, `phonoscope list systems --plugin mine.py`
    """
    from phonoscope import catalogue

    _discover(plugin)
    heads, rows = catalogue.listing(kind)
    if as_json:
        typer.echo(json.dumps([dict(zip(heads, row, strict=True)) for row in rows], indent=2))
    else:
        _print_table(heads, rows, brief=catalogue.BRIEF.get(kind, ()))


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A metric, system, data set, view or board.")],
    plugin: PluginFiles = None,
) -> None:
    """Show one plugin's card: definition, source, views, weights, licence.

    Example: `phonoscope describe pesq_wb`
    """
    from phonoscope import catalogue

    _discover(plugin)
    typer.echo(catalogue.card(name))


@app.command()
def run(
    protocol: Annotated[str, typer.Argument(help="A protocol file, or the name of a board.")],
    store: Store = None,
    engine: EngineName = "processes",
    workers: Workers = None,
    device: Device = "cpu",
    limit: Limit = None,
    system: MoreSystems = None,
    plugin: PluginFiles = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and what the store has; run nothing.")
    ] = False,
    tracking: Annotated[
        str | None,
        typer.Option(help=TRACKING_HELP),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a protocol and print its leaderboard. A second run resumes.

    Examples: `phonoscope run quickstart`, `phonoscope run my/protocol.yaml --store runs/mine`,
    `phonoscope run lipdiffuser_table1 --plugin mine.py --system mine`

    Exit codes: 0 every column was measured, with no more failures than the protocol's `max_failed`;
    4 a column is unavailable here, or more failed; 2 wrong use.
    """
    from phonoscope import runner

    _discover(plugin)
    found, opened = _opened(protocol, store, limit=limit, systems=system, quiet=quiet)
    if dry_run:
        _print_progress(runner.status(found, opened))
        return
    _remember(opened, protocol, limit=limit, plugin=plugin, systems=system)
    board = runner.run(
        found,
        opened,
        engine=engine,
        workers=workers,
        device=device,
        listeners=_listeners(opened, tracking, quiet),
    )
    _print_board(board)
    _print_places(opened, tracking)
    raise typer.Exit(FAILED if runner.too_many_failures(board, found) else 0)


@app.command()
def score(
    generated: Annotated[Path, typer.Argument(help="Folder of generated clips.")],
    reference: Annotated[Path | None, typer.Option(help="Folder of true clips.")] = None,
    metrics: Annotated[str, typer.Option(help="Names, separated by commas.")] = "dnsmos_p808",
    transcripts: Annotated[
        Path | None, typer.Option(help="Lines of sample<TAB>text, for word error rates.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="lip2speech, video2audio or talking_face")
    ] = "lip2speech",
    output: Annotated[
        Path | None, typer.Option(help="Write one CSV row per sample, metric.")
    ] = None,
    as_json: AsJson = False,
    store: Annotated[
        str | None, typer.Option(help="Keep results there, so that it resumes.")
    ] = None,
    engine: EngineName = "processes",
    workers: Workers = None,
    device: Device = "cpu",
    plugin: PluginFiles = None,
    quiet: Quiet = False,
) -> None:
    """Score a folder against a folder: one table, no protocol.

    Example: `phonoscope score out/ --reference clean/ --metrics pesq_wb,estoi,dnsmos_p808`

    Exit code 0 where every sample was measured, 4 where some failed.
    """
    from phonoscope import scoring

    if output:
        _require_place(output)
    found = scoring.scores(
        generated,
        reference,
        metrics=_names(metrics),
        task=task,
        transcripts=transcripts,
        store=store,
        engine=engine,
        workers=workers,
        device=device,
        plugin_files=plugin or [],
        listeners=[_listener(quiet)],
    )
    if output:
        _write_text(output, scoring.to_csv(found))
    if as_json:
        typer.echo(scoring.to_json(found))
    else:
        _print_table(scoring.HEADS, scoring.summary_rows(found))
    _print_unscored(found)
    lacking = {row["metric"] for row in found.rows if row["error"].startswith("missing_reference")}
    if reference is None and lacking:
        _note(f"give --reference FOLDER for {', '.join(sorted(lacking))}")
    raise typer.Exit(FAILED if found.failed else 0)


@app.command()
def status(
    source: Annotated[str, typer.Argument(help="A store, a protocol file, or a board's name.")],
    store: Store = None,
    plugin: PluginFiles = None,
) -> None:
    """Show how far a run has come. Measures nothing.

    Example: `phonoscope status runs/quickstart`
    """
    from phonoscope import runner

    _discover(plugin)
    found, opened = runner.reopen(source, store)
    _print_progress(runner.status(found, opened))
    for event in opened.set_aside:
        _complain(f"set aside {event.path}: {event.reason}")


@app.command()
def board(
    source: Annotated[str, typer.Argument(help="A store, a protocol file, or a board's name.")],
    store: Store = None,
    output: Annotated[Path | None, typer.Option(help="Folder; <store>/board by default.")] = None,
    formats: Annotated[
        str, typer.Option(help="With commas; svg is the figures.")
    ] = "html,md,tex,csv,json,svg",
    plugin: PluginFiles = None,
) -> None:
    """Render the leaderboard of what a store holds. Measures nothing.

    Example: `phonoscope board runs/quickstart --output site --formats html`
    """
    from phonoscope import runner
    from phonoscope.leaderboard import FORMATS, render

    wanted, known = _names(formats), [*FORMATS, "svg"]
    for name in wanted:
        if name not in known:
            raise UserError(f"there is no format {name!r}; formats are {', '.join(known)}")
    _discover(plugin)
    found, opened = runner.reopen(source, store)
    made = runner.board(found, opened)
    _print_notes(made, quiet=False)
    _print_board(made)
    folder = output or Path(opened.local or ".") / "board"
    with _writing(folder):
        paths = render(made, folder, formats=[name for name in wanted if name != "svg"])
        paths += runner.drawn(made, folder) if "svg" in wanted else []
    for path in paths:
        typer.echo(path)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A store, or a system of --store.")],
    b: Annotated[str, typer.Argument(help="Another store, or another system.")],
    store: Store = None,
    metrics: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    as_json: AsJson = False,
    plugin: PluginFiles = None,
) -> None:
    """Compare two runs, or two systems of one run, sample by sample.

    Examples: `phonoscope compare runs/main runs/branch`,
    `phonoscope compare spectral_gate noisy --store runs/quickstart`

    Differences are A minus B with 95 % intervals by the paired cluster bootstrap, Holm's p-values.
    """
    from phonoscope import comparing

    _discover(plugin)
    wanted = _names(metrics)
    rows = comparing.compare(a, b, store=store, metrics=wanted)
    if as_json:
        typer.echo(comparing.to_json(rows))
    else:
        _print_table(comparing.HEADS, [row.cells() for row in rows])


@app.command()
def gate(
    source: Annotated[
        str | None,
        typer.Argument(help="The run's store; runs/<protocol of the baseline> if absent."),
    ] = None,
    baseline: Annotated[Path, typer.Option(help="JSON file kept in your repository.")] = Path(
        "baseline.json"
    ),
    margin: Annotated[
        list[str] | None,
        typer.Option(
            help="How much a metric may lose: pesq_wb=0.05; repeatable; the name may be *."
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the baseline from this run instead of judging.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit XML report.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the Markdown summary.")] = None,
    plugin: PluginFiles = None,
) -> None:
    """Compare a run with a baseline; fail on a real drop.

    Examples: `phonoscope gate runs/quickstart --baseline baseline.json --write`,
    `phonoscope gate runs/quickstart --baseline baseline.json --margin pesq_wb=0.05`

    Exit codes: 0 PASS, 1 WORSE, 2 UNMEASURED, 3 INCONCLUSIVE.
    """
    from phonoscope import comparing
    from phonoscope import gate as gates

    _discover(plugin)
    if write:
        count = comparing.write_baseline(source, baseline)
        typer.echo(f"{baseline}: {count} rows; commit it")
        return
    verdicts = comparing.judge(source, baseline, margins=margin or [])
    summary = gates.to_markdown(verdicts)
    typer.echo(summary)
    gates.publish_summary(summary)
    if markdown:
        _write_text(markdown, summary)
    if junit:
        _write_text(junit, gates.to_junit(verdicts))
    raise typer.Exit(gates.exit_code(verdicts))


@app.command()
def reproduce(
    source: Annotated[
        str, typer.Argument(help="A board's name or protocol file (is run), or a store (is read).")
    ],
    store: Store = None,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Read what the store has; measure nothing.")
    ] = False,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(help="A difference that still counts as reproduced: estoi=0.01; repeatable."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 where any cell could not be compared.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the report as Markdown.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON; - prints it.")
    ] = None,
    engine: EngineName = "processes",
    workers: Workers = None,
    device: Device = "cpu",
    limit: Limit = None,
    system: MoreSystems = None,
    plugin: PluginFiles = None,
    tracking: Annotated[str | None, typer.Option(help=TRACKING_HELP)] = None,
    quiet: Quiet = False,
) -> None:
    """Run a board and hold every published number against ours: verdict and reason per cell.

    Examples: `phonoscope reproduce lipdiffuser_table1 --markdown table1.md`,
    `phonoscope reproduce runs/lipdiffuser_table1 --strict`

    Reproduced: equal as printed, inside our 95 % interval, or within the combined 95 % uncertainty
    of our bootstrap and the published std / sqrt(n). Numbers of other samples (another n, another
    data set) are not comparable.

    Exit codes: 0 every cell that could be compared is reproduced, 1 some differ, 2 wrong use, 3 no
    cell could be compared.
    """
    from phonoscope import reproduce as reproduction
    from phonoscope import runner

    _discover(plugin)
    for path in (markdown, json_file):
        if path and path != Path("-"):
            _require_place(path)
    tolerances = reproduction.tolerances(tolerance or [])
    if no_run or _is_store(source):
        found, opened = runner.reopen(source, store)
        reproduction.require_columns(tolerances, found.spec.metrics)
        made = runner.board(found, opened)
        _print_notes(made, quiet)
    else:
        found, opened = _opened(source, store, limit=limit, systems=system, quiet=quiet)
        reproduction.require_columns(tolerances, found.spec.metrics)
        _remember(opened, source, limit=limit, plugin=plugin, systems=system)
        made = runner.run(
            found,
            opened,
            engine=engine,
            workers=workers,
            device=device,
            listeners=_listeners(opened, tracking, quiet),
        )
    items = reproduction.compare(made, made.published, tolerance=tolerances or None)
    _print_reproduction(made, items, as_json=json_file == Path("-"))
    if markdown:
        _write_text(markdown, reproduction.to_markdown(made, items))
    if json_file and json_file != Path("-"):
        _write_text(json_file, reproduction.to_json(made, items))
    raise typer.Exit(reproduction.exit_code(items, strict=strict))


@app.command()
def ratings(
    file: Annotated[Path, typer.Argument(help="CSV of rater, sample, system, score.")],
    scale: Annotated[
        str, typer.Option(help="mushra (0-100), ten (1-10), mos (1-5), or ab (A, B, choice).")
    ],
    columns: Annotated[
        str, typer.Option(help="Columns of other names: rater=listener_id,score=stars.")
    ] = "",
    where: Annotated[
        list[str] | None, typer.Option(help="Only lines with this: question=quality; repeatable.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="MUSHRA trials may lack systems.")
    ] = False,
    screen: Annotated[
        str, typer.Option(help="Hidden reference: leave out raters who do not hear it (BS.1534-3).")
    ] = "",
    store: Annotated[
        str | None, typer.Option(help="A run's store: correlate the ratings with its metrics.")
    ] = None,
    condition: Annotated[str, typer.Option(help="Which rows of the run: snr_db=-10.")] = "",
    dataset: Annotated[str, typer.Option(help="Which data set of the run.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="Folder for Markdown, CSV, JSON and the SVG box plot.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Average human ratings, or count AB preferences, with intervals over raters and samples.

    Examples: `phonoscope ratings mushra.csv --scale mushra --output listening`,
    `phonoscope ratings mos.csv --scale mos --store runs/lrs3_demo`,
    `phonoscope ratings ab.csv --scale ab`

    A problem in the file (missing, out_of_range, duplicate, ...) is named with its line, exit code
    2.
    """
    from phonoscope import listening, opinions
    from phonoscope import ratings as files

    chosen = {"columns": files.pairs("--columns", _names(columns)), "where": _where(where)}
    if scale == files.AB:
        if store or screen or partial:
            raise UserError("--store, --screen and --partial are for scores, not for --scale ab")
        report = listening.of_choices(file, **chosen)
    else:
        run = None
        if store:
            _discover(None)
            run = opinions.measured(store, condition=condition, dataset=dataset)
        report = listening.of_scores(file, scale, partial=partial, screen=screen, run=run, **chosen)
    paths: list[Path] = []
    if output:
        with _writing(output):
            paths = listening.write(report, output)
    _print_listening(report, paths, as_json=as_json)


@app.command()
def sync(
    store: Annotated[Path, typer.Argument(help="The store whose results are to be sent.")],
    tracking: Annotated[str | None, typer.Option(help="MLflow tracking URI.")] = None,
) -> None:
    """Send to MLflow what could not be sent during a run.

    Example: `phonoscope sync runs/quickstart --tracking http://127.0.0.1:5000`
    """
    from phonoscope import tracking as trackers

    if not store.is_dir():
        raise UserError(f"{store}: no such store; name the folder that `phonoscope run` wrote")
    report = trackers.sync(store, tracking)
    typer.echo(f"sent {report.sent}, left {report.left}, rejected {report.rejected}")
    for problem in report.problems:
        _complain(problem)
    raise typer.Exit(1 if report.left or report.rejected else 0)


@app.command()
def doctor(plugin: PluginFiles = None) -> None:
    """Say what is missing on this machine, and the one command that installs it.

    Example: `phonoscope doctor`
    """
    from phonoscope import catalogue

    _discover(plugin)
    heads, rows = catalogue.checkup()
    _print_table(heads, rows)


@weights_app.command("list")
def list_weights(as_json: AsJson = False) -> None:
    """List weights files: where they come from, their licence, whether they are here.

    Example: `phonoscope weights list`
    """
    from phonoscope import catalogue

    _discover(None)
    heads, rows = catalogue.weight_rows()
    if as_json:
        typer.echo(json.dumps([dict(zip(heads, row, strict=True)) for row in rows], indent=2))
    else:
        _print_table(heads, rows, brief=catalogue.BRIEF["weights"])


@weights_app.command("fetch")
def fetch_weights(names: Annotated[list[str], typer.Argument(help="Names of weights.")]) -> None:
    """Download weights; their hashes are checked.

    Example: `phonoscope weights fetch dnsmos/model_v8`
    """
    from phonoscope import weights

    _discover(None)
    for name in names:
        typer.echo(weights.fetch(name))


@weights_app.command("accept")
def accept_licence(
    family: Annotated[str, typer.Argument(help="Such as nisqa.")],
) -> None:
    """Accept the licence of non-commercial weights, once for this user.

    Example: `phonoscope weights accept nisqa`
    """
    from phonoscope import weights

    _discover(None)
    typer.echo(f"noted in {weights.accept(family)}")


@build_app.command("lrs3-chime3")
def build_lrs3_chime3(
    lrs3: Annotated[Path, typer.Option(help="LRS3: the folder that holds `test`.")],
    noise: Annotated[Path, typer.Option(help="CHiME3: a folder above `backgrounds`.")],
    out: Annotated[Path, typer.Option(help="A new folder, or one of an unfinished build.")],
    enhanced: Annotated[
        Path | None, typer.Option(help="The enhanced track: VIDEO/UTTERANCE.wav.")
    ] = None,
    clean_track: Annotated[
        str | None, typer.Option(help="enhanced (default where it is given) or orig.")
    ] = None,
    snr: Annotated[str, typer.Option(help="dB, separated by commas.")] = "5,0,-5,-10,-15,-20",
    seed: Annotated[int, typer.Option(help="Decides which noise is cut where.")] = 0,
    level: Annotated[
        str, typer.Option(help="whole_file_power, nonsilent_power, bs1770, rms_peaknorm_-25dbfs.")
    ] = "whole_file_power",
    clip: Annotated[
        str,
        typer.Option(help="rescale_peak095, none, pcm16_clip, raise_snr_1db, divide_peak099."),
    ] = "rescale_peak095",
    noise_choice: Annotated[str, typer.Option(help="hash_v1 or sgmse_seed0.")] = "hash_v1",
    short_noise: Annotated[str, typer.Option(help="error, wrap or zero_pad.")] = "error",
    pairing: Annotated[
        str, typer.Option(help="same_crop_all_snrs or independent.")
    ] = "same_crop_all_snrs",
    storage: Annotated[str, typer.Option(help="float32 or pcm16.")] = "float32",
    partial: Annotated[
        bool, typer.Option("--partial", help="Build from what there is of LRS3 and CHiME3.")
    ] = False,
    engine: EngineName = "processes",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Write LRS3's test set in CHiME3's noise: a WAV for each clip and SNR. It resumes.

    Example: `phonoscope build lrs3-chime3 --lrs3 LRS3 --noise CHiME3 --out LRS3-CHiME3`

    A protocol's condition `snr_db` mixes the same without files. Exit code 0 where every mixture
    was made, 4 where some failed.
    """
    from phonoscope import building, engines

    _discover(None)
    worker = engines.make(engine, workers=workers)
    try:
        built = building.lrs3_chime3(
            out,
            root=lrs3,
            noise_root=noise,
            engine=worker,
            enhanced=enhanced,
            clean_track=clean_track,  # type: ignore[arg-type]  # is checked there
            snrs=_decibels(snr),
            seed=seed,
            partial=partial,
            listeners=[_listener(quiet)],
            level=level,
            clip=clip,
            noise_choice=noise_choice,
            short_noise=short_noise,
            pairing=pairing,
            storage=storage,
        )
    finally:
        worker.close()
    for line in built.told():
        typer.echo(line)
    raise typer.Exit(FAILED if built.failures else 0)


def _decibels(text: str) -> list[float]:
    try:
        return [float(item) for item in _names(text)]
    except ValueError:
        raise UserError(f"--snr {text}: give numbers of dB with commas, such as 5,0,-5") from None


def _opened(
    protocol: str,
    store: str | None,
    *,
    limit: int | None,
    systems: list[str] | None,
    quiet: bool,
) -> tuple[Any, Any]:
    """Return a protocol whose rules were checked, and its store, made if need be."""
    from phonoscope import assemble, runner
    from phonoscope import protocol as protocols

    found = protocols.load(protocol, limit=limit, systems=systems or [])
    runner.check_rules(found)
    for text in () if quiet else assemble.notes(found):
        _note(text)
    return found, runner.open_store(store, found, [_listener(quiet)])


def _remember(
    store: Any,
    source: str,
    *,
    limit: int | None,
    plugin: list[Path] | None,
    systems: list[str] | None,
) -> None:
    from phonoscope import runner

    runner.remember_source(store, source, limit=limit, plugins=plugin or [], systems=systems or [])


def _is_store(source: str) -> bool:
    return os.path.isfile(Path(source, "store.json"))  # noqa: PTH113 - any text may be asked for


def _where(texts: list[str] | None) -> dict[str, str]:
    from phonoscope import ratings as files

    return files.pairs("--where", texts or [])


def _print_listening(report: Any, paths: list[Path], *, as_json: bool) -> None:
    from phonoscope import listening

    if as_json:
        typer.echo(listening.to_json(report), nl=False)
        return
    for number, (title, heads, lines, *_) in enumerate(listening.tables(report, brief=True)):
        typer.echo(f"{chr(10) if number else ''}{title}")
        _print_table(heads, lines)
    for note in listening.notes(report):
        _note(note)
    for path in paths:
        typer.echo(path)


def _print_reproduction(made: Any, items: Any, *, as_json: bool) -> None:
    from phonoscope import reproduce as reproduction
    from phonoscope.leaderboard import order_lines

    if as_json:
        typer.echo(reproduction.to_json(made, items), nl=False)
        return
    heads, lines = reproduction.HEADS, reproduction.table(made, items)
    if sys.stdout.isatty():
        heads, lines = reproduction.narrowed(lines)
    if items:
        _print_table(heads, lines)
    for line in (reproduction.summary(items), *order_lines(made)):
        typer.echo(line)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _discover(files: list[Path] | None) -> None:
    from phonoscope import plugins

    plugins.discover(files or [])


def _listener(quiet: bool) -> Any:
    from phonoscope import console

    return console.listener(quiet=quiet)


def _listeners(opened: Any, tracking: str | None, quiet: bool) -> list[Any]:
    return [_listener(quiet), *_tracker(opened, tracking)]


def _tracker(opened: Any, uri: str | None) -> list[Any]:
    if uri == "none" or opened.local is None:
        return []
    from phonoscope import tracking

    return [tracking.listener(opened.local, tracking_uri=uri, experiment=None, warn=_complain)]


def _require_place(path: Path) -> None:
    """Refuse a place before the work whose result could not be written there after it."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path}: may not be written; name another file")


def _write_text(path: Path, text: str) -> None:
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another") from None


def _print_table(heads: Any, rows: Any, *, brief: Sequence[str] = ()) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere.

    On a terminal, `brief` names the only columns, and the last of them is cut to one line.
    """
    if not sys.stdout.isatty():
        text = io.StringIO()
        csv.writer(text, delimiter="\t", lineterminator="\n").writerows([heads, *rows])
        typer.echo(text.getvalue(), nl=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in brief or heads:
        table.add_column(head, overflow="fold", no_wrap=head in brief[:-1])
    places = [list(heads).index(head) for head in brief] or range(len(heads))
    for row in rows:
        cells = [Text(str(row[place])) for place in places]
        if brief:
            cells[-1].no_wrap, cells[-1].overflow = True, "ellipsis"
        table.add_row(*cells)
    Console().print(table)


def _print_board(made: Any) -> None:
    from phonoscope import console

    console.print_board(made)


def _print_notes(made: Any, quiet: bool) -> None:
    """Say about a board that is only read what its run said: what is left out, what is missing."""
    from phonoscope.leaderboard import unavailable

    for text in () if quiet else (*made.notes, *unavailable(made)):
        _note(text)


def _print_unscored(found: Any) -> None:
    same: dict[tuple[str, str, str], list[str]] = {}
    for row in found.rows:
        if row["status"] != "ok":
            same.setdefault((row["metric"], row["status"], row["error"]), []).append(row["sample"])
    for (metric, status, error), samples in same.items():
        more = f" and {len(samples) - 1} more" if len(samples) > 1 else ""
        _complain(f"{samples[0]}{more}: {metric}: {status}: {error}")
    if found.extra:
        more = f" and {len(found.extra) - SHOWN} more" if len(found.extra) > SHOWN else ""
        names = ", ".join(found.extra[:SHOWN])
        _note(f"{len(found.extra)} generated files have no reference, not scored: {names}{more}")


def _print_progress(rows: Any) -> None:
    names = list(rows[0].known) if rows else []
    heads = ["system", "dataset", "condition", "seed", "clips", *names]
    lines = [
        [row.system, row.dataset, row.condition, row.seed, f"{row.generated}/{row.total}"]
        + [
            "unavailable" if row.known[name] is None else f"{row.known[name]}/{row.total}"
            for name in names
        ]
        for row in rows
    ]
    _print_table(heads, lines)


def _print_places(opened: Any, tracking: str | None) -> None:
    if opened.local is None:
        return
    folder = opened.local
    typer.echo()
    typer.echo(f"HTML board    {folder / 'board' / 'leaderboard.html'}   (open it in a browser)")
    typer.echo(f"Markdown      {folder / 'board' / 'leaderboard.md'}")
    typer.echo(f"LaTeX         {folder / 'board' / 'leaderboard.tex'}")
    if tracking is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        database = folder / "mlflow.db"
        typer.echo(f"MLflow        {database}")
        typer.echo("              pip install 'phonoscope[ui]', then:")
        typer.echo(f"              mlflow ui --backend-store-uri sqlite:///{database}")


if __name__ == "__main__":
    main()
