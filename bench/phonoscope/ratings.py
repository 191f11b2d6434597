"""Human ratings and preferences as files: reading them, and saying what is wrong with them.

Scales: `mushra` is 0 to 100 (ITU-R BS.1534), `ten` is 1 to 10, `mos` is 1 to 5 (ITU-T P.800); `ab`
is a choice between two systems. Nothing is repaired or left out: a file with a problem is refused,
with the line and the name of each problem.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscope.errors import RatingsError

AB = "ab"
TIES = frozenset(("tie", "ties", "=", "equal", "same", "none", "neither", "no preference", "draw"))
ALIASES: Mapping[str, tuple[str, ...]] = {
    "rater": ("rater", "listener", "subject", "participant", "assessor", "worker", "session_uuid"),
    "sample": ("sample", "item", "utterance", "clip", "file", "trial", "trial_id"),
    "system": ("system", "model", "method", "rating_stimulus"),
    "score": ("score", "rating", "opinion", "rating_score"),
    "a": ("a", "system_a", "first"),
    "b": ("b", "system_b", "second"),
    "choice": ("choice", "chosen", "preference", "preferred", "vote", "winner"),
    "group": ("group", "speaker"),
}
LISTED = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """Which scores there may be."""

    name: str
    low: float
    high: float
    label: str


SCALES: Mapping[str, Scale] = {
    "mushra": Scale("mushra", 0, 100, "MUSHRA score, 0 to 100"),
    "ten": Scale("ten", 1, 10, "rating, 1 to 10"),
    "mos": Scale("mos", 1, 5, "opinion score, 1 to 5"),
}


@dataclass(frozen=True, slots=True)
class Rating:
    """What one rater thought of one system's clip. `group` is the cluster of the sample."""

    rater: str
    sample: str
    system: str
    score: float
    group: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """One vote between two systems. `chosen` is the name of one of them, or empty for a tie."""

    rater: str
    sample: str
    a: str
    b: str
    chosen: str
    group: str
    line: int = 0


@dataclass(frozen=True)
class _Table:
    """The lines of a file, by role."""

    path: Path
    roles: Mapping[str, str]
    lines: tuple[tuple[int, Mapping[str, str]], ...]

    def text(self, line: Mapping[str, str], role: str) -> str:
        return line[self.roles[role]] if role in self.roles else ""


def read_ratings(
    path: Path | str,
    scale: str,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    partial: bool = False,
) -> tuple[Rating, ...]:
    """Read scores: a CSV file with a line per rater, sample and system.

    Parameters
    ----------
    path : path
        CSV in UTF-8 (comma, semicolon or tab) with a header: `rater`, `sample`, `system`, `score`,
        or one of `ALIASES`, and optionally `group`. Further columns are let be.
    scale : {"mushra", "ten", "mos"}
        Which scores there may be.
    columns : mapping of role to column, optional
        For columns of other names.
    where : mapping of column to text, optional
        Read only lines that have these texts.
    partial : bool
        Whether a rater may leave systems of a sample out. Only MUSHRA asks for all of them.

    Raises
    ------
    RatingsError
        On a wrong file, naming line and problem: ``missing``, ``not_a_number``, ``out_of_range``,
        ``duplicate``, ``incomplete_trial``, ``two_groups``.
    """
    if scale not in SCALES:
        raise RatingsError(f"there is no scale {scale!r}; scales are {', '.join([*SCALES, AB])}")
    needed = ("rater", "sample", "system", "score")
    table = _read(Path(path), needed, columns or {}, where or {})
    problems: list[tuple[int, str]] = list(_missing(table, needed))
    found = []
    for number, line in table.lines:
        texts = {role: table.text(line, role) for role in (*needed, "group")}
        score = _score(texts["score"], SCALES[scale])
        if isinstance(score, str):
            problems.append((number, score))
        elif all(texts[role] for role in needed):
            group = texts["group"] or texts["sample"]
            found.append(
                Rating(texts["rater"], texts["sample"], texts["system"], score, group, number)
            )
    problems += _duplicates(found, lambda r: (r.rater, r.sample, r.system))
    problems += _two_groups(found)
    if scale == "mushra" and not partial and not problems:
        problems += _incomplete(found)
    _refuse(table.path, problems)
    return tuple(found)


