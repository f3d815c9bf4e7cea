# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``lethe registry`` commands."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..wireguard.errors import InvalidValue

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from .settings import ServerSettings, Settings
    from .store import Store

_SETTINGS = Path("/etc/lethe/registry.json")
_PRIVATE = 0o077  # umask: whatever a command makes is for its user alone

# The imports inside functions keep the other `lethe` commands free of the registry's libraries.


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``registry`` to the commands of ``lethe``."""
    registry = commands.add_parser(
        "registry",
        help="the inventory of keys and addresses: serve it, look after it",
        description="The registry knows which keys may connect, and gives them random tunnel addresses. These commands "
        "work on its database directly, on the host that has it; everything else goes through its HTTP API.",
        epilog=f"Every command reads the settings file (--settings, default {_SETTINGS}): a JSON object. What it "
        'does not name has a default; the server\'s own settings are the object "server" in it. Run these commands '
        "as the service's user (sudo -u lethe-registry ...), who owns the database and the secrets.",
    )
    actions = registry.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(actions)
    _add(actions, "migrate", _migrate, "create the database, or bring it to this version's schema")
    _add_feed(actions)
    _add_credential(actions)
    _add_backup(actions)
    status = _add(actions, "status", _status, "show the registry in numbers")
    status.add_argument("--json", action="store_true", help="print them as JSON")
    _add(
        actions,
        "vacuum",
        _vacuum,
        "rewrite the database without the space of what was deleted",
        "Rewrite the database. Deleted rows are overwritten anyway; this gives their space back to the file system. "
        "It needs as much free space as the database takes, and requests that write wait for it.",
    )
    secrets = actions.add_parser("secrets", help="the keys that are not in the database").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _add(
        secrets,
        "create",
        _secrets_create,
        "make the secrets file if it is not there",
        "Make the file that the setting secrets_file names, readable for its owner alone, unless it is there. "
        "Accounts, credentials and resting addresses are hashed and preshared keys are encrypted under it: a database "
        "without it is of no use to anybody, you included. Keep a copy, and not beside the backups.",
    )


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: object,
    summary: str,
    description: str = "",
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name, help=summary, description=description or f"{summary[0].upper()}{summary[1:]}.".replace("..", ".")
    )
    parser.add_argument(
        "--settings", type=Path, default=_SETTINGS, metavar="FILE", help="settings, JSON (default: %(default)s)"
    )
    parser.set_defaults(run=run)
    return parser


def _add_serve(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = _add(
        actions,
        "serve",
        _serve,
        "serve the HTTP API",
        "Serve the HTTP API until SIGTERM, which lets requests in hand finish. SIGHUP reads the certificate again. "
        'Logs are JSON lines on standard output. Options win over the object "server" in the settings file.',
    )
    serve.add_argument("--host", metavar="ADDRESS", help="listen on this address (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, metavar="PORT", help="listen on this port (default: 8443)")
    serve.add_argument("--tls-certificate", metavar="FILE", help="certificate with its chain, PEM")
    serve.add_argument("--tls-key", metavar="FILE", help="the certificate's key, PEM")
    serve.add_argument(
        "--trusted-proxy",
        action="append",
        dest="trusted_proxies",
        metavar="NETWORK",
        help="believe X-Forwarded-For from there; repeat it for more",
    )
    serve.add_argument("--metrics-host", metavar="ADDRESS", help="serve /metrics here (default: 127.0.0.1)")
    serve.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="serve /metrics on this port alone (default: with the API)"
    )


def _add_feed(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _add(
        actions,
        "feed",
        _feed,
        "serve the feed, by which changes reach the gateways",
        "Serve the feed until SIGTERM: snapshots and changes, signed, for gateways. SIGHUP reads the certificate and "
        'the signing key again. Logs are JSON lines on standard output. Its settings are the object "feed" in the '
        "settings file.",
    )
    key = actions.add_parser("feed-key", help="the key that the feed signs with").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _add(
        key,
        "create",
        _feed_key_create,
        "make the signing key if it is not there",
        "Make the file that the setting feed.signing_key names, readable for its owner alone, unless it is there. "
        "Whoever has it can give gateways peers.",
    )
    _add(key, "show", _feed_key_show, "print what gateways verify with: one line, or two while the key is replaced")
    _add(
        key,
        "prepare",
        _feed_key_prepare,
        "make the next signing key, beside the one in use",
        "Make the next signing key, unless it is there. Give the gateways both verify keys (show) before you switch.",
    )
    _add(
        key,
        "switch",
        _feed_key_switch,
        "let the next signing key be the one in use",
        "Let the next signing key be the one in use, and forget the one before. Reload the feed after it, then give "
        "the gateways the new verify key alone.",
    )


def _add_credential(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    credential = actions.add_parser("credential", help="credentials of operators and gateways").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    create = _add(
        credential,
        "create",
        _credential_create,
        "make a credential, and print its token once",
        "Make a credential; one of the same kind and name becomes invalid. Its token is printed, or written to a file, "
        "this once: the registry keeps only a keyed hash. Clients' credentials are issued by operators over the API.",
    )
    withdraw = _add(credential, "withdraw", _credential_withdraw, "make a credential invalid at once")
    for each in (create, withdraw):
        each.add_argument("kind", choices=("operator", "gateway"))
        each.add_argument("label", metavar="NAME", help="what people call it")
    create.add_argument("--output", type=Path, metavar="FILE", help="write the token into this new file, 0600")
    _add(credential, "list", _credential_list, "list the credentials by kind and name")


def _add_backup(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backup = _add(
        actions,
        "backup",
        _backup,
        "write the database into a file, also while it is served",
        "Write the database into a new file, 0600: SQLite's online backup, or pg_dump for PostgreSQL. The secrets file "
        "is not in it; without that the backup cannot be restored, so keep a copy of both, apart from each other.",
    )
    backup.add_argument("file", type=Path, metavar="FILE")
    restore = _add(
        actions,
        "restore",
        _restore,
        "make the database what a backup says, in a new epoch",
        "Replace the database by a backup; it is refused while the registry is served. The backup is brought to this "
        "version's schema, and a new epoch begins: every gateway takes a whole snapshot. What was changed since the "
        "backup is lost: keys revoked since are there again, revoke them. The secrets file must be that of the "
        "backup's time.",
    )
    restore.add_argument("file", type=Path, metavar="FILE")


def _serve(options: argparse.Namespace) -> int:
    from .server import serve

    serve(_with_options(_settings(options), options))
    return 0


def _feed(options: argparse.Namespace) -> int:
    from .feed.server import serve

    serve(_settings(options))
    return 0


def _feed_key_create(options: argparse.Namespace) -> int:
    from .feed import keys

    path = _settings(options).feed.signing_key
    print(f"{path}: {'created' if keys.create(path) else 'nothing to do'}")
    return 0


def _feed_key_show(options: argparse.Namespace) -> int:
    from .feed import keys

    for verify_key in keys.verify_keys(_settings(options).feed.signing_key):
        print(verify_key.text)
    return 0


def _feed_key_prepare(options: argparse.Namespace) -> int:
    from .feed import keys

    path = _settings(options).feed.signing_key
    print(f"the next key is {'made' if keys.prepare(path) else 'there already'}; give the gateways both (show)")
    return 0


def _feed_key_switch(options: argparse.Namespace) -> int:
    from .feed import keys

    keys.switch(_settings(options).feed.signing_key)
    print("the next key is in use once the feed is reloaded: systemctl reload lethe-feed")
    return 0


def _with_options(settings: Settings, options: argparse.Namespace) -> Settings:
    import dataclasses

    def wins(name: str) -> bool:
        return getattr(options, name, None) is not None

    server: ServerSettings = settings.server
    given = {each.name: getattr(options, each.name) for each in dataclasses.fields(server) if wins(each.name)}
    if "trusted_proxies" in given:
        given["trusted_proxies"] = tuple(given["trusted_proxies"])
    try:
        return dataclasses.replace(settings, server=dataclasses.replace(server, **given))
    except InvalidValue as error:
        raise error.inside("server") from None


def _migrate(options: argparse.Namespace) -> int:
    from . import migrations

    with _engine(options) as engine:
        print("the schema is new" if migrations.upgrade(engine) else "nothing to do")
    return 0


def _credential_create(options: argparse.Namespace) -> int:
    from . import credentials

    credentials.label_from(options.label)
    output: Path | None = options.output
    if output is None:
        with _store(options) as store:
            print(store.write(lambda tx: credentials.issue(tx, options.kind, options.label)))
        return 0
    # The file first: a token that cannot be written would be lost, and the one before it invalid.
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidValue(f"{output}", f"cannot be made: {error.strerror}", "give the name of a new file") from None
    try:
        with open(descriptor, "w", encoding="ascii") as file, _store(options) as store:
            file.write(store.write(lambda tx: credentials.issue(tx, options.kind, options.label)) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        output.unlink()
        raise
    return 0


def _credential_withdraw(options: argparse.Namespace) -> int:
    from . import credentials

    with _store(options) as store:
        withdrawn = store.write(lambda tx: credentials.withdraw(tx, options.kind, options.label))
    print("withdrawn" if withdrawn else "nothing to do: there is no such credential")
    return 0


def _credential_list(options: argparse.Namespace) -> int:
    from . import credentials

    with _store(options) as store:
        for kind, label in store.read(credentials.labels):
            print(f"{kind}\t{label}")
    return 0


def _backup(options: argparse.Namespace) -> int:
    from .backup import backup

    settings = _settings(options)
    with _engine(options) as engine:
        backup(engine, options.file)
    print(f"written to {options.file}; it needs the secrets file as well, which is not in it: {settings.secrets_file}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from .backup import restore

    with _engine(options) as engine:
        restore(engine, options.file)
    print("restored, in a new epoch; revoke again what was revoked after the backup")
    return 0


def _status(options: argparse.Namespace) -> int:
    from . import history
    from .figures import count

    with _store(options) as store:
        position, figures = store.read(lambda tx: (history.position(tx), count(tx)))
    if options.json:
        print(json.dumps({**position._asdict(), **figures.as_dict()}))
        return 0
    print(f"epoch {position.epoch}, revision {position.revision}, changes kept after {position.horizon}")
    print(f"{figures.registrations} registrations, {figures.resting} resting addresses")
    print(f"accounts: {_listed(figures.accounts)}")
    print(f"credentials: {_listed(figures.credentials)}")
    for family, pool in figures.pools.items():
        if pool.size:
            hint = "; they run out: see ranges and rest in the documentation of the role" if pool.is_tight else ""
            print(f"{family}: {pool.used_ratio:.2%} of {pool.size} addresses used or resting{hint}")
    return 0


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def _vacuum(options: argparse.Namespace) -> int:
    from .housekeeping import vacuum

    with _store(options) as store:
        vacuum(store)
    return 0


def _secrets_create(options: argparse.Namespace) -> int:
    from .vault import Vault

    path = _settings(options).secrets_file
    print(f"{path}: {'created' if Vault.create_file(path) else 'nothing to do'}")
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    from .settings import Settings

    os.umask(_PRIVATE)
    return Settings.from_file(options.settings)


@contextmanager
def _engine(options: argparse.Namespace) -> Iterator[Engine]:
    from .store import connect

    engine = connect(_settings(options).database)
    try:
        with _failures_told():
            yield engine
    finally:
        engine.dispose()


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[Store]:
    from .store import Environment, open_store
    from .vault import Vault

    settings = _settings(options)
    store = open_store(Environment.of(settings, Vault.from_file(settings.secrets_file)))
    try:
        with _failures_told():
            yield store
    finally:
        store.close()


@contextmanager
def _failures_told() -> Iterator[None]:
    from sqlalchemy.exc import DBAPIError

    from .errors import DatabaseUnusable

    try:
        yield
    except DBAPIError as error:
        raise DatabaseUnusable(
            f"the database failed ({type(error.orig).__name__}); see whether it runs, and the setting database"
        ) from None
