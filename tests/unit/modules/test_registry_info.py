# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_module import run_module
from made_up import key
from registry.site import Site
from registry.support import key as public_key

from .conftest import RunModule

TOKEN = "lethe_operator_" + "A" * 43


class Stranger(BaseHTTPRequestHandler):
    """Something that is not a registry, and says back what it was sent."""

    answer = (200, {"Content-Type": "text/plain"}, b"hello")

    def do_GET(self) -> None:
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body + self.headers.get("Authorization", "").encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class TestInfo:
    def test_shows_the_registry_in_numbers(self, ask: RunModule, site: Site) -> None:
        site.registry.create("alice")
        site.registry.register("alice", public_key(1))
        run = ask("registry_info")
        assert not run.changed
        assert run["registry"]["registrations"] == 1
        assert run["registry"]["accounts"] == {"active": 1, "suspended": 0, "closed": 0}
        assert run["registry"]["epoch"] == site.registry.position().epoch
        assert run.tells("alice", key(1)) == []

    def test_without_a_credential_it_only_looks_whether_the_registry_is_ready(self, ask: RunModule) -> None:
        run = ask("registry_info", as_="nobody")
        assert (run["registry"], run["gateways"]) == ({}, [])

    def test_it_tells_of_every_gateway(self, ask: RunModule, site: Site) -> None:
        site.gateway("gw1")
        assert {"label": "gw1", "age": None, "version": None, "interfaces": []} in ask("registry_info")["gateways"]

    def test_the_credential_can_be_in_a_file(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(f"{site.operator().token}\n")
        run = run_module("registry_info", {"url": f"{site.url}/", "token_file": str(tmp_path / "token")})
        assert "epoch" in run["registry"]


class TestPeers:
    @pytest.fixture(autouse=True)
    def registered(self, site: Site) -> None:
        site.registry.create("alice")
        for number in (1, 2):
            site.registry.register("alice", public_key(number))

    def test_are_fetched_into_a_file_for_its_owner_alone(self, ask: RunModule, site: Site, tmp_path: Path) -> None:
        path = tmp_path / "peers.jsonl"
        run = ask("registry_peers", as_="gateway", path=str(path))
        assert run.changed
        assert (run["peers"], run["revision"]) == (2, 2)
        assert path.stat().st_mode & 0o777 == 0o600
        assert key(1) in path.read_text()
        assert run.tells(key(1), key(2)) == []
        assert not ask("registry_peers", as_="gateway", path=str(path)).changed

    def test_check_mode_writes_nothing(self, ask: RunModule, tmp_path: Path) -> None:
        assert ask("registry_peers", as_="gateway", path=str(tmp_path / "peers"), check=True).changed
        assert [each.name for each in tmp_path.iterdir() if "peers" in each.name] == []

    def test_a_missing_directory_is_named(self, ask: RunModule, tmp_path: Path) -> None:
        message = ask("registry_peers", as_="gateway", path=str(tmp_path / "none/peers")).message
        assert message.startswith("path: cannot be written")

    @pytest.mark.parametrize(
        ("header", "body"),
        [(("Content-Length", "1000"), b"{}\n"), (("Transfer-Encoding", "chunked"), b"3\r\n{}\n\r\n")],
    )
    def test_an_answer_that_is_cut_off_changes_nothing(
        self, stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: tuple[str, str], body: bytes
    ) -> None:
        headers = {"Lethe-Epoch": "e", "Lethe-Revision": "1", **dict([header])}
        monkeypatch.setattr(Stranger, "answer", (200, headers, body))
        path = tmp_path / "peers.jsonl"
        path.write_text("before")
        run = run_module("registry_peers", {"url": stranger, "token": TOKEN, "path": str(path)})
        assert "cut its answer off" in run.message
        assert path.read_text() == "before"
        assert [each for each in tmp_path.iterdir() if "peers" in each.name] == [path]

    @pytest.mark.parametrize("headers", [{}, {"Lethe-Epoch": "e", "Lethe-Revision": "1"}])
    def test_an_answer_whose_end_cannot_be_told_is_not_used(
        self, stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
    ) -> None:
        monkeypatch.setattr(Stranger, "answer", (200, headers, b"{}\n"))
        options = {"url": stranger, "token": TOKEN, "path": str(tmp_path / "peers")}
        assert "not a registry" in run_module("registry_peers", options).message


class TestFailures:
    def test_nobody_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        message = run_module("registry_info", {"url": f"http://127.0.0.1:{port}"}).message
        assert f"no registry answers at http://127.0.0.1:{port}: " in message

    @pytest.mark.parametrize("status", [200, 302, 401, 502])
    def test_what_answers_is_not_a_registry_and_is_not_repeated(
        self, stranger: str, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        monkeypatch.setattr(Stranger, "answer", (status, {"Location": "http://192.0.2.1/"}, b'{"type": 1, "detail": '))
        run = run_module("registry_info", {"url": stranger, "token": TOKEN})
        assert "is not a registry" in run.message
        assert run.tells(TOKEN) == []

    def test_a_credential_that_is_not_valid(self, site: Site) -> None:
        run = run_module("registry_info", {"url": site.url, "token": TOKEN})
        assert "missing, malformed or revoked" in run.message
        assert run.tells(TOKEN) == []

    @pytest.mark.parametrize(
        "url",
        ["registry.example", "ftp://registry.example", "https://", "https://me:secret@registry.example", "http://["],
    )
    def test_a_url_that_is_none_is_refused(self, url: str) -> None:
        run = run_module("registry_info", {"url": url})
        assert run.message.startswith("url: is not the address of a registry")
        assert "secret" not in run.message

    def test_a_credential_is_never_sent_in_the_clear(self) -> None:
        assert "in the clear" in run_module("registry_info", {"url": "http://192.0.2.1:8443", "token": TOKEN}).message

    def test_a_credential_that_is_none_is_refused_without_being_shown(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("s3cret\n")
        for options in ({"token": "s3cret"}, {"token_file": str(tmp_path / "token")}):
            run = run_module("registry_info", {"url": "https://localhost:1", **options})
            assert "holds no credential" in run.message
            assert run.tells("s3cret") == []

    def test_a_missing_token_file_is_named(self) -> None:
        run = run_module("registry_info", {"url": "https://localhost:1", "token_file": "/none"})
        assert run.message.startswith("token_file: cannot be read: No such file")

    def test_both_kinds_of_giving_a_credential_are_refused(self) -> None:
        run = run_module("registry_info", {"url": "https://localhost:1", "token_file": "/none", "token": TOKEN})
        assert "mutually exclusive" in run.message
