"""Reading published torch files: no code in them is run, and every value must find its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Inert:
    """Stands for an object of a file that is no tensor, such as a training callback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Take whatever the object was made of."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: Path) -> dict[str, Any]:
    """Return the content of a torch file on the CPU; objects of other packages become `Inert`.

    Files of Lightning pickle callbacks and settings beside the tensors, which torch's safe reader
    refuses and which need the training package to be made again. They are not needed.
    """
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    strange: list[Any] = [(Inert, name) for name in get_unsafe_globals_in_checkpoint(path)]
    with safe_globals(strange):
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def read_lightning(path: Path) -> dict[str, Any]:
    """Return the values of a network that Lightning saved, without those of its training loss."""
    state = read(path)["state_dict"]
    return {name: value for name, value in state.items() if not name.startswith("loss_func.")}


def fill(net: Any, state: Mapping[str, Any], *, path: Path) -> Any:
    """Return the network with the values of a file, for inference.

    Raises
    ------
    ValueError
        If the file holds another architecture; every value must find its place.
    """
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} holds another network than its name says ({told} ...)") from error
    return net.eval().requires_grad_(False)
