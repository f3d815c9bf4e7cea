# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions: text and back, and their order."""

from __future__ import annotations

import pytest
from hiding import told_by
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.feed.position import LARGEST_REVISION, Position
from ansible_collections.lethe.wireguard.plugins.module_utils._lethe.wireguard.errors import InvalidValue

EPOCH = "6a02c1f0" + "5e" * 12

positions = st.builds(Position, st.binary(min_size=16, max_size=16).map(bytes.hex), st.integers(0, LARGEST_REVISION))


@given(positions)
def test_a_position_comes_back_from_its_text(position: Position) -> None:
    assert Position.from_text(position.text) == position


@given(positions, positions)
def test_positions_compare_by_the_time_of_the_epoch_then_by_the_revision(one: Position, other: Position) -> None:
    if one.epoch == other.epoch:
        assert (one < other) == (one.revision < other.revision)
    elif one.epoch[:8] != other.epoch[:8]:
        assert (one < other) == (int(one.epoch[:8], 16) < int(other.epoch[:8], 16))


@pytest.mark.parametrize(
    "text",
    [
        "",
        EPOCH,
        f"{EPOCH}.",
        f"{EPOCH}.-1",
        f"{EPOCH}.01",
        f"{EPOCH}.1 ",
        f"{EPOCH}.1\n",
        f"{EPOCH}.٣",
        f"{EPOCH.upper()}.1",
        f"{EPOCH[:-1]}.1",
        f"{EPOCH}.{LARGEST_REVISION + 1}",
        7,
        None,
    ],
)
def test_what_is_no_position_is_refused_by_the_name_of_its_field(text: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        Position.from_text(text, "Last-Event-ID")
    assert caught.value.field == "Last-Event-ID"
    assert EPOCH not in told_by(caught.value)
