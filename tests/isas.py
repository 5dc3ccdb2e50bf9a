"""The instruction sets that tests run on: this machine's, and what a build with TFCORE_TEST_ISAS adds to them."""

from __future__ import annotations

import tfcore
from tfcore import _core

LOWERED = "x86-64-v4-lowered"  # the tiles and lanes of x86-64-v4, in instructions of x86-64-v3


def _can_use(name: str) -> bool:
    before = _core.isa()
    try:
        _core.set_isa(name)
    except ValueError:
        return False
    _core.set_isa(before)
    return True


ISAS = [*tfcore.available_isas(), *filter(_can_use, [LOWERED])]  # the best comes first
FMA_ISAS = [name for name in ISAS if name != "x86-64-v2"]  # which rounds a product before adding it
