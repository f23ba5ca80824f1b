"""Login: who may have the root object."""

from .challenge import Challenger, new_challenge, respond
from .token import TOKEN_USER, TokenLogin, new_token

__all__ = ["TOKEN_USER", "Challenger", "TokenLogin", "new_challenge", "new_token", "respond"]
