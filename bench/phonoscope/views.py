"""Views: how a metric sees a clip.

A view is raw media (`audio`, `frames`) or something computed from another view: a plain function,
or a network that is loaded once and fed batches. The same view of the same clip is computed once.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from phonoscope import media, weights
from phonoscope.errors import (
    DEFECT,
    ClipError,
    SetupError,
    SpecError,
    UnsupportedSample,
    WeightsMismatch,
    told,
)
from phonoscope.registry import Registry
from phonoscope.types import Audio, Clip, Failure, Scalar, Unsupported, fingerprint

MEMO_BYTES = 256 << 20
NETWORKS_HELD = 2
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Network(Protocol):
    """What a class behind `view` offers. Heavy imports belong in `load`."""

    def load(self, device: str) -> None:
        """Read the weights onto `device`."""

    def __call__(self, batch: list[Any]) -> list[Any]:
        """Return one output per input, in order, independent of the batch."""


@dataclass(frozen=True)
class View:
    """One way of seeing a clip. Call it to set parameters: ``dnsmos_p808(window="exact")``.

    Attributes
    ----------
    of : View or None
        The view that it is computed from; None for raw media.
    params : tuple of (name, value)
        What the caller set, on top of the defaults.
    weights : tuple of str
        Names in `phonoscope.weights`.
    stored : bool
        Whether outputs go to the run store (everything slow).
    requires : tuple of str
        Packages beyond the core.
    """

    name: str
    version: str
    of: View | None
    make: Callable[..., Any]
    module: str
    file: str
    attribute: str
    params: tuple[tuple[str, Scalar], ...] = ()
    weights: tuple[str, ...] = ()
    batch: int = 1
    stored: bool = False
    requires: tuple[str, ...] = ()

    def __call__(self, **params: Scalar) -> View:
        """Return this view with parameters set."""
        return replace(self, params=tuple(sorted({**dict(self.params), **params}.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        base = attribute_of(self.module, self.attribute)
        if isinstance(base, View) and replace(base, params=self.params) == self:
            return _rebuild, (self.module, self.file, self.attribute, self.params)
        return by_value(self)

    @property
    def is_network(self) -> bool:
        """Whether the view is a class with `load`."""
        return isinstance(self.make, type)

    @functools.cached_property
    def identity(self) -> str:
        """Digest of everything that decides the output, except the clip."""
        hashes = [weights.digest(name) for name in self.weights]
        base = self.of.identity if self.of else ""
        return fingerprint(self.name, self.version, self.params, hashes, base)

    def chain(self) -> Iterator[View]:
        """Yield this view and those below it."""
        yield self
        if self.of:
            yield from self.of.chain()

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.params)
        return f"{self.name}({inside})" if inside else self.name


@functools.lru_cache(maxsize=1024)
def _rebuild(
    module: str, file: str, attribute: str, params: tuple[tuple[str, Scalar], ...]
) -> View:
    view: View = load_attribute(module, file, attribute)
    return replace(view, params=params)


def load_attribute(module: str, file: str, attribute: str) -> Any:
    """Import `attribute` of a module by name, or of a plugin file by path."""
    if module not in sys.modules and module.startswith(PLUGIN_PREFIX):
        load_file(Path(file))
    return getattr(importlib.import_module(module), attribute)


def attribute_of(module: str, attribute: str) -> Any:
    """Return what a worker would find under that name; None for the user's own script."""
    return None if module == "__main__" else getattr(sys.modules.get(module), attribute, None)


def by_value(item: Any) -> tuple[Any, ...]:
    """Return how to pickle a plugin that a worker cannot import: with all it holds."""
    return _blank, (type(item),), dict(vars(item))


def _blank(kind: type[Any]) -> Any:
    return object.__new__(kind)


PLUGIN_PREFIX = "phonoscope_plugin_"
BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(OSError, RuntimeError, SyntaxError, TypeError, ValueError),
)


