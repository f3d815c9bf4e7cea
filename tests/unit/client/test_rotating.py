# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any message lost or doubled, at any step, power cuts at any write, gateways that lag: against a real registry."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from clients import FATES, Client, following, gateways_file, private_keys_in
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from made_up import key as key_text
from registry.site import Site, served
from registry.support import Clock

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import DAY, Stage
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import PublicKey

KEY_DAYS = 30
UNLIMITED = {"client_rate": "1000000/second", "stranger_rate": "1000000/second"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The registry's."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(sqlite_template: Path, directory: Path) -> Iterator[Site]:
    shutil.copy(sqlite_template, directory / "registry.sqlite3")
    file = gateways_file(directory)
    database = f"sqlite:///{directory}/registry.sqlite3"
    with served(database, Clock(), server=UNLIMITED, gateways_file=file, key_days=KEY_DAYS) as site:
        yield site


class Rotating(RuleBasedStateMachine):
    """A client of an account of its own."""

    number = 0

    def __init__(self, site: Site, directory: Path) -> None:
        super().__init__()
        Rotating.number += 1
        self.account = f"account {Rotating.number}"
        self.registry = site.registry
        self.clock = site.registry.clock
        self.gateways = following(site.registry)
        self._registrys_directory = directory
        gateways_file(directory)
        self._directory = tempfile.TemporaryDirectory()
        self.client = Client(site, self.gateways, Path(self._directory.name), self.account)
        self.was_connected = False

    @rule(
        fates=st.lists(st.sampled_from(FATES), max_size=6),
        cut=st.sampled_from(["", "", "", "before", "after"]),
        following=st.sampled_from([(), (0,), (1,), (0, 1)]),
        patient=st.booleans(),
        steps=st.integers(1, 15),
    )
    def it_goes_on(self, fates: list[str], cut: str, following: tuple[int, ...], patient: bool, steps: int) -> None:
        """From one rotation to the next: nobody waits for a week. If not ``patient``, the time in which gateways could
        follow is over at once.
        """
        self.client.way.fates = list(fates)
        self.client.memory.cut = cut
        for _ in range(steps):
            for which in following:
                self.a_gateway_follows(which, reports=True)
            wait = self.client.step()
            self.clock.now += min(max(wait, 5), 20) if wait > 0 else 0
            state = self.client.runner.state
            if state is not None and state.stage in (Stage.SETTLED, *([] if patient else [Stage.WAITING])):
                self.clock.now = max(self.clock.now, state.due)
            self.what_the_registry_has_the_client_can_use()
            self.a_gateway_that_lets_it_in_is_followed_by_one_that_does()
        self.client.memory.cut = ""

    @rule(seconds=st.sampled_from([1, 15, 120, 700, 4000, DAY, 7 * DAY, 33 * DAY]))
    def time_goes_by(self, seconds: int) -> None:
        """While the client's host is off or asleep, or the registry away."""
        self.clock.now += seconds

    @rule(which=st.integers(0, 1), reports=st.booleans())
    def a_gateway_follows(self, which: int, reports: bool) -> None:
        self.gateways[which].follow()
        if reports:
            self.gateways[which].report()

    @rule(which=st.integers(0, 1), number=st.integers(700, 10_000))
    def a_gateway_changes_its_key(self, which: int, number: int) -> None:
        gateway = self.gateways[which]
        gateway.gateway = replace(gateway.gateway, public_key=PublicKey.from_text(key_text(number)))
        gateways_file(self._registrys_directory, [each.gateway for each in self.gateways])

    @rule()
    def the_registry_tidies(self) -> None:
        self.registry.tidy()

    @rule()
    def late_requests_arrive(self) -> None:
        self.client.way.deliver_late()

    @rule()
    def it_is_started_again(self) -> None:
        self.client.start()

    @rule()
    def somebody_asks_for_a_rotation(self) -> None:
        self.client.runner.rotate()

    @invariant()
    def what_the_registry_has_the_client_can_use(self) -> None:
        staying = {key for key, one in self.registry.of(self.account).items() if one.leaves_at is None}
        assert len(self.registry.of(self.account)) <= 2
        assert len(staying) <= 1
        assert staying <= self.client.keys

    @invariant()
    def a_gateway_that_lets_it_in_is_followed_by_one_that_does(self) -> None:
        """As long as none of its keys has expired: nothing else takes away its last way in."""
        state = self.client.memory.read()
        now = self.clock.now
        if state is None or any(own.has_expired(now) for own in state.own):
            self.was_connected = False
            return
        connected = any(own.public_key in gateway.keys for own in state.own for gateway in self.gateways)
        assert connected or not self.was_connected
        self.was_connected = connected

    def teardown(self) -> None:
        """Nothing is lost any more: it ends connected, with one registration, and one private key on the disk."""
        client, clock = self.client, self.clock
        client.way.fates = []
        client.way.deliver_late()
        self.registry.tidy()
        end = clock.now + 4 * 3600
        rounds = 0
        while clock.now < end or client.runner.state.stage is not Stage.SETTLED:
            wait = client.step()
            clock.now += min(max(wait, 5), 60) if wait > 0 else 0
            for gateway in self.gateways if rounds % 5 == 0 else ():
                gateway.follow()
                gateway.report()
            rounds += 1
            assert rounds < 2000, f"it does not come to an end: {client.runner.state.stage}"
        state = client.runner.state
        assert state is not None
        assert set(self.registry.of(self.account)) == {state.key.public_key}
        assert client.tunnel.own == state.key
        assert client.tunnel.is_answered()
        assert list(private_keys_in(client.memory.directory)) == [state.key.private_key.text]
        for gateway in self.gateways:
            gateway.follow()
            assert state.key.public_key in gateway.keys
        self.registry.close_account(self.account)
        self._directory.cleanup()


def test_whatever_is_lost_it_ends_connected_with_one_registration(site: Site, directory: Path) -> None:
    run_state_machine_as_test(
        partial(Rotating, site, directory),
        settings=settings(
            max_examples=15,
            stateful_step_count=15,
            deadline=None,
            derandomize="CI" in os.environ,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
