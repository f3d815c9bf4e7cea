# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: "{{ lookup('lethe.wireguard.run_directory') }}"
        dest: "{{ lookup('lethe.wireguard.run_directory') }}/secret"
    - ansible.builtin.copy:
        src: "{{ lookup('lethe.wireguard.run_directory') }}/secret"
        dest: "{{ told }}"
    - ansible.builtin.command: "{{ command }}"
"""


@pytest.mark.parametrize(("command", "status"), [("true", 0), ("false", 2)])
def test_what_is_in_it_is_gone_when_the_playbook_ends(tmp_path: Path, command: str, status: int) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PLAY, encoding="utf-8")

    run = subprocess.run(
        ["ansible-playbook", play, "-e", f"command={command}", "-e", f"told={tmp_path / 'told'}"],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".ansible/collections"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        },
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert run.returncode == status, run.stdout
    directory = Path((tmp_path / "told").read_text(encoding="utf-8"))
    assert directory.is_relative_to(tmp_path / "local")
    assert not directory.exists()
