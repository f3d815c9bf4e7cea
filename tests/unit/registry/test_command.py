# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from registry.fixtures import NewDatabase
from registry.support import MASTER, Registry, key

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe import cli
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import credentials, migrations, serving
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import connect


class Command:
    """``lethe registry`` on one database."""

    def __init__(self, directory: Path, database: str, capture: pytest.CaptureFixture[str]) -> None:
        self.database = database
        self._directory = directory
        self._capture = capture
        self.settings = directory / "settings.json"
        self.secrets = directory / "secrets"
        self.secrets.write_text(base64.b64encode(MASTER).decode())
        self.signing_key = directory / "feed.key"
        settings = {
            "database": database,
            "secrets_file": str(self.secrets),
            "feed": {"signing_key": str(self.signing_key)},
        }
        self.settings.write_text(json.dumps(settings))

    def __call__(self, *arguments: object, status: int = 0) -> str:
        """What it prints, on standard output or if it fails on standard error."""
        before = os.umask(0o022)
        try:
            returned = cli.main(["registry", *map(str, arguments), "--settings", str(self.settings)])
        finally:
            os.umask(before)
        captured = self._capture.readouterr()
        assert returned == status, captured.err
        return captured.err if status else captured.out

    def registry(self) -> Registry:
        return Registry.open(self.database)

    def new_file(self, name: str) -> Path:
        return self._directory / name


@pytest.fixture
def command(tmp_path: Path, new_database: NewDatabase, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, new_database(), capsys)


@pytest.fixture
def registry(command: Command) -> Iterator[Callable[[], Registry]]:
    """Opens the command's registry; it is closed at the latest with the test."""
    made: list[Registry] = []

    def open_one() -> Registry:
        made.append(command.registry())
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_credential_is_shown_once_and_works(command: Command, registry: Callable[[], Registry]) -> None:
    token = command("credential", "create", "operator", "control panel").strip()
    found = registry().store.read(lambda tx: credentials.authenticate(tx, token))
    assert (found.kind, found.label) == ("operator", "control panel")
    assert command("credential", "list") == "operator\tcontrol panel\n"
    assert command("credential", "withdraw", "operator", "control panel") == "withdrawn\n"
    assert command("credential", "withdraw", "operator", "control panel").startswith("nothing to do")
    assert command("credential", "list") == ""


def test_a_credential_in_a_file_is_for_its_owner_alone(command: Command) -> None:
    output = command.new_file("token")
    assert command("credential", "create", "gateway", "one", "--output", output) == ""
    assert output.read_text().startswith("lethe_gateway_")
    assert mode(output) == 0o600

    before = output.read_text()
    assert "token: cannot be made: File exists" in command(
        "credential", "create", "gateway", "one", "--output", output, status=1
    )
    assert output.read_text() == before
    token = before.strip()
    opened = command.registry()
    assert opened.store.read(lambda tx: credentials.authenticate(tx, token)).label == "one"
    opened.close()


def test_a_file_that_no_credential_came_into_is_not_left(command: Command) -> None:
    command.secrets.unlink()
    output = command.new_file("token")
    assert "secrets: cannot be read" in command("credential", "create", "gateway", "one", "--output", output, status=1)
    assert not output.exists()


def test_the_status_in_numbers(command: Command, registry: Callable[[], Registry]) -> None:
    opened = registry()
    opened.create("alice")
    opened.register("alice", key(1))
    position = opened.position()
    said = command("status")
    assert f"epoch {position.epoch}, revision 1" in said
    assert "1 registrations, 0 resting addresses" in said
    assert "ipv4: 0.00% of 16777214 addresses used or resting" in said

    seen: dict[str, Any] = json.loads(command("status", "--json"))
    assert (seen["epoch"], seen["revision"], seen["registrations"]) == (position.epoch, 1, 1)
    assert seen["pools"]["ipv4"]["used"] == 1


def test_a_backup_comes_back_in_a_new_epoch(command: Command) -> None:
    opened = command.registry()
    opened.create("alice")
    kept, _ = opened.register("alice", key(1))
    before = opened.position()
    file = command.new_file("backup")
    assert f"it needs the secrets file as well, which is not in it: {command.secrets}" in command("backup", file)
    assert mode(file) == 0o600
    opened.register("alice", key(2))
    opened.close()

    assert "new epoch" in command("restore", file)
    opened = command.registry()
    after = opened.position()
    assert opened.of("alice") == {key(1): kept}
    assert after.epoch > before.epoch
    assert (after.revision, after.horizon) == (before.revision, before.horizon)
    opened.register("alice", key(3))
    assert opened.position().revision == before.revision + 1
    opened.close()


def test_every_restore_begins_a_later_epoch_than_all_before(command: Command) -> None:
    file = command.new_file("backup")
    command("backup", file)
    epochs = []
    for _ in range(3):  # within a second, as if the clock stood still
        command("restore", file)
        opened = command.registry()
        epochs.append(opened.position().epoch)
        opened.close()
    assert epochs == sorted(epochs)
    assert len({epoch[:8] for epoch in epochs}) == 3


def test_a_backup_never_replaces_a_file(command: Command) -> None:
    file = command.new_file("backup")
    file.write_text("precious")
    assert "backup: is there already" in command("backup", file, status=1)
    assert file.read_text() == "precious"
    assert "cannot be written" in command("backup", "/nonexistent/backup", status=1)


