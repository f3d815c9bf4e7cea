# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the feed reads of the database: where the history stands, what leads on from there, all peers.

It looks at the view ``feed_peers``, in which there are no accounts. Within a batch, and within a snapshot, keys are
in their own order: which came with which, and when, is nobody's business.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from ...feed.batch import MOST_CHANGES, Draft
from ...feed.position import Position
from ...feed.snapshot import Snapshot
from ...wireguard import packed
from ...wireguard.bulk import collection_paused
from ...wireguard.keys import PublicKey
from ..errors import Refused
from ..history import position as history_position
from ..schema import changes, feed_peers, history, outbox
from ..store import REMOVED, Transaction

_ROWS = 5000  # of a snapshot, read at once

_POSITION = select(history.c.epoch, history.c.revision)
_WAITING = select(func.count()).select_from(outbox)
# One statement, so that it needs no transaction around it to see one state of the database. There is always a row: the
# history's, without a change where there is none.
_FOLLOWING = (
    select(
        history.c.epoch,
        history.c.revision.label("latest"),
        changes.c.revision,
        changes.c.public_key,
        changes.c.kind,
        feed_peers.c.public_key.label("peer"),
        feed_peers.c.ipv4,
        feed_peers.c.ipv6,
        feed_peers.c.preshared_key,
    )
    .outerjoin_from(history, changes, changes.c.revision.between(bindparam("begin"), bindparam("end")))
    .outerjoin(feed_peers, feed_peers.c.public_key == changes.c.public_key)
    .order_by(changes.c.revision)
)
_ALL = select(feed_peers).order_by(feed_peers.c.public_key).execution_options(yield_per=_ROWS)


class PositionGone(Refused):
    slug, title, status = "position-gone", "The feed cannot go on from there", 410
    detail = "the epoch is another one, or the revision is not known or not retained any more; take a snapshot"


def position(tx: Transaction) -> Position:
    """Where the history stands."""
    return Position(*tx.first(_POSITION, {}))


def settled(tx: Transaction) -> Position:
    """Where the history will stand once all that is committed has its revision (PostgreSQL)."""
    epoch, revision = position(tx)
    waiting = tx.connection.execute(_WAITING).scalar_one() if tx.has_outbox else 0
    return Position(epoch, revision + waiting)


def require(tx: Transaction, reader: Position) -> None:
    """Raises PositionGone unless the feed can go on from there."""
    now = history_position(tx)
    if reader.epoch != now.epoch or not now.horizon <= reader.revision <= now.revision:
        raise PositionGone


def batch_after(tx: Transaction, reader: Position) -> Draft | None:
    """What leads on from a reader's position; None if nothing has changed since. Raises PositionGone."""
    rows = tx.rows(_FOLLOWING, {"begin": reader.revision + 1, "end": reader.revision + MOST_CHANGES})
    epoch, latest, first = rows[0][:3]
    if reader.epoch != epoch or reader.revision > latest:
        raise PositionGone
    if reader.revision == latest:
        return None
    if first != reader.revision + 1:
        raise PositionGone
    became = sorted({row.public_key: row for row in rows}.items())
    removed = [key for key, row in became if row.kind == REMOVED]
    records = [
        _record(tx, key, row.ipv4, row.ipv6, row.preshared_key)
        for key, row in became
        if row.kind != REMOVED and row.peer is not None  # one that has gone since is not there; its removal follows
    ]
    return Draft(reader, Position(epoch, rows[-1].revision), made(tx), removed, records)


@collection_paused()
def snapshot(tx: Transaction) -> Snapshot:
    """All peers that gateways should have."""
    shapes: dict[int, list[bytes]] = {}
    with tx.connection.execute(_ALL) as rows:
        for row in rows:
            has, record = _record(tx, *row)
            shapes.setdefault(has, []).append(record)
    blocks = tuple(packed.pack_records(has, records) for has, records in sorted(shapes.items()))
    return Snapshot(position(tx), made(tx), blocks)


def made(tx: Transaction) -> int:
    """Now, in milliseconds since 1970."""
    return int(tx.environment.clock() * 1000)


def _record(
    tx: Transaction, public_key: bytes, ipv4: int | None, ipv6: bytes | None, sealed: bytes | None
) -> tuple[int, bytes]:
    """What a peer's packed record has, and the record."""
    has, record = 0, public_key
    if sealed is not None:
        has, record = packed.PRESHARED_KEY, record + tx.vault.unseal(sealed, PublicKey(public_key))
    if ipv4 is not None:
        has, record = has | packed.IPV4, record + ipv4.to_bytes(4, "big")
    if ipv6 is not None:
        has, record = has | packed.IPV6, record + ipv6
    return has, record
