# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies for WireGuard's values.

Two kinds: any value at all, for codecs; and peers out of a small world of keys and networks, so that two fleets
drawn from it overlap, move addresses and swap them.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.addresses import (
    AllowedIP,
    AllowedIPs,
    Endpoint,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.peers import Peer, PeerState

_32_BYTES = st.binary(min_size=32, max_size=32)

public_keys = _32_BYTES.map(PublicKey)
preshared_keys = st.one_of(st.just(NO_PRESHARED_KEY), _32_BYTES.map(PresharedKey))
keepalives = st.integers(0, 65535)
ports = st.integers(1, 65535)


def _network(address: bytes, prefix: int) -> AllowedIP:
    network = ip_network((address, prefix), strict=False)
    return AllowedIP(network.network_address.packed, prefix)


networks = st.one_of(
    st.builds(_network, st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.builds(_network, st.binary(min_size=16, max_size=16), st.integers(0, 128)),
)
allowed_ips = st.lists(networks, max_size=6, unique=True).map(AllowedIPs.of)


def _endpoint_text(address: bytes, port: int) -> str:
    host = ip_address(address)
    return f"{host}:{port}" if host.version == 4 else f"[{host}]:{port}"


endpoint_texts = st.builds(
    _endpoint_text, st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), ports
)
endpoints = endpoint_texts.map(Endpoint.from_text)

peers = st.builds(Peer, public_keys, preshared_keys, keepalives, allowed_ips, st.none() | endpoints)

handshakes = st.just(0) | st.integers(1, 2**62)
counters = st.integers(0, 2**64 - 1)
peer_states = st.builds(
    PeerState,
    public_keys,
    preshared_keys,
    keepalives,
    allowed_ips,
    st.none() | endpoints,
    handshakes,
    counters,
    counters,
)
dumps = st.lists(peer_states, max_size=6, unique_by=lambda state: state.public_key)

# Many peers of few shapes, as a fleet's are: rows of those that are alike, broken by others.
_single_ips = st.tuples(
    st.binary(min_size=4, max_size=4).map(lambda address: AllowedIP(address, 32)),
    st.binary(min_size=16, max_size=16).map(lambda address: AllowedIP(address, 128)),
)
_fleet_peers = st.builds(
    PeerState,
    public_keys,
    preshared_keys,
    st.sampled_from([0, 0, 0, 25]),
    _single_ips.flatmap(lambda ips: st.sampled_from([ips, ips, ips, ips, ips[:1], ips[::-1]])).map(AllowedIPs.of),
    st.sampled_from([None] * 9 + [Endpoint.from_text("198.18.0.1:5")]),
    st.sampled_from([0, 0, 0, 1_700_000_000_000_000_007]),
    st.sampled_from([0, 2**64 - 1]),
    st.sampled_from([0, 148]),
)
fleet_dumps = st.lists(_fleet_peers, max_size=40, unique_by=lambda state: state.public_key)

# --- a small world ------------------------------------------------------------------------------------

WORLD_KEYS = [PublicKey(sha256(bytes([n])).digest()) for n in range(7)]
# Nested and separate, of both families.
WORLD_NETWORKS = [
    AllowedIP.from_text(text)
    for text in (
        "0.0.0.0/0", "10.0.0.0/8", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "192.0.2.0/24",
        "::/0", "fd00::/64", "fd00::1/128", "fd00::2/128",
    )
]  # fmt: skip
_world_preshared_keys = st.sampled_from([NO_PRESHARED_KEY, PresharedKey(b"1" * 32), PresharedKey(b"2" * 32)])
_world_endpoints = st.sampled_from([None, *map(Endpoint.from_text, ("192.0.2.1:1", "[2001:db8::1]:2"))])


@st.composite
def fleets(draw: st.DrawFn) -> dict[PublicKey, Peer]:
    """Peers no two of which have the same allowed IP."""
    keys = draw(st.lists(st.sampled_from(WORLD_KEYS), unique=True))
    shares: dict[PublicKey, list[AllowedIP]] = {key: [] for key in keys}
    if keys:
        for network in draw(st.permutations(WORLD_NETWORKS)):
            owner = draw(st.sampled_from([None, *keys]))
            if owner is not None:
                shares[owner].append(network)
    return {
        key: Peer(
            key,
            draw(_world_preshared_keys),
            draw(st.sampled_from([0, 25])),
            AllowedIPs.of(share),
            draw(_world_endpoints),
        )
        for key, share in shares.items()
    }
