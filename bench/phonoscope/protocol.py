"""Protocols: the YAML file that says what is measured, checked key by key, and its runs."""

from __future__ import annotations

import difflib
import importlib.resources
import inspect
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.errors import PydanticUserError

from phonoscope import enrollment, noise, plugins
from phonoscope.enrollment import Enrollment
from phonoscope.errors import DatasetError, SpecError, UserError
from phonoscope.plugins import Metric, Reader, System
from phonoscope.types import Clip, Condition, Dataset, Sample, Scalar, Window, fingerprint

VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
Kind = Literal["system", "reference", "control"]
Name = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(strict=True)]
AXES = ("snr_db", "noise")
EACH = "*"
RELATIVE = ("./", "../")
SWITCH = {"true": True, "false": False}
GIVEN = ("seed", "dataset", "condition")
LONGEST_NAME = 200
SHOWN = 80


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DatasetSpec(_Strict):
    """One entry of `datasets`; `min_utterances` keeps only groups with as many samples."""

    name: Name
    kind: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    revision: str = ""
    min_utterances: Whole = Field(default=1, ge=1)
    limit: Whole | None = Field(default=None, ge=1)

    @field_validator("min_utterances", mode="before")
    @classmethod
    def _variable(cls, value: Any) -> Any:
        """Let ``${VARIABLE:-2}`` stand for a number."""
        if not (isinstance(value, str) and VARIABLE.fullmatch(value)):
            return value
        try:
            filled = str(_expand_value(value, Path(), "min_utterances"))
        except SpecError as error:
            raise ValueError(str(error)) from None
        return int(filled) if filled.isdecimal() else filled


class SystemSpec(_Strict):
    """One entry of `systems`: a plugin under a name of its own, with parameters.

    An `optional` one is left out where its files are not there, and the board says so. The name
    ``*`` stands for every folder that the ``*`` in its parameters matches and no other entry names.
    """

    name: Name
    plugin: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    optional: Annotated[bool, Field(strict=True)] = False
    encoders: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()


class MixingSpec(_Strict):
    """How an `snr_db` condition mixes; see `phonoscope.noise`."""

    level: noise.Level = "whole_file_power"
    clip: noise.ClipRule = "rescale_peak095"
    short_noise: noise.ShortNoise = "wrap"
    noise_choice: noise.NoiseChoice = "hash_v1"
    pairing: noise.Pairing = "same_crop_all_snrs"
    storage: noise.Storage = "float32"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        try:
            noise.require_compatible(self.noise_choice, self.pairing)
        except SpecError as error:
            raise ValueError(str(error)) from None
        return self

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later options where they change nothing, so that older results stay known."""
        options: dict[str, Any] = dump(self)
        later = ("noise_choice", "pairing", "storage")
        same = [name for name in later if options[name] == type(self).model_fields[name].default]
        return {name: value for name, value in options.items() if name not in same}


class EnhancerSpec(_Strict):
    """The plugin that names the clips of ``enrollment=same_enhanced``."""

    plugin: Name
    params: dict[str, Any] = Field(default_factory=dict)


class EnrollmentSpec(_Strict):
    """What the points of an `enrollment` axis need; see `phonoscope.enrollment`."""

    snr_db: Whole | Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    noise: str = ""
    enhanced: EnhancerSpec | None = None


class ProtocolSpec(_Strict):
    """What a protocol file may say. Unknown keys are refused."""

    name: Name
    title: str = ""
    description: str = ""
    task: Literal["lip2speech", "video2audio", "talking_face"]
    datasets: tuple[DatasetSpec, ...] = Field(min_length=1)
    systems: tuple[SystemSpec, ...] = ()
    references: tuple[SystemSpec, ...] = ()
    controls: tuple[SystemSpec, ...] = ()
    conditions: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    metrics: tuple[str, ...] = Field(min_length=1)
    planned: tuple[str, ...] = ()
    seeds: tuple[Whole, ...] = Field(default=(0,), min_length=1)
    max_failed: Whole = Field(default=0, ge=0)
    limit: Whole | None = Field(default=None, ge=1)
    window: tuple[float, float] | Literal["shortest"] | None = None
    mixing: MixingSpec = MixingSpec()
    enrollment: EnrollmentSpec = EnrollmentSpec()
    gate: tuple[dict[str, Any], ...] = ()

    @field_validator("datasets", "systems", "references", "controls", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """Let a bare name stand for an entry without options."""
        if isinstance(value, list | tuple):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        """Results lie in a folder of this name: refuse one that leads elsewhere."""
        if value in (".", "..") or set("/\\\0") & set(value) or len(value) > LONGEST_NAME:
            raise ValueError(
                f"names a folder: no slash, no '..', at most {LONGEST_NAME} characters"
            )
        return value

    @field_validator("window")
    @classmethod
    def _grows(cls, value: Any) -> Any:
        if isinstance(value, tuple) and not (0 <= value[0] < value[1] < math.inf):
            raise ValueError("has to be 'shortest' or [start, stop] in seconds, 0 <= start < stop")
        return value

    @field_validator("conditions")
    @classmethod
    def _points(cls, value: dict[str, tuple[Scalar, ...]]) -> dict[str, tuple[Scalar, ...]]:
        for axis, points in value.items():
            if not points or len(set(points)) < len(points):
                raise ValueError(f"{axis} needs values, each once")
            if any(isinstance(point, float) and not math.isfinite(point) for point in points):
                raise ValueError(f"{axis} needs finite values")
        return value

    @field_validator("conditions", mode="before")
    @classmethod
    def _single_values(cls, value: Any) -> Any:
        """Let a single value stand for a list of one."""
        if isinstance(value, dict):
            return {k: v if isinstance(v, list | tuple) else [v] for k, v in value.items()}
        return value


@dataclass(frozen=True)
class Entry:
    """A system as a protocol names it."""

    name: str
    system: System
    params: Mapping[str, Any]
    kind: Kind
    encoders: tuple[str, ...]
    trained_on: tuple[str, ...]
    optional: bool = False
    unset: str = ""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What decides its output, inputs and seed aside."""
        return self.system.name, self.system.version, sorted(self.params.items())


