# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Makes a key and a certificate for these names that is signed by itself, unless there is one for them. Prints what it
# did. It is valid for ten years: whoever trusts it has it as a file, and would have to be given another one.
set -eu
certificate=$1
key=$2
shift 2

names="DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1"
for name; do
  case $name in
    localhost | 127.0.0.1 | ::1) ;;
    *:* | *[0-9].[0-9]*[0-9]) names="$names,IP:$name" ;;
    *) names="$names,DNS:$name" ;;
  esac
done

fits() {
  [ -s "$key" ] && openssl x509 -in "$certificate" -noout -checkend 2592000 || return 1
  for name; do
    case $name in
      *:* | *[0-9].[0-9]*[0-9]) question=-checkip ;;
      *) question=-checkhost ;;
    esac
    openssl x509 -in "$certificate" -noout "$question" "$name" | grep --quiet 'does match' || return 1
  done
}
fits "$@" >/dev/null 2>&1 && exit

umask 077
new=$(mktemp -d "$certificate.XXXXXX")
trap 'rm -rf "$new"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 3650 \
  -subj "/CN=Lethe registry" -addext "subjectAltName=$names" -addext "basicConstraints=critical,CA:FALSE" \
  -addext "keyUsage=critical,digitalSignature" -addext "extendedKeyUsage=serverAuth" \
  -keyout "$new/key" -out "$new/certificate" 2>"$new/log" || {
  cat "$new/log" >&2
  exit 1
}
chmod 0644 "$new/certificate"
mv "$new/key" "$key"
mv "$new/certificate" "$certificate"
echo "$names"
