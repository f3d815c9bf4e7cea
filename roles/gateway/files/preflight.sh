# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Prints, as YAML, what a host is like before the gateway role changes anything: reasons to stop, and what is still
# to be done. It is one script because a question to a host costs a second, and there are many.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
interface=$1
uplink=$2

yes_or_no() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }

problem() {
  [ -n "${problems-}" ] || echo 'problems:'
  problems=1
  printf -- '- "%s"\n' "$1"
}

modprobe --quiet --dry-run wireguard || [ -d /sys/module/wireguard ] ||
  problem "the kernel $(uname -r) has no wireguard module: install the distribution's full kernel and boot it"
[ ! -e "/etc/wireguard/$interface.conf" ] ||
  problem "/etc/wireguard/$interface.conf exists and would be used beside this role: move it away, or set gateway_interface to another name"
if systemctl --quiet is-enabled "wg-quick@$interface.service" 2>/dev/null || systemctl --quiet is-active "wg-quick@$interface.service"; then
  problem "wg-quick@$interface.service manages the interface: systemctl disable --now wg-quick@$interface.service"
fi
if [ -z "$uplink" ]; then
  problem "there is no default route to tell the uplink from: set gateway_uplink"
elif [ ! -e "/sys/class/net/$uplink" ]; then
  problem "the uplink $uplink does not exist on this host: correct gateway_uplink"
fi
[ -n "${problems-}" ] || echo 'problems: []'

debugged() { grep -q '\[wireguard\][^"]* =[a-z]*p' /proc/dynamic_debug/control; }
parameters() {
  sed -n 's/^\([a-z][^ ]*\) = \(.*\)$/\1 \2/p' /etc/sysctl.d/90-lethe.conf | while read -r key value; do
    [ "$(sysctl --values "$key")" = "$value" ] || exit 1
  done
}
# Whether the kernel has the table, where the unit says that it was loaded.
firewall() { ! systemctl --quiet is-active "lethe-firewall@$interface.service" || nft list table inet "lethe_$interface"; }
journal_on_disk() { [ -n "$(ls /var/log/journal 2>/dev/null)" ]; }
swapping() { [ "$(wc -l </proc/swaps)" -gt 1 ]; }
swap_at_boot() { [ "$(systemctl show --property=LoadState --value swap.target)" != masked ]; }

echo "runtime: $(yes_or_no test -x /opt/lethe/current/bin/lethe)"
echo "nft: $(yes_or_no command -v nft)"
echo "parameters: $(yes_or_no parameters)"
echo "firewall: $(yes_or_no firewall)"
echo "dynamic_debug: $(yes_or_no debugged)"
echo "kexec: $(yes_or_no test -e /proc/sys/kernel/kexec_load_disabled)"
echo "journal_on_disk: $(yes_or_no journal_on_disk)"
echo "swap: $(yes_or_no swapping)"
echo "swap_target: $(yes_or_no swap_at_boot)"
echo "zramswap: $(yes_or_no systemctl is-enabled zramswap.service)"
# 0: static, or handled in user space; 1: the kernel configures itself from router advertisements unless it forwards
echo "accept_ra: $(cat "/proc/sys/net/ipv6/conf/$uplink/accept_ra" 2>/dev/null || echo 0)"
