# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of C(runtime_release): what does this host lack, build it, send it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils._bundle import BundleError, Target, bundle, digest

PACKAGE = Path(__file__).resolve().parents[1] / "module_utils" / "_lethe"
MODULE = "lethe.wireguard.runtime_release"


class ActionModule(ActionBase):
    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        del tmp
        _validation, options = self.validate_argument_spec(
            {
                "root": {"type": "str", "default": "/opt/lethe"},
                "command": {"type": "str", "default": "/usr/local/bin/lethe"},
                "keep": {"type": "int", "default": 2},
                "lock": {"type": "path", "required": True},
                "cache_dir": {"type": "path", "required": True},
                "wheels_dir": {"type": "path"},
            }
        )
        try:
            result.update(self._install(options, task_vars))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _install(self, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        on_host = {name: options[name] for name in ("root", "command", "keep")}
        host = self._on_host(on_host, task_vars)["host"]
        target = Target(host["python"], host["machine"])
        lock = Path(options["lock"])
        wanted = digest(PACKAGE, lock, target)
        result = {
            "release": wanted,
            "available": True,
            "changed": host["in_use"] != wanted,
            "diff": {"before": {"release": host["in_use"]}, "after": {"release": wanted}},
        }
        if not result["changed"]:
            return result
        if self._task.check_mode:
            result["available"] = False
            return result

        release = {**on_host, "digest": wanted}
        if wanted not in host["complete"]:
            wheels = Path(options["wheels_dir"]) if options["wheels_dir"] else None
            place = Path(options["root"]) / "releases" / wanted
            try:
                archive = bundle(PACKAGE, lock, target, place, Path(options["cache_dir"]), wheels)
            except BundleError as error:
                raise AnsibleActionFail(str(error)) from error
            release["archive"] = self._send(archive)
            release["checksum"] = hashlib.sha256(archive.read_bytes()).hexdigest()
        result["removed"] = self._on_host(release, task_vars)["removed"]
        return result

    def _send(self, archive: Path) -> str:
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        remote = shell.join_path(shell.tmpdir, archive.name)
        self._transfer_file(str(archive), remote)
        self._fixup_perms2((shell.tmpdir, remote))
        return remote

    def _on_host(self, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer = self._execute_module(module_name=MODULE, module_args=options, task_vars=task_vars)
        if answer.get("failed"):
            raise AnsibleActionFail(answer.get("msg", "the module failed without a message"), result=answer)
        return answer
