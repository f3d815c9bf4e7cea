# Copyright (c) 2026, the Lethe contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways read: who may connect. Accounts are not among it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from ..errors import NotAllowed, NotAuthenticated
from . import export
from .caller import Gateway
from .problems import DatabaseAway, RateLimited, TooBusy, documented
from .service import service_of

router = APIRouter(prefix="/v1", tags=["gateway"])


@router.get(
    "/peers",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One peer per line, as the module `lethe.wireguard.peers` reads them from a file. "
            "An answer that ends early is cut off without its last chunk: do not use it.",
            "content": {export.MEDIA_TYPE: {"schema": {"type": "string"}}},
            "headers": {
                "Lethe-Epoch": {"description": "The registry's epoch.", "schema": {"type": "string"}},
                "Lethe-Revision": {"description": "Later changes may be missing.", "schema": {"type": "integer"}},
            },
        },
        **documented(NotAuthenticated, NotAllowed, RateLimited, DatabaseAway, TooBusy),
    },
)
async def peers(request: Request, gateway: Gateway) -> StreamingResponse:
    """All peers that gateways should have, as they are at one revision, as JSON lines."""
    running = export.Export(service_of(request), gateway.authenticated(lambda *_: None))
    try:
        return export.ExportResponse(running, await gateway.judged(running.position()))
    except BaseException:
        running.close()
        raise
