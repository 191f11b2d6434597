"""Where tests find real clips, weights and golden values, and where they may write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phonoscope import views

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
DATA = Path(os.environ.get("PHONOSCOPE_TEST_DATA") or SHARED / "data").resolve()
WEIGHTS = Path(os.environ.get("PHONOSCOPE_WEIGHTS") or SHARED / "weights").resolve()


@pytest.fixture(scope="session", autouse=True)
def _weights_folder() -> Iterator[None]:
    """Name the weights folder for every test, so that their order decides nothing.

    The tests' use of non-commercial weights is research.
    """
    with pytest.MonkeyPatch.context() as patch:
        if WEIGHTS.is_dir():
            patch.setenv("PHONOSCOPE_WEIGHTS", str(WEIGHTS))
            patch.setenv("PHONOSCOPE_ACCEPT_LICENSES", "nisqa")
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_networks_of_others() -> Iterator[None]:
    """Free the networks that a module loaded, and forget that it did."""
    yield
    views._networks.clear()
    views.loads()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips."""
    if not DATA.is_dir():
        pytest.skip(f"no real clips: {DATA} is no folder (PHONOSCOPE_TEST_DATA may name another)")
    return DATA


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of network weights, which `PHONOSCOPE_WEIGHTS` names too."""
    if not WEIGHTS.is_dir():
        pytest.skip(f"no weights: {WEIGHTS} is no folder (PHONOSCOPE_WEIGHTS may name another)")
    return WEIGHTS


@pytest.fixture(scope="session")
def parity() -> Callable[[str], dict[str, Any]]:
    """Golden values by name: ``parity("speech")`` reads `parity/speech.json` beside the clips."""

    def read(name: str) -> dict[str, Any]:
        file = DATA.parent / "parity" / f"{name}.json"
        if not file.is_file():
            pytest.skip(f"no golden values: {file} is absent (it lies beside the real clips)")
        golden: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return golden

    return read


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for the whole session (all workers), so that the demo is made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "phonoscope-cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def cache(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point `PHONOSCOPE_CACHE` at the session's cache folder for one test."""
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(cache_dir))
    return cache_dir
