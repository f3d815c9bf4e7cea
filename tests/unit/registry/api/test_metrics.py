# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from made_up import key
from prometheus_client.parser import text_string_to_metric_families
from registry.site import Serve, Site
from registry.support import Clock
from sqlalchemy.exc import OperationalError

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.registry import figures


def numbers(site: Site) -> dict[str, float]:
    """Every sample by its name and labels."""
    return {
        sample.name.removeprefix("lethe_registry_")
        + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(site.caller().get("/metrics").text)
        for sample in family.samples
    }


def test_a_range_that_runs_full_shows_long_before(serve: Serve) -> None:
    site = serve(ipv4_ranges=("10.0.0.0/24",), device_limit=1000)
    client = site.client()
    for n in range(40):
        client.ask("/v1/registrations", public_key=key(n))
    client.ask("/v1/registrations/delete", public_key=key(0))
    seen = numbers(site)

    assert seen["pool_size ipv4"] == 254
    assert seen["pool_free ipv4"] == 254 - 40
    assert seen["pool_used_ratio ipv4"] == pytest.approx(40 / 254)
    assert seen["pool_used_ratio ipv6"] < 1e-20
    assert seen["registrations"] == 39
    assert seen["resting_addresses"] == 1


def test_the_registry_in_numbers(site: Site) -> None:
    client = site.client("alice")
    site.registry.create("bobby")
    site.registry.suspend("bobby")
    client.ask("/v1/registrations", public_key=key(1))
    site.registry.position()
    seen = numbers(site)

    assert (seen["revision"], seen["horizon"], seen["outbox_waiting"]) == (1, 0, 0)
    assert (seen["accounts active"], seen["accounts suspended"], seen["accounts closed"]) == (1, 1, 0)
    assert seen["credentials client"] == 1
    assert seen["database_up"] == 1


def test_requests_are_counted_by_the_routes_template(site: Site) -> None:
    client = site.client()
    client.ask("/v1/registrations", public_key=key(1))
    client.ask("/v1/registrations", public_key=key(1))
    client.get(f"/v1/{key(1)[:8]}")
    seen = numbers(site)

    assert seen["requests_total POST /v1/registrations 201"] == 1
    assert seen["requests_total POST /v1/registrations 200"] == 1
    assert seen["requests_total GET none 404"] == 1
    assert seen["request_seconds_count POST /v1/registrations"] == 2
    assert not [name for name in seen if "created" in name]


def test_what_housekeeping_removed_is_counted(site: Site) -> None:
    site.service.metrics.tidied(3)
    seen = numbers(site)
    assert seen["housekeeping_removed_total"] == 3
    assert seen["housekeeping_timestamp_seconds"] > 1e9


def test_a_database_that_is_away_shows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OperationalError("SELECT 1", {}, OSError())

    monkeypatch.setattr(site.registry.store, "read", fail)
    seen = numbers(site)
    assert seen["database_up"] == 0
    assert "registrations" not in seen


def test_counting_takes_a_small_share_of_the_time_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, counted = Clock(0), 0
    real = figures.count

    def slow(tx: object) -> figures.Figures:
        nonlocal counted
        counted += 1
        clock.move(seconds=2)
        return real(tx)  # type: ignore[arg-type]

    monkeypatch.setattr(figures, "count", slow)
    counter = figures.Counter(clock)
    for _ in range(39):
        site.registry.store.read(counter.figures)
        clock.move(seconds=1)
    assert counted == 1
    clock.move(seconds=2)
    site.registry.store.read(counter.figures)
    assert counted == 2


def test_health_and_readiness_need_no_credential(site: Site) -> None:
    assert site.caller().get("/healthz").json() == {"status": "ok"}
    assert site.caller().get("/readyz").json() == {"status": "ok"}


def test_a_registry_with_another_schema_is_not_ready(site: Site) -> None:
    with site.registry.store.engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    refused = site.caller().get("/readyz")
    assert refused.status_code == 503
    assert "lethe registry migrate" in refused.json()["detail"]
    assert site.caller().get("/healthz").status_code == 200
