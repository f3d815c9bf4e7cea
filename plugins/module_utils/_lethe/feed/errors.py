# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why something that claims to be the registry's is not used."""

from __future__ import annotations

from ..wireguard.errors import LetheError


class DocumentRefused(LetheError):
    """A snapshot, a batch or an event that is not what it should be; nothing of it is used, or shown."""

    def __init__(self, what: str, problem: str, remedy: str) -> None:
        super().__init__(f"{what}: {problem}; {remedy}")
        self.what = what


class NotGenuine(DocumentRefused):
    """No key that is known has signed it: it was changed on its way, or somebody else made it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            "is not signed by this fleet's registry",
            "compare the verify keys with what the registry's host says: lethe-registry feed-key show",
        )


def cut_off(what: str) -> DocumentRefused:
    """A document that was signed, and yet is not whole: the two sides speak different versions."""
    return DocumentRefused(what, "is not laid out as this version expects", "use one version of Lethe on all hosts")
