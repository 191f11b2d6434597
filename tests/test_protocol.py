"""Protocol files: each mistake is named with its file, line, key and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from phonoscope import media, plugins, protocol, runner
from phonoscope.errors import DatasetError, GateError, SpecError, UnknownName, UserError
from phonoscope.gate import Rule
from phonoscope.protocol import (
    DatasetSpec,
    EnhancerSpec,
    EnrollmentSpec,
    MixingSpec,
    ProtocolSpec,
    SystemSpec,
    conditions,
)
from phonoscope.types import Audio, Condition, Dataset, Sample, Window

Written = Callable[..., Path]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short clips and a noise, in the folders `clean` and `noise`."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("clean/a", "clean/b", "clean/c", "noise/hum"):
        (root / name).parent.mkdir(exist_ok=True)
        sound = np.sin(np.arange(8000) * (0.05 + len(name) / 1000)) * 0.2
        media.write_wav(root / f"{name}.wav", Audio(sound.astype(np.float32), 16_000))
    return root


def plain(clips: Path, **changes: Any) -> dict[str, Any]:
    """Return a protocol that is right, with some keys changed (None takes a key away)."""
    options = {
        "reference": str(clips / "clean"),
        "inputs": {"audio": str(clips / "clean")},
        "noise": {"hum": str(clips / "noise/hum.wav")},
    }
    spec = {
        "name": "mine",
        "task": "lip2speech",
        "datasets": [{"name": "d", "kind": "folder", "options": options}],
        "systems": ["noisy"],
        "metrics": ["si_sdr"],
        **changes,
    }
    return {key: value for key, value in spec.items() if value is not None}


@pytest.fixture
def written(clips: Path, tmp_path: Path) -> Written:
    """Write a protocol with some keys changed."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "protocol.yaml"
        path.write_text(yaml.safe_dump(plain(clips, **changes), sort_keys=False), "utf-8")
        return path

    return write


def message(path: Path, kind: type[UserError] = SpecError) -> str:
    with pytest.raises(kind) as error:
        protocol.load(path)
    assert str(path) in str(error.value)
    return str(error.value)


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_a_right_one_loads(written: Written) -> None:
    found = protocol.load(written())
    assert [entry.name for entry in found.entries] == ["noisy"]
    assert [sample.id for sample in found.datasets[0].samples] == ["a", "b", "c"]


PLACES: list[tuple[type[BaseModel], Callable[[str, Any], dict[str, Any]]]] = [
    (ProtocolSpec, lambda key, value: {key: value}),
    (DatasetSpec, lambda key, value: {"datasets": [{"name": "d", key: value}]}),
    (SystemSpec, lambda key, value: {"systems": [{"name": "noisy", key: value}]}),
    (SystemSpec, lambda key, value: {"references": [{"name": "noisy", key: value}]}),
    (SystemSpec, lambda key, value: {"controls": [{"name": "noisy", key: value}]}),
    (MixingSpec, lambda key, value: {"mixing": {key: value}}),
    (EnrollmentSpec, lambda key, value: {"enrollment": {key: value}}),
    (EnhancerSpec, lambda key, value: {"enrollment": {"enhanced": {key: value}}}),
]
KEYS = [
    pytest.param(model, place, key, id=f"{number}-{model.__name__}.{key}")
    for number, (model, place) in enumerate(PLACES)
    for key in model.model_fields
]


@pytest.mark.parametrize(("model", "place", "key"), KEYS)
def test_every_key_has_its_typo_named(
    written: Written, model: type[BaseModel], place: Any, key: str
) -> None:
    typo = key[:1] + key[2:] if len(key) > 4 else key + "s"
    path = written(**place(typo, "x"))
    told = message(path)
    assert f"line {line_of(path, typo + ':')}: " in told
    assert f"{typo}: unknown key; did you mean {key}?" in told
    assert f"allowed keys: {', '.join(model.model_fields)}" in told


WRONG_TYPES = {int: ["x", 1.5, True, [1]], str: [3, ["x"], {"a": 1}], list: ["x", 3, {"a": 1}]}
WRONG_TYPES |= {dict: ["x", 3, ["x"]]}
TYPES: list[tuple[str, type]] = [
    *[(key, str) for key in ("name", "title", "description", "task")],
    *[(key, list) for key in ("datasets", "systems", "references", "controls", "metrics")],
    *[(key, list) for key in ("planned", "seeds", "gate")],
    *[(key, int) for key in ("max_failed", "limit")],
    *[(key, dict) for key in ("conditions", "mixing", "enrollment")],
]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, kind in TYPES for value in WRONG_TYPES[kind]]
)
def test_a_value_of_another_type_is_named(written: Written, key: str, value: Any) -> None:
    path = written(**{key: value})
    told = message(path)
    assert f"line {line_of(path, key + ':')}: {key}" in told
    assert "pydantic" not in told.lower()


