# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``lethe agent`` commands."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wireguard.errors import InvalidValue, LetheError

if TYPE_CHECKING:
    from ..feed.signing import VerifyKeys
    from .settings import Settings

_POLL = 0.1  # seconds

# The imports inside functions keep the other `lethe` commands fast.


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``agent`` to the commands of ``lethe``."""
    actions = commands.add_parser(
        "agent",
        help="keep a gateway's peers as the registry says",
        description="The agent takes a signed snapshot of all peers from the registry, brings the kernel to it, and "
        "then applies every change as it comes. While the registry is away the peers stay as they are.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(actions)
    _add_status(actions)
    _add_wait(actions)
    _add_apply(actions)


def _add_run(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = actions.add_parser(
        "run",
        help="follow the registry, until SIGTERM",
        description="What lethe-key-sync.service runs. Says on standard error what happens, in numbers.",
    )
    _add_settings(run)
    run.add_argument(
        "--credential-file",
        type=Path,
        metavar="FILE",
        help="the gateway's credential (default: /etc/lethe/key-sync.credential)",
    )
    run.set_defaults(run=_run)


def _add_status(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    status = actions.add_parser(
        "status",
        help="show how the interfaces stand",
        description="Show how each interface stands. Exit status 1 if no agent runs.",
    )
    status.add_argument("--json", action="store_true", help="print it as JSON")
    _add_run_directory(status)
    status.set_defaults(run=_status)


def _add_wait(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    wait = actions.add_parser(
        "wait",
        help="wait until the kernel has a revision",
        description="Wait until every interface of the agent has a revision of the registry, or a later one.",
    )
    wait.add_argument("--revision", type=int, metavar="NUMBER", help="default: any, once it is connected")
    wait.add_argument("--epoch", metavar="EPOCH", help="the registry's epoch; a later one is waited for as well")
    wait.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)s")
    wait.add_argument("--json", action="store_true", help="print the status then as JSON")
    _add_run_directory(wait)
    wait.set_defaults(run=_wait)


def _add_apply(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    apply = actions.add_parser(
        "apply",
        help="apply a signed snapshot from a file, once",
        description="Verify a snapshot that the registry has signed, and bring the kernel to it: only what is lacking "
        "is sent. One that is older than what this host has had is refused. What is not given comes from the "
        "agent's settings, where there are some.",
    )
    apply.add_argument("file", type=Path, metavar="FILE", help="as GET /v1/feed/snapshot gives it")
    _add_settings(apply)
    apply.add_argument("--interface", action="append", metavar="NAME", help="like wg0; repeat it for more")
    apply.add_argument("--verify-key", action="append", metavar="KEY", help="the registry's; repeat it for a second")
    apply.add_argument("--leave-alone", action="append", metavar="PUBLIC_KEY", help="a peer that stays; repeat it")
    apply.add_argument("--shrink-limit", type=int, metavar="PERCENT", help="peers that may be removed (default: 50)")
    apply.add_argument("--state-directory", type=Path, metavar="DIRECTORY", help="default: /var/lib/lethe-key-sync")
    apply.add_argument("--check", action="store_true", help="change nothing, and print what would be done")
    apply.add_argument("--json", action="store_true", help="print it as JSON")
    apply.set_defaults(run=_apply)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="settings, JSON (default: /etc/lethe/key-sync.json)"
    )


def _add_run_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", type=Path, metavar="DIRECTORY", help="default: /run/lethe/key-sync")


def _run(options: argparse.Namespace) -> int:
    from ..https import read_credential, tls_context
    from . import service
    from .settings import CREDENTIAL, SETTINGS, Settings

    settings = Settings.from_file(options.settings or SETTINGS)
    credential = read_credential(options.credential_file or CREDENTIAL, "gateway")
    return service.run(settings, credential, tls_context(settings.ca_file))


def _status(options: argparse.Namespace) -> int:
    documents = _documents(options)
    if options.json:
        print(json.dumps(documents))
        return 0
    for document in documents:
        print(_sentence(document))
    return 0


def _documents(options: argparse.Namespace) -> list[dict[str, Any]]:
    from . import status

    return status.read(options.directory or status.DIRECTORY)


def _sentence(document: dict[str, Any]) -> str:
    oldest = "none" if document["oldest_endpoint"] is None else f"{document['oldest_endpoint']:.0f} s"
    parts = [f"{document['interface']}: {document['state']}"]
    if document["revision"] is not None:
        parts += [
            f"revision {document['revision']}",
            f"{document['peers']} peers",
            f"as things stood {document['lag']:.0f} s ago",
            f"{document['drift']} corrected",
            f"oldest endpoint {oldest}",
        ]
    if document["error"]:
        parts.append(f"for {document['away']:.0f} s: {document['error']}")
    return ", ".join(parts)


class _NotThere(LetheError):
    def __init__(self, documents: list[dict[str, Any]], options: argparse.Namespace) -> None:
        stand = "; ".join(_sentence(document) for document in documents)
        super().__init__(f"revision {options.revision} was not there after {options.timeout:g} s: {stand}")


def _wait(options: argparse.Namespace) -> int:
    deadline = time.monotonic() + options.timeout
    wanted = (options.epoch or "", options.revision or 0)
    while True:
        try:
            documents = _documents(options)
        except LetheError:
            if time.monotonic() >= deadline:
                raise
            documents = []
        if documents and all(_has_reached(document, wanted, options) for document in documents):
            print(json.dumps(documents) if options.json else "\n".join(map(_sentence, documents)))
            return 0
        if documents and time.monotonic() >= deadline:
            raise _NotThere(documents, options)
        time.sleep(_POLL)


def _has_reached(document: dict[str, Any], wanted: tuple[str, int], options: argparse.Namespace) -> bool:
    if document["revision"] is None or (options.revision is None and not document["connected"]):
        return False
    epoch, revision = wanted
    return bool((document["epoch"] if epoch else "", document["revision"]) >= (epoch, revision))


def _apply(options: argparse.Namespace) -> int:
    from ..wireguard.device import KernelDevice
    from ..wireguard.interface import check_name
    from ..wireguard.keys import PublicKey
    from . import memory
    from .applying import apply_snapshot

    settings = _settings_or_none(options)
    keys = _verify_keys(options, settings)
    names = options.interface or (settings.interfaces if settings else ())
    if not names:
        raise InvalidValue("--interface", "is missing, and there are no settings", "name the interface, like wg0")
    left_alone = frozenset(PublicKey.from_text(text, "--leave-alone") for text in options.leave_alone or ())
    if settings:
        left_alone |= settings.left_alone
    try:
        document = options.file.read_bytes()
    except OSError as error:
        raise InvalidValue(f"{options.file}", f"cannot be read: {error.strerror}", "give a snapshot's file") from None
    done = []
    for name in names:
        whole, plan = apply_snapshot(
            KernelDevice(check_name(name)),
            document,
            keys,
            left_alone=left_alone,
            shrink_limit=_shrink_limit(options, settings),
            state_directory=options.state_directory or memory.DIRECTORY,
            check=options.check,
        )
        epoch, revision = whole.position
        stands = {"interface": name, "epoch": epoch, "revision": revision, "peers": len(whole.peers)}
        done.append({**stands, **plan.counts(), "changed": plan.changed})
        if not options.json:
            counts = plan.counts()
            changes = ", ".join(f"{number} {what}" for what, number in counts.items() if what != "unchanged")
            print(f"{name}: revision {revision}, {len(whole.peers)} peers: {changes}")
    if options.json:
        print(json.dumps(done))
    return 0


def _settings_or_none(options: argparse.Namespace) -> Settings | None:
    from .settings import SETTINGS, Settings

    if options.settings is None and not SETTINGS.exists():
        return None
    return Settings.from_file(options.settings or SETTINGS)


def _verify_keys(options: argparse.Namespace, settings: Settings | None) -> VerifyKeys:
    from ..feed.signing import VerifyKeys

    if options.verify_key:
        return VerifyKeys.from_texts(options.verify_key, "--verify-key")
    if settings is None:
        raise InvalidValue("--verify-key", "is missing, and there are no settings", "give the registry's verify key")
    return settings.verify_keys


def _shrink_limit(options: argparse.Namespace, settings: Settings | None) -> int | None:
    from ..wireguard.plan import SHRINK_LIMIT

    if options.shrink_limit is not None:
        return int(options.shrink_limit)
    return settings.shrink_limit if settings else SHRINK_LIMIT