@dataclass(frozen=True)
class RunSpec:
    """System x data set x condition x seed: one row of the board."""

    entry: Entry
    dataset: Dataset
    condition: Condition
    seed: int
    mixing: MixingSpec
    enrollment: Enrollment = field(default_factory=Enrollment)

    @property
    def key(self) -> str:
        """Digest of all that decides the output."""
        return fingerprint(self.described())

    def described(self) -> dict[str, Any]:
        """Return all that decides the output, as plain data."""
        source = self.condition.get(enrollment.ROLE)
        mixed = self.condition.get("snr_db") is not None or source == "same_noisy"
        enrolled = {"enrollment": self.enrollment.described(source)} if source is not None else {}
        return {
            "name": self.entry.name,
            "system": self.entry.system.name,
            "version": self.entry.system.version,
            "params": dict(self.entry.params),
            "dataset": self.dataset.name,
            "revision": self.dataset.revision,
            "condition": dict(self.condition.axes),
            "mixing": self.mixing.model_dump() if mixed else None,
            "seed": self.seed,
            **enrolled,
        }

    def sample(self, sample: Sample) -> Sample:
        """Apply the condition to the sample's inputs, never to its reference."""
        source = self.condition.get(enrollment.ROLE)
        told = sample if source is None else enrollment.give(sample, self._finder(str(source)))
        return self._mixed(told, self.condition)

    def _finder(self, source: str) -> Callable[[Sample], Clip | None]:
        found: dict[str, Callable[[Sample], Clip | None]] = {
            "same_clean": lambda sample: sample.reference,
            "other_clean": lambda sample: self.dataset.others.get(sample.id),
            "same_noisy": self._noisy,
            "same_enhanced": lambda sample: self.enrollment.enhanced(
                sample, self.condition, self.seed
            ),
        }
        return found[source]

    def _noisy(self, sample: Sample) -> Clip | None:
        speech = sample.inputs.get("audio") or sample.reference
        alone = replace(sample, inputs={"audio": speech} if speech else {})
        return self._mixed(alone, self.enrollment.mixture(self.condition)).inputs.get("audio")

    def _mixed(self, sample: Sample, condition: Condition) -> Sample:
        snr = condition.get("snr_db")
        if snr is None or "audio" not in sample.inputs:
            return sample
        name = str(condition.get("noise") or next(iter(self.dataset.noises)))
        return noise.mix(
            sample,
            self.dataset.noises[name],
            snr_db=float(snr),
            seed=self.seed,
            among=self.dataset.samples,
            **dict(self.mixing),
        )

    def samples(self) -> Iterator[Sample]:
        """Yield the samples under this condition."""
        return map(self.sample, self.dataset.samples)


