"""Objects to s-expressions and back, with sharing and cycles kept.

`jelly` turns an object into the trees of lists, bytes and numbers that banana carries;
`unjelly` turns them back, and lets nothing in that the `SecurityOptions` do not allow.
"""

from ..errors import InsecureJelly
from .jelly import jelly
from .security import SecurityOptions, global_security
from .unjelly import unjelly

__all__ = ["InsecureJelly", "SecurityOptions", "global_security", "jelly", "unjelly"]
