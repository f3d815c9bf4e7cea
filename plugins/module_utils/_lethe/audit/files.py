# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: files that people or other tools leave, with keys or with addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .finding import Leak, Severity, check
from .host import Host
from .logs import named_in
from .peers import addresses

_WIREGUARD = "/etc/wireguard"
_SAVES = re.compile(r"^\s*SaveConfig\s*=\s*true\s*(?:#.*)?$", re.IGNORECASE | re.MULTILINE)
_ENDPOINT = re.compile(r"^\s*Endpoint\s*=", re.IGNORECASE | re.MULTILINE)

_HOMES = ("/root",)
_MANY_HOMES = ("/home",)
_HISTORIES = (
    ".bash_history",
    ".sh_history",
    ".ash_history",
    ".zsh_history",
    ".zhistory",
    ".histfile",
    ".python_history",
    ".lesshst",
    ".viminfo",
    ".local/share/fish/fish_history",
    ".config/fish/fish_history",
)
_KEY = re.compile(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=(?![A-Za-z0-9+/=])")
_LOOKS_AT_PEERS = re.compile(rb"\b(?:wg|tcpdump|tshark|conntrack|wireguard)\b")

_SECRETS = (
    ("/etc/lethe", ("*.key", "*.key.next", "*.credential", "*.secrets")),
    (_WIREGUARD, ("*",)),
)


@check("wg-quick", Severity.HIGH, "no configuration of wg-quick has or saves addresses of peers")
def wg_quick(host: Host) -> Iterator[Leak]:
    texts = [host.text(path) or "" for path in host.files(_WIREGUARD, "*.conf")]
    saving = sum(1 for text in texts if _SAVES.search(text))
    naming = sum(len(_ENDPOINT.findall(text)) for text in texts)
    if saving:
        yield Leak(
            "wg-quick writes the addresses of all peers to the disk when it stops",
            f"SaveConfig in {saving} files in {_WIREGUARD}",
            "remove SaveConfig and every Endpoint, or the file; the role gateway needs none",
        )
    if naming:
        yield Leak(
            "addresses of peers are on the disk",
            f"{naming} times Endpoint in {_WIREGUARD}/*.conf",
            "remove them; for a peer with a fixed address (another site) accept this finding",
        )


@check("wireguard-files", Severity.LOW, "nothing else is in /etc/wireguard")
def wireguard_files(host: Host) -> Iterator[Leak]:
    count = sum(1 for _path in host.all_files(_WIREGUARD))
    if count:
        yield Leak(
            "there are files of another way to run WireGuard; they may have keys and peers",
            f"{count} files in {_WIREGUARD}",
            f"look at them, and remove what is not needed: ls -lR {_WIREGUARD}",
        )


@check("shell-history", Severity.MEDIUM, "no history of commands names a peer")
def shell_history(host: Host) -> Iterator[Leak]:
    present = addresses(host)
    lines = files = 0
    for path in _histories(host):
        found = sum(1 for line in (host.content(path) or b"").splitlines() if _names_a_peer(line, present))
        lines += found
        files += found > 0
    if lines:
        yield Leak(
            "what was typed names peers: an address, or a key",
            f"{lines} lines in {files} histories below /root and /home",
            "remove the lines, or the files (~/.bash_history and its like); 'set +o history' before such commands",
        )


def _histories(host: Host) -> Iterator[Path]:
    homes = [host.path(name) for name in _HOMES]
    for parent in _MANY_HOMES:
        homes += host.files(parent, "*")
    return (path for home in homes for name in _HISTORIES if (path := home / name).is_file())


def _names_a_peer(line: bytes, present: frozenset[bytes]) -> bool:
    named = list(named_in(line))
    return bool(_KEY.search(line) or any(each in present for each in named) or (named and _LOOKS_AT_PEERS.search(line)))


@check("readable-keys", Severity.HIGH, "private keys and credentials are for their owner alone")
def readable_keys(host: Host) -> Iterator[Leak]:
    for directory, patterns in _SECRETS:
        modes = [path.stat().st_mode for path in host.files(directory, *patterns) if path.is_file()]
        count = sum(1 for mode in modes if mode & 0o077)
        if count:
            yield Leak(
                "others than the owner can read private keys, or what gives access to them",
                f"{count} files in {directory}",
                f"chmod 600 {' '.join(f'{directory}/{pattern}' for pattern in patterns)}; change the keys if somebody "
                "may have read them (rotate_gateway_keys.yml)",
            )
