"""Folders of files, matched by id."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import plugins
from phonoscope.datasets import build, files_below
from phonoscope.datasets.folder import folder, matched, place_of
from phonoscope.errors import DatasetError, SpecError
from phonoscope.types import Clip, Sample


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def test_the_kinds_are_found_by_scanning() -> None:
    plugins.discover()
    assert {"folder", "manifest", "demo"} <= set(plugins.DATASETS)
    assert "noise" in plugins.DATASETS.get("folder").options


def test_ids_are_relative_paths_without_the_suffix_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "s2/b.mp4", "s1/a.WAV", "s1/x y.flac", "top.mp3", "s1/notes.txt", ".hid/a.wav")
    touch(tmp_path, "s1/.a.wav", "s1/a.b.wav")
    assert list(matched(tmp_path)) == ["s1/a", "s1/a.b", "s1/x y", "s2/b", "top"]
    assert matched(tmp_path)["s1/a"] == tmp_path / "s1/a.WAV"


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("{id}", ["s1/a", "s1/a_clean", "s2/b_clean"]),
        ("{id}.wav", ["s1/a", "s1/a_clean", "s2/b_clean"]),
        ("{id}_clean.wav", ["s1/a", "s2/b"]),
        ("{id}_clean", ["s1/a", "s2/b"]),
        ("s1/{id}.wav", ["a", "a_clean"]),
        ("s{id}/b_clean.wav", ["2"]),
        ("{id}.mp4", []),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, ids: list[str]) -> None:
    touch(tmp_path, "s1/a.wav", "s1/a_clean.wav", "s2/b_clean.wav")
    assert list(matched(f"{tmp_path}/{pattern}")) == ids


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30)


@given(NAMES, NAMES)
@settings(deadline=None)
def test_a_place_finds_the_id_that_it_would_write(parent: str, name: str) -> None:
    """Whatever the id, also one that holds the text of the pattern itself."""
    sample = f"{parent}/{name}"
    for after in ("", "_clean", "/mic", ".wav", "_x.flac"):
        place = place_of("/{id}" + after)
        file = place.expected(sample, ".wav")
        if file.name.startswith("."):
            continue
        assert place.id_of(Path(str(file))) in (sample, str(Path(sample)), None)
        if ".." not in (parent, name) and "." not in (parent, name):
            assert place.id_of(file) == sample


def test_two_files_of_one_id_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "s1/a.wav", "s1/a.mp4")
    with pytest.raises(DatasetError) as error:
        matched(tmp_path)
    for part in ("'s1/a'", "s1/a.wav", "s1/a.mp4", "{id}.wav"):
        assert part in str(error.value)
    assert list(matched(f"{tmp_path}/{{id}}.wav")) == ["s1/a"]


def test_a_missing_folder_and_a_double_placeholder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        matched(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="stands in it twice"):
        matched(f"{tmp_path}/{{id}}/{{id}}.wav")


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "far/s1/a.wav")
    (tmp_path / "near").mkdir()
    (tmp_path / "near/s1").symlink_to(tmp_path / "far/s1")
    (tmp_path / "near/loop").symlink_to(tmp_path / "near")
    assert list(matched(tmp_path / "near")) == ["s1/a"]
    assert len(list(files_below(tmp_path / "near"))) == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))).write_bytes(b"x")
    with pytest.raises(DatasetError, match="not valid UTF-8"):
        matched(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    touch(tmp_path, *(f"clean/{name}.wav" for name in ("s1/a", "s1/b", "s2/a")))
    touch(tmp_path, *(f"video/{name}.mp4" for name in ("s1/a", "s1/b", "s2/a", "s9/extra")))
    touch(tmp_path, "noise/bus/n2.wav", "noise/bus/n10.wav", "noise/cafe.wav")
    (tmp_path / "text.tsv").write_text("s1/a\tbin blue\ns2/a\tl\u00e4y \u201cred\u201d\nzz\tx\n\n")
    return tmp_path


def read(tree: Path, **options: Any) -> Any:
    return folder("mine", reference=tree / "clean", inputs={"video": tree / "video"}, **options)


def test_a_folder_data_set(tree: Path) -> None:
    noise = {"bus": tree / "noise/bus", "cafe": tree / "noise/cafe.wav"}
    found = read(tree, transcripts=tree / "text.tsv", noise=noise)
    assert [(s.id, s.group) for s in found.samples] == [
        ("s1/a", "s1"),
        ("s1/b", "s1"),
        ("s2/a", "s2"),
    ]
    first = found.samples[0]
    assert first.reference == Clip(str(tree / "clean/s1/a.wav"))
    assert first.inputs == {"video": Clip(str(tree / "video/s1/a.mp4"))}
    assert [dict(s.meta) for s in found.samples] == [
        {"transcript": "bin blue"},
        {},
        {"transcript": "l\u00e4y \u201cred\u201d"},
    ]
    assert [Path(clip.path).name for clip in found.noises["bus"]] == ["n10.wav", "n2.wav"]
    assert len(found.noises["cafe"]) == 1


def test_a_file_that_a_role_lacks_is_expected_where_it_should_be(tree: Path) -> None:
    (tree / "video/s1/b.mp4").unlink()
    found = read(tree)
    assert found.samples[1].inputs["video"].path == str(tree / "video/s1/b.mp4")


def test_inputs_alone_make_samples_without_reference(tree: Path) -> None:
    found = folder("mine", inputs={"video": tree / "video"})
    assert [s.id for s in found.samples][-1] == "s9/extra"
    assert all(s.reference is None for s in found.samples)


@pytest.mark.parametrize(
    ("group", "groups"),
    [
        ("parent", ["s1", "s1", "s2"]),
        ("id", ["s1/a", "s1/b", "s2/a"]),
        ("[ab]$", ["a", "b", "a"]),
        ("^s(.)", ["1", "1", "2"]),
    ],
)
def test_groups(tree: Path, group: str, groups: list[str]) -> None:
    assert [s.group for s in read(tree, group=group).samples] == groups


def test_in_a_flat_folder_each_sample_is_its_own_group_by_default(tree: Path) -> None:
    found = folder("flat", reference=f"{tree}/clean/s1")
    assert [s.group for s in found.samples] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"group": "("}, SpecError, "is not parent, id or a regular expression"),
        ({"group": "^x"}, DatasetError, r"'\^x' does not match 's1/a'"),
        ({"noise": {"bus": "nowhere"}}, DatasetError, "noise 'bus': .*nowhere is no sound file"),
        ({"transcripts": "nowhere.tsv"}, SpecError, "nowhere.tsv: cannot be read"),
    ],
)
def test_wrong_options_are_named(tree: Path, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        read(tree, **options)


def test_an_unknown_input_role_is_named(tree: Path) -> None:
    with pytest.raises(SpecError, match=r"inputs\.vdeo: no such role; allowed: video, audio"):
        folder("mine", inputs={"vdeo": tree / "video"})


def test_nothing_to_read_is_an_error(tree: Path) -> None:
    with pytest.raises(SpecError, match="give `reference`, `inputs` or both"):
        folder("mine")
    (tree / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no media file in .*empty"):
        folder("mine", reference=tree / "empty")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("s1/a bin blue\n", SpecError, "text.tsv:1: no tab"),
        (
            "s1/a\tx\ns1/b\ty\ns1/a\tz\n",
            DatasetError,
            "text.tsv:3: the id 's1/a' stands in the file",
        ),
        ("other\tx\n", DatasetError, "none of its ids is a sample, such as 's1/a'"),
    ],
)
def test_a_wrong_transcript_file_is_named(tree: Path, text: str, error: Any, message: str) -> None:
    (tree / "text.tsv").write_text(text)
    with pytest.raises(error, match=message):
        read(tree, transcripts=tree / "text.tsv")


def test_the_revision_follows_content_and_not_place(tree: Path, tmp_path: Path) -> None:
    before = read(tree).revision
    assert read(tree).revision == before
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("clean", "video"):
        (tree / name).rename(moved / name)
    assert read(moved).revision == before
    seen = {before}
    (moved / "clean/s1/a.wav").write_bytes(b"other")
    seen.add(read(moved).revision)
    (moved / "video/s1/a.mp4").unlink()
    seen.add(read(moved).revision)
    seen.add(read(moved, group="id").revision)
    seen.add(read(moved, transcripts=tree / "text.tsv").revision)
    seen.add(read(moved, noise={"cafe": tree / "noise/cafe.wav"}).revision)
    touch(moved, "clean/s3/a.wav")
    seen.add(read(moved).revision)
    assert len(seen) == 7


def test_the_revision_tells_a_missing_file_from_a_folder_in_its_place(tmp_path: Path) -> None:
    sample = Sample("a", "g", reference=Clip(str(tmp_path / "a.wav")))
    missing = build("x", [sample]).revision
    (tmp_path / "a.wav").mkdir()
    assert build("x", [sample]).revision != missing


def test_real_demo_clips_have_speakers_as_groups(shared_data: Path) -> None:
    root = shared_data / "lrs3_demo"
    found = folder(
        "lrs3",
        reference=root / "enhanced",
        inputs={"video": root / "orig", "audio": root / "noisy"},
    )
    assert found.samples[0].id == "IS4IK8CiLg8/00002"
    assert len({s.group for s in found.samples}) == 5
    assert all(Path(clip.path).is_file() for s in found.samples for clip in s.inputs.values())
