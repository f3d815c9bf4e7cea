# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from bench.lab.forgotten import Forgotten, Seen, Witness

NOTHING = Seen("(none)", 0, 0, 0)


def looks(*seen: Seen) -> list[Forgotten]:
    """One look a second at one peer, each of which takes 0.1 s; the first one is begun at 1000."""
    witness = Witness()
    return [
        each for number, peer in enumerate(seen) for each in witness.look(1000 + number, 1000.1 + number, {"a": peer})
    ]


def test_a_packet_is_as_old_as_the_look_before_the_one_that_noticed_it() -> None:
    first, second = Seen("192.0.2.1:5", 999, 100, 50), Seen("192.0.2.1:5", 999, 132, 50)

    (forgotten,) = looks(NOTHING, first, second, second, NOTHING)

    assert round(forgotten.since_packet, 3) == 3.1  # from 1001 to 1004.1
    assert round(forgotten.since_handshake, 3) == 5.1


def test_who_is_only_partly_forgotten_is_not_forgotten() -> None:
    some = Seen("192.0.2.1:5", 999, 100, 50)

    assert looks(some, some._replace(endpoint="(none)"), some._replace(handshake=0), NOTHING._replace(sent=1)) == []


def test_who_was_never_there_is_not_forgotten() -> None:
    assert looks(NOTHING, NOTHING) == []