def test_nothing_is_restored_while_the_registry_is_used(command: Command, database: str) -> None:
    file = command.new_file("backup")
    command("backup", file)
    engine = connect(command.database)
    with serving.serving(engine), engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.rollback()
        refused = command("restore", file, status=1)
    engine.dispose()
    assert ("is being served" if database == "sqlite" else "other sessions") in refused
    assert "systemctl stop" in refused


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + bytes(5000)])
def test_what_is_no_backup_is_refused_and_nothing_changes(command: Command, content: bytes) -> None:
    opened = command.registry()
    opened.create("alice")
    opened.register("alice", key(1))
    before = opened.position()
    opened.close()
    file = command.new_file("backup")
    file.write_bytes(content)

    assert "backup: is not a" in command("restore", file, status=1)
    opened = command.registry()
    assert opened.position() == before
    opened.close()
    assert "backup" in command("restore", command.new_file("other-backup"), status=1)


def test_a_dump_that_was_cut_short_is_refused(command: Command, database: str) -> None:
    file = command.new_file("backup")
    command("backup", file)
    file.write_bytes(file.read_bytes()[: -2000 if database == "postgresql" else -30_000])
    assert "backup: is not a" in command("restore", file, status=1)


def test_a_backup_of_a_later_version_is_refused_and_nothing_changes(command: Command, database: str) -> None:
    file = command.new_file("backup")
    later = "UPDATE alembic_version SET version_num = '9999'"
    if database == "postgresql":
        pytest.skip("the dump is taken as it is; serving it is refused")
    command("backup", file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(later)
        connection.commit()
    opened = command.registry()
    before = opened.position()
    opened.close()
    assert "later version of Lethe" in command("restore", file, status=1)
    opened = command.registry()
    assert opened.position() == before
    opened.close()


def test_a_restore_leaves_nothing_of_what_was_there(command: Command, database: str) -> None:
    if database != "sqlite":
        pytest.skip("PostgreSQL's files are PostgreSQL's")
    file = command.new_file("backup")
    command("backup", file)
    opened = command.registry()
    opened.create("alice", 1000)
    for n in range(200):
        opened.register("alice", key(n))
    opened.close()
    command("restore", file)
    left = b"".join(path.read_bytes() for path in Path(command.database.removeprefix("sqlite:///")).parent.iterdir())
    assert bytes(key(1)) not in left


def test_migrating_twice_is_nothing_to_do(command: Command) -> None:
    assert command("migrate") == "nothing to do\n"


def test_a_database_of_a_later_version_is_left_alone(command: Command) -> None:
    engine = connect(command.database)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert not migrations.is_current(engine)
    engine.dispose()
    assert "later version of Lethe" in command("migrate", status=1)


def test_secrets_are_made_once(command: Command) -> None:
    before = command.secrets.read_text()
    assert command("secrets", "create").endswith("nothing to do\n")
    assert command.secrets.read_text() == before
    command.secrets.unlink()
    assert command("secrets", "create").endswith("created\n")
    assert command.secrets.read_text() != before
    assert mode(command.secrets) == 0o600


def test_a_new_database_is_for_its_owner_alone(command: Command, database: str) -> None:
    if database != "sqlite":
        pytest.skip("PostgreSQL's files are PostgreSQL's")
    path = command.new_file("fresh.sqlite3")
    command.settings.write_text(json.dumps({"database": f"sqlite:///{path}", "secrets_file": str(command.secrets)}))
    assert command("migrate") == "the schema is new\n"
    assert mode(path) == 0o600


def test_vacuum_runs(command: Command) -> None:
    assert command("vacuum") == ""


def test_a_database_that_is_not_there_is_said(command: Command, database: str) -> None:
    url = "sqlite:////nonexistent/r" if database == "sqlite" else "postgresql://nobody@127.0.0.1:1/none"
    command.settings.write_text(json.dumps({"database": url, "secrets_file": str(command.secrets)}))
    for arguments in (["status"], ["migrate"], ["vacuum"]):
        assert "database" in command(*arguments, status=1)


def test_the_feeds_key_is_made_once_and_replaced_by_the_next(command: Command) -> None:
    assert "feed.key: cannot be read" in command("feed-key", "show", status=1)
    assert "feed.key.next: cannot be read" in command("feed-key", "switch", status=1)
    assert "feed.key: cannot be read" in command("feed-key", "prepare", status=1)
    assert command("feed-key", "create") == f"{command.signing_key}: created\n"
    assert command("feed-key", "create") == f"{command.signing_key}: nothing to do\n"
    assert mode(command.signing_key) == 0o600
    (first,) = command("feed-key", "show").split()
    assert "is made" in command("feed-key", "prepare")
    assert "is there already" in command("feed-key", "prepare")
    shown = command("feed-key", "show").split()
    assert shown[0] == first
    assert "reload" in command("feed-key", "switch")
    assert command("feed-key", "show").split() == shown[1:]
    assert mode(command.signing_key) == 0o600
    assert "feed.key.next: cannot be read" in command("feed-key", "switch", status=1)


def test_every_command_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        "",
        "serve",
        "migrate",
        "credential create",
        "backup",
        "restore",
        "status",
        "vacuum",
        "secrets create",
    ):
        with pytest.raises(SystemExit) as done:
            cli.main(["registry", *words.split(), "--help"])
        assert done.value.code == 0
        assert len(capsys.readouterr().out) > 200
