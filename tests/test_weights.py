"""Weights: found in order, checked by hash, fetched atomically, licences respected."""

from __future__ import annotations

import hashlib
import http.server
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from phonoscope import weights
from phonoscope.errors import (
    DuplicateName,
    LicenceNotAccepted,
    UnknownName,
    WeightsMismatch,
    WeightsMissing,
)
from phonoscope.registry import Registry
from phonoscope.weights import Weight

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty table, cache and folder; no licence accepted."""
    monkeypatch.setattr(weights, "WEIGHTS", Registry("weight"))
    monkeypatch.setenv("PHONOSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(tmp_path / "folder"))
    monkeypatch.delenv("PHONOSCOPE_ACCEPT_LICENSES", raising=False)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """A server on loopback: `/good`, `/bad` and two in `/folder` are files, the rest is absent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = ("/good", "/folder/config.json", "/folder/net.bin")
            body = {**dict.fromkeys(good, CONTENT), "/bad": b"other bytes"}.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def row(name: str = "net/a", **fields: object) -> Weight:
    values = {
        "name": name,
        "file": f"{name}.onnx",
        "bytes": len(CONTENT),
        "sha256": SHA256,
        "licence": "MIT",
        "origin": "https://example.org/a.onnx",
        **fields,
    }
    return weights.register(Weight(**values))  # type: ignore[arg-type]


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported, with the file inside."""
    root = tmp_path / "site" / "carrier_of_weights"
    put(root / "__init__.py", b"raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(root.parent))
    return put(root / "models" / "a.onnx")


class TestLocate:
    def test_folder_then_package_then_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row(package="carrier_of_weights/models/a.onnx")
        cached = put(tmp_path / "cache" / "weights" / "net" / "a.onnx")
        assert weights.locate("net/a") == cached
        packaged = package(tmp_path, monkeypatch)
        assert weights.locate("net/a") == packaged
        assert "carrier_of_weights" not in sys.modules
        chosen = put(tmp_path / "folder" / "net" / "a.onnx")
        assert weights.locate("net/a") == chosen

    def test_missing(self, tmp_path: Path) -> None:
        row()
        with pytest.raises(WeightsMissing) as error:
            weights.locate("net/a")
        for part in (
            "'net/a'",
            "https://example.org/a.onnx",
            "`phonoscope weights fetch net/a`",
            str(tmp_path / "folder" / "net" / "a.onnx"),
            str(tmp_path / "cache" / "weights" / "net" / "a.onnx"),
        ):
            assert part in str(error.value)

    def test_wrong_hash_names_both(self, tmp_path: Path) -> None:
        row()
        put(tmp_path / "folder" / "net" / "a.onnx", b"damaged")
        put(tmp_path / "cache" / "weights" / "net" / "a.onnx")
        with pytest.raises(WeightsMismatch) as error:
            weights.locate("net/a")
        assert SHA256 in str(error.value)
        assert hashlib.sha256(b"damaged").hexdigest() in str(error.value)
        assert str(tmp_path / "folder") in str(error.value)

    def test_a_replaced_file_is_hashed_again(self, tmp_path: Path) -> None:
        row()
        path = put(tmp_path / "folder" / "net" / "a.onnx")
        assert weights.locate("net/a") == path
        put(path, CONTENT[::-1])
        os.utime(path, ns=(0, 1))
        with pytest.raises(WeightsMismatch):
            weights.locate("net/a")

    def test_hashed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        row()
        put(tmp_path / "folder" / "net" / "a.onnx")
        weights.locate("net/a")
        monkeypatch.setattr(weights.hashlib, "sha256", lambda: pytest.fail("hashed again"))
        weights.locate("net/a")

    def test_unknown_name(self) -> None:
        row()
        with pytest.raises(UnknownName, match="did you mean net/a"):
            weights.locate("net/b")

    def test_two_rows_of_one_name(self) -> None:
        row()
        row()
        with pytest.raises(DuplicateName):
            weights.register(Weight("net/a", "b", 1, "", "MIT", "x"), origin="plugin.py")


class TestDigest:
    def test_pinned_needs_no_file(self) -> None:
        row()
        assert weights.digest("net/a") == SHA256

    def test_of_the_own_copy_where_upstream_publishes_none(self, tmp_path: Path) -> None:
        row(sha256="")
        with pytest.raises(WeightsMissing):
            weights.digest("net/a")
        put(tmp_path / "folder" / "net" / "a.onnx", b"mine")
        assert weights.digest("net/a") == hashlib.sha256(b"mine").hexdigest()


class TestPinnedAtFirstUse:
    """Files whose hash nobody published."""

    def test_a_copy_that_changes_is_refused(self, tmp_path: Path) -> None:
        row(sha256="")
        path = put(tmp_path / "folder" / "net" / "a.onnx", b"mine")
        assert weights.locate("net/a") == path
        note = path.with_name("a.onnx.sha256")
        mine, other = (hashlib.sha256(text).hexdigest() for text in (b"mine", b"other"))
        assert note.read_text() == f"{mine}  a.onnx\n"
        put(path, b"other")
        for use in (weights.locate, weights.digest, weights.fetch):
            with pytest.raises(WeightsMismatch) as error:
                use("net/a")
            for part in (mine, other, str(path), f"delete {note}"):
                assert part in str(error.value)
        note.unlink()
        assert weights.digest("net/a") == other

    def test_a_note_of_another_tool_counts(self, tmp_path: Path) -> None:
        row(sha256="")
        path = put(tmp_path / "folder" / "net" / "a.onnx", b"mine")
        note = path.with_name("a.onnx.sha256")
        note.write_text(f"SHA256 (a.onnx) = {hashlib.sha256(b'mine').hexdigest().upper()}\n")
        assert weights.locate("net/a") == path
        note.write_text(f"{SHA256} *a.onnx\n")
        with pytest.raises(WeightsMismatch):
            weights.locate("net/a")

    def test_a_folder_that_cannot_be_written_to_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row(sha256="")
        path = put(tmp_path / "folder" / "net" / "a.onnx", b"mine")
        put(tmp_path / "folder" / "net" / f".a.onnx.sha256.{os.getpid()}" / "in the way")
        assert weights.locate("net/a") == path
        assert not path.with_name("a.onnx.sha256").exists()

    def test_a_published_hash_needs_no_note(self, tmp_path: Path) -> None:
        row()
        path = put(tmp_path / "folder" / "net" / "a.onnx")
        weights.locate("net/a")
        assert list(path.parent.iterdir()) == [path]

    def test_known_digest(self, tmp_path: Path) -> None:
        row("net/a")
        row("net/b", sha256="")
        assert (weights.known_digest("net/a"), weights.known_digest("net/b")) == (SHA256, "")
        path = put(tmp_path / "folder" / "net" / "b.onnx", b"mine")
        assert weights.known_digest("net/b") == hashlib.sha256(b"mine").hexdigest()
        put(path, b"other")
        assert weights.known_digest("net/b") == ""


class TestFolders:
    FILES = ("config.json", "net.safetensors|net.bin")

    def folder(self, root: Path, *names: str, content: bytes = CONTENT) -> Path:
        for name in names:
            put(root / "net" / name, content)
        return root / "net"

    def test_found_where_it_is_whole(self, tmp_path: Path) -> None:
        row(file="net", files=self.FILES, sha256="")
        cached = self.folder(tmp_path / "cache" / "weights", "config.json", "net.bin")
        half = self.folder(tmp_path / "folder", "config.json", "README.md")
        assert weights.locate("net/a") == cached
        (cached / "net.bin").unlink()
        with pytest.raises(WeightsMissing) as error:
            weights.locate("net/a")
        for part in (
            f"{half}, which lacks net.safetensors|net.bin",
            "as net, a folder with config.json, net.safetensors|net.bin",
            "`phonoscope weights fetch net/a`",
        ):
            assert part in str(error.value)

    def test_the_digest_is_of_what_is_read(self, tmp_path: Path) -> None:
        row(file="net", files=self.FILES, sha256="")
        path = self.folder(tmp_path / "folder", "config.json", "net.bin")
        first = weights.digest("net/a")
        listing = f"{SHA256}  config.json\n{SHA256}  net.bin\n"
        assert first == hashlib.sha256(listing.encode()).hexdigest()
        note = tmp_path / "folder" / "net.sha256"
        assert note.read_text() == f"{SHA256}  net/config.json\n{SHA256}  net/net.bin\n"
        put(path / "README.md", b"not read")
        assert weights.digest("net/a") == first
        put(path / "config.json", b"other")
        with pytest.raises(WeightsMismatch, match=r"config\.json has sha256"):
            weights.digest("net/a")
        note.unlink()
        assert weights.digest("net/a") != first

    def test_the_first_of_two_is_taken(self, tmp_path: Path) -> None:
        row(file="net", files=self.FILES, sha256="")
        path = self.folder(tmp_path / "folder", "config.json", "net.bin")
        first = weights.digest("net/a")
        put(path / "net.safetensors", b"other")
        (tmp_path / "folder" / "net.sha256").unlink()
        assert weights.digest("net/a") != first
        (path / "net.bin").unlink()
        assert weights.locate("net/a") == path

    def test_a_pinned_folder(self, tmp_path: Path) -> None:
        listing = f"{SHA256}  config.json\n{SHA256}  net.bin\n"
        pinned = hashlib.sha256(listing.encode()).hexdigest()
        row(file="net", files=self.FILES, sha256=pinned)
        path = self.folder(tmp_path / "folder", "config.json", "net.bin")
        assert weights.locate("net/a") == path
        put(path / "config.json", b"other")
        with pytest.raises(WeightsMismatch, match=pinned):
            weights.locate("net/a")

    def test_download(self, tmp_path: Path, origin: str) -> None:
        row(file="net", files=self.FILES, sha256="", origin=f"{origin}/folder")
        path = weights.fetch("net/a")
        assert path == tmp_path / "cache" / "weights" / "net" == weights.locate("net/a")
        assert {file.name for file in path.iterdir()} == {"config.json", "net.bin"}
        assert weights.fetch("net/a") == path

    def test_download_goes_on_where_it_stopped(self, tmp_path: Path, origin: str) -> None:
        row(file="net", files=("config.json", "absent"), sha256="", origin=f"{origin}/folder")
        with pytest.raises(WeightsMissing, match=r"could not be fetched from .*/folder/absent"):
            weights.fetch("net/a")
        put(tmp_path / "cache" / "weights" / "net" / "absent")
        assert weights.fetch("net/a").name == "net"


class TestFetch:
    def test_download(self, tmp_path: Path, origin: str) -> None:
        row(origin=f"{origin}/good")
        seen: list[tuple[int, int]] = []
        path = weights.fetch("net/a", lambda done, total: seen.append((done, total)))
        assert path == tmp_path / "cache" / "weights" / "net" / "a.onnx" == weights.locate("net/a")
        assert path.read_bytes() == CONTENT
        assert path.stat().st_mode & 0o777 == 0o644
        assert seen[-1] == (len(CONTENT), len(CONTENT))

    def test_quiet_without_progress(self, origin: str, capfd: pytest.CaptureFixture[str]) -> None:
        row(origin=f"{origin}/good", sha256="")
        weights.fetch("net/a")
        assert capfd.readouterr() == ("", "")

    def test_present_is_not_fetched_again(self, tmp_path: Path) -> None:
        row(origin="http://127.0.0.1:1/nobody")
        path = put(tmp_path / "folder" / "net" / "a.onnx")
        assert weights.fetch("net/a") == path
        path.unlink()
        cached = put(tmp_path / "cache" / "weights" / "net" / "a.onnx")
        assert weights.fetch("net/a") == cached

    def test_damaged_cache_is_fetched_again(self, tmp_path: Path, origin: str) -> None:
        row(origin=f"{origin}/good")
        put(tmp_path / "cache" / "weights" / "net" / "a.onnx", b"damaged")
        assert weights.fetch("net/a").read_bytes() == CONTENT
        assert weights.locate("net/a").read_bytes() == CONTENT

    def test_wrong_bytes(self, tmp_path: Path, origin: str) -> None:
        row(origin=f"{origin}/bad")
        with pytest.raises(WeightsMismatch) as error:
            weights.fetch("net/a")
        assert SHA256 in str(error.value)
        assert hashlib.sha256(b"other bytes").hexdigest() in str(error.value)
        assert list((tmp_path / "cache" / "weights" / "net").iterdir()) == []

    @pytest.mark.parametrize("path", ["/absent", None])
    def test_origin_does_not_answer(self, origin: str, path: str | None) -> None:
        row(origin=f"{origin}{path}" if path else "http://127.0.0.1:1/nobody")
        with pytest.raises(WeightsMissing, match=r"could not be fetched .*put it at .*a\.onnx"):
            weights.fetch("net/a")

    def test_cache_that_cannot_be_written(self, tmp_path: Path, origin: str) -> None:
        row(origin=f"{origin}/good")
        put(tmp_path / "cache", b"a file where a folder should be")
        with pytest.raises(WeightsMissing, match="could not be fetched"):
            weights.fetch("net/a")

    def test_origin_in_words(self) -> None:
        row(origin="inside the carrier wheel")
        with pytest.raises(WeightsMissing, match="cannot be fetched by a command"):
            weights.fetch("net/a")


class TestLicences:
    def test_not_accepted(self, tmp_path: Path) -> None:
        row(noncommercial=True, licence="CC BY-NC-SA 4.0")
        put(tmp_path / "folder" / "net" / "a.onnx")
        for use in (weights.locate, weights.fetch):
            with pytest.raises(LicenceNotAccepted) as error:
                use("net/a")
            for part in (
                "CC BY-NC-SA 4.0",
                "`phonoscope weights accept net`",
                "PHONOSCOPE_ACCEPT_LICENSES=net",
            ):
                assert part in str(error.value)
        assert weights.digest("net/a") == SHA256

    @pytest.mark.parametrize("name", ["net", "net/a"])
    def test_accepted_once_for_ever(self, tmp_path: Path, name: str) -> None:
        row(noncommercial=True)
        row("other/b", noncommercial=True)
        path = put(tmp_path / "folder" / "net" / "a.onnx")
        assert not weights.accepted("net/a")
        weights.accept(name)
        noted = weights.accept(name)
        assert weights.locate("net/a") == path
        assert not weights.accepted("other/b")
        assert noted.read_text() == f"{name}\n"

    @pytest.mark.parametrize("value", ["net", "other, net/a"])
    def test_accepted_by_environment(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        row(noncommercial=True)
        monkeypatch.setenv("PHONOSCOPE_ACCEPT_LICENSES", value)
        assert weights.accepted("net/a")

    def test_accept_knows_the_names(self) -> None:
        row()
        with pytest.raises(UnknownName):
            weights.accept("nett")


def test_status(tmp_path: Path) -> None:
    for name in ("net/ok", "net/missing", "net/wrong"):
        row(name)
    row("nc/a", noncommercial=True)
    row("own/a", sha256="")
    put(tmp_path / "folder" / "net" / "ok.onnx")
    put(tmp_path / "folder" / "net" / "wrong.onnx", b"wrong")
    put(tmp_path / "folder" / "own" / "a.onnx", b"mine")
    rows = {item.weight.name: item for item in weights.status()}
    assert {name: item.state for name, item in rows.items()} == {
        "net/ok": "ok",
        "net/missing": "missing",
        "net/wrong": "mismatch",
        "nc/a": "not_accepted",
        "own/a": "ok",
    }
    assert rows["net/wrong"].path == tmp_path / "folder" / "net" / "wrong.onnx"
    assert rows["net/missing"].path is None
    assert "fetch net/missing" in rows["net/missing"].message


class TestOurTable:
    @pytest.fixture(autouse=True)
    def ours(self, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        monkeypatch.delenv("PHONOSCOPE_WEIGHTS", raising=False)

    @pytest.mark.parametrize(
        "name", ["dnsmos/sig_bak_ovr", "dnsmos/model_v8", "dnsmos/p_sig_bak_ovr"]
    )
    def test_dnsmos_comes_with_a_package(self, name: str) -> None:
        path = weights.locate(name)
        weight = weights.WEIGHTS.get(name)
        assert path.stat().st_size == weight.bytes
        assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.digest(name)

    def test_and_lies_in_the_shared_folder(
        self, shared_weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PHONOSCOPE_WEIGHTS", str(shared_weights))
        for name in ("sig_bak_ovr", "model_v8", "p_sig_bak_ovr"):
            assert weights.locate(f"dnsmos/{name}").parent == shared_weights / "dnsmos"

    def test_every_row_is_complete(self) -> None:
        for name in weights.WEIGHTS:
            weight = weights.WEIGHTS.get(name)
            assert weight.name == name
            assert weight.licence
            assert weight.origin
            assert len(weight.sha256) in (0, 64)
            assert not Path(weight.file).is_absolute()
            assert ".." not in Path(weight.file).parts
