# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module shares: the interpreter it runs under, how its result is put together, how it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from site import addsitedir
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ._lethe.wireguard.device import Device, KernelDevice
from ._lethe.wireguard.errors import LetheError, MissingLibrary
from ._lethe.wireguard.interface import InterfaceState, check_name
from ._lethe.wireguard.keys import fingerprint
from ._lethe.wireguard.plan import Plan

RUNTIME = Path("/opt/lethe/current/venv")
"""The virtual environment that the role lethe.wireguard.runtime puts on a host."""

REGISTRY_RUNTIME = Path("/opt/lethe-registry/current/venv")
"""The same that the role lethe.wireguard.registry puts there, with what a registry needs beside."""

PYNACL, PYROUTE2, CRYPTOGRAPHY = "PyNaCl", "pyroute2", "cryptography"
_IMPORT_NAMES = {PYNACL: "nacl", PYROUTE2: "pyroute2"}

_PEERS_IN_DIFF = 20

INTERFACE_SPEC: dict[str, Any] = {"interface": {"type": "str", "required": True, "aliases": ["name"]}}


@dataclass(frozen=True)
class Diff:
    """What the user sees of a change; texts of whole lines, free of keys, addresses and endpoints."""

    before: str
    after: str


@dataclass(frozen=True)
class Outcome:
    """What a module did, or in check mode would do."""

    changed: bool
    values: Mapping[str, Any]  # what it returns beside the usual
    diff: Diff | None = None


Options = Mapping[str, Any]


def run(
    module: AnsibleModule, carry_out: Callable[[Options, bool], Outcome], libraries: Sequence[str] = ()
) -> NoReturn:
    """Carry out what the module is for and end it: the one place where a module succeeds or fails.

    ``carry_out`` takes the options and whether this is check mode. ``libraries`` it needs are there when it
    is called.
    """
    if libraries:
        _use_runtime(module, libraries)
    _show_numbers(module)
    try:
        outcome = carry_out(module.params, module.check_mode)
    except MissingLibrary as error:
        if error.library == CRYPTOGRAPHY:
            _use_runtime_that_opens(module)
        _fail_without(module, error.library)
    except LetheError as error:
        module.fail_json(msg=str(error), invocation=_invocation(module))
    except OSError as error:
        # Its text names a file of the host and never what is in it.
        module.fail_json(msg=f"the host refused: {error}", invocation=_invocation(module))
    result = {"changed": outcome.changed, **outcome.values, "invocation": _invocation(module)}
    if outcome.diff and module._diff:  # noqa: SLF001, as every module does: there is no other way to ask
        result["diff"] = {"before": outcome.diff.before, "after": outcome.diff.after}
    module.exit_json(**result)


def open_device(options: Options) -> Device:
    """The interface that the option of INTERFACE_SPEC names. Raises InvalidValue if it cannot be a name."""
    return KernelDevice(check_name(options["interface"]))


def interface_values(state: InterfaceState) -> dict[str, Any]:
    """An interface as it is returned."""
    return {
        "name": state.name,
        "state": "up" if state.up else "down",
        "public_key": state.public_key.text if state.public_key else None,
        "listen_port": state.listen_port,
        "fwmark": state.fwmark,
        "mtu": state.mtu,
        "addresses": [str(address) for address in state.addresses],
    }


def _use_runtime(module: AnsibleModule, libraries: Sequence[str]) -> None:
    """Use the runtime's libraries, which are the tested versions, if it is there; otherwise make do with the
    host's own. Where the runtime has another interpreter, the module starts again under that. Done before
    anything is changed: starting again forgets what was.

    Only for modules with small arguments: Ansible writes them into a pipe that nobody reads yet, and beyond
    64 KiB would wait for ever.
    """
    if _has_this_interpreter(RUNTIME) and not has_respawned():
        _import_from(RUNTIME)
    else:
        _start_again(module, RUNTIME)
    for library in libraries:
        if find_spec(_IMPORT_NAMES[library]) is None:
            _fail_without(module, library)


