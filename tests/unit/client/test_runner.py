# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client makes of each thing that a real registry can say, and of a gateway that does not answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clients import Client, FollowingGateway, following, gateways_file, private_keys_in
from hiding import told_by
from made_up import key
from registry.site import Site, served
from registry.support import Clock
from without_sealing import without_sealing

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.memory import Memory, StateUnusable
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.registry import (
    Answer,
    Away,
    Http,
    KeyGone,
    KeyRefused,
    Refused,
    Registry,
)
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.rotation import DAY, Stage
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import schema
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry.store import Transaction
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PublicKey,
)

Serve = Callable[..., Site]


@pytest.fixture
def serve(sqlite_template: Path, tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(**settings: Any) -> Site:
            shutil.copy(sqlite_template, tmp_path / "registry.sqlite3")
            file = gateways_file(tmp_path)
            database = f"sqlite:///{tmp_path}/registry.sqlite3"
            server = {"client_rate": "1000000/second"}
            return stack.enter_context(served(database, Clock(), server=server, gateways_file=file, **settings))

        yield start


@pytest.fixture
def site(serve: Serve) -> Site:
    return serve()


@pytest.fixture
def gateways(site: Site) -> list[FollowingGateway]:
    return following(site.registry)


@pytest.fixture
def client(site: Site, gateways: list[FollowingGateway], tmp_path: Path) -> Client:
    """Registered, and let in by the gateways."""
    client = Client(site, gateways, tmp_path / "client", "alice")
    go_on(client, site, gateways)
    client.step()
    client.step()
    assert stage(client) is Stage.SETTLED
    assert client.tunnel.is_answered()
    return client


def stage(client: Client) -> Stage:
    assert client.runner.state is not None
    return client.runner.state.stage


def go_on(
    client: Client, site: Site, gateways: list[FollowingGateway], until: Stage = Stage.SETTLED, seconds: float = 3600
) -> None:
    """Until a stage is reached, while gateways follow."""
    end = site.registry.clock.now + seconds
    while True:
        wait = client.step()
        for gateway in gateways:
            gateway.follow()
            gateway.report()
        if client.runner.state is not None and stage(client) is until:
            return
        assert site.registry.clock.now < end, f"{until} is not reached"
        site.registry.clock.now += min(wait, 1)


def look(client: Client, site: Site) -> None:
    """Time goes by until it has looked what became of its key."""
    for _ in range(3):
        site.registry.clock.now += min(client.step(), 7200)
    client.way.asked.clear()
    for _ in range(4):
        site.registry.clock.now += min(client.step(), 7200)


def test_a_rotation_leaves_one_new_key_with_new_addresses(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    assert client.runner.state is not None
    before = client.runner.state.key
    client.runner.rotate()
    go_on(client, site, gateways, Stage.CONFIRMING)
    assert set(site.registry.of("alice")) == {before.public_key, client.runner.state.key.public_key}
    assert list(private_keys_in(client.memory.directory)) == [client.runner.state.key.private_key.text]
    go_on(client, site, gateways)
    after = client.runner.state.key
    assert set(site.registry.of("alice")) == {after.public_key}
    assert client.tunnel.own == after
    assert before.registration is not None
    assert after.registration is not None
    assert set(before.registration.addresses).isdisjoint(after.registration.addresses)
    for gateway in gateways:
        gateway.follow()
        assert gateway.keys == {after.public_key}


@pytest.mark.parametrize("preshared_keys", [True, "sealed"])
def test_a_preshared_key_is_told_sealed_alone_and_is_the_one_that_gateways_have(
    serve: Serve, tmp_path: Path, preshared_keys: bool | str
) -> None:
    site = serve(preshared_keys=preshared_keys)
    gateways = following(site.registry)
    client = Client(site, gateways, tmp_path / "client", "alice")
    go_on(client, site, gateways)
    assert client.runner.state is not None
    before = client.runner.state.key
    client.runner.rotate()
    go_on(client, site, gateways, Stage.CONFIRMING)
    go_on(client, site, gateways)
    after = client.runner.state.key
    for own in (before, after):
        assert own.registration is not None
        assert own.registration.preshared_key != NO_PRESHARED_KEY
    assert before.registration != after.registration
    assert after.registration is not None
    assert site.registry.of("alice")[after.public_key].preshared_key == after.registration.preshared_key
    told = b"".join(client.way.told)
    assert told.count(b'"sealed_preshared_key"') == 3  # of the registration, the rotation and its end
    assert b'"preshared_key"' not in told


def test_it_goes_over_when_the_connected_gateways_have_the_key_and_not_before(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    client.runner.rotate()
    one, two = gateways
    for _ in range(10):  # one has it, the other is connected and lacks it
        site.registry.clock.now += min(client.step(), 10)
        one.follow()
        for gateway in gateways:
            gateway.report()
    assert stage(client) is Stage.WAITING
    two.follow()
    two.report()
    site.registry.clock.now += 10
    client.step()
    assert stage(client) is Stage.TRYING


def test_gateways_that_report_to_nobody_are_tried_after_a_while(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    client.runner.rotate()
    begun = site.registry.clock.now
    site.registry.clock.now += 3600
    client.step()
    while stage(client) is not Stage.CONFIRMING:
        site.registry.clock.now += min(client.step(), 10)
        for gateway in gateways:
            gateway.follow()
    assert 600 <= site.registry.clock.now - begun - 3600 < 700


def test_a_key_that_no_gateway_answers_is_put_back_and_tried_again(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    assert client.runner.state is not None
    before = client.runner.state.key
    client.runner.rotate()
    tried = 0
    for _ in range(20_000):
        wait = client.step()
        assert client.runner.state.key == before  # never without it
        tried += stage(client) is Stage.TRYING and wait == 0
        if tried == 3:
            break
        if stage(client) is Stage.WAITING and wait:
            assert client.tunnel.is_answered()
        site.registry.clock.now += min(wait, 1)
    assert tried == 3
    go_on(client, site, gateways)
    assert client.runner.state.key != before


def test_a_revoked_key_stops_it_until_somebody_asks_for_a_new_one(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    assert client.runner.state is not None
    key = client.runner.state.key
    site.registry.revoke(key.public_key)
    look(client, site)
    assert stage(client) is Stage.STOPPED
    assert client.runner.standing.slug == "key-removed"
    assert "lethe client rotate" in client.runner.standing.problem
    assert client.tunnel.own == key  # nothing goes past the tunnel
    client.start()
    client.way.asked.clear()
    for _ in range(5):
        client.step()
    assert client.way.asked == []
    client.runner.rotate()
    go_on(client, site, gateways)
    assert set(site.registry.of("alice")) == {client.runner.state.key.public_key} != {key.public_key}
    assert client.runner.standing.problem == ""


def test_a_key_that_expired_meanwhile_is_replaced(client: Client, site: Site, gateways: list[FollowingGateway]) -> None:
    site.registry.clock.move(days=40)
    site.registry.tidy()
    assert site.registry.of("alice") == {}
    go_on(client, site, gateways, Stage.REGISTERING)
    go_on(client, site, gateways)
    assert len(site.registry.of("alice")) == 1


def test_a_registry_that_was_restored_without_the_key_gets_another_one(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    assert client.runner.state is not None
    site.registry.revoke(client.runner.state.key.public_key)
    site.registry.clock.move(days=2)
    site.registry.tidy()  # nor does it remember that there was one
    look(client, site)
    go_on(client, site, gateways)
    assert set(site.registry.of("alice")) == {client.runner.state.key.public_key}


@pytest.mark.parametrize("state", ["suspended", "closed"])
def test_a_stopped_account_is_told_and_costs_the_registry_little(client: Client, site: Site, state: str) -> None:
    site.registry.suspend("alice") if state == "suspended" else site.registry.close_account("alice")
    look(client, site)
    assert client.runner.standing.slug == f"account-{state}"
    assert state in client.runner.standing.problem
    client.way.asked.clear()
    end = site.registry.clock.now + DAY
    while site.registry.clock.now < end:
        site.registry.clock.now += max(1, client.step())
    assert 20 < len(client.way.asked) < 60


def test_a_resumed_account_goes_on_with_the_same_key(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    assert client.runner.state is not None
    key = client.runner.state.key
    site.registry.suspend("alice")
    look(client, site)
    site.registry.resume("alice")
    for gateway in gateways:
        gateway.follow()
    look(client, site)
    assert client.runner.state.key == key
    assert client.runner.standing.problem == ""


def test_a_full_account_is_told(site: Site, gateways: list[FollowingGateway], tmp_path: Path) -> None:
    site.registry.create("alice", 1)
    first = Client(site, gateways, tmp_path / "first", "alice")
    second = Client(site, gateways, tmp_path / "second", "alice")
    go_on(first, site, gateways)
    for _ in range(2):
        second.step()
    assert second.runner.standing.slug == "device-limit"
    assert stage(second) is Stage.REGISTERING


@pytest.mark.parametrize("when", [Stage.SETTLED, Stage.WAITING, Stage.TRYING, Stage.CONFIRMING])
def test_logging_out_leaves_nothing_anywhere(
    client: Client, site: Site, gateways: list[FollowingGateway], when: Stage
) -> None:
    if when is not Stage.SETTLED:
        client.runner.rotate()
        go_on(client, site, gateways, when)
    client.runner.leave()
    client.start()  # it survives a power cut
    client.step()
    assert client.runner.state is None
    assert site.registry.of("alice") == {}
    assert client.tunnel.own is None
    assert list(client.memory.directory.iterdir()) == []
    for gateway in gateways:
        gateway.follow()
        assert gateway.keys == set()


def test_logging_out_of_a_closed_account_needs_no_registry_of_keys(client: Client, site: Site) -> None:
    site.registry.close_account("alice")
    client.runner.leave()
    client.step()
    assert client.runner.state is None


def test_logging_out_waits_for_a_registry_that_is_away(client: Client, site: Site) -> None:
    client.runner.leave()
    client.way.fates = ["lost", "unanswered"]
    client.step()
    assert stage(client) is Stage.LEAVING
    assert client.runner.standing.problem == "the request was lost"
    for _ in range(2):
        site.registry.clock.now += 60
        client.step()
    assert client.runner.state is None


def test_requests_grow_seldom_while_the_registry_is_away(client: Client, site: Site) -> None:
    client.way.fates = ["lost"] * 1000
    client.runner.rotate()
    client.way.asked.clear()
    end = site.registry.clock.now + DAY
    while site.registry.clock.now < end:
        site.registry.clock.now += max(0.1, client.step())
    assert 96 < len(client.way.asked) < 220  # every 450 to 900 s in the end


def test_missed_rotations_are_caught_up_and_not_by_all_at_once(client: Client, site: Site) -> None:
    assert client.runner.state is not None
    site.registry.clock.move(days=8)
    woke = site.registry.clock.now
    client.step()
    assert stage(client) is Stage.SETTLED
    assert woke < client.runner.state.due <= woke + 900
    site.registry.clock.now = client.runner.state.due
    client.step()
    assert stage(client) is Stage.ROTATING


def test_a_clock_that_was_set_back_does_not_put_a_rotation_off(client: Client, site: Site) -> None:
    site.registry.clock.move(days=-100)
    client.step()
    assert client.runner.state is not None
    assert client.runner.state.due <= site.registry.clock.now + 7 * DAY


def pass_time(
    client: Client, site: Site, seconds: float, done: Callable[[], bool] = lambda: False, tick: float = 1
) -> float:
    """Step it every second or so until it is done; returns how long that took."""
    begun = site.registry.clock.now
    while site.registry.clock.now < begun + seconds and not done():
        site.registry.clock.now += min(max(client.step(), 0.2), tick)
    return site.registry.clock.now - begun


def replace_gateways(site: Site, gateways: list[FollowingGateway], directory: Path, number: int = 700) -> None:
    """Give all gateways other keys, and tell the registry so."""
    for gateway in gateways:
        gateway.gateway = replace(gateway.gateway, public_key=PublicKey.from_text(key(number)))
        number += 1
    gateways_file(directory, [each.gateway for each in gateways])


def test_a_gateway_that_ceases_to_answer_is_left_for_another_one(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    client.way.fates = ["lost"] * 1000  # the registry is behind the gateway
    pass_time(client, site, 6 * 3600)  # its pauses have become long
    assert client.tunnel.is_answered()
    assert client.tunnel.gateway is not None
    next(each for each in gateways if each.gateway == client.tunnel.gateway).keys.clear()
    assert pass_time(client, site, 900, client.tunnel.is_answered) < 30


@pytest.mark.parametrize("until", [Stage.SETTLED, Stage.WAITING, Stage.CONFIRMING])
def test_gateways_whose_keys_changed_while_it_was_asleep_are_asked_for(
    client: Client, site: Site, gateways: list[FollowingGateway], tmp_path: Path, until: Stage
) -> None:
    if until is not Stage.SETTLED:
        client.runner.rotate()
        go_on(client, site, gateways, until)
    site.registry.clock.move(days=1)
    replace_gateways(site, gateways, tmp_path)
    for gateway in gateways:
        gateway.follow()
    client.way.fates = ["lost"] * 3
    assert pass_time(client, site, 4 * 3600, client.tunnel.is_answered) < 300


def test_it_asks_for_gateways_that_lag_every_few_seconds(client: Client, site: Site) -> None:
    client.runner.rotate()
    pass_time(client, site, 10, lambda: stage(client) is Stage.WAITING)
    client.way.asked.clear()
    pass_time(client, site, 100)
    assert stage(client) is Stage.WAITING
    assert 10 <= client.way.asked.count("applied") <= 21


def test_when_no_gateway_answers_it_asks_more_and_more_seldom(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    for gateway in gateways:
        gateway.keys.clear()
    client.way.asked.clear()
    pass_time(client, site, 60)
    assert client.way.asked
    pass_time(client, site, 3600)
    client.way.asked.clear()
    pass_time(client, site, 4 * 3600)
    assert len(client.way.asked) < 100


def test_a_key_whose_grace_is_over_is_not_waited_with(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    """The network is away while it waits for the gateways: the registry removes the key before all the same."""
    client.runner.rotate()
    go_on(client, site, gateways, Stage.WAITING)
    keys = [set(gateway.keys) for gateway in gateways]
    for gateway in gateways:
        gateway.keys.clear()
    client.way.fates = ["lost"] * 1000
    pass_time(client, site, 3 * 3600)
    for gateway, had in zip(gateways, keys, strict=True):
        gateway.keys.update(had)
    site.registry.tidy()
    for gateway in gateways:
        gateway.follow()
    assert pass_time(client, site, 3600, client.tunnel.is_answered) < 90


def test_a_successor_that_the_registry_has_lost_is_replaced(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    """It was restored from a backup of before the rotation."""
    assert client.runner.state is not None
    before = client.runner.state.key.public_key
    client.runner.rotate()
    go_on(client, site, gateways, Stage.WAITING)
    assert client.runner.state.successor is not None
    lost = client.runner.state.successor.public_key

    def restored(tx: Transaction) -> None:
        for table in (schema.registrations, schema.changes):
            tx.connection.execute(sa.delete(table).where(table.c.public_key == bytes(lost)))
        tx.connection.execute(sa.update(schema.registrations).values(leaves_at=None))

    site.registry.store.write(restored)
    assert set(site.registry.of("alice")) == {before}
    go_on(client, site, gateways)
    after = client.runner.state.key.public_key
    assert after not in (before, lost)
    assert set(site.registry.of("alice")) == {after}


def test_a_confirmation_that_is_late_makes_no_key_older_than_the_period(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    client.runner.rotate()
    go_on(client, site, gateways, Stage.CONFIRMING)
    born = site.registry.clock.now
    client.way.fates = ["lost"] * 100_000
    pass_time(client, site, 6 * DAY, tick=900)
    client.way.fates = []
    go_on(client, site, gateways)
    assert client.runner.state is not None
    assert client.runner.state.due < born + 7 * DAY


def test_a_clock_that_is_ahead_of_the_registrys_does_not_rotate_without_end(
    client: Client, site: Site, gateways: list[FollowingGateway]
) -> None:
    clock = site.registry.clock
    client.start(lambda: clock.now + 60 * DAY)
    go_on(client, site, gateways, seconds=7200)
    client.way.asked.clear()
    go_on(client, site, gateways, seconds=7200)
    pass_time(client, site, 3600)
    assert client.way.asked.count("rotate") + client.way.asked.count("registrations") <= 2


def test_a_list_without_gateways_keeps_those_that_are_known(client: Client, site: Site, tmp_path: Path) -> None:
    gateways_file(tmp_path, [])
    look(client, site)
    assert client.tunnel.is_answered()
    assert client.runner.standing.problem == ""


def test_a_disk_that_is_full_stops_it_before_anything_is_sent(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.runner.rotate()
    client.way.asked.clear()

    def full(*_: object, **_names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "ansible_collections.lethe.wireguard.plugins.module_utils._lethe.client.memory.write_whole", full
    )
    for _ in range(3):
        client.step()
        site.registry.clock.now += 60
    assert client.way.asked == []
    assert "No space left" in client.runner.standing.problem


class TestMemory:
    def test_it_is_for_its_owner_alone(self, client: Client) -> None:
        assert {path.stat().st_mode & 0o777 for path in client.memory.directory.iterdir()} == {0o600}
        assert client.memory.directory.stat().st_mode & 0o777 == 0o700

    def test_it_reads_what_it_wrote(self, client: Client) -> None:
        other = Memory(client.memory.directory)
        assert other.read() == client.runner.state
        assert [gateway.name for gateway in other.read_gateways()] == ["gateway1", "gateway2"]

    @pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"stage": "settled", "key": {}}', "secret"])
    def test_what_it_did_not_write_is_left_alone_and_not_shown(self, client: Client, content: str) -> None:
        path = client.memory.directory / "state.json"
        path.write_text(content)
        with pytest.raises(StateUnusable, match=r"state\.json is not what the client writes; remove it") as caught:
            client.memory.read()
        assert "secret" not in told_by(caught.value)
        assert path.read_text() == content

    def test_a_list_of_gateways_that_is_broken_is_asked_for_again(self, client: Client) -> None:
        (client.memory.directory / "gateways.json").write_text('{"gateways": 7}')
        assert client.memory.read_gateways() == ()

    def test_no_private_key_is_shown(self, client: Client) -> None:
        shown = repr(client.runner.state) + repr(client.runner.state.key.registration)
        for secret in private_keys_in(client.memory.directory):
            assert secret not in shown
        assert "10." not in shown


class Said:
    """Answers as a test says."""

    def __init__(self, status: int, body: bytes, retry_after: int = 0) -> None:
        self.answer = Answer(status, body, retry_after)

    def ask(self, method: str, path: str, body: bytes | None) -> Answer:
        return self.answer


def problem(slug: str) -> bytes:
    return b'{"type": "urn:lethe:problem:%s", "detail": "10.1.2.3"}' % slug.encode()


class TestAnswers:
    own = PublicKey(bytes(range(32)))  # the same in every process: a part of the tests' names

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b"[]"),
            (200, b"{}"),
            (200, b"[" * 100_000),
            (201, b'{"public_key": "x", "allowed_ips": ["10.1.2.3/32"]}'),
            (201, b'{"public_key": "%s", "allowed_ips": []}' % own.text.encode()),
            (201, b'{"public_key": "%s", "allowed_ips": ["10.1.2.3.4/32"]}' % own.text.encode()),
            (201, b'{"public_key": "%s", "allowed_ips": ["10.1.2.3"], "expires_on": "x"}' % own.text.encode()),
            (201, b'{"public_key": "%s", "allowed_ips": ["10.1.2.3"]}' % bytes(PublicKey(bytes(32)).text, "ascii")),
            (302, b""),
            (404, b"<html>10.1.2.3</html>"),
            (500, b'{"type": "about:blank"}'),
        ],
    )
    def test_what_no_registry_says_is_never_believed_nor_shown(self, status: int, body: bytes) -> None:
        with pytest.raises(Away, match="see the setting url") as caught:
            Registry(Said(status, body)).register(self.own)
        assert "10.1.2.3" not in told_by(caught.value)

    @pytest.mark.parametrize("preshared_key", [PresharedKey(bytes(range(32))).text, "x"])
    def test_a_preshared_key_that_is_not_sealed_is_neither_taken_nor_shown(self, preshared_key: str) -> None:
        body = '{"public_key": "%s", "allowed_ips": ["10.1.2.3"], "preshared_key": "%s"}'
        with pytest.raises(Away, match="cannot be opened; ask again") as caught:
            Registry(Said(201, (body % (self.own.text, preshared_key)).encode())).register(self.own)
        assert preshared_key not in told_by(caught.value).split()

    def test_without_the_library_a_preshared_key_is_taken_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        without_sealing(monkeypatch)
        body = '{"public_key": "%s", "allowed_ips": ["10.1.2.3"], "preshared_key": "%s"}'
        preshared_key = PresharedKey(bytes(range(32)))
        given = Registry(Said(201, (body % (self.own.text, preshared_key.text)).encode())).register(self.own)
        assert given.preshared_key == preshared_key
        with pytest.raises(Away, match="see the setting url"):
            Registry(Said(201, (body % (self.own.text, "x")).encode())).register(self.own)

    @pytest.mark.parametrize(
        ("status", "slug", "kind"),
        [
            (404, "key-unknown", KeyGone),
            (410, "key-removed", KeyGone),
            (409, "key-taken", KeyRefused),
            (409, "rotation-conflict", KeyRefused),
            (403, "account-suspended", Refused),
            (401, "not-authenticated", Refused),
            (409, "one-time-key-needed", Refused),
            (503, "database-away", Away),
            (429, "rate-limited", Away),
        ],
    )
    def test_each_problem_is_one_of_four(self, status: int, slug: str, kind: type[Exception]) -> None:
        with pytest.raises(kind) as caught:
            Registry(Said(status, problem(slug), 30)).confirm(self.own)
        assert "10.1.2.3" not in told_by(caught.value)
        if isinstance(caught.value, Away):
            assert caught.value.retry_after == 30
        if isinstance(caught.value, Refused):
            assert caught.value.slug == slug

    def test_all_that_a_registry_gives_is_read(self) -> None:
        body = '{"public_key": "%s", "allowed_ips": ["10.1.2.3/32", "fd00::1/128"], "expires_on": "1970-01-11"}'
        given = Registry(Said(201, (body % self.own.text).encode())).register(self.own)
        assert [str(address) for address in given.addresses] == ["10.1.2.3/32", "fd00::1/128"]
        assert given.expires_day == 10
        assert given.preshared_key == NO_PRESHARED_KEY

    def test_a_registry_that_is_not_there_is_away(self) -> None:
        with pytest.raises(Away, match="does not answer"):
            Registry(Http("http://127.0.0.1:9", "lethe_client_x", None)).gateways()

    @pytest.mark.parametrize("body", [b"{}", b'{"applied": 1}', b'{"applied": null}'])
    def test_applied_is_yes_or_no(self, body: bytes) -> None:
        with pytest.raises(Away):
            Registry(Said(200, body)).has_been_applied(self.own)

    def test_a_list_of_gateways_that_cannot_be_used_is_not(self) -> None:
        with pytest.raises(Away, match=r"gateways\[0\]\.name: is not a name"):
            Registry(Said(200, b'{"gateways": [{}]}')).gateways()