def load_file(path: Path) -> None:
    """Import one plugin file, whose decorators register what it holds.

    Raises
    ------
    SpecError
        If the file is absent or cannot be imported.
    """
    path = path.resolve()
    name = PLUGIN_PREFIX + fingerprint(str(path))[:8] + "_" + path.stem
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SpecError(f"{path}: no such plugin file; give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importing(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


@contextlib.contextmanager
def importing(place: str) -> Iterator[None]:
    """Turn what goes wrong while a plugin is imported into a `SpecError` that names its place."""
    try:
        yield
    except BROKEN as error:
        raise SpecError(
            f"{place}: cannot be imported ({type(error).__name__}: {error}); correct the plugin, "
            "or take it out; `phonoscope --debug ...` shows the line"
        ) from error


VIEWS: Registry[View] = Registry("view")


def origin_of(function: Any) -> str:
    """Return the file that defines `function`."""
    return str(getattr(sys.modules[function.__module__], "__file__", function.__module__))


def view(
    *,
    of: Any,
    version: str = "1",
    weights: Sequence[str] = (),
    batch: int = 1,
    stored: bool | None = None,
    requires: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], View]:
    """Make a view of a function (one item in, one out) or of a `Network` class.

    Parameters
    ----------
    of : View
        What the function or the network is given.
    version : str
        Change it when outputs change: cached outputs of other versions are not used.
    weights : sequence of str
        Names in `phonoscope.weights` whose hashes belong to the identity.
    batch : int
        How many items a network is given at once.
    stored : bool
        Keep outputs in the run store; by default for networks only.
    requires : sequence of str
        Import names of packages beyond the core.
    """

    def register(make: Callable[..., Any]) -> View:
        keep = isinstance(make, type) if stored is None else stored
        item = View(
            name=make.__name__,
            version=version,
            of=of,
            make=make,
            module=make.__module__,
            file=origin_of(make),
            attribute=make.__name__,
            weights=tuple(weights),
            batch=batch,
            stored=keep,
            requires=tuple(requires),
        )
        VIEWS.add(item.name, item, item.file)
        return item

    return register


def _raw(name: str, make: Callable[..., Any], **params: Scalar) -> View:
    base = View(name, "1", None, make, __name__, __file__, f"_{name.upper()}")
    return base(**params) if params else base


def audio(rate: int) -> View:
    """Mono sound at `rate` Hz: an `Audio`, float32, never normalised."""
    return _AUDIO(rate=rate)


def frames(fps: float | None = None, width: int | None = None, height: int | None = None) -> View:
    """RGB pictures: a `Frames`, at the file's own rate and size where none is asked for."""
    return _FRAMES(fps=fps, width=width, height=height)


def _sound(clip: Clip, *, rate: int) -> Audio:
    """Decode; all mixtures of one file share its decoded sound."""
    if clip.effect is None:
        return media.read_audio(clip, rate=rate)
    plain = look(audio(clip.effect.rate), Clip(clip.path))
    return media.read_audio(clip, rate=rate, decoded=plain if isinstance(plain, Audio) else None)


_AUDIO = _raw("audio", _sound)
_FRAMES = _raw("frames", media.read_frames)


