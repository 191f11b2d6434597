"""The rooms of the house: which module may import which, and what a module may look like.

All of it is read from the source with `ast`, imports inside functions and type-checking blocks
included: a hidden arrow is an arrow.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "bench" / "phonoscope"

# From the ground up. A module may import modules of its own rank and of lower ones.
RANKS: tuple[tuple[str, ...], ...] = (
    ("errors", "types", "registry", "events"),
    ("levels", "media", "weights", "views", "stats"),
    ("plugins",),
    ("datasets", "noise", "enrollment", "protocol", "store", "engines"),
    ("building", "generate", "measure"),
    ("figures", "reproduce", "leaderboard", "page", "assemble"),
    ("catalogue", "console", "gate", "tracking"),
    ("runner", "scoring", "comparing", "ratings", "opinions", "listening"),
    ("cli",),
)
# Plugins stand beside the straight line: nobody names them, and they know how to see, not to run.
PLUGINS = ("metrics", "systems")
DATA = ("leaderboards",)
RANK_OF_PLUGINS = 3

# Nothing but the function that does one sample may turn any error into a `Failure`.
MAY_CATCH_ALL = {("views", "attempt"), ("generate", "*")}

LONGEST = 60
MEDIAN = 10

HEAVY = ("torch", "mlflow", "transformers", "librosa", "onnxruntime")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name below `phonoscope`."""
    found = {}
    for folder, _, names in os.walk(PACKAGE, followlinks=True):
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                parts = path.relative_to(PACKAGE).with_suffix("").parts
                found[".".join(part for part in parts if part != "__init__")] = path
    return found


@functools.cache
def tree(name: str) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def core() -> list[str]:
    """Modules that are no plugins, the package's own `__init__` left out."""
    return [name for name in modules() if name and room(name) not in PLUGINS + DATA]


def room(name: str) -> str:
    """The first part of a module's name."""
    return name.partition(".")[0]


def rank(name: str) -> int:
    """How high a module stands."""
    if room(name) in PLUGINS:
        return RANK_OF_PLUGINS
    return next(height for height, names in enumerate(RANKS) if room(name) in names)


def public_homes() -> dict[str, str]:
    """Where the lazy names of `phonoscope` come from."""
    import phonoscope

    return {name: home.removeprefix("phonoscope.") for name, home in phonoscope._LAZY.items()}


def runs_later(node: ast.AST) -> bool:
    """Whether importing the module does not run a statement: a function, ``if TYPE_CHECKING:``."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def nodes(root: ast.AST, *, later: bool) -> Iterator[ast.AST]:
    """Yield everything below `root`, on demand without what importing it does not run."""
    for child in ast.iter_child_nodes(root):
        if later or not runs_later(child):
            yield child
            yield from nodes(child, later=later)


@functools.cache
def imported(name: str, *, later: bool = True) -> tuple[str, ...]:
    """The full names that a module imports, anywhere in it."""
    full: list[str] = []
    for node in nodes(tree(name), later=later):
        if isinstance(node, ast.Import):
            full += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import in line {node.lineno}"
            full += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(full)


@functools.cache
def arrows(name: str, *, later: bool = True) -> frozenset[str]:
    """The modules of phonoscope that a module imports."""
    targets = set()
    for full in imported(name, later=later):
        head, _, rest = full.partition(".")
        if head == "phonoscope":
            targets.add(resolve(rest))
    return frozenset(targets - {name, ""})


def resolve(rest: str) -> str:
    """Turn what stands behind `phonoscope.` into the module that it comes from."""
    if rest in modules():
        return rest
    inside = rest.rpartition(".")[0]
    return public_homes().get(rest, inside)


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, inner ones and methods too."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring left out."""
    first = function.body[0]
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_every_module_has_a_room() -> None:
    known = {name for names in RANKS for name in names} | {*PLUGINS, *DATA, ""}
    strangers = sorted(name for name in modules() if room(name) not in known)
    assert not strangers, f"give these modules a place in RANKS: {strangers}"


def test_arrows_point_down() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in core()
        for target in sorted(arrows(name))
        if room(target) in PLUGINS or (room(target) not in DATA and rank(target) > rank(name))
    ]
    assert not wrong


def test_no_import_goes_round() -> None:
    """Two modules of one rank may name each other in a type or a call, not while importing."""
    graph = {name: arrows(name, later=False) for name in modules() if name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_plugins_know_how_to_see_and_not_how_to_run() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in modules()
        if room(name) in PLUGINS
        for target in sorted(arrows(name))
        if room(target) in DATA or rank(target) > RANK_OF_PLUGINS
    ]
    assert not wrong


def test_metrics_and_systems_do_not_know_each_other() -> None:
    for name in modules():
        if room(name) in PLUGINS:
            (other,) = set(PLUGINS) - {room(name)}
            assert other not in {room(target) for target in arrows(name)}, name


def test_types_and_errors_stand_alone() -> None:
    assert not arrows("errors")
    assert not arrows("types")


def test_stats_knows_no_media() -> None:
    assert not {"media", "views", "weights"} & reachable("stats")


