# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Fails with a reason unless a purge run succeeds as the timer's service, and the timer is set.
set -eu
interface=$1

fail() {
  echo "$1" >&2
  exit 1
}

for question in is-enabled is-active; do
  systemctl --quiet "$question" "lethe-purge@$interface.timer" || fail "lethe-purge@$interface.timer: $question says no"
done
systemctl start "lethe-purge@$interface.service" ||
  fail "the purge fails: $(journalctl --unit="lethe-purge@$interface.service" --lines=5 --output=cat)"
