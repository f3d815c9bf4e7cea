# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test image only: keeps the byte code of modules that are imported from a zip file.

Ansible sends every task as a zip file of some sixty sources, and Python never caches the byte code of
a zip's modules. Compiling them again for every task takes seconds under software emulation. The
byte code is kept by a hash of the source, so a changed source is never confused with an old one.
"""

import _imp
import marshal
import os
import zipimport

_CACHE = "/var/cache/zip-bytecode/"
_compile_source = zipimport._compile_source


def _cached_compile(pathname: str, source: bytes) -> object:
    name = f"{_imp.source_hash(0x4C455448, source).hex()}-{os.path.basename(pathname)}"
    try:
        with open(_CACHE + name, "rb") as cached:
            return marshal.loads(cached.read())
    except (OSError, ValueError, EOFError, TypeError):
        code = _compile_source(pathname, source)
    partial = f"{_CACHE}{name}.{os.getpid()}"
    try:
        with open(partial, "wb") as cached:
            cached.write(marshal.dumps(code))
        os.rename(partial, _CACHE + name)
    except OSError:  # an unprivileged user, a read-only unit: work without the cache
        pass
    return code


zipimport._compile_source = _cached_compile
