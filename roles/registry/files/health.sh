# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Fails with a reason unless a service of the registry runs, is going to after a reboot, and its database answers.
set -eu
unit=$1
python=$2
scheme=$3
host=$4
port=$5

fail() {
  echo "$1" >&2
  journalctl --unit="$unit" --lines=10 --output=cat --no-pager >&2
  exit 1
}

systemctl --quiet is-enabled "$unit" || fail "$unit is not enabled; the last it said:"
systemctl --quiet is-active "$unit" || fail "$unit is not active; the last it said:"
# On this very host: whose certificate it is is not in question.
"$python" -I - "$scheme" "$host" "$port" <<'X' || fail "$unit is active and does not answer; the last it said:"
import http.client, ssl, sys

scheme, host, port = sys.argv[1:]
host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
options = {"context": context} if scheme == "https" else {}
connection = kind(host, int(port), timeout=30, **options)
connection.request("GET", "/readyz")
answer = connection.getresponse()
if answer.status != 200:
    sys.exit(f"/readyz answers {answer.status}: {answer.read(1000).decode(errors='replace')}")
X
