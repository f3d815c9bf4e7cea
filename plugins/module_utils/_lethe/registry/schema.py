# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables. What they leave out is the point: no id that counts up, no time of creation, no account id.

Primary keys are random-looking by nature (hashes, public keys), so the order of rows tells nothing; SQLite
tables are WITHOUT ROWID for the same reason.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Epoch and revision of this registry's history: one row.
history = Table(
    "history",
    metadata,
    Column("one", SmallInteger, primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("secrets", LargeBinary),  # what tells the secrets file that this was made with; NULL until its first use
)

accounts = Table(
    "accounts",
    metadata,
    Column("account", LargeBinary, primary_key=True),  # keyed hash of the operator's id
    Column("state", Text, nullable=False),  # active, suspended, closed
    Column("device_limit", Integer),  # NULL: the registry's
    Column("closed_day", Integer),  # days since 1970, only once closed
    sqlite_with_rowid=False,
)
Index(
    "ix_accounts_closed_day",
    accounts.c.closed_day,
    sqlite_where=text("closed_day IS NOT NULL"),
    postgresql_where=text("closed_day IS NOT NULL"),
)

registrations = Table(
    "registrations",
    metadata,
    Column("public_key", LargeBinary, primary_key=True),
    Column("account", LargeBinary, ForeignKey(accounts.c.account), nullable=False, index=True),
    Column("ipv4", BigInteger, unique=True),
    Column("ipv6", LargeBinary, unique=True),
    Column("preshared_key", LargeBinary),  # sealed (vault.py)
    Column("expires_day", Integer),  # days since 1970; NULL: never
    Column("leaves_at", BigInteger),  # seconds since 1970: end of the grace period of a key that is rotated out
    Column("replaces", LargeBinary),  # the key that this one rotates out, until that is gone
    sqlite_with_rowid=False,
)
# With the key: those of one day leave in the order of their keys.
Index("ix_registrations_expires_day", registrations.c.expires_day, registrations.c.public_key)
Index(
    "ix_registrations_leaves_at",
    registrations.c.leaves_at,
    sqlite_where=text("leaves_at IS NOT NULL"),
    postgresql_where=text("leaves_at IS NOT NULL"),
)
Index(
    "ix_registrations_replaces",
    registrations.c.replaces,
    sqlite_where=text("replaces IS NOT NULL"),
    postgresql_where=text("replaces IS NOT NULL"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("credential", LargeBinary, primary_key=True),  # keyed hash of the secret
    Column("kind", Text, nullable=False),  # client, operator, gateway
    Column("account", LargeBinary, ForeignKey(accounts.c.account), index=True),  # of a client
    Column("label", Text),  # of an operator or gateway: what a person calls it
    sqlite_with_rowid=False,
)
Index(
    "ix_credentials_label",
    credentials.c.label,
    sqlite_where=text("label IS NOT NULL"),
    postgresql_where=text("label IS NOT NULL"),
)

# Addresses that were released and rest: keyed hashes, without whose they were.
resting = Table(
    "resting",
    metadata,
    Column("address", LargeBinary, primary_key=True),
    Column("free_day", Integer, nullable=False, index=True),  # days since 1970
    sqlite_with_rowid=False,
)

# The change log, as far as it is retained. What was added is looked up in registrations: a key that has
# been removed since leaves nothing here but itself.
changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("public_key", LargeBinary, nullable=False, index=True),
    Column("kind", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),  # seconds since 1970: for the retention
)

# PostgreSQL only: changes of committed transactions that have no revision yet (sequencer.py).
outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("public_key", LargeBinary, nullable=False, index=True),
    Column("kind", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)

# What each gateway said last, for each of its interfaces: numbers about its peers, none about anybody.
reports = Table(
    "reports",
    metadata,
    Column("label", Text, primary_key=True),  # of the gateway's credential
    Column("interface", Text, primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("peers", Integer, nullable=False),
    Column("oldest_endpoint", Float),  # seconds
    Column("drift", BigInteger, nullable=False),  # peers that had to be put right
    Column("version", Text, nullable=False),  # of Lethe
    Column("at", BigInteger, nullable=False),  # seconds since 1970
    sqlite_with_rowid=False,
)

# A view: the registrations of active accounts, without whose they are. The feed reads nothing else of them.
feed_peers = Table(
    "feed_peers",
    MetaData(),
    Column("public_key", LargeBinary),
    Column("ipv4", BigInteger),
    Column("ipv6", LargeBinary),
    Column("preshared_key", LargeBinary),
)
