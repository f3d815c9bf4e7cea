# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's connections to the feed, as far as no agent is needed for it."""

from __future__ import annotations

from contextlib import closing

from fake_feed import TOKEN, FakeFeed
from signed import SignedRegistry

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.agent.client import Feed


def test_a_report_arrives_though_the_connection_of_the_last_one_was_closed() -> None:
    feed = FakeFeed(SignedRegistry())
    with closing(Feed(feed.url, TOKEN, None)) as connections:
        connections.report({"interfaces": []})
        feed.stop()
        feed.start()
        connections.report({"interfaces": [], "version": "after the server has closed the connection"})
    feed.stop()
    assert len(feed.reports) == 2
