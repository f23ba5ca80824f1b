"""Attacks by number: what a hostile peer sends over a raw socket, and what comes of it.

Each number stands for one way to attack; several tests may hold one number. Here is what can be
sent as bytes; what takes several messages is in test_conversations.py, and the table says where the
others are tested.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.cred import challenge
from pbnb.protocol.dialects import DIALECTS
from pbnb.wire.banana import NEED_DATA, Decoder, encode
from tests.support.ports import free_port
from tests.support.serving import tables, until

TESTS = Path(__file__).parent.parent
NUMBERS = range(1, 55)

# Where the rest of each number is tested: file, and names of tests.
ELSEWHERE: dict[int, list[str]] = {
    2: ["wire/test_banana.py::test_many_long_strings_in_one_list_are_refused"],
    3: ["wire/test_banana.py::test_many_small_lists_are_refused"],
    5: ["wire/test_banana.py::test_a_string_in_segments_of_one_byte"],
    6: ["wire/test_banana.py::test_many_small_items_in_one_segment"],
    7: [
        "aio/test_liveness.py::test_an_opening_that_does_not_end_is_ended",
        "aio/test_liveness.py::test_a_peer_that_never_logs_in_is_hung_up_on",
    ],
    8: [
        "aio/test_factory.py::test_before_the_login_a_peer_may_only_send_little",
        "protocol/test_broker.py::test_a_guarded_broker_is_tighter_until_the_peer_is_admitted",
        "test_limits.py::test_a_stranger_gets_less",
    ],
    9: ["wire/test_banana.py::test_depth_is_the_same_for_every_recursion_limit"],
    10: ["protocol/test_broker.py::test_an_answer_nested_too_deep_fails_that_call"],
    11: ["wire/test_banana.py::test_lists_nested_100000_deep_are_refused_early"],
    12: [
        "jelly/test_unjelly.py::test_keys_that_share_a_hash_are_bounded",
        "jelly/test_unjelly.py::test_a_key_that_takes_for_ever_to_hash_is_refused",
    ],
    17: [
        "jelly/test_unjelly.py::test_a_billion_laughs_are_read_without_being_multiplied",
        "notebook/test_displays.py::test_a_billion_laughs_of_a_peer_are_displayed_at_once",
    ],
    22: ["jelly/test_unjelly.py::test_local_finds_what_was_lent_and_nothing_else"],
    25: [
        "refs/test_tables.py::test_a_peer_may_not_lend_without_end",
        "refs/test_tables.py::test_a_count_does_not_go_below_zero",
    ],
    26: [
        "protocol/test_broker.py"
        "::test_an_object_is_itself_even_when_its_decref_comes_before_the_answer"
    ],
    27: ["refs/test_caches.py::test_ids_that_break_the_protocol"],
    28: ["attacks/test_fuzz.py::test_any_tree_in_any_place_harms_nobody"],
    30: ["jelly/test_unjelly.py::test_a_hook_in_a_state_is_not_called"],
    31: [
        "protocol/test_broker.py::test_a_failure_as_an_argument_is_a_value",
        "test_failure.py::test_the_repr_is_one_bounded_line",
    ],
    32: ["jelly/test_security.py::test_one_connection_s_options_are_not_another_s"],
    43: [
        "test_failure.py::test_nothing_that_a_peer_wrote_reaches_a_terminal_as_it_is",
        "test_failure.py::test_a_card_of_a_failure_is_short_and_only_text",
        "attacks/test_conversations.py::test_43_what_a_method_says_when_it_fails",
        "attacks/test_conversations.py::test_43_a_server_that_answers_with_poison",
        "protocol/test_snapshot.py::test_a_luid_is_safe_to_show",
        "notebook/test_panel.py::test_words_of_peers_are_escaped_and_short",
    ],
    44: ["jelly/test_failures.py::test_nothing_of_this_process_travels_by_itself"],
    45: [
        "aio/test_login.py::test_what_is_relayed_to_the_real_server_is_refused",
        "aio/test_tls.py::test_a_relay_with_a_key_of_its_own_gets_nothing",
        "aio/test_unix.py::test_a_login_is_good_for_one_path",
        "cred/test_login.py::test_a_proof_for_another_address_is_refused",
    ],
    47: [
        "aio/test_handshakes.py::test_what_is_no_tls_is_hung_up_on",
        "aio/test_handshakes.py::test_an_older_tls_is_refused",
        "aio/test_handshakes.py::test_a_handshake_that_stalls_is_ended",
        "aio/test_handshakes.py::test_of_handshakes_there_are_only_so_many",
    ],
    48: [
        "aio/test_server.py::test_a_token_is_made_and_never_shown",
        "aio/test_unix.py::test_a_real_other_user",
        "aio/test_unix.py::test_another_user_is_hung_up_on",
        "notebook/test_serving.py::test_a_unix_socket_is_put_where_nobody_else_comes",
    ],
    49: [
        "notebook/test_inviting.py::test_no_secret_is_in_any_output",
        "notebook/test_invitation_widget.py::test_the_line_is_revealed_in_the_page_and_is_not_saved",
        "aio/test_inviting.py::test_no_secret_is_logged_or_shown",
    ],
    50: [
        "aio/test_inviting.py::test_taking_one_back_cuts_its_connections_and_no_others",
        "aio/test_inviting.py::test_the_end_of_an_invitation_cuts_its_connections",
    ],
    51: [
        "attacks/test_limits.py::test_a_flood_at_the_usual_limits",
        "aio/test_flow.py::test_a_peer_that_calls_and_does_not_read_is_not_read_from",
        "aio/test_flow.py::test_refused_calls_cannot_grow_the_memory_either",
    ],
    52: [
        "aio/test_turns.py::test_calls_beyond_the_limits_wait_and_then_are_refused",
        "aio/test_turns.py::test_of_what_runs_for_nobody_only_so_much_is_kept",
    ],
    53: ["aio/test_turns.py::test_methods_may_call_each_other_a_thousand_deep"],
    54: ["attacks/test_fuzz.py::test_any_bytes_harm_nobody"],
}


class Desk(pb.Root):
    def remote_echo(self, *args: Any, **kw: Any) -> Any:
        return args[0] if args else None

    def remote_count(self, *args: Any) -> int:
        return len(args)

    def remote_drop(self, *args: Any, **kw: Any) -> None:
        pass


def call(
    *args: Any, name: Any = b"drop", obj: Any = b"root", number: Any = 1, kw: Any = None
) -> bytes:
    keywords = [b"dictionary"] if kw is None else kw
    return encode([b"message", number, obj, name, 1, [b"tuple", *args], keywords])


def nested(depth: int) -> Any:
    tree: Any = [b"list"]
    for _ in range(depth):
        tree = [b"list", tree]
    return tree


def array(dtype: Any, *shape: int, order: bytes = b"C", memory: bytes = b"12345678") -> Any:
    return [b"pbnb.ndarray", [b"list", dtype, order, [b"list", *shape], memory]]


def column(dtype: bytes, offset: int, *more: Any) -> Any:
    return [b"list", [b"unicode", b"a"], dtype, offset, *more]


def dictionary(*keys: Any) -> list[Any]:
    return [b"dictionary", *([key, 0] for key in keys)]


SAYS_ALIVE = encode([b"message", 999, b"pbnb", b"alive", 1, [b"tuple"], [b"dictionary"]])
PRIME = 2**61 - 1

# The connection is closed.
CLOSED = "closed"
# The call is answered with an error, or another message; the connection goes on.
ERROR, ANSWER = b"error", b"answer"

CASES: list[tuple[int, str, bytes, str | bytes]] = [
    (1, "a string of 655361 bytes", b"\x01\x00\x28\x82", CLOSED),
    (1, "a string of 2**448 bytes", b"\x7f" * 64 + b"\x82", CLOSED),
    (2, "a list of 655361 items", b"\x01\x00\x28\x80", CLOSED),
    (4, "a prefix without an end", b"\x7f" * 65, CLOSED),
    (9, "nested 250 deep", call(nested(250)), ANSWER),
    (9, "nested 400 deep", b"\x01\x80" * 400, CLOSED),
    (9, "nested 100000 deep", b"\x01\x80" * 100_000, CLOSED),
    (12, "keys of one hash", call(dictionary(*(k * PRIME for k in range(1, 3000)))), ERROR),
    (12, "members of one hash", call([b"set", *(k * PRIME for k in range(1, 3000))]), ERROR),
    (13, "a decimal of 10**999999999", call([b"decimal", 1, 999_999_999]), ERROR),
    (14, "a decimal that is a word", call([b"decimal", b"nan", b"F"]), ERROR),
    (14, "a boolean that is a number", call([b"boolean", 1]), ERROR),
    (15, "an integer of 448 bits", call(2**448 - 1), ANSWER),
    (15, "an integer of 448 bits below zero", call(-(2**448) + 1), ANSWER),
    (16, "nan, -0.0 and a denormal as keys", call(dictionary(float("nan"), -0.0, 5e-324)), ANSWER),
    (18, "a number that nothing has", call([b"dereference", 7]), ERROR),
    (
        19,
        "a number that two things have",
        call([b"reference", 1, [b"list"]], [b"reference", 1, [b"list"]]),
        ERROR,
    ),
    (19, "a number that is a list", call([b"reference", [1], [b"list"]]), ERROR),
    (19, "a number that is huge", call([b"reference", 2**300, [b"list"]]), ERROR),
    (19, "a number below zero", call([b"dereference", -1]), ERROR),
    (20, "a set that holds itself", call([b"reference", 1, [b"set", [b"dereference", 1]]]), ERROR),
    (
        20,
        "a frozenset that holds itself",
        call([b"reference", 1, [b"frozenset", [b"dereference", 1]]]),
        ERROR,
    ),
    (
        20,
        "a dict that is its own key",
        call([b"reference", 1, dictionary([b"dereference", 1])]),
        ERROR,
    ),
    (
        21,
        "arguments that are elsewhere",
        encode([b"message", 1, b"root", b"drop", 1, [b"dereference", 1], [b"dictionary"]]),
        ERROR,
    ),
    (22, "an object that was never lent", call([b"local", 7]), ERROR),
    (22, "a call of an object that was never lent", call(obj=7), ERROR),
    (23, "a name that nothing has", call([b"local", b"nothing"]), ERROR),
    (24, "a reference that is a list", call([b"remote", [1]]), ERROR),
    (24, "a reference that is below zero", call([b"remote", -1]), ERROR),
    (24, "a reference that is huge", call([b"remote", 2**300]), ERROR),
    (25, "1100 references", call(*([b"remote", n] for n in range(1, 1101))), ERROR),
    (25, "a release of nothing", encode([b"decref", 7]), CLOSED),
    (25, "a release of the root", encode([b"decref", b"root"]), CLOSED),
    (27, "a copy that is not there", call([b"cached", 7]), ERROR),
    (27, "a release of a copy that is not there", encode([b"decache", 7]), CLOSED),
    (
        27,
        "a call of a copy that is not there",
        encode([b"cachemessage", 1, 7, b"any", 1, [b"tuple"], [b"dictionary"]]),
        ERROR,
    ),
    (
        28,
        "a list where arguments are due",
        encode([b"message", 1, b"root", b"drop", 1, [b"list"], [b"dictionary"]]),
        ERROR,
    ),
    (
        28,
        "a number where arguments are due",
        encode([b"message", 1, b"root", b"drop", 1, 1, 1]),
        ERROR,
    ),
    (28, "a message that is a number", encode(7), CLOSED),
    (28, "a message that is empty", encode([]), CLOSED),
    (28, "a message that is short", encode([b"message", 1]), CLOSED),
    (29, "an atom that is a number", call([7, 8]), ERROR),
    (29, "an atom that is a list", call([[b"list"]]), ERROR),
    (29, "an empty expression", call([]), ERROR),
    (30, "a copy of an unknown class", call([b"os.system", dictionary(b"postUnjelly")]), ERROR),
    (32, "a class by its name", call([b"class", b"os.system"]), ERROR),
    (32, "a function by its name", call([b"function", b"os.system"]), ERROR),
    (32, "a module by its name", call([b"module", b"os"]), ERROR),
    (32, "an instance of a class", call([b"instance", [b"class", b"os.x"], dictionary()]), ERROR),
    (33, "a name that is no text", call(name=b"\xff\xfe"), ERROR),
    (33, "an empty name", call(name=b""), ERROR),
    (33, "a name that Python has", call(name=b"__class__"), ERROR),
    (33, "a name with a dot", call(name=b"drop.__func__"), ERROR),
    (33, "a look-alike of a name", call(name="dro\uff50".encode()), ERROR),
    (33, "a name of 600 kB", call(name=b"x" * 600_000), ERROR),
    (33, "a name with a line of its own", call(name=b"x\nERROR root: forged"), ERROR),
    (33, "a name that is a number", call(name=7), ERROR),
    (34, "a keyword that is a number", call(kw=dictionary(7)), ERROR),
    (34, "a keyword called self", call(name=b"count", kw=dictionary(b"self")), ERROR),
    (34, "keywords that are no dict", call(kw=[b"list"]), ERROR),
    (35, "an answer to nothing", encode([b"answer", 1, 7]), CLOSED),
    (35, "an error for nothing", encode([b"error", 1, b"x"]), CLOSED),
    (35, "a number that is open twice", call() + call(), ANSWER),
    (35, "a number that is none", call(number=0), ANSWER),
    (35, "a number below zero", call(number=-1), ANSWER),
    (35, "a number that is a list", call(number=[1]), ANSWER),
    (36, "an unknown command", encode([b"noise", 1, 2]), b"didNotUnderstand"),
    (36, "a command that is no text", encode([b"\xff\xff"]), b"didNotUnderstand"),
    (37, "a word of the vocabulary that there is not", b"\x40\x87", CLOSED),
    (37, "a word of a huge number", b"\x7f" * 9 + b"\x87", CLOSED),
    (38, "a version twice", encode([b"version", 6]) * 2 + call(), ANSWER),
    (38, "another version", encode([b"version", 5]), CLOSED),
    (39, "a set of lists", call([b"set", [b"list"]]), ERROR),
    (39, "a key that is a list", call(dictionary([b"list"])), ERROR),
    (40, "a datetime of two words", call([b"datetime", b"1 2"]), ERROR),
    (40, "a datetime of the year 0", call([b"datetime", b"0 1 1 0 0 0 0"]), ERROR),
    (40, "a date of the year 10**6", call([b"date", b"1000000 1 1"]), ERROR),
    (40, "a timedelta of too many days", call([b"timedelta", b"999999999999 0 0"]), ERROR),
    (41, "text that is overlong", call([b"unicode", b"\xc0\xaf"]), ERROR),
    (41, "text with a surrogate", call([b"unicode", b"\xed\xa0\x80"]), ERROR),
    (41, "text with NUL and controls", call([b"unicode", "\0\u202e\x1b[2J".encode()]), ANSWER),
    (42, "an array of objects", call(array(b"|O")), ERROR),
    (42, "a structure with an object", call(array([b"list", 8, column(b"|O", 0)])), ERROR),
    (42, "a structure with a title", call(array([b"list", 8, column(b"<f8", 0, b"t")])), ERROR),
    (42, "fields that reach beyond it", call(array([b"list", 8, column(b"<f8", 1)])), ERROR),
    (42, "a dtype in Python", call(array(b"{'names':['a'],'formats':['O']}")), ERROR),
    (42, "shapes whose product overflows", call(array(b"<f8", 2**32, 2**32)), ERROR),
    (42, "a negative shape", call(array(b"<f8", -1, -1)), ERROR),
    (42, "items of no size", call(array(b"|V0", 2**61, memory=b"")), ERROR),
    (42, "no items, in 2**61 rows", call(array(b"<f8", 2**61, 0, memory=b"")), ERROR),
    (42, "more than its bytes", call(array(b"<f8", 2)), ERROR),
    (42, "no byte order", call(array(b"f8", 1)), ERROR),
    (42, "an order of another name", call(array(b"<f8", 1, order=b"K")), ERROR),
    (42, "truth values that are neither", call(array(b"|b1", 8, memory=b"\xff" * 8)), ERROR),
    (42, "text beyond Unicode", call(array(b"<U2", 1, memory=b"\xff" * 8)), ERROR),
    (42, "a good one", call(array(b"<f8", 1)), ANSWER),
    (47, "a page is asked for", b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n", CLOSED),
    (47, "a form", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", CLOSED),
]


async def attack(server: pb.Server, data: bytes) -> tuple[list[Any], bool]:
    """Sends bytes; returns what the server says to them, and whether it closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    greeting = encode(list(DIALECTS), None)
    assert await reader.readexactly(len(greeting)) == greeting
    opening = b"" if data[:4] in (b"GET ", b"POST") else encode(b"pb", None)
    writer.write(opening + data + SAYS_ALIVE)
    decoder = Decoder()
    said: list[Any] = []
    closed = False
    while not closed and not any(tree[:2] == [b"answer", 999] for tree in said):
        try:
            received = await asyncio.wait_for(reader.read(100_000), 20)
        except ConnectionResetError:
            received = b""
        closed = not received
        decoder.feed(received)
        while (tree := decoder.next()) is not NEED_DATA:
            said.append(tree)
    writer.close()
    return said, closed


