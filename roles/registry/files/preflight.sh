# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Prints, as YAML, what a host is like before the registry role changes anything. It is one script because a question
# to a host costs a second, and there are many.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin

yes_or_no() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }
has_postgresql() { ls /usr/lib/postgresql/*/bin/postgres; }

echo "user: $(yes_or_no id lethe-registry)"
echo "openssl: $(yes_or_no command -v openssl)"
echo "postgresql: $(yes_or_no has_postgresql)"
echo "service: $(yes_or_no systemctl cat lethe-registry.service lethe-feed.service)"
