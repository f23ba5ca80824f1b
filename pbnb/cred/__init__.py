"""Login: who somebody is, and what they reach."""

from . import checkers
from .checkers import AllowAnonymousAccess, PasswordChecker
from .credentials import Anonymous, UsernamePassword
from .invitation import Invitation
from .login import LoginRoot, Salts
from .portal import IPerspective, Portal
from .secret import Secret
from .session import Session
from .token import TOKEN_USER, new_token, token_portal

__all__ = [
    "TOKEN_USER",
    "AllowAnonymousAccess",
    "Anonymous",
    "IPerspective",
    "Invitation",
    "LoginRoot",
    "PasswordChecker",
    "Portal",
    "Salts",
    "Secret",
    "Session",
    "UsernamePassword",
    "checkers",
    "new_token",
    "token_portal",
]