@pytest.mark.parametrize(
    ("number", "what", "data", "expected"),
    CASES,
    ids=[f"{number}-{what}" for number, what, _, _ in CASES],
)
def test_attack(
    number: int,
    what: str,
    data: bytes,
    expected: str | bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            other = await pb.connect(server.address)
            said, closed = await attack(server, data)
            replies = [tree for tree in said if tree[0] not in (b"version", b"decref", b"decache")]
            assert closed is (expected == CLOSED), said
            if not closed:
                assert replies[0][0] == expected, replies
                assert len(repr(replies)) < 5000
            else:
                assert not replies
            # Nobody else has noticed, and nothing is left of it.
            assert await other.callRemote("echo", 7) == 7
            await until(lambda: len(server.connections) == 1)
            assert not tables(*server.connections)
            await other.broker.close()

    asyncio.run(main())
    for record in caplog.records:
        assert "\n" not in record.getMessage() or "traceback" in record.getMessage()
        assert len(record.getMessage()) < 3000


def test_46_secrets_are_compared_in_equal_time() -> None:
    compared = 0
    for path in Path(challenge.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        compared += "compare_digest(" in path.read_text()
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(
                isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops
            ):
                text = ast.unparse(node)
                secret = ("password", "proof", "response", "token", "digest")
                assert "len(" in text or not any(word in text for word in secret), text
    assert compared >= 2


def test_48_who_has_no_token_reaches_nothing() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False) as server:
            for token in (None, "x" * 43, "0123abcd." + "x" * 43):
                with pytest.raises(pb.UnauthorizedLogin) as caught:
                    ref = await pb.connect(server.address, token=token)
                    await ref.callRemote("echo", 7)
                assert str(server.token) not in str(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_50_an_invitation_ends_with_its_server(host: str) -> None:
    async def main() -> None:
        port = free_port()
        first = await pb.serve(Desk(), host, port, anonymous=False)
        line = first.invite("alice").reveal()
        await (await pb.connect(line)).broker.close()
        await first.close()
        with pytest.raises(pb.ConnectError, match="nothing listens"):
            await pb.connect(line)
        async with await pb.serve(Desk(), host, port, anonymous=False) as server:
            # Where there is TLS, the login is not even begun.
            with pytest.raises((pb.UnauthorizedLogin, pb.ConnectError)) as caught:
                await pb.connect(line)
            assert isinstance(caught.value, pb.ConnectError) is (host == "0.0.0.0")
            await until(lambda: not server.connections)

    asyncio.run(main())


def test_14_and_15_numbers_arrive_as_they_are() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            ref = await pb.connect(server.address)
            for value in (True, 1, 1.0, 2**448 - 1, -(2**448) + 1):
                found = await ref.callRemote("echo", value)
                assert found == value and type(found) is type(value)
            await ref.broker.close()

    asyncio.run(main())


def test_every_number_has_its_tests() -> None:
    here = {number for number, *_ in CASES} | {46}
    assert sorted(here | set(ELSEWHERE)) == list(NUMBERS)


@pytest.mark.parametrize("number", ELSEWHERE)
def test_the_tests_that_are_elsewhere_exist(number: int) -> None:
    for place in ELSEWHERE[number]:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
