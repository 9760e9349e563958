"""A network that somebody already has, as a supernet: its largest path is that network, narrower ones are parts of it.

`channels` finds out which channels belong together, `anatomy` what can be chosen, `cutting` runs and copies narrower networks,
`importance` sorts channels so that the leading ones matter most, `sizes` counts what every path costs, `supernet` is the supernet, and
`source` reads the network from where its owner has it.
"""

from __future__ import annotations

from supernet.given.anatomy import Anatomy, examine
from supernet.given.supernet import GivenSupernet

__all__ = ["Anatomy", "GivenSupernet", "examine"]
