"""Score: two folders, a table. The one-minute use."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonoscope import assemble, engines, plugins, protocol, runner
from phonoscope.assemble import Line
from phonoscope.datasets import MEDIA_SUFFIXES, files_below
from phonoscope.errors import DatasetError
from phonoscope.events import Listener
from phonoscope.measure import Planner, measure
from phonoscope.protocol import Protocol
from phonoscope.types import Estimate, Failure, Outcome, Unsupported

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sample", "metric", "value", "status", "error")
DASH = "\N{EN DASH}"
HEADS = ("metric", "mean", "std", "low", "high", "n", "failed", "unsupported", "unit")


@dataclass(frozen=True)
class Scores:
    """Outcomes per sample and metric, and the estimates.

    Attributes
    ----------
    extra : tuple of str
        Generated files without a sample: they were not scored.
    """

    rows: tuple[dict[str, Any], ...]
    estimates: dict[str, Estimate]
    line: Line
    extra: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many cells failed."""
        return sum(row["status"] == "failed" for row in self.rows)


def score(
    generated: str | Path,
    reference: str | Path | None = None,
    *,
    metrics: Sequence[str],
    task: str = "lip2speech",
    transcripts: str | Path | None = None,
    store: str | Path | None = None,
    engine: str = "processes",
    workers: int | None = None,
    device: str = "cpu",
    plugin_files: Sequence[str | Path] = (),
    listeners: Sequence[Listener] = (),
) -> pd.DataFrame:
    """Score a folder of generated clips, against a folder of references where a metric needs one.

    Files are matched by their path below the folder, without the suffix. The parent folder of a
    file is its group (speaker) for the statistics.

    Parameters
    ----------
    generated, reference : path
        Folders of sound or video files.
    metrics : sequence of str
        Names; `phonoscope list metrics` shows them.
    transcripts : path, optional
        Lines of ``sample<TAB>text``.
    store : path, optional
        Keep the results there; otherwise they are kept nowhere.

    Returns
    -------
    DataFrame
        One row per sample and metric: `sample`, `metric`, `value` (NaN where there is none),
        `status` (``ok | failed | unsupported``), `error`. ``attrs["extra"]`` names generated files
        that were not scored, because there is no reference of their name.

    Raises
    ------
    UserError
        If a folder or a metric does not exist.
    """
    import pandas as pd

    found = scores(
        generated,
        reference,
        metrics=metrics,
        task=task,
        transcripts=transcripts,
        store=store,
        engine=engine,
        workers=workers,
        device=device,
        plugin_files=plugin_files,
        listeners=listeners,
    )
    frame = pd.DataFrame(list(found.rows), columns=list(COLUMNS))
    frame.attrs["extra"] = list(found.extra)
    return frame.astype({"value": float})


def scores(
    generated: str | Path,
    reference: str | Path | None = None,
    *,
    metrics: Sequence[str],
    task: str = "lip2speech",
    transcripts: str | Path | None = None,
    store: str | Path | None = None,
    engine: str = "processes",
    workers: int | None = None,
    device: str = "cpu",
    plugin_files: Sequence[str | Path] = (),
    listeners: Sequence[Listener] = (),
) -> Scores:
    """Do the work of `score`; return rows and estimates."""
    plugins.discover([Path(file) for file in plugin_files])
    if not Path(generated).expanduser().is_dir():
        raise DatasetError(f"{generated}: no such folder; name the folder of generated clips")
    found = _protocol(generated, reference, metrics, task, transcripts)
    with tempfile.TemporaryDirectory(prefix="phonoscope-") as scratch:
        opened = runner.open_store(store or scratch, found, listeners)
        worker = engines.make(engine, workers=workers, device=device)
        try:
            planner = Planner(found, opened, {})
            measure(planner, worker, listeners, device=device)
            (line,) = assemble.lines(planner)
        finally:
            worker.close()
            runner.remember_digests(opened)
            opened.flush()
    extra = _extra(Path(generated).expanduser(), line)
    return Scores(tuple(_rows(line)), dict(line.estimates), line, extra)


def _extra(folder: Path, line: Line) -> tuple[str, ...]:
    ids = {sample.id for sample in line.plan.samples}
    names = [file.relative_to(folder) for file in files_below(folder)]
    media = [name for name in names if name.suffix.lower() in MEDIA_SUFFIXES]
    return tuple(str(name) for name in media if name.with_suffix("").as_posix() not in ids)


def _protocol(
    generated: str | Path,
    reference: str | Path | None,
    metrics: Sequence[str],
    task: str,
    transcripts: str | Path | None,
) -> Protocol:
    options: dict[str, Any] = {"reference": str(reference)} if reference else {}
    if reference is None:
        role = "video" if task == "talking_face" else "audio"
        options = {"inputs": {role: str(generated)}}
    if transcripts:
        options["transcripts"] = str(transcripts)
    return protocol.load(
        {
            "name": "score",
            "task": task,
            "datasets": [{"name": "score", "kind": "folder", "options": options}],
            "systems": [
                {"name": "generated", "plugin": "imported", "params": {"folder": str(generated)}}
            ],
            "metrics": list(metrics),
        }
    )


def _rows(line: Line) -> list[dict[str, Any]]:
    return [
        _row(sample.id, name, outcomes[number])
        for number, sample in enumerate(line.plan.samples)
        for name, outcomes in line.outcomes.items()
    ]


def _row(sample: str, metric: str, outcome: Outcome | None) -> dict[str, Any]:
    row: dict[str, Any] = {"sample": sample, "metric": metric, "value": None}
    if isinstance(outcome, Failure):
        return row | {"status": "failed", "error": f"{outcome.code}: {outcome.error}"}
    if isinstance(outcome, Unsupported):
        return row | {"status": "unsupported", "error": f"{outcome.code}: {outcome.error}"}
    assert outcome is not None, "every cell was measured"  # noqa: S101 - narrows the type
    return row | {"value": assemble.scalar(outcome.value), "status": "ok", "error": ""}


def to_csv(found: Scores) -> str:
    """Return one CSV row per sample and metric; an empty value where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    return text.getvalue()


def to_json(found: Scores) -> str:
    """Return the estimates as JSON; null where there is no number."""
    summary = {
        name: {
            "value": assemble.finite(item.value),
            "std": assemble.finite(item.std),
            "low": assemble.finite(item.low),
            "high": assemble.finite(item.high),
            "n": item.n,
            "n_failed": item.n_failed,
            "n_unsupported": item.n_unsupported,
            "flags": list(item.flags),
            "unit": plugins.METRICS.get(name).unit,
            "better": plugins.METRICS.get(name).better,
            "recipe": assemble.recipe(plugins.METRICS.get(name)),
        }
        for name, item in found.estimates.items()
    }
    return json.dumps({"metrics": summary}, indent=2, ensure_ascii=False)


def summary_rows(found: Scores) -> list[list[str]]:
    """Return one row per metric for a table with the heads `HEADS`."""
    return [_summary_row(name, item) for name, item in found.estimates.items()]


def _summary_row(name: str, item: Estimate) -> list[str]:
    metric = plugins.METRICS.get(name)
    numbers = [item.value, item.std, item.low, item.high]
    shown = [DASH if math.isnan(x) else f"{x:.{metric.decimals + 1}f}" for x in numbers]
    return [name, *shown, str(item.n), str(item.n_failed), str(item.n_unsupported), metric.unit]