# Of a run: system, data set, condition and seed.
Place: TypeAlias = tuple[str, str, Condition, int]


@dataclass(frozen=True)
class Protocol:
    """A checked protocol with its plugins resolved and its data sets read."""

    spec: ProtocolSpec
    metrics: tuple[Metric, ...]
    entries: tuple[Entry, ...]
    datasets: tuple[Dataset, ...]
    path: Path | None = None
    files: tuple[Path, ...] = field(default=())
    enrollment: Enrollment = field(default_factory=Enrollment)
    left_out: Mapping[Place, str] = field(default_factory=dict)

    def runs(self) -> Iterator[RunSpec]:
        """Yield every run, in the order of the board's rows."""
        points = conditions(self.spec.conditions)
        for dataset, condition, entry, seed in itertools.product(
            self.datasets, points, self.entries, self.spec.seeds
        ):
            if (entry.name, dataset.name, condition, seed) not in self.left_out:
                mixing, stated = self.spec.mixing, self.enrollment
                yield RunSpec(entry, dataset, condition, seed, mixing, stated)

    def absences(self) -> Iterator[str]:
        """Yield, for people, which optional systems are left out and why."""
        points = len(conditions(self.spec.conditions)) * len(self.spec.seeds)
        for name in dict.fromkeys(name for name, *_ in self.left_out):
            reasons = {place: why for place, why in self.left_out.items() if place[0] == name}
            if len(reasons) == points * len(self.datasets):
                yield f"{name} is not run: {next(iter(reasons.values()))}"
                continue
            for (_, dataset, condition, _), why in reasons.items():
                yield f"{name} is not run on {dataset} under {condition}: {why}"

    @property
    def window(self) -> Window | None:
        """The window that all clips are cut to, in seconds."""
        value = self.spec.window
        return Window(*value) if isinstance(value, tuple) else None


def conditions(axes: Mapping[str, tuple[Scalar, ...]]) -> list[Condition]:
    """Return the product of the axes; one empty condition where there are none."""
    names = list(axes)
    return [
        Condition(tuple(zip(names, values, strict=True)))
        for values in itertools.product(*(axes[name] for name in names))
    ]


def load(
    source: str | Path | Mapping[str, Any],
    *,
    limit: int | None = None,
    systems: Sequence[str] = (),
) -> Protocol:
    """Read a protocol: a YAML file, the name of a packaged board, or a mapping.

    Parameters
    ----------
    source : path, name or mapping
        The protocol.
    limit : int, optional
        In place of the protocol's own.
    systems : sequence of str
        Plugins to run besides the protocol's systems.

    Raises
    ------
    SpecError
        Naming the file, the line, the key and the allowed values.
    UnknownName
        If a metric, system or data set does not exist.
    """
    path = None if isinstance(source, Mapping) else find(source)
    text = _read(path) if path else ""
    raw = dict(source) if isinstance(source, Mapping) else _parse(path, text)
    spec = _validate(raw, path, text)
    if limit is not None:
        spec = spec.model_copy(update={"limit": limit})
    if systems:
        more = [SystemSpec(name=name) for name in systems]
        spec = spec.model_copy(update={"systems": (*spec.systems, *more)})
    try:
        return resolve(spec, path)
    except UserError as error:
        raise (type(error)(f"{path}: {error}") if path else error) from None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error}); give a UTF-8 text file") from None


def find(source: str | Path) -> Path:
    """Return the file that `source` names: a path, or a board of the package."""
    path = Path(source)
    # Not Path.is_dir: what is no file may be too long for one.
    if os.path.isdir(path):  # noqa: PTH112
        path = path / "protocol.yaml"
    if os.path.isfile(path):  # noqa: PTH113
        return path.resolve()
    packaged = board_folder(str(source))
    if packaged:
        return packaged / "protocol.yaml"
    known = ", ".join(boards())
    raise SpecError(f"{source}: no such protocol file, and no board of that name; boards: {known}")


def boards() -> list[str]:
    """Return the names of the packaged boards."""
    root = Path(str(importlib.resources.files("phonoscope.leaderboards")))
    return sorted(path.parent.name for path in root.glob("*/protocol.yaml"))


