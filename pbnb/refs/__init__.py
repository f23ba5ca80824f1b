"""What this end of a connection has lent to its peer, and what it has borrowed."""

from .reference import Peer, RemoteMethod, RemoteReference
from .tables import Borrowed, Lent, Loan, Refs

__all__ = ["Borrowed", "Lent", "Loan", "Peer", "Refs", "RemoteMethod", "RemoteReference"]
