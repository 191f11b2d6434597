"""A named collection of plugins: no duplicates, and "did you mean" for typing errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from phonoscope.errors import DuplicateName, UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Plugins of one kind by name, in the order they were added."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, tuple[T, str]] = {}

    def add(self, name: str, item: T, origin: str) -> None:
        """Add `item`; the same origin may add it again (a module that is reloaded).

        Raises
        ------
        DuplicateName
            If another file has taken the name.
        """
        known = self._items.get(name)
        if known and known[1] != origin:
            raise DuplicateName(
                f"two {self.kind}s are called {name!r}: one in {known[1]}, one in {origin}; "
                "rename one of them"
            )
        self._items[name] = (item, origin)

    def get(self, name: str) -> T:
        """Return the plugin called `name`.

        Raises
        ------
        UnknownName
            With the nearest names that exist.
        """
        if name in self._items:
            return self._items[name][0]
        near = difflib.get_close_matches(name, self._items, n=3, cutoff=0.6)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else f"`phonoscope list {self.kind}s` shows what there is"
        )
        raise UnknownName(f"there is no {self.kind} {name!r}; {hint}")

    def origin(self, name: str) -> str:
        """Return the file that added `name`."""
        self.get(name)
        return self._items[name][1]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
