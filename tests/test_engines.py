"""The engines: same records from all, and what happens when a worker or the main process dies."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import tiny_cases as cases
from tiny_cases import Log

from phonoscope import Audio, audio, engines, metric, plugins, protocol, view
from phonoscope.engines import Engine, Lost, cluster, divided
from phonoscope.engines.processes import AHEAD
from phonoscope.errors import DependencyMissing, SetupError, UserError, WeightsMissing
from phonoscope.events import Advanced
from phonoscope.types import Failure

HAS_RAY = importlib.util.find_spec("ray") is not None
NAMES = ("serial", "processes", "ray")


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> Iterator[None]:
    with cases.loaded():
        yield


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A local cluster that the engines of this module share: it takes seconds to start.

    It has room for two engines of two actors.
    """
    if not HAS_RAY:
        pytest.skip("ray is not installed: pip install 'phonoscope[ray]'")
    import ray

    quiet = {"log_to_driver": False, "configure_logging": False}
    ray.init("local", num_cpus=4, num_gpus=0, include_dashboard=False, **quiet)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine once for the whole module: its workers go on from test to test."""
    yield from _engine(request, request.param)


@pytest.fixture(params=NAMES[1:])
def fresh(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine without workers yet, that may lose them."""
    yield from _engine(request, request.param)