def board_folder(name: str) -> Path | None:
    """Return the folder of a packaged board, or None."""
    root = Path(str(importlib.resources.files("phonoscope.leaderboards")))
    return root / name if name in boards() else None


class _Loader(yaml.SafeLoader):
    """YAML whose mappings have each key once: otherwise all but the last would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands there twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"the key {key.value} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _parse(path: Path | None, text: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for a date such as 2024-02-30
        raise SpecError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a protocol is a mapping with the keys {_keys(ProtocolSpec)}")
    return raw


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _validate(raw: dict[str, Any], path: Path | None, text: str) -> ProtocolSpec:
    try:
        return ProtocolSpec.model_validate(raw)
    except ValidationError as error:
        where = str(path) if path else "protocol"
        lines = [_explain(problem, text) for problem in _causes(error.errors())]
        raise SpecError("\n".join(f"{where}: {line}" for line in lines)) from None


def _causes(problems: Sequence[Any]) -> Iterator[Any]:
    """Yield the problems, but not a list that is too short because its items are wrong."""
    for problem in problems:
        place = problem["loc"]
        below = [item for item in problems if item["loc"][: len(place)] == place]
        if problem["type"] != "too_short" or len(below) == 1:
            yield problem


def _explain(problem: Any, text: str) -> str:
    places = [
        p for p in problem["loc"] if not str(p).startswith(("function-", "tuple[", "literal["))
    ]
    key = ".".join(str(p) for p in places)
    line = _line_of(text, places)
    prefix = f"line {line}: {key}" if line else key
    model = _model_at(places[:-1])
    if problem["type"] == "missing":
        return f"{prefix}: is missing; keys: {_keys(model)}"
    if problem["type"] != "extra_forbidden":
        return f"{prefix}: {_plain_words(problem, places)} (got {problem.get('input')!r:.{SHOWN}})"
    near = difflib.get_close_matches(str(places[-1]), model.model_fields, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{prefix}: unknown key; {hint}allowed keys: {_keys(model)}"


def _plain_words(problem: Any, places: list[Any]) -> str:
    """Say what pydantic says in the words of YAML."""
    words = {
        "tuple_type": "has to be a list",
        "too_short": "needs at least one item",
        "dict_type": "has to be a mapping",
        "model_type": f"has to be a mapping with the keys {_keys(_model_at(places))}",
        "string_too_short": "is empty",
    }
    message = str(problem["msg"]).removeprefix("Value error, ")
    return words.get(problem["type"], message)


def _model_at(places: list[Any]) -> type[BaseModel]:
    models: dict[str, type[BaseModel]] = {
        "datasets": DatasetSpec,
        "systems": SystemSpec,
        "references": SystemSpec,
        "controls": SystemSpec,
        "mixing": MixingSpec,
        "enrollment": EnrollmentSpec,
        "enrollment.enhanced": EnhancerSpec,
    }
    names = [place for place in places if isinstance(place, str)]
    deeper = (models.get(".".join(names[:depth])) for depth in range(len(names), 0, -1))
    return next(filter(None, deeper), ProtocolSpec)


def _line_of(text: str, places: list[Any]) -> int | None:
    """Return the line on which the key at `places` stands."""
    node = yaml.compose(text) if text else None
    line = None
    for place in places:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(place)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(place, int):
            node = node.value[place]
            line = node.start_mark.line + 1
    return line


def resolve(spec: ProtocolSpec, path: Path | None) -> Protocol:
    """Look up the plugins and read the data sets."""
    plugins.discover()
    root = path.parent if path else Path.cwd()
    metrics = tuple(plugins.METRICS.get(name) for name in spec.metrics)
    entries = tuple(_entries(spec, root))
    if not entries:
        raise SpecError("systems: nothing to run; give systems, references or controls")
    _refuse_duplicates("metrics", spec.metrics)
    _refuse_duplicates("systems", [entry.name for entry in entries])
    _refuse_duplicates("datasets", [item.name for item in spec.datasets])
    _refuse_duplicates("seeds", [str(seed) for seed in spec.seeds])
    _check_axes(spec.conditions, entries, metrics)
    stated = _enrollment(spec, root)
    datasets = tuple(_read_dataset(item, spec, root) for item in spec.datasets)
    for dataset in datasets:
        _check_noise(spec, dataset)
        _check_enrolled(spec, stated, dataset)
    left_out = _left_out(spec, entries, datasets)
    return Protocol(spec, metrics, entries, datasets, path, enrollment=stated, left_out=left_out)


def _enrollment(spec: ProtocolSpec, root: Path) -> Enrollment:
    points, told = spec.conditions.get(enrollment.ROLE, ()), spec.enrollment
    if not points and told != EnrollmentSpec():
        raise SpecError(
            "enrollment: changes nothing without conditions.enrollment; add it, such as "
            "enrollment: same_clean"
        )
    stated = Enrollment(told.snr_db, told.noise, *_enhancer(told.enhanced, root))
    enrollment.check(points, stated)
    return stated


def _enhancer(told: EnhancerSpec | None, root: Path) -> tuple[System | None, dict[str, Any]]:
    if told is None:
        return None, {}
    where, system = "enrollment.enhanced", plugins.SYSTEMS.get(told.plugin)
    if system.materialise:
        raise SpecError(
            f"{where}.plugin: {told.plugin} makes clips; run it before, and name what it made by "
            "a plugin such as imported"
        )
    params = expand(told.params, root, f"{where}.params")
    known = _asked(system)
    check_options(params, known, f"{where}.params")
    _require_options(list(params), known, f"{where}.params")
    return system, params


def _check_enrolled(spec: ProtocolSpec, stated: Enrollment, dataset: Dataset) -> None:
    if "same_noisy" in spec.conditions.get(enrollment.ROLE, ()):
        for condition in conditions(spec.conditions):
            enrollment.check_mixture(dataset, stated, condition)


def _refuse_duplicates(key: str, names: Any) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise SpecError(f"{key}: {', '.join(twice)} named twice; give each entry its own name")


def _entries(spec: ProtocolSpec, root: Path) -> Iterator[Entry]:
    kinds: tuple[tuple[Kind, tuple[SystemSpec, ...]], ...] = (
        ("reference", spec.references),
        ("system", spec.systems),
        ("control", spec.controls),
    )
    named = [item for _, items in kinds for item in items if item.name != EACH]
    taken = {item.name: [*map(os.path.normpath, _texts(item, root))] for item in named}
    for kind, items in kinds:
        for item in items:
            for one in (item,) if item.name != EACH else _each(item, root, taken):
                yield _entry(one, kind, spec, root)


def _entry(item: SystemSpec, kind: Kind, spec: ProtocolSpec, root: Path) -> Entry:
    system = plugins.SYSTEMS.get(item.plugin or item.name)
    if item.optional and system.absent is None:
        raise SpecError(
            f"systems.{item.name}.optional: {system.name} needs no files, so it is never left out"
        )
    params, unset = _expanded(item, root)
    if not unset:
        _check_params(system, params, item.name, tuple(spec.conditions))
    encoders, trained_on = item.encoders or system.encoders, item.trained_on or system.trained_on
    return Entry(item.name, system, params, kind, encoders, trained_on, item.optional, unset)


def _expanded(item: SystemSpec, root: Path) -> tuple[dict[str, Any], str]:
    """Return the parameters, and which variable of an optional system is not set."""
    try:
        return expand(item.params, root, f"systems.{item.name}.params"), ""
    except SpecError as error:
        if not item.optional:
            raise
        return dict(item.params), str(error)


def _texts(item: SystemSpec, root: Path) -> Iterator[str]:
    params, _ = _expanded(item, root)
    return (value for value in params.values() if isinstance(value, str))


def _each(item: SystemSpec, root: Path, taken: Mapping[str, Sequence[str]]) -> Iterator[SystemSpec]:
    """Yield an entry for every folder that the ``*`` of the parameters stands for.

    Without those that other entries look into: `taken` holds their texts by name.
    """
    params, unset = _expanded(item.model_copy(update={"optional": True}), root)
    starred = [key for key, value in params.items() if isinstance(value, str) and "*" in value]
    if len(starred) != 1 or Path(params[starred[0]]).parts.count("*") != 1:
        raise SpecError(
            "systems.*.params: give one folder with one * in the place of a whole name, such as "
            "folder: outputs/*"
        )
    before, after = params[starred[0]].split("*")
    above = Path(before).expanduser()
    for folder in sorted(above.glob("[!.]*")) if not unset else ():
        name, place = folder.name, f"{before}{folder.name}{after}"
        known = any(os.path.normpath(place) in texts for texts in taken.values())
        if not known and Path(place).expanduser().is_dir():
            _refuse_namesake(name, place, taken)
            changes = {"name": name, "params": {**params, starred[0]: place}, "optional": True}
            yield item.model_copy(update=changes)


def _refuse_namesake(name: str, place: str, taken: Mapping[str, Sequence[str]]) -> None:
    if name in taken:
        there = ", ".join(text for text in taken[name] if os.sep in text)
        where = f"looks into {there}" if there else "looks into no folder"
        raise SpecError(f"systems.*: {place}: the system {name} {where}; rename the folder")


def _left_out(
    spec: ProtocolSpec, entries: Iterable[Entry], datasets: Iterable[Dataset]
) -> dict[Place, str]:
    """Return why runs of optional systems are left out."""
    found: dict[Place, str] = {}
    points = itertools.product(datasets, conditions(spec.conditions), spec.seeds)
    for dataset, condition, seed in points:
        for entry in entries:
            if entry.optional and entry.system.absent is not None:
                given = {**entry.params, "seed": seed, "condition": condition}
                why = entry.unset or entry.system.absent(dataset.samples, **given)
                found[entry.name, dataset.name, condition, seed] = why
    return {place: why for place, why in found.items() if why}


def _check_params(
    system: System, params: Mapping[str, Any], name: str, axes: tuple[str, ...]
) -> None:
    known = _asked(system)
    where = f"systems.{name}.params"
    check_options(params, known, where)
    _require_options([*params, *axes], known, where)


def _asked(system: System) -> dict[str, inspect.Parameter]:
    """Return the parameters that a protocol sets: those after the sample and the folder."""
    known = list(_parameters(system.function).items())[2:]
    return {name: item for name, item in known if name not in GIVEN}


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function, eval_str=True).parameters
    except NameError:  # annotations that only type checkers see
        return inspect.signature(function).parameters


def check_options(
    options: Mapping[str, Any], known: Mapping[str, inspect.Parameter], where: str
) -> None:
    """Refuse an option that the plugin does not have, or whose value is of another type."""
    allowed = [name for name, item in known.items() if item.kind is not item.VAR_KEYWORD]
    for key, value in options.items():
        if key in allowed:
            _check_type(value, known[key].annotation, f"{where}.{key}")
        elif len(allowed) == len(known):
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SpecError(
                f"{where}.{key}: unknown; {hint}allowed: {', '.join(allowed) or 'nothing'}"
            )


def _check_type(value: Any, annotation: Any, where: str) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
        TypeAdapter(annotation).validate_json(text, strict=True)
    except (TypeError, ValidationError, ValueError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else []
        told = problems[0]["msg"] if problems else "has to be plain data"
        told += ": true or false" if annotation is bool else ""
        raise SpecError(f"{where}: {told} (got {value!r:.{SHOWN}})") from None
    except PydanticUserError:
        return  # an annotation that only the plugin understands


def _require_options(given: list[str], known: Mapping[str, inspect.Parameter], where: str) -> None:
    for name, item in known.items():
        needed = item.default is item.empty and item.kind is item.KEYWORD_ONLY
        if needed and name not in given:
            raise SpecError(f"{where}.{name}: is missing; it has no default")


def _check_axes(
    axes: Mapping[str, Any], entries: tuple[Entry, ...], metrics: tuple[Metric, ...]
) -> None:
    """Refuse an axis that would change nothing."""
    roles = {role for entry in entries for role in entry.system.needs}
    roles |= {role for metric in metrics for role in metric.views}
    allowed = [*AXES, *roles.intersection([enrollment.ROLE])]
    allowed += dict.fromkeys(name for entry in entries for name in _asked(entry.system))
    free = any(
        item.kind is item.VAR_KEYWORD for entry in entries for item in _asked(entry.system).values()
    )
    texts = [str(value) for entry in entries for value in entry.params.values()]
    for axis in axes:
        placed = any(f"{{{axis}}}" in text for text in texts)
        if axis not in allowed and not free and not placed:
            near = difflib.get_close_matches(axis, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SpecError(
                f"conditions.{axis}: no system takes it, nor a pattern such as {{{axis}}}/{{id}}; "
                f"{hint}allowed: {', '.join(allowed)}"
            )
    if "noise" in axes and "snr_db" not in axes:
        raise SpecError("conditions.noise: mixes nothing without snr_db; add it, such as snr_db: 0")


def expand(options: Mapping[str, Any], root: Path, where: str) -> dict[str, Any]:
    """Fill ``${VARIABLE}`` and ``${VARIABLE:-default}``; ``./`` and ``../`` start at the protocol.

    What a variable says with ``./`` and ``../`` starts where the user stands, as in a shell.
    A value that is a variable and nothing else is a switch where it says true or false, and as if
    not given where it is empty.

    Raises
    ------
    SpecError
        If a variable is not set and has no default.
    """
    filled = {key: _expand_value(value, root, f"{where}.{key}") for key, value in options.items()}
    bare = {key for key, value in options.items() if VARIABLE.fullmatch(str(value))}
    return {key: value for key, value in filled.items() if value != "" or key not in bare}


def _expand_value(value: Any, root: Path, where: str) -> Any:
    if isinstance(value, dict):
        return expand(value, root, where)
    if isinstance(value, list | tuple):
        return [_expand_value(item, root, where) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if found is None:
            raise SpecError(
                f"{where}: the environment variable {name} is not set; "
                f"set it to the folder that holds the files, such as export {name}=..."
            )
        # A shell's ./ is where the user stands: that of the protocol starts at the protocol.
        there = match.start() == 0 and name in os.environ and found.startswith(RELATIVE)
        return os.path.abspath(found) if there else found  # noqa: PTH100 - any text may stand there

    filled = VARIABLE.sub(fill, value)
    if filled in SWITCH and VARIABLE.fullmatch(value):
        return SWITCH[filled]
    return str((root / filled).resolve()) if filled.startswith(RELATIVE) else filled


def read_dataset(reader: Reader, name: str, options: Mapping[str, Any], *, where: str) -> Dataset:
    """Read a data set once its options are known to fit; `where` says in whose options they stand.

    Raises
    ------
    SpecError
        Naming the option.
    """
    known = {option: _parameters(reader.function)[option] for option in reader.options}
    check_options(options, known, where)
    _require_options(list(options), known, where)
    found: Dataset = reader(name, **options)
    return found


def _read_dataset(item: DatasetSpec, spec: ProtocolSpec, root: Path) -> Dataset:
    reader = plugins.DATASETS.get(item.kind or item.name)
    where = f"datasets.{item.name}.options"
    dataset = read_dataset(reader, item.name, expand(item.options, root, where), where=where)
    _check_samples(dataset)
    if item.revision and item.revision != dataset.revision:
        raise DatasetError(
            f"data set {item.name}: the protocol pins revision {item.revision}, "
            f"what is on disk is {dataset.revision}; restore the files or change the pin"
        )
    if enrollment.ROLE in spec.conditions:
        dataset = replace(dataset, others=enrollment.others(dataset.samples))
    dataset = enrollment.repeated(dataset, item.min_utterances)
    limit = item.limit or spec.limit
    if limit is None or limit >= len(dataset.samples):
        return dataset
    revision = f"{dataset.revision}[:{limit}]"
    return replace(dataset, samples=dataset.samples[:limit], revision=revision)


def _check_samples(dataset: Dataset) -> None:
    if not dataset.samples:
        raise DatasetError(f"data set {dataset.name}: has no samples; correct its options")
    twice = [name for name, count in Counter(s.id for s in dataset.samples).items() if count > 1]
    if twice:
        raise DatasetError(
            f"data set {dataset.name}: {len(twice)} ids stand there twice, such as {twice[0]!r}; "
            "give each sample its own"
        )


def _check_noise(spec: ProtocolSpec, dataset: Dataset) -> None:
    if "snr_db" not in spec.conditions:
        return
    if not dataset.noises:
        raise SpecError(
            f"conditions.snr_db: data set {dataset.name} has no noise to mix; "
            "give it one, such as options: {noise: {babble: path/to/folder}}"
        )
    for value in spec.conditions["snr_db"]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SpecError(f"conditions.snr_db: {value!r} is not a number of dB")
    for name in spec.conditions.get("noise", ()):
        if name not in dataset.noises:
            known = ", ".join(dataset.noises)
            raise SpecError(
                f"conditions.noise: {dataset.name} has no noise {name!r}; it has {known}"
            )
