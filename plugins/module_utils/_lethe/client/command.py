# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``lethe client`` commands."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wireguard.errors import InvalidValue, LetheError

if TYPE_CHECKING:
    from .settings import Settings

_POLL = 0.2  # seconds

# The imports inside functions keep the other `lethe` commands fast.


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``client`` to the commands of ``lethe``."""
    actions = commands.add_parser(
        "client",
        help="be a client whose key and addresses change",
        description="The client registers a key of its own, connects to one of the registry's gateways, and changes "
        "its key and its addresses every few days, and whenever it is asked to.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = actions.add_parser("run", help="be it, until SIGTERM", description="What lethe-client.service runs.")
    _add_settings(run)
    run.set_defaults(run=_run)

    status = actions.add_parser("status", help="show how it stands")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    _add_status_file(status)
    status.set_defaults(run=_status)

    wait = actions.add_parser("wait", help="wait until a gateway answers")
    _add_timeout(wait)
    _add_status_file(wait)
    wait.set_defaults(run=_wait)

    rotate = actions.add_parser(
        "rotate",
        help="change the key now",
        description="Ask the running client for a new key and new addresses, also in place of a key that was revoked, "
        "and wait until they are in use.",
    )
    _add_timeout(rotate)
    _add_status_file(rotate)
    rotate.set_defaults(run=_rotate)

    logout = actions.add_parser(
        "logout",
        help="have the key removed everywhere",
        description="Have the key removed from the registry, and so from all gateways, then remove the interface, all "
        "keys and the client's credential from this host. The running client ends with it, and is not started again "
        "until there is a credential; without one that runs the command does it itself.",
    )
    logout.add_argument("--keep-credential", action="store_true", help="to be started again, with a new key")
    logout.add_argument(
        "--forget", action="store_true", help="do not ask the registry: there the key stays until it expires"
    )
    _add_timeout(logout)
    _add_settings(logout)
    _add_status_file(logout)
    logout.set_defaults(run=_logout)

    export = actions.add_parser(
        "export",
        help="register a key for another device and print its configuration",
        description="Register a new key and print a configuration for wg-quick and for WireGuard's apps. The private "
        "key is kept nowhere here. It does not rotate, and stops working when it expires.",
    )
    export.add_argument("--qr", action="store_true", help="print it as a QR code, for a phone's camera")
    _add_settings(export)
    export.set_defaults(run=_export)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="settings, JSON (default: /etc/lethe/client.json)"
    )
    parser.add_argument(
        "--credential-file",
        type=Path,
        metavar="FILE",
        help="the client's credential (default: /etc/lethe/client.credential)",
    )


def _add_status_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--status-file", type=Path, metavar="FILE", help="default: /run/lethe-client/status.json")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS", help="default: %(default)s")


class NotDone(LetheError):
    def __init__(self, what: str, seconds: float, stands: str, remedy: str = "try again, or see") -> None:
        super().__init__(f"{what} after {seconds:g} s: {stands}; {remedy}: lethe client status")


_NOT_REMOVED = "the key was not removed"
_GOES_ON = "the client goes on with that, also after a reboot, and registers no other key; see"


def _run(options: argparse.Namespace) -> int:
    from . import service

    return service.run(*_given(options))


def _status(options: argparse.Namespace) -> int:
    document = _document(options)
    print(json.dumps(document) if options.json else _sentence(document))
    return 1 if document["problem"] else 0


def _wait(options: argparse.Namespace) -> int:
    document = _waited(options, lambda now: bool(now["connected"]), "no gateway answers")
    print(_sentence(document))
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from .service import ROTATE, send

    before = _document(options)

    def has_another(now: dict[str, Any]) -> bool:
        # Only now does it hear that its key was removed: that needs another word from whoever asked for this.
        if now["stage"] == "stopped" and before["stage"] != "stopped":
            raise LetheError(f"the key was not changed: {_sentence(now)}")
        return bool(now["keys"] > before["keys"])

    send(before, ROTATE)
    document = _waited(options, has_another, "the key was not changed")
    print(_sentence(document))
    return 0


def _logout(options: argparse.Namespace) -> int:
    from . import memory, service

    running: dict[str, Any] | None
    try:
        running = _document(options)
    except service.NotRunning:
        running = None
    runs = running is not None and running["stage"] != "left"
    if runs and options.forget:
        raise LetheError("the client is running, and would register again; stop it first: systemctl stop lethe-client")
    if options.forget:
        service.forget(_settings(options))
    else:
        if not options.keep_credential:
            _keep_wish(options)
        if running is not None and runs:
            service.send(running, service.LEAVE)
            remedy = () if options.keep_credential else (_GOES_ON,)
            _waited(options, lambda now: now["stage"] == "left", _NOT_REMOVED, *remedy)
        else:
            _leave(options)
    kept = "" if options.keep_credential else " and no credential"
    if not options.keep_credential:
        _remove_credential(options.credential_file)
    memory.Wish.drop()
    print(f"logged out: this host has no key{kept} any more")
    return 0


def _keep_wish(options: argparse.Namespace) -> None:
    """Nobody may wait for as long as the registry is away, and a service that is started then must not begin again."""
    from . import memory

    with contextlib.suppress(InvalidValue):  # without a credential it is not started
        memory.Wish(_credential(options)).keep()


def _remove_credential(path: Path | None) -> None:
    from .settings import CREDENTIAL

    path = path or CREDENTIAL
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LetheError(f"{path} cannot be removed ({error.strerror}); remove it by hand") from None


def _leave(options: argparse.Namespace) -> None:
    """Without a client that runs."""
    from . import service

    settings, credential = _given(options)
    runner, _tunnel = service.made(settings, credential)
    if runner.state is None:
        service.registry(settings, credential).delete_lost()
        runner.forget()
    runner.leave()
    deadline = time.monotonic() + options.timeout
    while runner.state is not None and time.monotonic() < deadline:
        time.sleep(min(max(runner.step(), 0), _POLL))
    if runner.state is not None:
        raise NotDone(_NOT_REMOVED, options.timeout, runner.standing.problem)


def _export(options: argparse.Namespace) -> int:
    from ..https import tls_context
    from ..wireguard.keys import generate_private_key
    from .export import configuration, qr_codes, registered
    from .registry import Http, Registry

    settings, credential = _given(options)
    shown = qr_codes() if options.qr else str  # it fails, if it does, before there is a key that nobody has
    registry = Registry(Http(settings.url, credential, tls_context(settings.ca_file)))
    private_key = generate_private_key()
    gateways = registry.gateways()
    if not gateways:
        raise LetheError("the registry lists no gateway; the operator has to run site.yml with some in the inventory")
    gateway = secrets.choice(gateways)  # the devices of a fleet are not to come to one of them
    print(shown(configuration(registered(registry, private_key), gateway, settings.tunnel)), end="")
    return 0


def _given(options: argparse.Namespace) -> tuple[Settings, str]:
    return _settings(options), _credential(options)


def _settings(options: argparse.Namespace) -> Settings:
    from .settings import SETTINGS, Settings

    return Settings.from_file(options.settings or SETTINGS)


def _credential(options: argparse.Namespace) -> str:
    from ..https import read_credential
    from .settings import CREDENTIAL

    return read_credential(options.credential_file or CREDENTIAL, "client")


def _document(options: argparse.Namespace) -> dict[str, Any]:
    from . import service

    return service.read_status(options.status_file or service.STATUS)


def _waited(
    options: argparse.Namespace, done: Callable[[dict[str, Any]], bool], otherwise: str, *remedy: str
) -> dict[str, Any]:
    """The status once it is so. Raises NotDone."""
    deadline = time.monotonic() + options.timeout
    while not done(document := _document(options)):
        if time.monotonic() > deadline:
            raise NotDone(otherwise, options.timeout, _sentence(document), *remedy)
        time.sleep(_POLL)
    return document


def _sentence(document: dict[str, Any]) -> str:
    told = {
        "registering": "it registers a key",
        "settled": "registered",
        "rotating": "it asks for another key",
        "waiting": "it waits until the gateways have the new key",
        "trying": "it tries the new key",
        "confirming": "it has a new key; the one before is about to be removed",
        "stopped": "stopped",
        "leaving": "it has the key removed everywhere",
        "left": "logged out",
    }[document["stage"]]
    parts = [told]
    if document["stage"] == "settled":
        parts.append(f"the key is changed in {max(0.0, document['due'] - time.time()) / 86_400:.1f} days")
    if document["gateway"]:
        parts.append(("connected through " if document["connected"] else "no answer yet from ") + document["gateway"])
    if document["problem"]:
        parts.append(f"but: {document['problem']}")
    return ", ".join(parts)
