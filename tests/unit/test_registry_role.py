# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the registry's role can be tried without a host: its certificate, the ranges it takes from gateways, and the
list of gateways that it gives to clients.
"""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible.errors import AnsibleFilterError
from ansible.plugins.filter.core import FilterModule
from made_up import key

from ansible_collections.lethe.wireguard.plugins.filter.tunnel_networks import tunnel_networks

ROLE = Path(__file__).parents[2] / "roles/registry"
SELF_SIGNED = ROLE / "files/self_signed.sh"


class TestSelfSigned:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        return tmp_path / "registry.crt", tmp_path / "registry.key"

    @staticmethod
    def made(pair: tuple[Path, Path], *names: str) -> bool:
        """Run the script; returns whether it made a new certificate."""
        done = subprocess.run(
            ["/bin/sh", "-c", SELF_SIGNED.read_text(), "self_signed", *pair, *names],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return bool(done.stdout)

    def test_is_made_once_for_the_same_names(self, pair: tuple[Path, Path]) -> None:
        assert self.made(pair, "registry.example", "192.0.2.1")
        assert not self.made(pair, "registry.example", "192.0.2.1")
        assert self.made(pair, "registry.example", "192.0.2.2")

    def test_its_key_is_for_root_alone(self, pair: tuple[Path, Path]) -> None:
        self.made(pair, "registry.example")
        assert [path.stat().st_mode & 0o777 for path in pair] == [0o644, 0o600]
        assert sorted(pair) == sorted(pair[0].parent.iterdir())

    @pytest.mark.parametrize("name", ["registry.example", "192.0.2.1", "2001:db8::1", "localhost", "127.0.0.1"])
    def test_whoever_has_it_trusts_the_registry_by_each_of_its_names(self, pair: tuple[Path, Path], name: str) -> None:
        self.made(pair, "registry.example", "192.0.2.1", "2001:db8::1")
        self.handshake(pair, name)

    def test_nobody_trusts_it_by_another_name(self, pair: tuple[Path, Path]) -> None:
        self.made(pair, "registry.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            self.handshake(pair, "other.example")

    @staticmethod
    def handshake(pair: tuple[Path, Path], name: str) -> None:
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(*pair)
        asking = ssl.create_default_context(cafile=pair[0])
        asking.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        ours, theirs = socket.socketpair()

        def serve() -> None:
            try:
                serving.wrap_socket(theirs, server_side=True).close()
            except OSError:
                theirs.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            asking.wrap_socket(ours, server_hostname=name).close()
        finally:
            ours.close()
            thread.join()


class TestTunnelNetworks:
    ADDRESSES = ("10.64.0.1/10", "fd00:6c65:7468::1/48", "10.64.0.2/10", "fd00:6c65:7468::2/48")

    def test_of_several_gateways_in_one_network_is_that(self) -> None:
        assert tunnel_networks(self.ADDRESSES) == ["10.64.0.0/10", "fd00:6c65:7468::/48"]

    def test_can_be_of_one_version(self) -> None:
        assert tunnel_networks(self.ADDRESSES, 4) == ["10.64.0.0/10"]
        assert tunnel_networks(self.ADDRESSES, 6) == ["fd00:6c65:7468::/48"]
        assert tunnel_networks([], 4) == []

    def test_what_is_no_address_is_named(self) -> None:
        with pytest.raises(AnsibleFilterError, match="'gateway' does not appear to be"):
            tunnel_networks(["gateway"])


class TestListOfGateways:
    NOW = datetime.datetime.fromtimestamp(1_700_000_000)  # as Ansible's now() gives it

    def listed(
        self, looked: dict[str, dict[str, Any] | None], before: list[dict[str, Any]], now: datetime.datetime = NOW
    ) -> list[dict[str, Any]]:
        """What clients are told, after a look at some gateways' interfaces; None: one that could not be reached."""
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        filters = FilterModule().filters()
        environment.filters.update({name: filters[name] for name in ("combine", "to_nice_json")})
        template = environment.from_string((ROLE / "templates/gateways.json.j2").read_text())
        results = [{"item": name, **({"interface": found} if found else {})} for name, found in looked.items()]
        return json.loads(
            template.render(
                groups={"gateways": ["gateway1", "gateway2"]},
                hostvars={"gateway1": {}, "gateway2": {"gateway_endpoint": "[2001:db8::2]:443"}},
                now=lambda: now,
                __registry_listed_before=before,
                __registry_gateway_interfaces={"results": results},
            )
        )["gateways"]

    @staticmethod
    def interface(public_key: str, next_public_key: str | None = None) -> dict[str, Any]:
        return {
            "name": "wg0",
            "public_key": public_key,
            "next_public_key": next_public_key,
            "addresses": ["10.64.0.1/10"],
        }

    def test_has_each_with_its_endpoint(self) -> None:
        both = self.listed({"gateway1": self.interface(key(1)), "gateway2": self.interface(key(2))}, [])
        assert [(each["name"], each["public_key"], each["endpoint"]) for each in both] == [
            ("gateway1", key(1), "gateway1:51820"),
            ("gateway2", key(2), "[2001:db8::2]:443"),
        ]
        assert not any("next_public_key" in each for each in both)

    def test_keeps_what_was_not_looked_at_or_could_not_be_reached(self) -> None:
        before = self.listed({"gateway1": self.interface(key(1), key(11)), "gateway2": self.interface(key(2))}, [])
        assert self.listed({"gateway2": None}, before) == before
        changed = self.listed({"gateway2": self.interface(key(22))}, before)
        assert [each["public_key"] for each in changed] == [key(1), key(22)]
        assert changed[0] == before[0]
        assert self.listed({"gateway1": None, "gateway2": None}, []) == []

    def test_has_a_next_key_since_when_clients_were_first_told_of_it(self) -> None:
        later = self.NOW + datetime.timedelta(hours=1)
        first = self.listed({"gateway1": self.interface(key(1), key(11))}, [])
        assert first[0]["next_public_key"] == key(11)
        assert first[0]["next_public_key_since"] == 1_700_000_000
        assert self.listed({"gateway1": self.interface(key(1), key(11))}, first, later) == first
        (other,) = self.listed({"gateway1": self.interface(key(1), key(12))}, first, later)
        assert other["next_public_key_since"] == 1_700_003_600
        (used,) = self.listed({"gateway1": self.interface(key(11))}, first, later)
        assert used["public_key"] == key(11)
        assert not {"next_public_key", "next_public_key_since"} & used.keys()
