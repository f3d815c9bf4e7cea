# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job, told: a fleet is rolled out and registers clients, forgets a silent one, and shuts another one out."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time

from .client import Client
from .fleet import BOUND, PEERS_FILE, Fleet, recap_of, start_playbook
from .gateway import INTERFACE, Gateway
from .hosts import CHECKOUT, LAB, RUN, CommandFailed, lab_hosts
from .registry import Registry, play, register, take
from .rotating import RotatingClient
from .stage import Stage

MACHINES = ("gateway1", "gateway2", "client1", "registry1")

LOG = CHECKOUT / ".cache/demo.log"


class Surprise(Exception):
    """Something was not as the demo promises."""


def main() -> int:
    try:
        tell(Stage())
    except (Surprise, CommandFailed) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The machines still run; end them with: tests/lab/lab down", file=sys.stderr)
        return 130
    return 0


def tell(stage: Stage) -> None:
    stage.chapter(
        "1. Four machines with Debian and its kernel's WireGuard: two gateways, a registry, and one for clients"
    )
    start_lab(stage)
    fleet = Fleet.in_lab()

    stage.chapter("2. One command makes the fleet")
    roll_out(stage)

    stage.chapter("3. alice and bob register their keys, and are given random addresses")
    register_clients(stage, fleet)

    stage.chapter("4. They connect through each gateway")
    connect(stage, fleet)

    stage.chapter("5. bob is shut out")
    shut_out(stage, fleet)

    stage.chapter("6. alice falls silent, without goodbye, and is forgotten")
    forget(stage, fleet)

    stage.chapter("7. alice speaks again, and nobody had to help her tunnel")
    for gateway in fleet.gateways:
        stage.live("alice speaks")
        stage.done(f"alice through {gateway.name}", f"ping {through(fleet.alice, gateway):.1f} ms")

    stage.chapter("8. A client of its own changes its key and its addresses while it speaks")
    change_key(stage, fleet)

    stage.chapter("The fleet is still running. Look around:")
    stage.command("tests/lab/lab ssh gateway1")
    stage.command(f"tests/lab/lab ssh gateway1 wg show {INTERFACE}")
    stage.command("tests/lab/lab ssh gateway2 lethe purge --status")
    stage.command("tests/lab/lab ssh registry1 lethe-registry status")
    stage.command("ansible-playbook -i inventories/lab lethe.wireguard.status")
    stage.command("tests/lab/lab ssh client1 lethe client status")
    stage.command(f"tests/lab/lab ssh client1 ip netns exec alice ping {fleet.gateways[1].tunnel_ipv4}")
    stage.tell("and stop it with")
    stage.command("tests/lab/lab down")


def start_lab(stage: Stage) -> None:
    begin = time.monotonic()
    said = []
    with subprocess.Popen([LAB, "up", *MACHINES], stderr=subprocess.PIPE, text=True) as lab:
        assert lab.stderr is not None
        for line in lab.stderr:
            said.append(line)
            stage.live(line.rpartition("] ")[2].strip())
    if lab.returncode != 0:
        raise Surprise("the lab did not start:\n" + "".join(said[-20:]))
    stage.done(f"{', '.join(MACHINES)} are up", f"{time.monotonic() - begin:.0f} s")


def roll_out(stage: Stage) -> None:
    stage.command("ansible-playbook -i inventories/lab lethe.wireguard.site")
    PEERS_FILE.unlink(missing_ok=True)  # of a test: here the registry says who the peers are
    begin = time.monotonic()

    def watch(line: str) -> None:
        kind, _, name = line.partition(" [")
        if kind in ("TASK", "RUNNING HANDLER"):
            stage.live(name.partition("]")[0])

    recap = recap_of(start_playbook("--extra-vars", '{"site_serial": ["100%"]}'), watch)
    LOG.write_text(recap.output, encoding="utf-8")
    for name, counts in recap.hosts.items():
        what = "the registry" if name.startswith("registry") else "a gateway"
        stage.done(f"{name} is {what}", f"{counts['ok']} tasks, {counts['changed']} changed something")
    stage.tell(f"in {time.monotonic() - begin:.0f} s; what Ansible said is in {LOG.relative_to(CHECKOUT)}")


def register_clients(stage: Stage, fleet: Fleet) -> None:
    stage.command("ansible-playbook -i inventories/lab lethe.wireguard.register -e account=ACCOUNT -e public_key=KEY")
    clients = (fleet.alice, fleet.bob)
    for client in clients:
        stage.live(f"{client.name} makes a key")
        client.create()
        account = f"customer-{secrets.randbelow(90_000) + 10_000}"
        stage.live(f"{client.name} is registered")
        _, given = register(RUN, client.public_key, client.name, account)
        take(client, given)
        ipv4, ipv6 = (address.partition("/")[0] for address in given["allowed_ips"])
        stage.done(f"{client.name} of {account}", f"{ipv4}, {ipv6}")
    stage.tell("their private keys stay with them; of whose the keys are the registry keeps a keyed hash")
    for gateway in fleet.gateways:
        missing = {client.public_key for client in clients} - set(gateway.peers())
        if missing:
            raise Surprise(f"{gateway.name} lacks {len(missing)} of the peers that are registered")
        stage.done(f"{gateway.name} has its peers from the registry", f"{len(clients)}")


