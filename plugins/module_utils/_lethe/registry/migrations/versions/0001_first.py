# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first schema.

A migration is a record of what was: it does not import schema.py, which goes on changing. A test keeps the
sum of all migrations equal to it.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    history = op.create_table(
        "history",
        sa.Column("one", sa.SmallInteger, nullable=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("secrets", sa.LargeBinary),
        sa.PrimaryKeyConstraint("one", name="pk_history"),
    )
    op.bulk_insert(history, [{"one": 1, "epoch": secrets.token_hex(16), "revision": 0}])
    op.create_table(
        "accounts",
        sa.Column("account", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("device_limit", sa.Integer),
        sa.Column("closed_day", sa.Integer),
        sa.PrimaryKeyConstraint("account", name="pk_accounts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "registrations",
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("account", sa.LargeBinary, nullable=False),
        sa.Column("ipv4", sa.BigInteger),
        sa.Column("ipv6", sa.LargeBinary),
        sa.Column("preshared_key", sa.LargeBinary),
        sa.Column("expires_day", sa.Integer),
        sa.Column("leaves_at", sa.BigInteger),
        sa.Column("replaces", sa.LargeBinary),
        sa.PrimaryKeyConstraint("public_key", name="pk_registrations"),
        sa.ForeignKeyConstraint(["account"], ["accounts.account"], name="fk_registrations_account"),
        sa.UniqueConstraint("ipv4", name="uq_registrations_ipv4"),
        sa.UniqueConstraint("ipv6", name="uq_registrations_ipv6"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_registrations_account", "registrations", ["account"])
    op.create_index("ix_registrations_expires_day", "registrations", ["expires_day", "public_key"])
    op.create_table(
        "credentials",
        sa.Column("credential", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account", sa.LargeBinary),
        sa.Column("label", sa.Text),
        sa.PrimaryKeyConstraint("credential", name="pk_credentials"),
        sa.ForeignKeyConstraint(["account"], ["accounts.account"], name="fk_credentials_account"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_credentials_account", "credentials", ["account"])
    for table, column in (
        ("accounts", "closed_day"),
        ("registrations", "leaves_at"),
        ("registrations", "replaces"),
        ("credentials", "label"),
    ):
        given = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_{table}_{column}", table, [column], sqlite_where=given, postgresql_where=given)
    op.create_table(
        "resting",
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("free_day", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_resting"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_resting_free_day", "resting", ["free_day"])
    op.create_table(
        "changes",
        sa.Column("revision", big, autoincrement=False, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_changes"),
    )
    op.create_index("ix_changes_public_key", "changes", ["public_key"])
    op.create_table(
        "outbox",
        sa.Column("id", big, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_public_key", "outbox", ["public_key"])
