# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module of this collection in this process, as Ansible would on a host, and keeps all that it says."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args


@dataclass(frozen=True)
class Run:
    """What came of one run of a module."""

    result: dict[str, Any]
    journal: list[str] = field(default_factory=list)  # what it logs on the host

    @property
    def changed(self) -> bool:
        assert not self.failed, self.message
        return bool(self.result["changed"])

    @property
    def failed(self) -> bool:
        return bool(self.result.get("failed"))

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))

    @property
    def diff(self) -> str:
        return "{before}---\n{after}".format(**self.result["diff"])

    def tells(self, *secrets: str) -> list[str]:
        """The secrets that the journal, the message, the diff or any other part of the result has."""
        said = json.dumps(self.result, ensure_ascii=False) + "\n".join(self.journal)
        return [secret for secret in secrets if secret in said]

    def __getitem__(self, name: str) -> Any:
        assert not self.failed, self.message
        return self.result[name]


def module(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.lethe.wireguard.plugins.modules.{name}")


def run_module(name: str, options: dict[str, Any], *, check: bool = False) -> Run:
    """One run, with the diff that Ansible would show."""
    journal: list[str] = []

    def log(_self: AnsibleModule, message: Any, log_args: Any = None) -> None:
        journal.append(f"{message} {log_args}")

    output = io.StringIO()
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    with (
        patch_module_args(arguments),
        mock.patch.object(AnsibleModule, "log", log),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        module(name).main()
    return Run(json.loads(output.getvalue()), journal)
