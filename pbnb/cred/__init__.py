"""Login: who somebody is, and what they reach."""

from . import checkers
from .checkers import AllowAnonymousAccess, PasswordChecker
from .credentials import Anonymous, UsernamePassword
from .guests import OWNER, Guest, Guests, guest_portal
from .invitation import Invitation
from .login import LoginRoot, Salts
from .portal import IPerspective, Portal
from .secret import Secret
from .session import Session
from .token import TOKEN_USER, new_token, user_of_token

__all__ = [
    "OWNER",
    "TOKEN_USER",
    "AllowAnonymousAccess",
    "Anonymous",
    "Guest",
    "Guests",
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
    "guest_portal",
    "new_token",
    "user_of_token",
]