def test_all_keys_of_a_protocol_are_held_by_a_type_test() -> None:
    assert {key for key, _ in TYPES} | {"window"} == set(ProtocolSpec.model_fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "lip2speach"}, ["task", "'lip2speech', 'video2audio' or 'talking_face'"]),
        ({"task": None}, ["task: is missing"]),
        ({"datasets": None}, ["datasets: is missing"]),
        ({"metrics": []}, ["metrics", "at least one"]),
        ({"systems": None}, ["systems: nothing to run"]),
        ({"systems": [{"params": {}}]}, ["systems.0.name: is missing"]),
        ({"systems": [{"name": ""}]}, ["systems.0.name", "is empty"]),
        ({"systems": [3]}, ["systems.0", "a mapping with the keys name, plugin"]),
        ({"seeds": []}, ["seeds", "at least one"]),
        ({"seeds": [0, 0]}, ["seeds", "named twice"]),
        ({"limit": 0}, ["limit", "greater than or equal to 1"]),
        ({"max_failed": -1}, ["max_failed", "greater than or equal to 0"]),
        ({"window": [2, 1]}, ["window", "0 <= start < stop"]),
        ({"window": [0, float("inf")]}, ["window", "0 <= start < stop"]),
        ({"window": "longest"}, ["window", "'shortest'"]),
        ({"name": "../elsewhere"}, ["name", "no slash"]),
        ({"name": ".."}, ["name", "names a folder"]),
        ({"name": "x" * 300}, ["name", "at most"]),
        (
            {"mixing": {"noise_choice": "sgmse_seed0", "pairing": "independent"}},
            ["line", "mixing: pairing: independent goes with noise_choice: hash_v1 only"],
        ),
        ({"mixing": {"clip": "clip"}}, ["mixing.clip", "'rescale_peak095', 'none'", "or"]),
    ],
)
def test_a_value_that_is_not_allowed_is_named(
    written: Written, changes: dict[str, Any], words: list[str]
) -> None:
    told = message(written(**changes))
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["si_sdrr"]}, ["no metric 'si_sdrr'; did you mean si_sdr"]),
        ({"systems": ["nosy"]}, ["no system 'nosy'; did you mean noisy?"]),
        ({"datasets": [{"name": "d", "kind": "foldr"}]}, ["no dataset 'foldr'", "mean folder?"]),
        ({"metrics": ["zzzzzz"]}, ["`phonoscope list metrics`"]),
    ],
)
def test_an_unknown_plugin_gets_a_suggestion(
    written: Written, changes: dict[str, Any], words: list[str]
) -> None:
    told = message(written(**changes), UnknownName)
    assert all(word in told for word in words), told


def imported(**params: Any) -> dict[str, Any]:
    return {"systems": [{"name": "mine", "plugin": "imported", "params": params}]}


def folder(**options: Any) -> dict[str, Any]:
    return {"datasets": [{"name": "d", "kind": "folder", "options": options}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (imported(), ["systems.mine.params.folder: is missing"]),
        (imported(folder="x", patern="y"), ["params.patern: unknown; did you mean pattern?"]),
        (imported(folder=5), ["params.folder: ", "string (got 5)"]),
        (imported(folder="x", window="y"), ["params.window: "]),
        (imported(folder="x", seed=1), ["params.seed: unknown"]),
        (folder(reference=["x"]), ["datasets.d.options.reference: ", "string"]),
        (folder(refrence="x"), ["options.refrence: unknown; did you mean reference?"]),
        ({"datasets": [{"name": "manifest"}]}, ["datasets.manifest.options.path: is missing"]),
        ({"datasets": [{"name": "m", "kind": "manifest", "options": {"path": 1}}]}, ["path"]),
        ({"systems": [{"name": "noisy", "params": {"x": 1}}]}, ["params.x: ", "allowed: nothing"]),
    ],
)
def test_parameters_of_plugins_are_checked(
    written: Written, changes: dict[str, Any], words: list[str]
) -> None:
    told = message(written(**changes))
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [x", ["not valid YAML", "line 1"]),
        ("- a\n- b\n", ["a protocol is a mapping with the keys name, title"]),
        ("", ["a protocol is a mapping"]),
        ("name: a\ntask: lip2speech\nname: b\n", ["the key name stands there twice", "line 3"]),
        ("mixing:\n  clip: none\n  clip: none\n", ["the key clip stands there twice", "line 3"]),
        ("name: 2024-02-30\n", ["not valid YAML"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["not valid YAML"]),
        ("\x00", ["not valid YAML"]),
    ],
)
def test_what_is_no_yaml_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    told = message(path)
    assert all(word in told for word in words), told


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: \xe9\xff\n")
    assert "UTF-8" in message(path)


