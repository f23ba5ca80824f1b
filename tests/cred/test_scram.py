"""The proof of a password by both sides: RFC 7677's numbers, and what the proof covers."""

from __future__ import annotations

import base64

import pytest

from pbnb.cred.scram import (
    ROUNDS,
    Scram,
    client_proof,
    derive,
    is_acceptable,
    server_proof,
    transcript,
)

# RFC 7677, section 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SAID = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

PARTS = (b"alice", b"c" * 32, b"s" * 32, b"t" * 16, ROUNDS, b"127.0.0.1:8789")


def test_the_numbers_of_the_rfc() -> None:
    keys = derive("pencil", SALT, 4096)
    assert client_proof(keys, SAID) == PROOF
    assert server_proof(keys, SAID) == SIGNATURE


def test_the_right_password_gives_the_keys_for_the_answer() -> None:
    credentials = Scram("user", SAID, PROOF, SALT, 4096)
    assert not credentials.checked
    assert credentials.checkPassword(b"pencil") and credentials.checked
    assert credentials.keys is not None and server_proof(credentials.keys, SAID) == SIGNATURE


@pytest.mark.parametrize("proof", [PROOF, SIGNATURE, b"", PROOF[:-1], PROOF + b"x", bytes(32)])
def test_a_wrong_password_gives_nothing(proof: bytes) -> None:
    credentials = Scram("user", SAID, proof, SALT, 4096)
    assert not credentials.checkPassword("Pencil")
    assert credentials.checked and credentials.keys is None


@pytest.mark.parametrize("changed", range(len(PARTS)))
def test_everything_that_was_said_is_covered(changed: int) -> None:
    parts: list[object] = list(PARTS)
    part = PARTS[changed]
    parts[changed] = part + 1 if isinstance(part, int) else part + b"x"
    assert transcript(*parts) != transcript(*PARTS)  # type: ignore[arg-type]


def test_nothing_can_be_moved_from_one_part_to_the_next() -> None:
    one = transcript(b"alice", b"5:x,", b"", b"", 1, b"")
    other = transcript(b"alice", b"", b"5:x,", b"", 1, b"")
    assert one != other


def test_the_proofs_of_the_two_sides_differ() -> None:
    keys, said = derive("secret", b"t" * 16, ROUNDS), transcript(*PARTS)
    assert client_proof(keys, said) != server_proof(keys, said)


@pytest.mark.parametrize(
    ("nonce", "salt", "rounds", "good"),
    [
        (b"n" * 32, b"s" * 16, 4096, True),
        (b"n" * 32, b"s" * 16, 2_000_000, True),
        (b"n" * 31, b"s" * 16, 4096, False),
        (b"n" * 32, b"s" * 15, 4096, False),
        (b"n" * 32, b"s" * 16, 4095, False),
        (b"n" * 32, b"s" * 16, 1, False),
        (b"n" * 32, b"s" * 16, -4096, False),
        (b"n" * 32, b"s" * 16, 2_000_001, False),
        (b"n" * 32, b"s" * 16, 1e6, False),
        ("n" * 32, b"s" * 16, 4096, False),
        (b"n" * 32, None, 4096, False),
    ],
)
def test_what_a_client_answers(nonce: object, salt: object, rounds: object, good: bool) -> None:
    assert is_acceptable(nonce, salt, rounds) is good
