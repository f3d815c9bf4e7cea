# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Starts the registry and its feed as they are configured now, with the database as this version needs it.
set -eu
units='lethe-registry.service lethe-feed.service'
systemctl daemon-reload
for unit in $units; do
  ! systemctl --quiet is-active "$unit" || systemctl stop "$unit"
done
/usr/local/sbin/lethe-registry migrate
for unit in $units; do
  systemctl start "$unit" || {
    echo "$unit does not start; the last it said:" >&2
    journalctl --unit="$unit" --lines=10 --output=cat --no-pager >&2
    exit 1
  }
done
