# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Gives the host's newest PostgreSQL the settings on standard input, and a role and a database of the name that is
# given. Prints what it changed. The role is whom the system user of the same name is (peer authentication).
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
name=$1

as_postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$@"); }
ask() { as_postgres psql --no-psqlrc --tuples-only --no-align --quiet --command="$1" postgres; }

cluster=$(pg_lsclusters --no-header | sort -n | tail -n 1)
[ -n "$cluster" ] || {
  echo "PostgreSQL is installed and has no cluster: pg_createcluster --start VERSION main" >&2
  exit 1
}
# shellcheck disable=SC2086 # columns
set -- $cluster
settings=/etc/postgresql/$1/$2/conf.d/lethe.conf

umask 022
new=$(mktemp "$settings.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
chmod 0644 "$new"
if ! cmp --silent "$new" "$settings"; then
  mv "$new" "$settings"
  systemctl restart "postgresql@$1-$2.service"
  echo "settings"
fi
systemctl start "postgresql@$1-$2.service"
if [ -z "$(ask "SELECT 1 FROM pg_roles WHERE rolname = '$name'")" ]; then
  ask "CREATE ROLE \"$name\" LOGIN"
  echo "role"
fi
if [ -z "$(ask "SELECT 1 FROM pg_database WHERE datname = '$name'")" ]; then
  ask "CREATE DATABASE \"$name\" OWNER \"$name\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
  echo "database"
fi
