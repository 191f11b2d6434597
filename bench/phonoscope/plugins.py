"""Metrics, systems and data sets: the decorators that make them and where they are found."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phonoscope.errors import SpecError
from phonoscope.registry import Registry
from phonoscope.stats import Aggregate, mean
from phonoscope.types import CLIP_ROLES, TASKS, TEXT_ROLES, Better, Record, fingerprint
from phonoscope.views import (
    View,
    attribute_of,
    by_value,
    importing,
    load_attribute,
    load_file,
    origin_of,
)

GROUPS = ("phonoscope.metrics", "phonoscope.systems", "phonoscope.datasets")


@dataclass(frozen=True)
class Metric:
    """`measure` (the function) and `aggregate`. Call it to measure one sample.

    Attributes
    ----------
    views : mapping of clip role to View
        What fills the function's parameters.
    texts : tuple of str
        The text roles among its parameters.
    label : str
        Column header that names the variant.
    ideal : float or None
        The value of a perfect clip, where one exists.
    encoder : str or None
        The network behind the metric: systems trained with it get a mark.
    """

    name: str
    function: Callable[..., Any]
    views: Mapping[str, View]
    texts: tuple[str, ...]
    unit: str
    better: Better
    aggregate: Aggregate
    version: str
    label: str
    ideal: float | None
    encoder: str | None
    requires: tuple[str, ...]
    decimals: int

    def __call__(self, *args: Any, **kwargs: Any) -> Record:
        """Measure: the function's result as a `Record`."""
        result = self.function(*args, **kwargs)
        return result if isinstance(result, Record) else Record(result)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduced(self, self.function)

    @property
    def doc(self) -> str:
        """The card: the function's docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def identity(self) -> str:
        """Digest of everything that decides a record, except clips and texts."""
        seen = {role: item.identity for role, item in self.views.items()}
        return fingerprint(self.name, self.version, seen, self.texts)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of all weights files behind the metric."""
        items = [link for item in self.views.values() for link in item.chain()]
        return tuple(dict.fromkeys(name for item in items for name in item.weights))

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages beyond the core that the metric and its views import."""
        items = [link for item in self.views.values() for link in item.chain()]
        names = [*self.requires, *(name for item in items for name in item.requires)]
        return tuple(dict.fromkeys(names))


def _reduced(item: Any, function: Any) -> tuple[Any, ...]:
    """Return how to pickle a plugin: by name where a worker finds the same under it."""
    if attribute_of(function.__module__, function.__name__) is not item:
        return by_value(item)
    return load_attribute, (function.__module__, origin_of(function), function.__name__)


METRICS: Registry[Metric] = Registry("metric")


def metric(
    *,
    unit: str,
    better: Better,
    aggregate: Aggregate = mean,
    version: str = "1",
    label: str = "",
    ideal: float | None = None,
    encoder: str | None = None,
    requires: Sequence[str] = (),
    decimals: int = 2,
    **views: Any,
) -> Callable[[Callable[..., Any]], Metric]:
    """Make a metric of a function whose parameters are roles.

    Parameters
    ----------
    unit : str
        Such as ``dB``; ``-`` where there is none.
    better : {"higher", "lower"}
        Direction.
    aggregate : Aggregate
        How records become one number; the mean by default.
    version : str
        Change it when values change: the metric alone is measured again.
    label : str
        Column header; the name where empty.
    ideal : float, optional
        The value of a perfect clip.
    encoder : str, optional
        The network behind it, such as ``imagebind``.
    requires : sequence of str
        Import names of packages beyond the core.
    decimals : int
        Digits printed in tables.
    **views : View
        One for each clip role among the function's parameters.

    Raises
    ------
    SpecError
        If a parameter is no role, or a clip role has no view.
    """

    def register(function: Callable[..., Any]) -> Metric:
        roles = list(inspect.signature(function).parameters)
        where = f"metric {function.__name__!r} in {origin_of(function)}"
        for role in roles:
            if role not in CLIP_ROLES + TEXT_ROLES:
                known = ", ".join(CLIP_ROLES + TEXT_ROLES)
                raise SpecError(f"{where}: parameter {role!r} is no role; roles are {known}")
        for role, item in views.items():
            if not isinstance(item, View):
                raise SpecError(f"{where}: {role}={item!r} is no view")
        if set(views) != {role for role in roles if role in CLIP_ROLES}:
            raise SpecError(
                f"{where}: give a view for each clip role of the function and for no other, "
                f"such as generated=audio(16_000); roles {roles}, views {sorted(views)}"
            )
        made = Metric(
            name=function.__name__,
            function=function,
            views={role: views[role] for role in roles if role in views},
            texts=tuple(role for role in roles if role in TEXT_ROLES),
            unit=unit,
            better=better,
            aggregate=aggregate,
            version=version,
            label=label or function.__name__,
            ideal=ideal,
            encoder=encoder,
            requires=tuple(requires),
            decimals=decimals,
        )
        METRICS.add(made.name, made, origin_of(function))
        return made

    return register


@dataclass(frozen=True)
class System:
    """A generator under test.

    Attributes
    ----------
    function : callable
        ``(sample, out, *, seed, **params) -> Path | Clip``: writes below the folder `out` and
        returns the file, or returns a clip that exists already.
    needs : tuple of str
        Input roles; a sample without one of them is unsupported.
    materialise : bool
        Whether the outcome is kept in the store. False for systems that only name files.
    encoders, trained_on : tuple of str
        For the leakage and zero-shot marks.
    absent : callable, optional
        ``(samples, *, seed, condition, **params) -> str``: why a run has no outputs at all, ''
        where it has some. A protocol may then say that the system is optional.
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    tasks: tuple[str, ...]
    version: str
    materialise: bool = True
    encoders: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    absent: Callable[..., str] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Generate one sample."""
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduced(self, self.function)

    @property
    def doc(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""


SYSTEMS: Registry[System] = Registry("system")


def system(
    *,
    needs: Sequence[str] = (),
    tasks: Sequence[str] = TASKS,
    version: str = "1",
    materialise: bool = True,
    encoders: Sequence[str] = (),
    trained_on: Sequence[str] = (),
    requires: Sequence[str] = (),
    absent: Callable[..., str] | None = None,
) -> Callable[[Callable[..., Any]], System]:
    """Make a system of a function ``(sample, out, *, seed, **params) -> Path | Clip``.

    See `System` for the parameters.
    """

    def register(function: Callable[..., Any]) -> System:
        item = System(
            name=function.__name__,
            function=function,
            needs=tuple(needs),
            tasks=tuple(tasks),
            version=version,
            materialise=materialise,
            encoders=tuple(encoders),
            trained_on=tuple(trained_on),
            requires=tuple(requires),
            absent=absent,
        )
        SYSTEMS.add(item.name, item, origin_of(function))
        return item

    return register


@dataclass(frozen=True)
class Reader:
    """A kind of data set: ``(name, **options) -> Dataset``."""

    name: str
    function: Callable[..., Any]
    options: tuple[str, ...] = field(default=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Read the data set."""
        return self.function(*args, **kwargs)

    @property
    def doc(self) -> str:
        """The function's docstring."""
        return inspect.getdoc(self.function) or ""


DATASETS: Registry[Reader] = Registry("dataset")


def dataset(function: Callable[..., Any]) -> Reader:
    """Make a kind of data set of a function ``(name, **options) -> Dataset``."""
    options = tuple(inspect.signature(function).parameters)[1:]
    item = Reader(function.__name__, function, options)
    DATASETS.add(item.name, item, origin_of(function))
    return item


_discovered: list[str] = []


def discover(files: Sequence[Path] = ()) -> None:
    """Import every plugin: the package's own, entry points, then `files`."""
    if not _discovered:
        for group in GROUPS:
            _scan(group)
        for group in GROUPS:
            for entry in importlib.metadata.entry_points(group=group):
                with importing(f"entry point {entry.name} = {entry.value}"):
                    entry.load()
        _discovered.append("all")
    for file in files:
        load_file(Path(file))


def _scan(package: str) -> None:
    root = importlib.import_module(package)
    for found in pkgutil.iter_modules(root.__path__, package + "."):
        if found.name.rpartition(".")[2] != "networks":
            importlib.import_module(found.name)


def missing_packages(names: Sequence[str]) -> list[str]:
    """Return those import names that cannot be found here, without importing them."""
    return [name for name in names if importlib.util.find_spec(name) is None]