def test_views_know_no_metric() -> None:
    assert not {"plugins", *PLUGINS} & {room(name) for name in reachable("views")}


def test_engines_know_no_metric() -> None:
    """`preload` is what a worker's parent imports ahead: it finds all plugins and knows none."""
    for name in modules():
        if room(name) == "engines":
            known = {room(target) for target in arrows(name)}
            assert not {"measure", "generate", *PLUGINS} & known, name
            assert "plugins" not in known or name == "engines.preload"


def test_measure_knows_no_leaderboard() -> None:
    assert not {"leaderboard", "tracking", "console"} & {
        room(name) for name in reachable("measure")
    }


def reachable(name: str) -> set[str]:
    """Everything that a module imports, directly or not."""
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        for target in arrows(ahead.pop()) & modules().keys():
            if target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


def test_nothing_imports_the_command_line() -> None:
    assert not [name for name in modules() if "cli" in {room(target) for target in arrows(name)}]


def test_only_tracking_imports_mlflow() -> None:
    who = {room(name) for name in modules() for full in imported(name) if room(full) == "mlflow"}
    assert who <= {"tracking"}


def test_the_core_spells_out_no_plugin() -> None:
    """Not in a string either, as in ``import_module("phonoscope.metrics.x")``."""
    named = [
        f"{name}:{node.lineno}: {node.value}"
        for name in ["", *core()]
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(tuple(f"phonoscope.{folder}." for folder in PLUGINS))
    ]
    assert not named


def test_nothing_is_imported_by_its_folder() -> None:
    """`metrics` is `phonoscope.metrics`; ruff says so too, but not to code that is not linted."""
    banned = {"metrics", "systems", "leaderboards", "bench"}
    assert not [
        (name, full) for name in modules() for full in imported(name) if room(full) in banned
    ]


def test_no_module_takes_the_place_of_a_public_name() -> None:
    """Importing `phonoscope.run` as a module would overwrite the function `phonoscope.run`."""
    assert not set(public_homes()) & set(modules())


def test_type_checkers_see_the_same_public_names() -> None:
    import phonoscope

    told = {full.rpartition(".")[2]: full.rpartition(".")[0] for full in imported("")}
    assert {name: told.get(name) for name in phonoscope._LAZY} == phonoscope._LAZY
    assert phonoscope.__all__ == sorted([*phonoscope._LAZY, "__version__"])


def test_every_public_name_is_there() -> None:
    import phonoscope

    for name, home in phonoscope._LAZY.items():
        assert getattr(phonoscope, name) is getattr(importlib.import_module(home), name)
    assert set(phonoscope.__all__) <= set(dir(phonoscope))
    with pytest.raises(AttributeError, match="no attribute 'runs'"):
        _ = phonoscope.runs


def test_there_is_no_utils() -> None:
    names = {name.rpartition(".")[2].strip("_") for name in modules()}
    assert not names & {"util", "utils", "helper", "helpers", "misc", "common", "tools"}


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes every error and keeps it (cleaning up and raising again is fine)."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def test_only_one_sample_s_error_is_caught_whatever_it_is() -> None:
    found = [
        (name, function.name, node.lineno)
        for name in modules()
        for function in functions(name)
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler) and catches_all(node)
    ]
    extra = [
        f"{name}:{line} in {function}"
        for name, function, line in found
        if not {(name, function), (name, "*")} & MAY_CATCH_ALL
    ]
    assert not extra, "catch what you expect; the rest is a bug to be seen"
    assert sum(name == "generate" for name, _, _ in found) <= 1


def test_functions_are_short() -> None:
    lengths = {
        f"{name}:{function.lineno} {function.name}": length(function)
        for name in modules()
        for function in functions(name)
    }
    long = {where: lines for where, lines in lengths.items() if lines > LONGEST}
    assert not long, f"over {LONGEST} lines: {long}"
    assert statistics.median(lengths.values()) <= MEDIAN


def loaded_by(code: str) -> set[str]:
    """Return the names in `sys.modules` of a fresh interpreter that ran `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_phonoscope_imports_nothing_heavy() -> None:
    loaded = loaded_by("import phonoscope")
    assert "phonoscope" in loaded
    slow = {*HEAVY, "scipy", "scipy.signal", "skimage", "pandas", "pyarrow", "numpy", "av"}
    assert not loaded & slow


def test_the_names_of_a_plugin_file_import_nothing_heavy() -> None:
    loaded = loaded_by("from phonoscope import Audio, Record, audio, frames, metric, system, view")
    assert "phonoscope.views" in loaded
    assert not loaded & {*HEAVY, "scipy.signal", "skimage", "pandas"}


def test_finding_all_plugins_imports_nothing_heavy() -> None:
    loaded = loaded_by(
        "from phonoscope import plugins\nplugins.discover()\nassert 'si_sdr' in plugins.METRICS"
    )
    assert "phonoscope.metrics.networks" in loaded or "phonoscope.metrics" in loaded
    assert not loaded & {*HEAVY, "noisereduce", "pocketsphinx", "skimage", "pandas"}
