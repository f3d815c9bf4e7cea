# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed: ordered epochs, a view for it, what gateways report."""

import secrets
import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Epochs were random; now they begin with the time. Nobody has read a feed yet.
    epoch = int(time.time()).to_bytes(4, "big").hex() + secrets.token_hex(12)
    op.execute(sa.text("UPDATE history SET epoch = :epoch").bindparams(epoch=epoch))
    op.create_table(
        "reports",
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("interface", sa.Text, nullable=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("peers", sa.Integer, nullable=False),
        sa.Column("oldest_endpoint", sa.Float),
        sa.Column("drift", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("label", "interface", name="pk_reports"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "CREATE VIEW feed_peers AS SELECT public_key, ipv4, ipv6, preshared_key FROM registrations WHERE EXISTS"
        " (SELECT 1 FROM accounts WHERE accounts.account = registrations.account AND accounts.state = 'active')"
    )
