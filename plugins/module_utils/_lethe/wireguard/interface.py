# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface itself: create, configure, remove. Links and addresses are changed through pyroute2, and only
looked at without it; WireGuard's own settings go through a device.

What is already as wanted is not touched: sending a private key or recreating a link would cost sessions.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from .device import KernelDevice
from .errors import (
    InterfaceNotFound,
    InvalidValue,
    KernelRefused,
    KernelWithoutWireGuard,
    MissingLibrary,
    NotWireGuard,
    PermissionMissing,
    RouteTaken,
)
from .keys import PrivateKey, PublicKey
from .links import Address, Link, read_link

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_NAME_LENGTH = 15  # IFNAMSIZ - 1, linux/if.h
_NOT_IN_NAMES = "/:%"
_SMALLEST_MTU = 1280  # RFC 8200, section 5: below it the kernel switches IPv6 off
_FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH: say which route it is, not how it ends; linux/rtnetlink.h
_MAIN = 254  # RT_TABLE_MAIN, linux/rtnetlink.h
_LARGEST_MTU = 65456  # MAX_MTU less headers, wg_setup() in drivers/net/wireguard/device.c


@dataclass(frozen=True, slots=True)
class InterfaceOptions:
    """What an interface should be; None: as it is, or the kernel's default for a new one."""

    name: str
    up: bool = True
    private_key: PrivateKey | None = None
    listen_port: int | None = None  # 0: a random one
    fwmark: int | None = None  # 0: none
    mtu: int | None = None  # bytes
    addresses: tuple[Address, ...] | None = None  # all that it should have

    def __post_init__(self) -> None:
        """Raises InvalidValue."""
        check_name(self.name)
        for field_name, value, least, most in (
            ("listen_port", self.listen_port, 0, 0xFFFF),
            ("fwmark", self.fwmark, 0, 0xFFFFFFFF),
            ("mtu", self.mtu, _SMALLEST_MTU, _LARGEST_MTU),
        ):
            if value is not None and not least <= value <= most:
                raise InvalidValue(field_name, f"is {value}", f"give a number from {least} to {most}")


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """What an interface is."""

    name: str
    up: bool
    public_key: PublicKey | None  # None: it has no private key
    listen_port: int
    fwmark: int
    mtu: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class InterfaceChange:
    """What was, or with check would be, done."""

    before: InterfaceState | None  # None: there was no such interface
    after: InterfaceState | None  # None: there is none any more
    steps: list[str] = field(default_factory=list)  # names of what differs: "created", "mtu", ...

    @property
    def changed(self) -> bool:
        return bool(self.steps)


def check_name(name: str) -> str:
    """Raises InvalidValue if the kernel would not take it as the name of an interface (dev_valid_name(),
    net/core/dev.c) or would take it for a pattern of one ("wg%d").
    """
    plain = name.isprintable() and not any(character in _NOT_IN_NAMES or character.isspace() for character in name)
    if not plain or name in (".", "..") or not 0 < len(name.encode()) <= _NAME_LENGTH:
        raise InvalidValue(
            "name",
            "is no name for an interface",
            f"give 1 to {_NAME_LENGTH} characters without '/', ':', '%' and spaces, like wg0",
        )
    return name


def address_from_text(text: Any, field_name: str = "addresses") -> Address:
    """Parse ``10.0.0.1/8``. Raises InvalidValue."""
    with contextlib.suppress(ValueError):
        if isinstance(text, str) and "%" not in text:
            return ip_interface(text)
    raise InvalidValue(field_name, "is not an address with a prefix", 'write it like "10.0.0.1/8" or "fd00::1/48"')


def read_interface(name: str) -> InterfaceState | None:
    """The interface as it is, or None if there is none. Raises NotWireGuard and the errors of the kernel."""
    link = _wireguard_link(name)
    if link is None:
        return None
    settings = KernelDevice(name).settings()
    return InterfaceState(
        name=name,
        up=link.up,
        public_key=settings.public_key,
        listen_port=settings.listen_port,
        fwmark=settings.fwmark,
        mtu=link.mtu,
        addresses=link.addresses,
    )


def ensure_interface(options: InterfaceOptions, *, check: bool = False) -> InterfaceChange:
    """Make the interface be as ``options`` say; with ``check``, only say what would be done."""
    before = read_interface(options.name)
    after = _planned(before, options)
    steps = [] if before else ["created"]
    old = before or _new(options.name)
    for step, differs in (
        ("private_key", after.public_key != old.public_key),
        ("listen_port", after.listen_port != old.listen_port),
        ("fwmark", after.fwmark != old.fwmark),
        ("mtu", after.mtu != old.mtu),
        ("addresses", set(after.addresses) != set(old.addresses)),
        ("up" if after.up else "down", after.up != old.up),
    ):
        if differs:
            steps.append(step)
    if check or not steps:
        return InterfaceChange(before, after, steps)
    with _links(options.name) as links:
        if before is None:
            links.link("add", ifname=options.name, kind="wireguard")
        index = _index(options.name)
        KernelDevice(options.name).configure(
            private_key=options.private_key if "private_key" in steps else None,
            listen_port=options.listen_port if "listen_port" in steps else None,
            fwmark=options.fwmark if "fwmark" in steps else None,
        )
        if "mtu" in steps:
            links.link("set", index=index, mtu=options.mtu)
        if "down" in steps:
            links.link("set", index=index, state="down")
        # After "down", with which the kernel drops IPv6 addresses; read again, not trusted to be what was planned.
        if options.addresses is not None:
            _set_addresses(links, options.name, after.addresses)
        if "up" in steps:
            links.link("set", index=index, state="up")
    return InterfaceChange(before, read_interface(options.name), steps)


