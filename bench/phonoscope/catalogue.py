"""Catalogue: what there is, as rows and cards; and what is missing on this machine."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from phonoscope import plugins, protocol, weights
from phonoscope.errors import UnknownName
from phonoscope.measure import lacks
from phonoscope.plugins import Metric, System, missing_packages
from phonoscope.registry import Registry
from phonoscope.views import VIEWS, View
from phonoscope.weights import WeightStatus

# What a terminal has room for, one line each; `describe`, a pipe and --json say the rest.
BRIEF = {
    "metrics": ("metric", "better", "unit", "what"),
    "weights": ("name", "state", "licence"),
}

Rows = tuple[tuple[str, ...], list[list[str]]]

EXTRAS = {
    "torch": ("torch",),
    "asr": ("transformers",),
    "nemo": ("nemo",),
    "speaker": ("kaldi_native_fbank", "resemblyzer", "webrtcvad"),
    "face": ("mediapipe",),
    "vision": ("lpips", "torchvision"),
    "ray": ("ray",),
    "ui": ("mlflow.server",),
    "demo": ("espeakng_loader", "noisereduce", "pocketsphinx"),
}


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _metric_row(item: Metric) -> list[str]:
    roles = ", ".join([*item.views, *item.texts])
    arrow = "↑" if item.better == "higher" else "↓"
    return [item.name, arrow, item.unit, roles, item.label, _first_line(item.doc)]


def _system_row(item: System) -> list[str]:
    return [item.name, ", ".join(item.needs) or "-", ", ".join(item.tasks), _first_line(item.doc)]


def _view_row(item: View) -> list[str]:
    files = ", ".join(item.weights) or "-"
    return [item.name, item.version, str(item.of), files, _first_line(item.make.__doc__ or "")]


def listing(kind: str) -> Rows:
    """Return heads and rows of one kind: metrics, systems, datasets, views or boards.

    Raises
    ------
    UnknownName
        If there is no such kind.
    """
    kinds: dict[str, Callable[[], Rows]] = {
        "metrics": lambda: (
            ("metric", "better", "unit", "needs", "label", "what"),
            [_metric_row(plugins.METRICS.get(name)) for name in plugins.METRICS],
        ),
        "systems": lambda: (
            ("system", "needs", "tasks", "what"),
            [_system_row(plugins.SYSTEMS.get(name)) for name in plugins.SYSTEMS],
        ),
        "datasets": lambda: (
            ("dataset", "options", "what"),
            [_dataset_row(name) for name in plugins.DATASETS],
        ),
        "views": lambda: (
            ("view", "version", "of", "weights", "what"),
            [_view_row(VIEWS.get(name)) for name in VIEWS],
        ),
        "boards": lambda: (("board", "file"), [_board_row(name) for name in protocol.boards()]),
    }
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UnknownName(f"nothing is called {kind!r}; {hint}kinds are {', '.join(kinds)}")
    return kinds[kind]()


def _dataset_row(name: str) -> list[str]:
    reader = plugins.DATASETS.get(name)
    return [name, ", ".join(reader.options) or "-", _first_line(reader.doc)]


def _board_row(name: str) -> list[str]:
    return [name, str(protocol.find(name))]


def card(name: str) -> str:
    """Return all that is known of one plugin, as text.

    Raises
    ------
    UnknownName
        If nothing is called so.
    """
    registries: dict[str, Registry[object]] = {
        "metric": plugins.METRICS,  # type: ignore[dict-item]
        "system": plugins.SYSTEMS,  # type: ignore[dict-item]
        "dataset": plugins.DATASETS,  # type: ignore[dict-item]
        "view": VIEWS,  # type: ignore[dict-item]
    }
    cards = [_card(kind, found, name) for kind, found in registries.items() if name in found]
    if name in protocol.boards():
        cards.append(protocol.find(name).read_text("utf-8"))
    if cards:
        return "\n\n".join(cards)
    everything = [item for found in registries.values() for item in found] + protocol.boards()
    near = difflib.get_close_matches(name, everything, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`phonoscope list` shows what there is"
    raise UnknownName(f"nothing is called {name!r}; {hint}")


def _card(kind: str, found: Registry[object], name: str) -> str:
    item = found.get(name)
    lines = [f"{kind} {name}", "", str(getattr(item, "doc", "") or _doc_of(item)), ""]
    details = _metric_details(item) if isinstance(item, Metric) else iter(())
    return "\n".join([*lines, *details, f"defined in  {found.origin(name)}"])


def _doc_of(item: object) -> str:
    return getattr(item, "make", item).__doc__ or ""


def _metric_details(item: Metric) -> Iterator[str]:
    yield f"label       {item.label}"
    yield f"unit        {item.unit}, {item.better} is better"
    yield f"aggregate   {item.aggregate.name}"
    yield f"version     {item.version}"
    for role, view in item.views.items():
        yield f"{role:11} {' <- '.join(str(link) for link in view.chain())}"
    for role in item.texts:
        yield f"{role:11} text of the sample"
    for name in item.weights:
        row = weights.WEIGHTS.get(name)
        digest = weights.known_digest(name)
        told = f"sha256 {digest[:16]}…" if digest else "not here"
        yield f"weights     {name} ({told}, {row.licence})"
    missing = lacks(item)
    yield f"here        {'ready' if missing is None else missing.error}"


def weight_rows() -> Rows:
    """Return every weights file with its state on this machine."""
    heads = ("name", "state", "licence", "path", "bytes", "sha256", "origin")
    return heads, [_weight_row(status) for status in weights.status()]


def _weight_row(status: WeightStatus) -> list[str]:
    row, path = status.weight, str(status.path or "")
    return [row.name, status.state, row.licence, path, str(row.bytes), row.sha256, row.origin]


def _weight_remedy(status: WeightStatus) -> str:
    """Return what to do about weights that cannot be used; a command, where one is enough."""
    row = status.weight
    fetch = f"phonoscope weights fetch {row.name}"
    if not weights.fetchable(row):
        fetch = f"get {row.origin}, and put it into $PHONOSCOPE_WEIGHTS as {row.file}"
    if status.state == "not_accepted":
        return f"phonoscope weights accept {row.family}" + ("" if status.path else f"; {fetch}")
    if status.state == "mismatch":
        return f"rm {status.path}; {fetch}" if row.sha256 else status.message.rpartition("; ")[2]
    return fetch


@dataclass(frozen=True)
class Need:
    """A package and who asks for it."""

    package: str
    users: tuple[str, ...]


def checkup() -> Rows:
    """Return what each plugin lacks here, and the command that installs it."""
    heads = ("item", "state", "remedy")
    rows = [_need_row(need) for need in _needs()]
    for status in weights.status():
        if status.state != "ok":
            users, state = _metrics_of(status.weight.name), status.state.replace("_", " ")
            rows.append([_counted(users), f"weights {state}", _weight_remedy(status)])
    if importlib.util.find_spec("ray") is None:
        rows.append(["engine ray", "not installed", install(["ray"])])
    return heads, rows or [["everything", "ready", ""]]


def _counted(names: Sequence[str]) -> str:
    """Return the first of several names, and how many more there are."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "-"


def _metrics_of(weight: str) -> list[str]:
    return [name for name in plugins.METRICS if weight in plugins.METRICS.get(name).weights]


def _needs() -> Iterator[Need]:
    users: dict[str, list[str]] = {}
    for name in plugins.METRICS:
        for package in missing_packages(plugins.METRICS.get(name).packages):
            users.setdefault(package, []).append(name)
    for name in plugins.SYSTEMS:
        for package in missing_packages(plugins.SYSTEMS.get(name).requires):
            users.setdefault(package, []).append(name)
    for package in missing_packages(EXTRAS["demo"][:1]):
        users.setdefault(package, []).append("demo")
    return (Need(package, tuple(names)) for package, names in users.items())


def _need_row(need: Need) -> list[str]:
    return [_counted(need.users), f"{need.package} is not installed", install([need.package])]


def install(packages: Sequence[str]) -> str:
    """Return the one command that installs what is missing."""
    extras = [name for name, holds in EXTRAS.items() if set(holds) & set(packages)]
    known = {package for name in extras for package in EXTRAS[name]}
    rest = [package for package in packages if package not in known]
    wanted = [f"'phonoscope[{','.join(extras)}]'"] if extras else []
    return "pip install " + " ".join([*wanted, *rest])
