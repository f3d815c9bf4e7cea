# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Fails with a reason unless the gateway's interface and its firewall are in the kernel, and are there again after a reboot.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
interface=$1

fail() {
  echo "$1" >&2
  exit 1
}

for unit in "lethe-firewall@$interface.service" "lethe-interface@$interface.service"; do
  systemctl --quiet is-enabled "$unit" || fail "$unit is not enabled"
  systemctl --quiet is-active "$unit" || fail "$unit is not active: $(journalctl --unit="$unit" --lines=5 --output=cat)"
done
[ -n "$(ip -o link show dev "$interface" up type wireguard)" ] || fail "$interface is not an active WireGuard interface"
nft list table inet "lethe_$interface" | grep -q notrack || fail "the firewall table lethe_$interface is not loaded"