def exchange_addresses(name: str, wanted: tuple[Address, ...], between: Callable[[], None]) -> None:
    """Add the addresses that are missing, do what is to be done when both are there, and remove the others at once:
    what is sent in between may have the wrong one.
    """
    with _links(name) as links:
        index = _index(name)
        before = _addresses(name)
        _add_addresses(links, index, [address for address in wanted if address not in before])
        between()
        for address in before:
            if address not in wanted:
                links.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        _set_addresses(links, name, wanted)


def ensure_routes(name: str, networks: Sequence[str]) -> None:
    """Make each network's packets go through the interface. Raises RouteTaken at the first one that already goes
    through another: other routes are left alone.
    """
    with _links(name) as links:
        index = _index(name)
        for network in networks:
            if not _add_route(links, index, network):
                raise RouteTaken(name, network)


def leads_to(name: str, address: str, networks: Sequence[str]) -> bool:
    """Whether packets to an address would go through the interface, once it has routes to these networks. They would
    not where a more specific route leads past it.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    target = ip_address(address)
    prefixes = [network.prefixlen for network in map(ip_network, networks) if target in network]
    if not prefixes:
        return False
    link = read_link(name)
    with _links(name) as links:
        try:
            (route,) = links.route("get", dst=address, flags=_FIB_MATCH)
        except NetlinkError:
            return False  # there is no way yet, and so none to compare with
    if link is not None and route.get_attr("RTA_OIF") == link.index:
        return True
    return route.get_attr("RTA_TABLE") == _MAIN and int(route["dst_len"]) <= max(prefixes)


def carries_ipv6(name: str) -> bool:
    """Whether the kernel takes IPv6 addresses on the interface. Asked over netlink: the client's service sees no
    /proc/sys.
    """
    with _links(name) as links:
        (link,) = links.link("get", index=_index(name))
    # Without IPv6 in the kernel, or with too small an MTU, there are no such settings.
    families = link.get_attr("IFLA_AF_SPEC")
    settings = None if families is None else families.get_attr("AF_INET6")
    return settings is not None and not settings.get_attr("IFLA_INET6_CONF")["disable_ipv6"]


def remove_interface(name: str, *, check: bool = False) -> InterfaceChange:
    """Make there be no such interface. Its peers go first: deleting a full one takes 18 ms for each."""
    before = read_interface(check_name(name))
    if before is None:
        return InterfaceChange(None, None)
    if not check:
        device = KernelDevice(name)
        with _links(name) as links, device.exclusive():
            device.flush()
            links.link("del", index=_index(name))
    return InterfaceChange(before, None, ["removed"])


@contextlib.contextmanager
def _links(name: str) -> Iterator[IPRoute]:
    """A connection to the kernel's routing family, whose errors become ours."""
    try:
        # Late: the import costs more than everything else here.
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise MissingLibrary("pyroute2", "create and configure interfaces") from None
    try:
        with IPRoute() as links:
            yield links
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise PermissionMissing(f"change the interface {name}") from None
        if error.code == errno.EOPNOTSUPP:
            raise KernelWithoutWireGuard from None
        raise KernelRefused(f"set up the interface {name}", error.code) from None


def _wireguard_link(name: str) -> Link | None:
    """The link, or None if there is none. Raises NotWireGuard."""
    link = read_link(name)
    if link is not None and link.kind != "wireguard":
        raise NotWireGuard(name)
    return link


def _index(name: str) -> int:
    link = _wireguard_link(name)
    if link is None:
        raise InterfaceNotFound(name)
    return link.index


def _addresses(name: str) -> tuple[Address, ...]:
    link = _wireguard_link(name)
    return () if link is None else link.addresses


def _set_addresses(links: IPRoute, name: str, wanted: tuple[Address, ...]) -> None:
    index = _index(name)
    for address in _addresses(name):
        if address not in wanted:
            links.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
    # Read again: with the first IPv4 address of a network the kernel drops the others in it.
    left = _addresses(name)
    _add_addresses(links, index, [address for address in wanted if address not in left])


def _add_addresses(links: IPRoute, index: int, addresses: Iterable[Address]) -> None:
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        links.addr("add", index=index, family=family, address=str(address.ip), prefixlen=address.network.prefixlen)


def _add_route(links: IPRoute, index: int, network: str) -> bool:
    """Whether it goes through the interface now: it does not if there is another route of the same metric."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        links.route("add", dst=network, oif=index)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
    else:
        return True
    wanted = ip_network(network)
    family = socket.AF_INET if wanted.version == 4 else socket.AF_INET6
    return any(
        (route.get_attr("RTA_DST"), route["dst_len"]) == (str(wanted.network_address), wanted.prefixlen)
        for route in links.get_routes(family=family, table=_MAIN, oif=index)
    )


def _new(name: str) -> InterfaceState:
    return InterfaceState(name, up=False, public_key=None, listen_port=0, fwmark=0, mtu=0, addresses=())


def _planned(before: InterfaceState | None, options: InterfaceOptions) -> InterfaceState:
    """What will be; the kernel's choices for a new interface are shown as 0."""
    old = before or _new(options.name)
    return InterfaceState(
        name=options.name,
        up=options.up,
        public_key=old.public_key if options.private_key is None else options.private_key.public_key(),
        # 0 asks for a random port: whichever it has is as good.
        listen_port=options.listen_port or old.listen_port,
        fwmark=old.fwmark if options.fwmark is None else options.fwmark,
        mtu=options.mtu or old.mtu,
        addresses=old.addresses if options.addresses is None else tuple(dict.fromkeys(options.addresses)),
    )
