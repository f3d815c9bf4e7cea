# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Fails with a reason unless the client runs, is going to after a reboot, and a gateway answers it.
set -eu
seconds=$1
unit=lethe-client.service

fail() {
  echo "$1" >&2
  journalctl --unit="$unit" --lines=10 --output=cat --no-pager >&2
  exit 1
}

systemctl --quiet is-enabled "$unit" || fail "$unit is not enabled; the last it said:"
systemctl --quiet is-active "$unit" || fail "$unit is not active; the last it said:"
/usr/local/bin/lethe client wait --timeout "$seconds" || fail "$unit is not connected; the last it said:"