def read_choices(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> tuple[Choice, ...]:
    """Read AB preferences: a CSV file with a line per rater, sample and pair of systems.

    Parameters
    ----------
    path, columns, where
        As in `read_ratings`, with the columns `rater`, `sample`, `a`, `b`, `choice`. A choice is
        the name of one of the two systems, else ``A``, ``B`` or one of `TIES`, in any case.

    Raises
    ------
    RatingsError
        On a wrong file, naming line and problem: ``missing``, ``unknown_choice``, ``same_system``,
        ``duplicate``, ``two_groups``.
    """
    needed = ("rater", "sample", "a", "b", "choice")
    table = _read(Path(path), needed, columns or {}, where or {})
    problems: list[tuple[int, str]] = list(_missing(table, needed))
    found = []
    for number, line in table.lines:
        rater, sample, a, b, text = (table.text(line, role) for role in needed)
        chosen = _chosen(text, a, b)
        if a and a == b:
            problems.append((number, f"same_system: A and B are both {a!r}"))
        elif chosen is None:
            problems.append((number, f"unknown_choice: {text!r} is not A, B, {a}, {b} or tie"))
        elif all((rater, sample, a, b, text)):
            group = table.text(line, "group") or sample
            found.append(Choice(rater, sample, a, b, chosen, group, number))
    problems += _duplicates(found, lambda c: (c.rater, c.sample, *sorted((c.a, c.b))))
    problems += _two_groups(found)
    _refuse(table.path, problems)
    return tuple(found)


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Read ``rater=listener`` and its like.

    Raises
    ------
    RatingsError
        On a text that is not of that form.
    """
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise RatingsError(f"{option} {text}: write name=text")
        found[name] = value
    return found


def _read(
    path: Path, needed: Sequence[str], columns: Mapping[str, str], where: Mapping[str, str]
) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RatingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RatingsError(f"{path}: is no UTF-8 text ({error}); save it as CSV UTF-8") from error
    if not text.strip():
        raise RatingsError(f"{path}: is empty")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise RatingsError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error
    roles = _roles(path, names, needed, columns)
    _refuse(path, [(number, "columns: " + _shape(row, names)) for number, row in lines
                   if len(row) != len(names)])  # fmt: skip
    rows = [(number, dict(zip(names, row, strict=True))) for number, row in lines]
    chosen = tuple(_chosen_lines(path, names, rows, where))
    if not chosen:
        raise RatingsError(f"{path}: holds no lines" + (f" where {where}" if where else ""))
    return _Table(path, roles, chosen)


def _shape(row: Sequence[str], names: Sequence[str]) -> str:
    return f"has {len(row)} cells for {len(names)} columns; quote a text that holds the delimiter"


def _plain_name(name: str) -> str:
    return "_".join(name.strip().casefold().replace("-", " ").split())


def _roles(
    path: Path, names: Sequence[str], needed: Sequence[str], columns: Mapping[str, str]
) -> dict[str, str]:
    """Return which column plays which role."""
    if len(set(names)) < len(names):
        raise RatingsError(f"{path}, line 1: a column stands there twice")
    for role, name in columns.items():
        if role not in ALIASES or name not in names:
            known = ALIASES if role not in ALIASES else names
            raise RatingsError(f"--columns {role}={name}: " + not_among(
                role if role not in ALIASES else name, list(known)))  # fmt: skip
    found = dict(columns)
    for role in (*needed, "group"):
        if role not in found:
            found |= _guessed(path, role, names)
    lacking = [role for role in needed if role not in found]
    if lacking:
        raise RatingsError(
            f"{path}, line 1: no column for {lacking[0]!r}; the file has {', '.join(names)}; "
            f"name it, such as --columns {lacking[0]}={names[0] if names else 'NAME'}"
        )
    return found


def not_among(name: str, known: Sequence[str]) -> str:
    """Say that a name is not there, what is near, and what there is."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no {name!r}; {hint}there are {', '.join(known)}"


def _guessed(path: Path, role: str, names: Sequence[str]) -> dict[str, str]:
    like = [name for name in names if _plain_name(name) in ALIASES[role]]
    exact = [name for name in like if _plain_name(name) == role]
    if len(like) > 1 and len(exact) != 1 and role != "group":
        raise RatingsError(
            f"{path}, line 1: {' and '.join(like)} could both be the {role}; "
            f"say which, such as --columns {role}={like[0]}"
        )
    return {role: (exact or like)[0]} if like else {}


def _chosen_lines(
    path: Path,
    names: Sequence[str],
    rows: Sequence[tuple[int, Mapping[str, str]]],
    where: Mapping[str, str],
) -> Iterator[tuple[int, Mapping[str, str]]]:
    for name, wanted in where.items():
        if name not in names:
            raise RatingsError(f"{path}: --where {name}={wanted}: {not_among(name, names)}")
        known = dict.fromkeys(row[name] for _, row in rows)
        if wanted not in known:
            raise RatingsError(
                f"{path}: --where {name}={wanted}: {not_among(wanted, list(known)[:LISTED])}"
            )
    for number, row in rows:
        if all(row[name] == wanted for name, wanted in where.items()):
            yield number, row


def _missing(table: _Table, needed: Sequence[str]) -> Iterator[tuple[int, str]]:
    for number, line in table.lines:
        for role in needed:
            if not table.text(line, role):
                yield number, f"missing: column {table.roles[role]!r} is empty"


def _score(text: str, scale: Scale) -> float | str:
    """Return the score, or what is wrong with it; NaN for an empty cell, told elsewhere."""
    if not text:
        return math.nan
    try:
        score = float(text)
    except ValueError:
        return f"not_a_number: {text!r}; write numbers as 4.5"
    if not scale.low <= score <= scale.high:
        return (
            f"out_of_range: {text} is not in {scale.low:g} to {scale.high:g} (scale {scale.name})"
        )
    return score


def _chosen(text: str, a: str, b: str) -> str | None:
    """Return the chosen system's name, '' for a tie (or an empty cell), None for anything else."""
    if text in (a, b):
        return text
    plain = text.casefold()
    names = {a.casefold(): a, b.casefold(): b}
    letters = {"a": a, "b": b, "": ""} | dict.fromkeys(TIES, "")
    return names.get(plain, letters.get(plain))


def _duplicates(
    found: Sequence[Any], key: Callable[[Any], tuple[str, ...]]
) -> Iterator[tuple[int, str]]:
    seen: dict[tuple[str, ...], int] = {}
    for item in found:
        first = seen.setdefault(key(item), item.line)
        if first != item.line:
            yield (
                item.line,
                f"duplicate: {', '.join(key(item))} stands in line {first} already; if the file "
                "holds several questions or sessions, pick one by --where COLUMN=TEXT",
            )


def _two_groups(found: Sequence[Any]) -> Iterator[tuple[int, str]]:
    hint = "; a group holds samples: name its column by --columns group=NAME, or rename this one"
    seen: dict[str, str] = {}
    for item in found:
        first = seen.setdefault(item.sample, item.group)
        if first != item.group:
            yield item.line, f"two_groups: sample {item.sample!r} is of {first!r} elsewhere{hint}"


def _incomplete(found: Sequence[Rating]) -> Iterator[tuple[int, str]]:
    systems = dict.fromkeys(item.system for item in found)
    trials: dict[tuple[str, str], list[Rating]] = {}
    for item in found:
        trials.setdefault((item.rater, item.sample), []).append(item)
    for (rater, sample), items in trials.items():
        lacking = [name for name in systems if name not in {item.system for item in items}]
        if lacking:
            yield (
                items[0].line,
                f"incomplete_trial: {rater} has no score of {sample} for {', '.join(lacking)}; "
                "--partial takes the file as it is",
            )


def _refuse(path: Path, problems: Sequence[tuple[int, str]]) -> None:
    if not problems:
        return
    told = [f"line {number}: {text}" for number, text in sorted(problems)]
    if len(told) == 1:
        raise RatingsError(f"{path}, {told[0]}")
    more = [f"and {len(told) - LISTED} more"] if len(told) > LISTED else []
    raise RatingsError("\n  ".join([f"{path}: {len(told)} problems:", *told[:LISTED], *more]))
