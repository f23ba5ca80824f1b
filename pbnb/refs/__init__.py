"""What this end of a connection has lent to its peer, and what it has borrowed."""

from .caches import Cached, CachedRemotely, Observer
from .reference import BorrowedReference, Peer, RemoteMethod, RemoteReference
from .tables import Borrowed, Lent, Loan, Refs

__all__ = [
    "Borrowed",
    "BorrowedReference",
    "Cached",
    "CachedRemotely",
    "Lent",
    "Loan",
    "Observer",
    "Peer",
    "Refs",
    "RemoteMethod",
    "RemoteReference",
]