@pytest.mark.parametrize("source", ["nowhere.yaml", "quickstrat", "x" * 5000, "nul\0", ""])
def test_what_is_no_protocol_names_the_boards(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"boards: .*quickstart"):
        protocol.load(source)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    key=st.sampled_from([*ProtocolSpec.model_fields, "what"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)
def test_any_value_gives_a_protocol_or_a_user_error(clips: Path, key: str, value: Any) -> None:
    try:
        found = protocol.load({**plain(clips), key: value})
    except UserError as error:
        assert str(error)
    else:
        assert list(found.runs())


class TestVariables:
    def test_are_filled_in(self, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_CLIPS", "/far")
        found = protocol.load(written(**imported(folder="${MY_CLIPS}/out")))
        assert found.entries[0].params == {"folder": "/far/out"}

    def test_may_have_a_default(self, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MY_CLIPS", raising=False)
        found = protocol.load(written(**imported(folder="${MY_CLIPS:-here}/out")))
        assert found.entries[0].params == {"folder": "here/out"}

    def test_are_named_where_unset(self, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MY_CLIPS", raising=False)
        told = message(written(**imported(folder="${MY_CLIPS}/out")))
        assert "systems.mine.params.folder: the environment variable MY_CLIPS is not set" in told
        assert "export MY_CLIPS=" in told

    @pytest.mark.parametrize(("value", "place"), [("./a", "a"), ("../a", "../a"), ("a", None)])
    def test_a_relative_path_in_one_starts_where_the_user_stands(
        self,
        written: Written,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        value: str,
        place: str,
    ) -> None:
        stand = tmp_path / "elsewhere" / "deep"
        stand.mkdir(parents=True)
        path = written(**imported(folder="${MY_CLIPS}/out"))
        monkeypatch.setenv("MY_CLIPS", value)
        monkeypatch.chdir(stand)
        found = Path(protocol.load(path).entries[0].params["folder"])
        assert found == (Path("a/out") if place is None else (stand / place / "out").resolve())

    def test_a_default_starts_at_the_protocol(
        self, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MY_CLIPS", raising=False)
        found = protocol.load(written(**imported(folder="${MY_CLIPS:-./here}/out")))
        assert found.entries[0].params == {"folder": str(tmp_path / "here" / "out")}

    def test_relative_paths_start_at_the_protocol(self, written: Written, tmp_path: Path) -> None:
        found = protocol.load(written(**imported(folder="./out")))
        assert found.entries[0].params == {"folder": str(tmp_path / "out")}

    def test_that_are_empty_are_as_if_not_given(
        self, written: Written, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MY_PATTERN", raising=False)
        found = protocol.load(written(**imported(folder="out", pattern="${MY_PATTERN:-}")))
        assert found.entries[0].params == {"folder": "out"}
        told = message(written(**imported(folder="${MY_PATTERN:-}")))
        assert "systems.mine.params.folder: is missing" in told

    @pytest.mark.parametrize("said", [True, False])
    def test_may_be_a_switch(
        self, written: Written, monkeypatch: pytest.MonkeyPatch, said: bool
    ) -> None:
        seen: list[Any] = []

        def read(name: str, *, partial: bool) -> Dataset:
            seen.append(partial)
            return Dataset(name, (Sample("x", "g"),), "r")

        plugins.discover()
        reader = plugins.Reader("odd", read, ("partial",))
        monkeypatch.setitem(plugins.DATASETS._items, "odd", (reader, __file__))
        monkeypatch.setenv("MY_PART", str(said).lower())
        spec = {"name": "odd", "options": {"partial": "${MY_PART:-false}"}}
        assert protocol.load(written(datasets=[spec]))
        assert seen == [said]
        monkeypatch.setenv("MY_PART", "perhaps")
        told = message(written(datasets=[spec]))
        assert "datasets.odd.options.partial: " in told and "'perhaps'" in told


def outputs(root: Path, *names: str) -> str:
    """Write sound files of these names; return their folder."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        media.write_wav(root / name, Audio(np.full(8000, 0.1, np.float32), 16_000))
    return str(root)


class TestOptional:
    """Systems whose outputs may or may not be there."""

    @staticmethod
    def rows(found: protocol.Protocol) -> list[tuple[str, str]]:
        return [(run.entry.name, str(run.condition)) for run in found.runs()]

    def test_one_without_files_is_left_out_and_named(self, written: Written) -> None:
        spec = imported(folder="./nowhere")
        spec["systems"][0]["optional"] = True
        found = protocol.load(written(**spec, references=["reference"]))
        assert self.rows(found) == [("reference", "-")]
        (told,) = found.absences()
        assert told.startswith("mine is not run: no clip in ") and told.endswith("/nowhere")

    def test_a_variable_that_is_not_set_leaves_it_out(
        self, written: Written, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MY_CLIPS", raising=False)
        spec = imported(folder="${MY_CLIPS}/out")
        spec["systems"][0]["optional"] = True
        spec["systems"].append({"name": "*", "plugin": "imported"})
        spec["systems"][1]["params"] = {"folder": "${MY_CLIPS}/*"}
        found = protocol.load(written(**spec, references=["reference"]))
        assert self.rows(found) == [("reference", "-")]
        (told,) = found.absences()
        assert "mine is not run: " in told and "MY_CLIPS is not set" in told

    def test_points_without_a_folder_are_left_out(self, written: Written, tmp_path: Path) -> None:
        folder = outputs(tmp_path / "mine", "5/a.wav", "0/a.wav")
        spec = imported(folder=folder, pattern="{snr_db}/{id}")
        spec["systems"][0]["optional"] = True
        found = protocol.load(written(**spec, conditions={"snr_db": [5, 0, -5]}))
        assert self.rows(found) == [("mine", "snr_db=5"), ("mine", "snr_db=0")]
        assert list(found.absences()) == [
            f"mine is not run on d under snr_db=-5: no clip in {folder}/-5"
        ]

    def test_a_folder_without_any_clip_of_the_data_set_counts_as_absent(
        self, written: Written, tmp_path: Path
    ) -> None:
        folder = outputs(tmp_path / "mine", "0/a.wav", "z.wav")
        spec = imported(folder=folder, pattern=["{snr_db}/{id}", "{id}"])
        spec["systems"][0]["optional"] = True
        found = protocol.load(written(**spec, conditions={"snr_db": [0, -5]}))
        assert self.rows(found) == [("mine", "snr_db=0")]
        (told,) = found.absences()
        assert told.endswith(f"under snr_db=-5: no clip in {folder}/-5, {folder}")

    def test_a_file_that_lacks_in_a_folder_that_is_there_is_a_failure(
        self, written: Written, tmp_path: Path
    ) -> None:
        spec = imported(folder=outputs(tmp_path / "mine", "a.wav", "c.wav"))
        spec["systems"][0]["optional"] = True
        (row,) = runner.run(written(**spec), tmp_path / "store", engine="serial").rows
        assert [name for name, _, _ in row.generation_failures] == ["b"]
        assert row.cells["si_sdr"].estimate.n_failed == 1

    @pytest.mark.parametrize(
        ("files", "place"),
        [(["-5/a.wav", "a.wav"], "-5/a.wav"), (["a.wav"], "a.wav")],
        ids=["the first", "the second"],
    )
    def test_of_several_patterns_the_first_whose_folder_is_there(
        self, written: Written, tmp_path: Path, files: list[str], place: str
    ) -> None:
        folder = outputs(tmp_path / "mine", *files)
        spec = imported(folder=folder, pattern=["{snr_db}/{id}", "{id}"])
        (run,) = protocol.load(written(**spec, conditions={"snr_db": -5}, limit=1)).runs()
        (sample,) = run.samples()
        clip = run.entry.system(
            sample, tmp_path, seed=0, condition=run.condition, **run.entry.params
        )
        assert clip.path == f"{folder}/{place}"

    def test_a_star_is_every_folder_that_no_other_entry_names(
        self, written: Written, tmp_path: Path
    ) -> None:
        root = tmp_path / "systems"
        for name in ("known", "ours", "theirs", ".hidden"):
            outputs(root / name, "lrs3/a.wav")
        outputs(root / "elsewhere", "grid/a.wav")
        outputs(root, "stray.wav")
        star = {"name": "*", "plugin": "imported", "params": {"folder": f"{root}/*/lrs3"}}
        known = {"name": "The known one", "plugin": "imported"}
        known["params"] = {"folder": f"{root}/known/lrs3"}
        found = protocol.load(written(systems=[known, star]))
        assert [name for name, _ in self.rows(found)] == ["The known one", "ours", "theirs"]
        assert found.entries[1].params == {"folder": f"{root}/ours/lrs3"}

    def test_a_folder_with_the_name_of_another_entry_is_named(
        self, written: Written, tmp_path: Path
    ) -> None:
        """Else one row would be the other's."""
        root = tmp_path / "systems"
        outputs(root, "Ours/a.wav")
        star = {"name": "*", "plugin": "imported", "params": {"folder": f"{root}/*"}}
        ours = {"name": "Ours", "plugin": "imported", "optional": True}
        ours["params"] = {"folder": f"{root}/ours"}
        told = message(written(systems=[ours, star]))
        assert f"systems.*: {root}/Ours: the system Ours looks into {root}/ours; rename" in told
        told = message(written(systems=[{"name": "Ours", "plugin": "noisy"}, star]))
        assert "the system Ours looks into no folder; rename the folder" in told

    @pytest.mark.parametrize(
        ("systems", "words"),
        [
            ([{"name": "noisy", "optional": True}], ["systems.noisy.optional", "never left out"]),
            ([{"name": "noisy", "optional": "yes"}], ["optional", "valid boolean"]),
            (
                [{"name": "*", "plugin": "imported", "params": {"folder": "x"}}],
                ["systems.*.params: give one folder with one *"],
            ),
            (
                [{"name": "*", "plugin": "imported", "params": {"folder": "x*/y"}}],
                ["in the place of a whole name"],
            ),
        ],
    )
    def test_wrong_ones_are_named(self, written: Written, systems: Any, words: list[str]) -> None:
        told = message(written(systems=systems))
        assert all(word in told for word in words), told

    def test_a_board_of_which_nothing_is_there_still_stands(
        self, written: Written, tmp_path: Path
    ) -> None:
        spec = imported(folder="./nowhere")
        spec["systems"][0]["optional"] = True
        path = written(**spec)
        (path.parent / "published.csv").write_text(
            "system,metric,value,source\nmine,si_sdr,3.5,a paper\n", "utf-8"
        )
        board = runner.run(path, tmp_path / "store", engine="serial")
        assert not board.rows
        page = (tmp_path / "store" / "board" / "leaderboard.md").read_text("utf-8")
        assert "mine is not run" in page and "3.5" in page


class TestDatasets:
    def test_a_pinned_revision_has_to_match(self, clips: Path, written: Written) -> None:
        spec = plain(clips)["datasets"][0]
        found = protocol.load(written()).datasets[0]
        assert protocol.load(written(datasets=[{**spec, "revision": found.revision}]))
        told = message(written(datasets=[{**spec, "revision": "0" * 32}]), DatasetError)
        assert "0" * 32 in told
        assert found.revision in told
        assert "change the pin" in told

    def test_a_limit_is_part_of_the_revision(self, written: Written) -> None:
        whole, part = protocol.load(written()), protocol.load(written(limit=2))
        assert [s.id for s in part.datasets[0].samples] == ["a", "b"]
        assert part.datasets[0].revision == whole.datasets[0].revision + "[:2]"
        assert protocol.load(written(limit=3)).datasets == whole.datasets

    def test_the_nearer_limit_wins(self, clips: Path, written: Written) -> None:
        spec = plain(clips)["datasets"][0]
        found = protocol.load(written(limit=2, datasets=[{**spec, "limit": 1}]))
        assert len(found.datasets[0].samples) == 1
        assert len(protocol.load(written(limit=2), limit=1).datasets[0].samples) == 1

    def test_names_stand_once(self, clips: Path, written: Written) -> None:
        spec = plain(clips)["datasets"][0]
        assert "datasets: d named twice" in message(written(datasets=[spec, spec]))
        assert "systems: noisy named twice" in message(written(references=["noisy"]))
        assert "metrics: si_sdr named twice" in message(written(metrics=["si_sdr", "si_sdr"]))

    @pytest.mark.parametrize(
        ("samples", "words"),
        [
            ((), "has no samples"),
            ((Sample("x", "g"), Sample("x", "h")), "1 ids stand there twice, such as 'x'"),
        ],
    )
    def test_what_a_plugin_reads_is_checked(
        self, written: Written, monkeypatch: pytest.MonkeyPatch, samples: Any, words: str
    ) -> None:
        plugins.discover()
        reader = plugins.Reader("odd", lambda name: Dataset(name, samples, "r"))
        monkeypatch.setitem(plugins.DATASETS._items, "odd", (reader, __file__))
        assert words in message(written(datasets=["odd"]), DatasetError)


class TestConditions:
    def test_are_the_product_of_the_axes(self) -> None:
        found = conditions({"snr_db": (5, 0), "noise": ("a", "b", "c")})
        assert len(found) == 6
        assert found[1] == Condition((("snr_db", 5), ("noise", "b")))
        assert conditions({}) == [Condition()]

    def test_runs_are_the_product_with_systems_and_seeds(self, written: Written) -> None:
        spec = written(conditions={"snr_db": [5, 0]}, seeds=[1, 2], references=["reference"])
        runs = list(protocol.load(spec).runs())
        assert len(runs) == len({run.key for run in runs}) == 8
        assert [run.entry.kind for run in runs[:4]] == ["reference", "reference"] + ["system"] * 2

    def test_a_single_value_is_a_list_of_one(self, written: Written) -> None:
        found = protocol.load(written(conditions={"snr_db": 5, "noise": "hum"}))
        assert [str(run.condition) for run in found.runs()] == ["snr_db=5, noise=hum"]

    @pytest.mark.parametrize(
        ("axes", "words"),
        [
            ({"snr_dB": [5]}, ["conditions.snr_dB: no system takes it", "did you mean snr_db?"]),
            ({"snr_db": [5], "noise": ["hmm"]}, ["no noise 'hmm'", "it has hum"]),
            ({"snr_db": ["low"]}, ["'low' is not a number of dB"]),
            ({"snr_db": [True]}, ["True is not a number of dB"]),
            ({"snr_db": [float("nan")]}, ["snr_db needs finite values"]),
            ({"snr_db": []}, ["snr_db needs values, each once"]),
            ({"snr_db": [5, 5]}, ["snr_db needs values, each once"]),
            ({"noise": ["hum"]}, ["mixes nothing without snr_db"]),
        ],
    )
    def test_wrong_ones_are_named(self, written: Written, axes: Any, words: list[str]) -> None:
        told = message(written(conditions=axes))
        assert all(word in told for word in words), told

    def test_noise_has_to_be_there(self, clips: Path, written: Written) -> None:
        spec = plain(clips)["datasets"][0]
        options = {name: value for name, value in spec["options"].items() if name != "noise"}
        path = written(datasets=[{**spec, "options": options}], conditions={"snr_db": [5]})
        assert "data set d has no noise to mix" in message(path)

    def test_apply_to_inputs_and_never_to_the_reference(self, written: Written) -> None:
        (run,) = protocol.load(written(conditions={"snr_db": 5})).runs()
        for before, after in zip(run.dataset.samples, run.samples(), strict=True):
            assert after.reference == before.reference
            assert after.inputs["audio"].effect is not None


@pytest.mark.parametrize(
    ("value", "window"),
    [(None, None), ([0.5, 2], Window(0.5, 2.0)), ("shortest", None)],
)
def test_windows(written: Written, value: Any, window: Window | None) -> None:
    assert protocol.load(written(window=value)).window == window


@pytest.mark.parametrize("key", list(Rule.model_fields))
def test_a_wrong_gate_rule_is_refused_before_the_run(
    written: Written, tmp_path: Path, key: str
) -> None:
    path = written(gate=[{f"{key}x": 1}])
    with pytest.raises(GateError, match=f"{key}x") as error:
        runner.run(path, tmp_path / "store", engine="serial")
    assert str(path) in str(error.value)
    assert not (tmp_path / "store").exists()


def test_packaged_boards_load(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHONOSCOPE_DATA", str(shared_data))
    for name in protocol.boards():
        raw = yaml.safe_load(protocol.find(name).read_text("utf-8"))
        assert ProtocolSpec.model_validate(raw).name == name
        if "${PHONOSCOPE_DATA}" in protocol.find(name).read_text("utf-8"):
            assert protocol.load(name).entries
