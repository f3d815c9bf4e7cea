# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the registry's role can be tried without a host: its certificate, and the ranges it takes from gateways."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.lethe.wireguard.plugins.filter.tunnel_networks import tunnel_networks

SELF_SIGNED = Path(__file__).parents[2] / "roles/registry/files/self_signed.sh"


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
