# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things and what its machines look like, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Settings:
    """One invocation's settings. Memory is in MiB."""

    cache: Path
    run: Path
    memory: int
    cpus: int
    accelerator: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the LETHE_LAB_* variables (described in `lab --help`); raises LabError for a bad value."""
        cache = CHECKOUT / ".cache" / "lab"
        accelerator = environment.get("LETHE_LAB_ACCEL") or None
        if accelerator not in (None, "kvm", "tcg"):
            raise LabError(f"LETHE_LAB_ACCEL is {accelerator!r}; it must be kvm or tcg")
        return cls(
            cache=cache,
            run=Path(environment.get("LETHE_LAB_RUN") or cache / "run").absolute(),
            memory=positive(environment, "LETHE_LAB_MEMORY", 768),
            cpus=positive(environment, "LETHE_LAB_CPUS", 1),
            accelerator=accelerator,
        )


def positive(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise LabError(f"{name} is {text!r}; it must be a whole number above 0")
    return int(text)