def connect(stage: Stage, fleet: Fleet) -> None:
    for client in (fleet.bob, fleet.alice):
        client.connect(fleet.gateways)
        for gateway in fleet.gateways:
            stage.live(f"{client.name} connects to {gateway.name}")
            milliseconds = through(client, gateway)
            stage.done(f"{client.name} through {gateway.name}", f"handshake done, ping {milliseconds:.1f} ms")
    for gateway in fleet.gateways:
        stage.tell(f"{gateway.name} now knows where alice is: {gateway.endpoint(fleet.alice.public_key)}")


def shut_out(stage: Stage, fleet: Fleet) -> None:
    stage.command("ansible-playbook -i inventories/lab lethe.wireguard.revoke -e public_key=KEY")
    stage.live("bob's key is revoked")
    play("revoke", public_key=fleet.bob.public_key)
    for gateway in fleet.gateways:
        if fleet.bob.public_key in gateway.peers():
            raise Surprise(f"bob's key is still on {gateway.name}")
        stage.live(f"bob tries {gateway.name}")
        if fleet.bob.ping(gateway.tunnel_ipv4) is not None:
            raise Surprise(f"bob still gets through {gateway.name}")
        stage.done(f"bob through {gateway.name}", "no answer")
    for gateway in fleet.gateways:
        stage.done(f"alice through {gateway.name}", f"undisturbed, ping {through(fleet.alice, gateway):.1f} ms")


def forget(stage: Stage, fleet: Fleet) -> None:
    key = fleet.alice.public_key
    begin = time.monotonic()
    age = max(age for gateway in fleet.gateways if (age := gateway.handshake_age(key)) is not None)
    stage.tell(f"WireGuard itself would keep her address for ever; here {BOUND} s after her last handshake it is gone")
    waiting = list(fleet.gateways)
    while waiting:
        for gateway in tuple(waiting):
            if gateway.endpoint(key) is None:
                waiting.remove(gateway)
                elapsed = age + time.monotonic() - begin
                stage.done(f"{gateway.name} has forgotten alice", f"{elapsed:.0f} s after the handshake")
                if gateway.tracked(fleet.alice.host.wan_ipv4):
                    raise Surprise(f"{gateway.name} tracks connections from {fleet.alice.host.wan_ipv4}")
        elapsed = age + time.monotonic() - begin
        if elapsed > BOUND + 60:
            raise Surprise(f"{elapsed:.0f} s after her last handshake alice is not forgotten by {waiting[0].name}")
        stage.live(f"silence for {elapsed:.0f} s; forgotten within {max(0.0, BOUND - elapsed):.0f} s")
        time.sleep(0.5)
    stage.done("connection tracking on the gateways", "has never known her")
    stage.command("tests/lab/lab ssh gateway1 lethe purge --status")
    stage.tell(fleet.gateways[0].last_purge())


def change_key(stage: Stage, fleet: Fleet) -> None:
    client = RotatingClient(fleet.alice.host)
    stage.command(f"ansible-playbook -i inventories/lab -i CLIENTS lethe.wireguard.site --limit {client.host.name}")
    stage.live("the client is rolled out")
    client.roll_out()
    registry = Registry(lab_hosts()["registries"][0])
    registered = registry.status()["registrations"]
    key, addresses = client.public_key, client.addresses
    gateway = client.gateway(fleet.gateways)
    stage.done(
        f"{client.host.name} is connected to {gateway.name}", ", ".join(each.split("/")[0] for each in addresses)
    )
    stage.tell("it would change its key within a week, at a moment drawn at random; now somebody asks for it")
    stage.command("lethe client rotate")
    stage.live(f"pings go through {gateway.name} while the key changes")
    with client.traffic(gateway.tunnel_ipv4) as seen:
        client.rotate()
        time.sleep(3)
    given = client.addresses
    if client.public_key == key or set(given) & set(addresses):
        raise Surprise("the key or an address is the same")
    stage.done(f"{client.host.name} has other addresses", bare(given))
    stage.done("lost meanwhile", f"{seen.lost} of {seen.sent} pings; silent for {seen.longest_silence:.1f} s at most")
    registry.wait_for(fleet.gateways)
    for each in fleet.gateways:
        if key in each.peers():
            raise Surprise(f"{each.name} still has the key")
        stage.done(f"{each.name} has the new key", "and not the one before")
    if registry.status()["registrations"] != registered:
        raise Surprise("the registry has another number of keys than before")
    stage.done("registrations, as many as before", f"{registered}")


def bare(addresses: list[str]) -> str:
    """Without the lengths of their networks."""
    return ", ".join(address.partition("/")[0] for address in addresses)


def through(client: Client, gateway: Gateway) -> float:
    """The ms of a ping through a gateway. Raises Surprise without an answer."""
    answered = client.reach(gateway.tunnel_ipv4)
    if answered is None:
        raise Surprise(f"{client.name} gets no answer through {gateway.name}")
    return answered


if __name__ == "__main__":
    sys.exit(main())