def _use_runtime_that_opens(module: AnsibleModule) -> NoReturn:
    """The same for the library that opens sealed preshared keys: registries and clients have it, gateways do not. Only
    a registry's answer tells that it is needed; then too nothing was changed.
    """
    _start_again(module, REGISTRY_RUNTIME)
    _start_again(module, RUNTIME)
    module.fail_json(
        msg=f"{missing_required_lib(f'{CRYPTOGRAPHY} >= 48')} This fleet's preshared keys are told sealed only. The "
        "easiest is to delegate the task to the registry's host: it has the library, and this module then uses it.",
        invocation=_invocation(module),
    )


def _has_this_interpreter(runtime: Path) -> bool:
    python = runtime / "bin/python"
    return python.exists() and python.resolve() == Path(sys.executable).resolve()


def _import_from(runtime: Path) -> None:
    own = [*sys.path]
    for site_packages in runtime.resolve().glob("lib/python3.*/site-packages"):
        addsitedir(str(site_packages))
    sys.path[:] = [*(path for path in sys.path if path not in own), *own]


def _start_again(module: AnsibleModule, runtime: Path) -> None:
    python = runtime / "bin/python"
    if has_respawned() or not python.exists() or runtime.samefile(sys.prefix):
        return
    if "mitogen" in sys.modules:
        module.fail_json(
            msg=f"This module has to start again under {python}, which Mitogen's strategies cannot do. Let the play "
            "have strategy: linear, or let ansible_python_interpreter be that one for this task.",
            invocation=_invocation(module),
        )
    respawn_module(str(python))


def _fail_without(module: AnsibleModule, library: str) -> NoReturn:
    module.fail_json(
        msg=f"{missing_required_lib(library)} Easiest is to deploy the role lethe.wireguard.runtime to this host: "
        f"it brings the library, and this module then uses {RUNTIME} by itself."
    )


def _show_numbers(module: AnsibleModule) -> None:
    """Let numbers that are part of an option with no_log be shown: a list of peers holds keepalives, and Ansible
    would censor every count in the result that has the digits of one.
    """
    module.no_log_values = {value for value in module.no_log_values if not value.isdigit()}


def show_value(module: AnsibleModule, option: str) -> None:
    """Do not censor what a result has in common with an option with no_log: the module itself keeps that out, and
    a short one, such as an account's name, would be found in words that have nothing to do with it.
    """
    module.no_log_values.discard(module.params[option])


def _invocation(module: AnsibleModule) -> dict[str, Any]:
    """The options as the result repeats them. Ansible's own way takes 20 s to hide 10,000 peers, because it looks
    for each hidden value in each value, and leaves the keys of a mapping to be seen.
    """
    hidden = {name for name, option in module.argument_spec.items() if option.get("no_log")}
    shown = {
        name: "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if name in hidden and value is not None else value
        for name, value in module.params.items()
    }
    return {"module_args": shown}


def peers_diff(plan: Plan) -> Diff:
    """Which peers change, and what of them: at most 20 by their fingerprints, the others as a number."""
    changes = len(plan.removed) + len(plan.updated) + len(plan.added)
    listed = list(islice(_changes(plan), _PEERS_IN_DIFF))
    rest = [f"... and {changes - len(listed)} more"] if changes > len(listed) else []
    before = [f"{plan.current} peers", *(line for line, _after in listed if line), *rest]
    after = [
        f"{plan.current - len(plan.removed) + len(plan.added)} peers",
        *(line for _before, line in listed if line),
        *rest,
    ]
    return Diff("\n".join(before) + "\n", "\n".join(after) + "\n")


def _changes(plan: Plan) -> Iterator[tuple[str, str]]:
    """For each peer that changes a line before and a line after; empty where it is not there."""
    for public_key in plan.removed:
        yield f"peer {fingerprint(public_key)}", ""
    for update in plan.updated:
        name = fingerprint(update.public_key)
        wanted = ", ".join(update.fields)
        if update.allowed_ips is not None:
            more = " more" if update.keep_other_allowed_ips else ""
            wanted = wanted.replace("allowed_ips", f"allowed_ips ({len(update.allowed_ips.nests())}{more})")
        yield f"peer {name}: other {', '.join(update.fields)}", f"peer {name}: wanted {wanted}"
    for peer in plan.added:
        yield "", f"peer {fingerprint(peer.public_key)}: allowed_ips ({len(peer.allowed_ips.nests())})"