def _engine(request: pytest.FixtureRequest, name: str) -> Iterator[Engine]:
    if name == "ray":
        request.getfixturevalue("ray")
    made = engines.make(name, workers=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def serial_tables(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = tmp_path_factory.mktemp("serial") / "store"
    cases.run(everything(clips), store)
    return cases.tables(store)


def everything(clips: Path) -> dict[str, Any]:
    metrics = [*cases.METRICS, "tiny_slow", "tiny_fatal"]
    conditions = {"snr_db": [5, -5]}
    return cases.protocol(clips, metrics=metrics, conditions=conditions, count=8)


def double(item: int) -> int:
    return 2 * item


def pid(item: Any) -> int:
    time.sleep(0.05)
    return os.getpid()


def unlucky(item: int) -> int:
    """Kill the process at 13, whichever process that is."""
    if item == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def without_weights(item: int) -> int:
    if item == 3:
        raise WeightsMissing("no weights for the test; fetch them")
    return item


def variable(item: str) -> str | None:
    return os.environ.get(item)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# -- the same from all ---------------------------------------------------------------------------


def test_every_item_has_its_result(engine: Engine) -> None:
    found = dict(engine.map(double, iter(range(50))))
    assert found == {item: 2 * item for item in range(50)}
    assert list(engine.map(double, [])) == []
    assert dict(engine.map(str, [7])) == {0: "7"}  # another task on the same workers


def test_same_tables(engine: Engine, clips: Path, tmp_path: Path, serial_tables: Any) -> None:
    cases.run(everything(clips), tmp_path / "store", engine=engine)
    assert cases.tables(tmp_path / "store") == serial_tables
    assert serial_tables["samples.csv"].count(",ok,") == 2 * 3 * 8 * 8


def test_items_are_drawn_as_needed(engine: Engine) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(200):
            drawn.append(item)
            yield item

    for done, _ in enumerate(engine.map(double, items())):
        assert len(drawn) - done <= engine.workers * AHEAD + 1
    assert len(drawn) == 200


def test_an_error_of_the_setup_reaches_the_caller(engine: Engine) -> None:
    with pytest.raises(WeightsMissing, match="fetch them"):
        list(engine.map(without_weights, range(100)))
    assert dict(engine.map(double, [4])) == {0: 8}


def test_variables_set_later_reach_the_workers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONOSCOPE_TINY_A", "now")
    monkeypatch.setenv("PHONOSCOPE_TINY_B", "gone")
    made = engines.make("processes", workers=1)
    assert dict(made.map(variable, ["PHONOSCOPE_TINY_A"])) == {0: "now"}
    made.close()
    monkeypatch.setenv("PHONOSCOPE_TINY_A", "later")
    monkeypatch.delenv("PHONOSCOPE_TINY_B")
    names = ["PHONOSCOPE_TINY_A", "PHONOSCOPE_TINY_B", "OMP_NUM_THREADS"]
    assert dict(made.map(variable, names)) == {0: "later", 1: None, 2: "1"}
    made.close()


def test_unknown_engine() -> None:
    with pytest.raises(UserError, match="serial, processes, ray"):
        engines.make("threads")


# -- a worker dies -------------------------------------------------------------------------------


def test_only_the_guilty_item_is_lost(engine: Engine) -> None:
    if engine.name == "serial":
        return  # the item would take this process along
    found = dict(engine.map(unlucky, range(40)))
    assert isinstance(found.pop(13), Lost)
    assert found == {item: item for item in range(40) if item != 13}
    assert dict(engine.map(double, range(9))) == {item: 2 * item for item in range(9)}


def test_a_worker_that_dies_while_idle_costs_nothing(engine: Engine) -> None:
    if engine.name == "serial":
        return  # there is none
    for pid_of_worker in set(dict(engine.map(pid, range(8))).values()):
        os.kill(pid_of_worker, signal.SIGKILL)
    time.sleep(0.3)  # the engine may have noticed, or not
    assert dict(engine.map(double, range(20))) == {item: 2 * item for item in range(20)}


def test_only_the_guilty_cell_is_lost(
    fresh: Engine, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cases.protocol(clips, metrics=["tiny_rms", "tiny_fatal", "tiny_level"], count=20)
    monkeypatch.setenv("PHONOSCOPE_TINY_GUILTY", "lay 2")
    board = cases.run(found, tmp_path / "store", engine=fresh)
    codes = [
        (s.sample, name, s.code)
        for row in board.rows
        for name, cell in row.cells.items()
        for s in cell.samples
        if s.status != "ok"
    ]
    assert codes == [("u002", "tiny_fatal", "worker_died")] * 3
    assert {row.cells["tiny_fatal"].estimate.n for row in board.rows} == {19}
    monkeypatch.delenv("PHONOSCOPE_TINY_GUILTY")
    again = cases.run(found, tmp_path / "store")  # the worker may have died of something else
    assert all(cell.estimate.n == 20 for row in again.rows for cell in row.cells.values())


def _by_signal(ray: Any, made: Any) -> None:
    os.kill(ray.get(made._actors[0].run.remote(cloudpickle.dumps(pid), cloudpickle.dumps(0))), 9)


def _by_ray(ray: Any, made: Any) -> None:
    ray.kill(made._actors[1])


@pytest.mark.parametrize("kill", [_by_signal, _by_ray])
def test_an_actor_killed_in_the_middle(
    ray: Any, kill: Callable[..., None], clips: Path, tmp_path: Path, serial_tables: Any
) -> None:
    made = engines.make("ray", workers=2)
    done: list[int] = []

    def listen(event: Any) -> None:
        if isinstance(event, Advanced) and event.stage == "measure":
            done.append(event.count)
            if len(done) == 2:
                kill(ray, made)

    cases.run(everything(clips), tmp_path / "store", engine=made, listeners=[listen])
    made.close()
    assert len(done) > 4
    assert cases.tables(tmp_path / "store") == serial_tables


def test_more_actors_than_room(
    ray: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    first, second = engines.make("ray", workers=50), engines.make("ray", workers=1)
    assert first.workers == 4
    assert dict(first.map(double, range(9))) == {item: 2 * item for item in range(9)}
    wait = iter(second.map(double, [1]))
    threading.Timer(1.0, first.close).start()
    assert next(wait) == (0, 2)
    assert "no room for any of 1 actors" in caplog.text
    second.close()


def test_actors_that_cannot_start(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engines.make("ray", workers=1)
    monkeypatch.setattr(cluster, "STARTS", 1)

    class Broken:
        def __init__(self, *given: Any) -> None:
            os._exit(1)

        def ready(self) -> None: ...

    monkeypatch.setattr(cluster, "_Actor", Broken)
    with pytest.raises(SetupError, match="installed on every machine"):
        list(made.map(double, range(3)))
    made.close()


@pytest.mark.parametrize(
    ("gpus", "workers", "part"), [(0, 4, 0), (1, 1, 1), (2, 3, 0.5), (8, 4, 1), (1, 4, 0.25)]
)
def test_gpus_are_shared(gpus: float, workers: int, part: float) -> None:
    found = cluster.share(gpus, workers)
    assert found == part
    assert not found or gpus * int(1 / found) >= workers


def test_ray_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyMissing, match="pip install"):
        engines.make("ray")


class Dying:
    """An engine that loses every item that holds a bad part."""

    name, workers = "dying", 1

    def map(self, task: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        pairs = enumerate(items)
        found = [(i, Lost("killed") if "bad" in part else task(part)) for i, part in pairs]
        yield from reversed(found)

    def close(self) -> None: ...


def test_lost_items_are_divided_to_the_end() -> None:
    items = [["a", "b"], ["c", "bad", "d", "e"], ["bad"]]
    pairs = list(divided(Dying(), len, iter(items), lambda part: [[one] for one in part]))
    results = {"".join(part): result for part, result in pairs}
    assert results == {"ab": 2, "c": 1, "d": 1, "e": 1, "bad": Lost("killed")}
    assert sum(len(part) for part, _ in pairs) == 7


# -- the main process ends -----------------------------------------------------------------------

SCRIPT = """
import os, sys
from pathlib import Path
import numpy as np
import phonoscope
from phonoscope import Audio, Ratio, audio, metric, system, view
from phonoscope.media import read_audio, write_wav

TWO = 2.0

def doubled(value):
    return TWO * value

@view(of=audio(16_000), batch=2)
class net_of_mine:
    def __init__(self, gain=1.0):
        self.gain = gain
    def load(self, device):
        self.loaded = True
    def __call__(self, batch):
        return [doubled(float(np.max(np.abs(sound.samples)))) * self.gain for sound in batch]

@metric(unit="-", better="higher", generated=net_of_mine(gain=3.0))
def peak_of_mine(generated: float) -> float:
    return generated

@metric(unit="-", better="higher", generated=audio(16_000))
def level_of_mine(generated: Audio) -> float:
    return doubled(float(np.mean(np.abs(generated.samples))))

@system(needs=("audio",))
def system_of_mine(sample, out, *, seed):
    sound = read_audio(sample.inputs["audio"], rate=16_000)
    return write_wav(out / "made.wav", Audio(sound.samples / np.float32(TWO), 16_000))

spec, store, plugin, engine = eval(sys.argv[1])
with open(os.environ["PHONOSCOPE_TINY_LOG"], "a") as log:
    log.write("script\\n")
phonoscope.run(spec, store, engine=engine, workers=2, plugin_files=[plugin], formats=["csv"])
"""


def script(tmp_path: Path, clips: Path, engine: str) -> subprocess.Popen[str]:
    """Start a user's script without an `if __name__` guard, in a process group of its own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    metrics = ["peak_of_mine", "level_of_mine", "tiny_level", "tiny_slow"]
    spec = cases.protocol(clips, systems=["system_of_mine"], metrics=metrics)
    given = (spec, str(tmp_path / engine), str(cases.TINY), engine)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "script.py", repr(given)],
        cwd=tmp_path,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PHONOSCOPE_TINY_LOG": str(tmp_path / "log")},
    )


def marked(tmp_path: Path) -> set[int]:
    """Return the living processes that a script of this test has left, however far removed."""
    mark = f"PHONOSCOPE_TINY_LOG={tmp_path / 'log'}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return cases.alive(found)


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


@pytest.mark.parametrize("name", ["processes", "ray"])
def test_a_script_without_a_guard(name: str, clips: Path, tmp_path: Path) -> None:
    if name == "ray" and not HAS_RAY:
        pytest.skip("ray is not installed: pip install 'phonoscope[ray]'")
    finish(script(tmp_path, clips, "serial"))
    errors = finish(script(tmp_path, clips, name))
    assert "Traceback" not in errors
    assert Log(tmp_path / "log").take()["script"] == 2
    for table in ("samples.csv", "leaderboard.csv"):
        serial = (tmp_path / "serial" / "board" / table).read_text()
        assert (tmp_path / name / "board" / table).read_text() == serial.replace(
            str(tmp_path / "serial"), str(tmp_path / name)
        )
        assert ",failed," not in serial
    assert cases.eventually(lambda: not marked(tmp_path), 10)


@pytest.fixture
def slow(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A script whose workers are in the middle of a long metric."""
    monkeypatch.setenv("PHONOSCOPE_TINY_SLEEP", "50")
    process = script(tmp_path, clips, "processes")
    log = Log(tmp_path / "log")
    assert cases.eventually(lambda: sum("slow" in line for line in log.lines()) >= 2, 60)
    return process


def test_no_orphans_after_sigkill(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    assert len(marked(tmp_path)) >= 3
    slow.kill()
    slow.communicate(timeout=5)
    assert cases.eventually(lambda: not marked(tmp_path), 5)


def test_ctrl_c_ends_at_once_and_keeps_what_was_done(
    slow: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.killpg(slow.pid, signal.SIGINT)
    _, errors = slow.communicate(timeout=20)
    assert slow.returncode != 0
    assert errors.count("Traceback") == 1  # of the script itself: no worker says anything
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert cases.eventually(lambda: not marked(tmp_path), 5)
    assert list((tmp_path / "processes" / "views").glob("*.parquet"))


def test_close_does_not_wait_for_the_busy(fresh: Engine) -> None:
    before = cases.children(os.getpid())
    work = fresh.map(sleep, [0.0, 300.0, 300.0, 300.0])
    assert next(work) == (0, 0.0)
    pids = cases.children(os.getpid()) - before
    fresh.close()
    if fresh.name == "processes":
        assert pids
        forkservers = 2  # the fork server and the resource tracker live as long as this process
        assert cases.eventually(lambda: len(cases.alive(pids)) <= forkservers, 5)
    work.close()


# -- plugins that a worker cannot import ---------------------------------------------------------


def _copy(item: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(item))


def test_plugins_of_modules_travel_by_name() -> None:
    item = plugins.METRICS.get("tiny_level")
    assert _copy(item) is item
    assert _copy(item.views["generated"]) == item.views["generated"]
    scaled = item.views["generated"](scale=3.0)
    assert _copy(scaled) == scaled
    assert len(cloudpickle.dumps(item)) < 400


def test_changed_plugins_travel_by_value() -> None:
    item = plugins.METRICS.get("tiny_level")
    scaled = replace(item, views={"generated": item.views["generated"](scale=3.0)}, version="9")
    again = _copy(scaled)
    assert (again.version, again.views, again.identity) == ("9", scaled.views, scaled.identity)


def test_local_plugins_travel_by_value(engine: Engine, clips: Path, tmp_path: Path) -> None:
    factor = 2.0

    @view(of=audio(16_000))
    class local_net:
        def load(self, device: str) -> None: ...

        def __call__(self, batch: list[Audio]) -> list[float]:
            return [factor * float(np.max(np.abs(sound.samples))) for sound in batch]

    @metric(unit="-", better="higher", generated=local_net)
    def local_peak(generated: float) -> float:
        return generated / factor

    found = cases.protocol(clips, metrics=["local_peak", "tiny_fatal"])
    board = cases.run(found, tmp_path / "store", engine=engine)
    for row in board.rows:
        here = {s.sample: s.value for s in row.cells["local_peak"].samples}
        assert here == {s.sample: s.value for s in row.cells["tiny_fatal"].samples}


# -- what plugins may give back ------------------------------------------------------------------


def test_bad_results_cost_their_sample(clips: Path, tmp_path: Path) -> None:
    @view(of=audio(16_000), batch=4)
    class net_of_too_few:
        def load(self, device: str) -> None: ...

        def __call__(self, batch: list[Audio]) -> list[float]:
            return [1.0] * (len(batch) - 1)

    @view(of=audio(16_000))
    class net_of_objects:
        def load(self, device: str) -> None: ...

        def __call__(self, batch: list[Audio]) -> list[object]:
            return [object() for _ in batch]

    def made(name: str, **given: Any) -> str:
        function: Any = given.pop("function", lambda generated: 1.0)
        function.__name__ = name
        metric(unit="-", better="higher", generated=given.pop("generated", audio(16_000)))(function)
        return name

    names = [
        made("of_too_few", generated=net_of_too_few),
        made("of_objects", generated=net_of_objects),
        made("of_none", function=lambda generated: None),
        made("of_text", function=lambda generated: "loud"),
        made("of_odd_vectors", function=lambda generated: (np.zeros(2), np.zeros(3))),
        made("of_nan", function=lambda generated: float("nan")),
        "tiny_rms",
    ]
    found = cases.protocol(clips, metrics=names, systems=[], count=2)
    (row,) = cases.run(found, tmp_path / "store").rows
    codes = {name: {s.code for s in cell.samples} for name, cell in row.cells.items()}
    assert codes.pop("tiny_rms") == {""}
    assert codes.pop("of_nan") == {"nonfinite_output"}
    assert set(map(tuple, codes.values())) == {("metric_error",)}
    errors = {name: cell.samples[0].error for name, cell in row.cells.items()}
    assert "0 outputs for 1 inputs" in errors["of_too_few"]
    assert "object" in errors["of_objects"]


@pytest.mark.parametrize("name", ["serial", "processes"])
def test_a_system_that_leaves_python_costs_its_sample(
    clips: Path, tmp_path: Path, name: str
) -> None:
    found = cases.protocol(clips, systems=["tiny_quits"], metrics=["tiny_rms"])
    _, row = cases.run(found, tmp_path / "store", engine=name, workers=2).rows
    ((sample, code, error),) = row.generation_failures
    assert (sample, code) == ("u001", "metric_error")
    assert error.startswith("SystemExit: 3; ")
    assert row.cells["tiny_rms"].estimate.n == 5


def test_a_system_that_returns_no_path_is_told(clips: Path, tmp_path: Path) -> None:
    found = cases.protocol(clips, systems=["tiny_forgets"], metrics=["tiny_rms"], count=1)
    _, row = cases.run(found, tmp_path / "store").rows
    ((_, code, error),) = row.generation_failures
    told = "system tiny_forgets returned None; return the path that it wrote"
    assert (code, error) == ("metric_error", told)


def test_lost_is_a_failure_by_name() -> None:
    assert Lost("why").failure() == Failure("measure", "worker_died", "why")


def test_protocol_object_and_engine_object_stay_usable(clips: Path, tmp_path: Path) -> None:
    found = protocol.load(cases.protocol(clips))
    engine = engines.make("processes", workers=2)
    first = cases.run(found, tmp_path / "a", engine=engine)
    second = cases.run(found, tmp_path / "b", engine=engine)
    engine.close()
    assert cases.tables(tmp_path / "a") == cases.tables(tmp_path / "b")
    assert [row.system for row in first.rows] == [row.system for row in second.rows]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "CUDA", ""])
def test_an_unknown_device(device: str) -> None:
    with pytest.raises(UserError, match="devices are cpu, cuda, cuda:1"):
        engines.make("serial", device=device)
