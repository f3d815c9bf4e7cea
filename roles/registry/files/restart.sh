# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Starts the registry as it is configured now, with its database as this version needs it.
set -eu
unit=lethe-registry.service
systemctl daemon-reload
! systemctl --quiet is-active "$unit" || systemctl stop "$unit"
/usr/local/sbin/lethe-registry migrate
systemctl start "$unit" || {
  echo "$unit does not start; the last it said:" >&2
  journalctl --unit="$unit" --lines=10 --output=cat --no-pager >&2
  exit 1
}
