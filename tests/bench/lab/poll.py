# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a gateway of the lab: one poll, as a timer would start it. It fetches the snapshot and applies it."""

import json
import os
import ssl
import urllib.request
from pathlib import Path

SNAPSHOT = "/dev/shm/feed-bench-snapshot"

settings = json.loads(Path("/etc/lethe/key-sync.json").read_text())
credential = Path("/etc/lethe/key-sync.credential").read_text().strip()
request = urllib.request.Request(
    f"{settings['url']}/v1/feed/snapshot", headers={"Authorization": f"Bearer {credential}"}
)
with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=settings["ca_file"])) as answer:
    Path(SNAPSHOT).write_bytes(answer.read())
os.execv("/usr/local/bin/lethe", ["lethe", "agent", "apply", SNAPSHOT])
