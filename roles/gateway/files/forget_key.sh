# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Takes a key that is not the interface's any more from systemd, which keeps what a unit was started with, in memory, as
# long as the unit is active. Says so if there was one.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
credentials=/run/credentials/lethe-interface@$1.service
key_file=$2

[ -e "$credentials/private-key" ] || exit 0
cmp -s "$credentials/private-key" "$key_file" && exit 0
# A file system of its own, which is read-only; where there can be none, as in some containers, a directory.
umount "$credentials" 2>/dev/null || rm -f "$credentials/private-key" 2>/dev/null || true
if [ -e "$credentials/private-key" ]; then
  echo "systemd still has the key before, in $credentials; restart lethe-interface@$1.service when it suits you" >&2
  exit 1
fi
echo "it is gone from $credentials"
