"""How networks of torch run here: one clip's numbers depend on nothing but the clip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]


@contextlib.contextmanager
def exact(device: str) -> Iterator[None]:
    """Work with one thread (clips run side by side, not operations) and in full float32."""
    import torch

    threads = torch.get_num_threads()
    precise = torch.backends.cudnn.flags(allow_tf32=False) if device != "cpu" else None
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), precise or contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


def alone(forward: Callable[[Any], Any], item: Floats, device: str) -> Floats:
    """Return what a network gives for one item, as a batch of one.

    Parameters
    ----------
    forward : callable
        Takes a tensor of shape (1, ...) on `device`, returns one of shape (1, ...).
    item : ndarray of float32
    device : str
    """
    import torch

    with exact(device):
        result: Floats = forward(torch.from_numpy(item)[None].to(device))[0].cpu().numpy()
    return result
