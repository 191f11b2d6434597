"""What arrives in a wheel, a source archive and an installation."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOMS = ("metrics", "systems", "leaderboards")
JUNK = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*cache")


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command, return its standard output, show both streams where it fails."""
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | quiet,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("bench", *ROOMS):
        shutil.copytree(repository / folder, copy / folder, symlinks=True, ignore=JUNK)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (repository / name).exists():
            shutil.copy(repository / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def archive(checkout: Path) -> Path:
    """The source archive."""
    call(sys.executable, "-m", "build", "--sdist", "--no-isolation", ".", cwd=checkout)
    return next((checkout / "dist").glob("*.tar.gz"))


def build_wheel(source: Path, out: Path) -> Path:
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    call(sys.executable, *build, "--wheel-dir", out, source, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    return build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and borrows what phonoscope needs from this one."""
    home = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    packages = next(home.glob("lib/python*/site-packages"))
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call(sys.executable, *pip, "--prefix", home, "--ignore-installed", wheel, cwd=home)
    # A line in a .pth file is only a path: the .pth files in there (this checkout's) are not read.
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return home


def sources(repository: Path) -> set[str]:
    """Every file of the package, by the path that it must have in an archive."""
    package = repository / "bench" / "phonoscope"
    kinds = {".py", ".yaml", ".csv", ".toml", ".html", ".jinja", ".css", ".js", ".typed"}
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if Path(name).suffix in kinds or name == "py.typed"
    ]
    return {f"phonoscope/{file.relative_to(package).as_posix()}" for file in found}


def test_the_wheel_holds_every_file_of_the_package(repository: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = sources(repository) - names
    assert not missing, f"not in the wheel (see [tool.setuptools.package-data]): {sorted(missing)}"
    assert {name.split("/")[0].split("-")[0] for name in names} == {"phonoscope"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_every_board_is_in_the_wheel(repository: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    boards = [file.parent for file in repository.glob("leaderboards/*/protocol.yaml")]
    assert boards
    for board in boards:
        for file in board.iterdir():
            if file.suffix in {".yaml", ".csv", ".md"}:
                assert f"phonoscope/leaderboards/{board.name}/{file.name}" in names


def test_a_wheel_made_of_the_source_archive_is_the_same(
    archive: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "source", filter="data")
    (tmp_path / "wheel").mkdir()
    again = build_wheel(next((tmp_path / "source").iterdir()), tmp_path / "wheel")
    files = [
        {item.filename: item.CRC for item in zipfile.ZipFile(made).infolist()}
        for made in (wheel, again)
    ]
    assert files[0] == files[1]


def test_an_installed_wheel_lists_its_metrics(
    repository: Path, installed: Path, tmp_path: Path
) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    where = "import phonoscope; print(phonoscope.__file__, phonoscope.__version__)"
    file, version = call(installed / "bin" / "python", "-c", where, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed), "the test would look at the checkout instead"
    assert version == project["version"]
    listed = call(installed / "bin" / "phonoscope", "list", "metrics", cwd=tmp_path)
    assert {"pesq_wb", "estoi", "si_sdr", "dnsmos_p808"} <= set(listed.split())


def test_a_checkout_without_symlinks_says_what_to_do(checkout: Path, tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    shutil.copytree(checkout / "bench", bench, symlinks=True)
    for room in ROOMS:
        (bench / "phonoscope" / room).unlink()
        (bench / "phonoscope" / room).write_text(f"../../{room}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "import phonoscope"],
        env={**os.environ, "PYTHONPATH": str(bench)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "core.symlinks" in last
    assert all(str(bench / "phonoscope" / room) in last for room in ROOMS)