def attempt(stage: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `function`; return what it returns, or the `Failure` or `Unsupported` that it raised.

    Errors of the set-up (weights, packages) pass through: they are not the sample's fault.
    """
    try:
        return function(*args, **kwargs)
    except SetupError:
        raise
    except UnsupportedSample as error:
        return Unsupported(error.code, told(error))
    except ClipError as error:
        return Failure(stage, error.code, told(error))
    except (Exception, SystemExit) as error:  # research code calls sys.exit
        return Failure(stage, "metric_error", f"{type(error).__name__}: {error}; {DEFECT}")


class Memo:
    """The last outputs of cheap views, least recently used out first, bounded in bytes."""

    def __init__(self, limit: int = MEMO_BYTES) -> None:
        self.limit, self.size = limit, 0
        self._items: OrderedDict[tuple[str, Clip], tuple[Any, int]] = OrderedDict()

    def get(self, key: tuple[str, Clip]) -> Any:
        """Return the output, or None."""
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key][0]

    def put(self, key: tuple[str, Clip], output: Any) -> None:
        """Keep an output."""
        size = _nbytes(output)
        self.size += size - self._items.get(key, (None, 0))[1]
        self._items[key] = (output, size)
        while self.size > self.limit and len(self._items) > 1:
            self.size -= self._items.popitem(last=False)[1][1]


def _nbytes(output: Any) -> int:
    inner = getattr(output, "samples", getattr(output, "pixels", output))
    return int(getattr(inner, "nbytes", 200))


_memo = Memo()
_loads: list[tuple[str, str]] = []
_networks: OrderedDict[tuple[str, str], Any] = OrderedDict()


def network(item: View, device: str) -> Any:
    """Return the loaded network of a view; the last few are held, older ones freed.

    Raises
    ------
    SetupError
        If it cannot be loaded, for whatever reason: no clip is guilty of that.
    """
    key = (item.identity, device)
    if key not in _networks:
        loaded = attempt("view", _loaded, item, device)
        if isinstance(loaded, Failure | Unsupported):
            raise _unloadable(item, device, loaded.error.removesuffix(f"; {DEFECT}"))
        _networks[key] = loaded
        _loads.append((str(item), device))
        while len(_networks) > NETWORKS_HELD:
            _networks.popitem(last=False)
    _networks.move_to_end(key)
    return _networks[key]


def _loaded(item: View, device: str) -> Any:
    made = item.make(**dict(item.params))
    made.load(device)
    return made


def _unloadable(item: View, device: str, why: str) -> SetupError:
    """Return the error of a network that does not load; it blames files that nobody pinned."""
    doubted = [name for name in item.weights if not weights.WEIGHTS.get(name).sha256]
    if doubted:
        hints = " ".join(map(weights.doubt, doubted))
        return WeightsMismatch(f"{item} cannot be loaded ({why}). {hints}")
    remedy = "look at --device and at the versions of its packages, or report a defect"
    return SetupError(f"{item} cannot be loaded on {device} ({why}); {remedy} of the plugin")


def see(item: View, clips: Sequence[Clip], *, device: str = "cpu") -> list[Any]:
    """Return the view's output for each clip, or the `Failure` that stands in its place.

    If a batch of a network raises, its clips are tried one by one, so only the guilty one fails.

    Raises
    ------
    SetupError
        If a network cannot be loaded.
    """
    if item.of is None or not item.is_network:
        return [look(item, clip) for clip in clips]
    outputs = see(item.of, clips, device=device)
    good = [i for i, value in enumerate(outputs) if not isinstance(value, Failure | Unsupported)]
    loaded = network(item, device) if good else None
    for start in range(0, len(good), item.batch):
        part = good[start : start + item.batch]
        for i, output in zip(part, _run_batch(loaded, [outputs[i] for i in part]), strict=True):
            outputs[i] = output
    return outputs


def _run_batch(loaded: Any, batch: list[Any]) -> list[Any]:
    outputs = attempt("view", _one_each, loaded, batch)
    if isinstance(outputs, list):
        return outputs
    if len(batch) == 1:
        return [outputs]
    return [_run_batch(loaded, [one])[0] for one in batch]


def _one_each(loaded: Any, batch: list[Any]) -> list[Any]:
    outputs = list(loaded(batch))
    if len(outputs) != len(batch):
        raise ValueError(f"the network gave {len(outputs)} outputs for {len(batch)} inputs")
    return outputs


def look(item: View, clip: Clip, known: Mapping[str, Any] = NOTHING) -> Any:
    """Return the view's output for one clip, or the `Failure` that stands in its place.

    Parameters
    ----------
    known : mapping of view identity to output
        Outputs that were computed before, such as those of networks.
    """
    if item.identity in known:
        return known[item.identity]
    if item.is_network:
        return see(item, [clip])[0]
    place = f"{item.identity} {_state(clip)}", clip
    kept = _memo.get(place)
    if kept is not None:
        return kept
    inner = clip if item.of is None else look(item.of, clip, known)
    if isinstance(inner, Failure | Unsupported):
        return inner
    output = attempt("view", item.make, inner, **dict(item.params))
    if not isinstance(output, Failure | Unsupported):
        _memo.put(place, output)
    return output


def _state(clip: Clip) -> str:
    """Return what shows that a clip has changed since it was last seen, at the cost of a `stat`."""
    effect = attempt("view", clip.effect.identity) if clip.effect else ""
    try:
        found = os.stat(clip.path)  # noqa: PTH116
    except (OSError, ValueError):
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns} {effect}"


def frontier(item: View) -> View | None:
    """Return the topmost stored view in the chain: the one to compute before measuring."""
    return next((link for link in item.chain() if link.stored), None)


def loads() -> list[tuple[str, str]]:
    """Return (view, device) of the networks loaded in this process since the last call."""
    found = list(_loads)
    _loads.clear()
    return found
