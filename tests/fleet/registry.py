# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's registry: the operator's playbooks, and a client that asks its API over the network."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import Client
from .fleet import Recap, recap_of, start_playbook
from .gateway import Gateway
from .hosts import RUN, Host

ALL_AT_ONCE = ("--extra-vars", '{"site_serial": ["100%"]}')
CERTIFICATE = "/etc/lethe/registry.crt"
PORT = 8443
FEED_PORT = 8444
METRICS_PORT = 8445

# Arguments: the certificate's file, the method, the path, the token, the body.
_ASK = """
import json, ssl, sys, urllib.request
certificate, method, path, token, body = sys.argv[1:]
request = urllib.request.Request("https://%s:%d" + path, method=method, data=body.encode() or None)
request.add_header("Authorization", "Bearer " + token)
request.add_header("Content-Type", "application/json")
context = ssl.create_default_context(cafile=certificate)
try:
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        print(json.dumps([answer.status, json.load(answer)]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, json.load(error)]))
"""


@dataclass(frozen=True)
class Registry:
    """The host that site.yml made a registry."""

    host: Host

    def status(self) -> dict[str, Any]:
        """What the database has. A process that opens it takes half a minute to start, under emulation."""
        return dict(json.loads(self.host.run("lethe-registry status --json")))

    def register(self, client: Client, token: str, public_key: str) -> None:
        """Register another key of the client's account, as the client would."""
        assert self.ask(client, "POST", "/v1/registrations", token, public_key=public_key)[0] == 201

    def delete(self, client: Client, token: str, public_key: str) -> None:
        """Delete a key of the client's account, as the client would."""
        assert self.ask(client, "POST", "/v1/registrations/delete", token, public_key=public_key)[0] == 200

    def wait_for(self, gateways: Iterable[Gateway], *, seconds: int = 120) -> None:
        """Wait until the gateways have applied every change that was answered. Raises CommandFailed."""
        stand = self._stand()
        while stand["waiting_changes"]:  # on PostgreSQL a change gets its revision a moment after its answer
            time.sleep(1)
            stand = self._stand()
        position = f"--epoch {stand['epoch']} --revision {stand['revision']}"
        for gateway in gateways:
            gateway.host.run(f"lethe agent wait {position} --timeout {seconds} >/dev/null", seconds=seconds + 60)

    def _stand(self) -> dict[str, Any]:
        token = (RUN / "operator.token").read_text().strip()
        status, stand = self._ask_from(self.host, CERTIFICATE, "GET", "/v1/status", token)
        assert status == 200
        return stand

    def ask(self, client: Client, method: str, path: str, token: str, **body: object) -> tuple[int, dict[str, Any]]:
        """A request to the API from a client's machine, over the network and by the registry's name."""
        certificate = self.host.run(f"cat {CERTIFICATE}")
        client.host.run(f"printf '%s\\n' {shlex.quote(certificate)} >/run/registry.crt")
        return self._ask_from(client.host, "/run/registry.crt", method, path, token, json.dumps(body) if body else "")

    def _ask_from(
        self, host: Host, certificate: str, method: str, path: str, token: str, body: str = ""
    ) -> tuple[int, dict[str, Any]]:
        arguments = shlex.join([_ASK % (self.host.name, PORT), certificate, method, path, token, body])
        status, document = json.loads(host.run(f"python3 -c {arguments}"))
        return status, document


def play(playbook: str, *arguments: str, **variables: str | Path) -> Recap:
    """Run a playbook as an operator would. Raises CommandFailed."""
    given = [word for name, value in variables.items() for word in ("--extra-vars", f"{name}={value}")]
    with start_playbook(*arguments, *given, playbook=playbook) as run:
        return recap_of(run)


def register(directory: Path, public_key: str, name: str, account: str) -> tuple[Recap, dict[str, Any]]:
    """Register a client's key as an operator would; the files that the playbook leaves are in ``directory``. Returns
    also what the client is given.
    """
    addresses = directory / f"{name}.json"
    recap = play(
        "register",
        account=account,
        public_key=public_key,
        client_token_file=directory / f"{account}.token",
        addresses_file=addresses,
    )
    return recap, json.loads(addresses.read_text())


def roll_out_agents(**variables: str) -> Recap:
    """Make the gateways follow the registry."""
    return play("site", *ALL_AT_ONCE, "--limit", "gateways", "--tags", "key_sync", **variables)


def take(client: Client, registration: dict[str, Any]) -> None:
    """Give a client's interface what the registry gave it."""
    name, (ipv4, ipv6) = client.name, registration["allowed_ips"]
    client.host.run(f"""set -e
        ip -n {name} address flush dev {name}
        ip -n {name} address add {ipv4} dev {name}
        ip -n {name} address add {ipv6} dev {name} nodad
        ip -n {name} route replace default dev {name}
        ip -n {name} -6 route replace default dev {name}
        umask 077
        echo {registration["preshared_key"]} >/run/{name}.psk
    """)


@contextmanager
def cut_off(gateway: Gateway, *directions: str) -> Iterator[None]:
    """Without the feed's packets to the gateway (``input``), and those from the gateway to it (``output``)."""
    ports = {"input": "sport", "output": "dport"}
    rules = " ".join(
        f"chain {direction} {{ type filter hook {direction} priority -300; tcp {ports[direction]} {FEED_PORT} drop; }};"
        for direction in directions
    )
    gateway.host.run(f"nft 'table inet cut {{ {rules} }}'")
    try:
        yield
    finally:
        gateway.host.run("nft delete table inet cut")


@contextmanager
def clock_set(gateway: Gateway, days: int) -> Iterator[None]:
    """With the gateway's clock that many days ahead (or behind)."""
    gateway.host.run(f"date --set=@$(($(date +%s) + {days * 86400}))")
    try:
        yield
    finally:
        gateway.host.run(f"date --set=@$(($(date +%s) - {days * 86400}))")


def allowed_ips(gateway: Gateway, public_key: str) -> list[str]:
    """What the kernel has of a peer."""
    listed = gateway.host.run("wg show wg0 allowed-ips").splitlines()
    return next((sorted(line.split()[1:]) for line in listed if line.startswith(public_key)), [])
