"""Tables: there and back, and from a peer whose streams lie."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbnb.errors import InsecureJelly
from pbnb.jelly import jelly, unjelly
from pbnb.jelly.tables import table_jellier
from pbnb.wire.banana import decode, encode
from tests.jelly.test_arrays import Echo
from tests.support.serving import served


def there_and_back(value: Any) -> Any:
    return unjelly(decode(encode(jelly(value))))


FRAME = pd.DataFrame(
    {
        "a": [1, 2, 3],
        "größe": ["x", None, "z"],
        "c": pd.Categorical(["u", "v", "u"]),
        "d": pd.date_range("2026", periods=3, tz="UTC"),
        "e": [1.5, np.nan, 2],
        "f": pd.array([1, None, 3], dtype="Int64"),
        "g": pd.timedelta_range("1s", periods=3),
    },
    index=pd.Index(["r", "s", "t"], name="i"),
)
FRAMES = {
    "many types": FRAME,
    "two levels": FRAME.set_index(["a", "größe"]),
    "no rows": FRAME.drop(columns="c").iloc[:0],
    "no columns": pd.DataFrame(index=range(5)),
    "nothing": pd.DataFrame(),
    "numbers for names": pd.DataFrame({0: [1], 7: [2]}),
    "columns in levels": pd.DataFrame(
        np.zeros((3, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_pandas_arrives_as_it_was(name: str) -> None:
    pd.testing.assert_frame_equal(there_and_back(FRAMES[name]), FRAMES[name])


@pytest.mark.parametrize("name", ["n", None, 3])
def test_a_series_of_pandas_arrives_with_its_name(name: Any) -> None:
    value = pd.Series([1.5, 2.5], name=name, index=["a", "b"])
    pd.testing.assert_series_equal(there_and_back(value), value)


def test_a_frame_of_pandas_is_the_receivers_own() -> None:
    made = there_and_back(FRAME)
    made.loc["r", "a"] = 7
    assert made["a"].tolist() == [7, 2, 3]


TABLE = pa.table(
    {
        "a": [1, 2],
        "b": ["x", None],
        "n": pa.nulls(2),
        "l": [[1], [2, 3]],
        "s": [{"x": 1}, None],
        "d": pa.array(["q", "q"]).dictionary_encode(),
    }
)


def test_tables_and_batches_of_arrow_arrive() -> None:
    for value in (TABLE, TABLE.slice(0, 0), TABLE.select([])):
        made = there_and_back(value)
        assert type(made) is pa.Table
        assert made.equals(value)
    batch = TABLE.to_batches()[0]
    made = there_and_back(batch)
    assert type(made) is pa.RecordBatch
    assert made.equals(batch)


def test_frames_and_series_of_polars_arrive() -> None:
    frame = pl.DataFrame(
        {
            "a": [1, 2],
            "b": ["x", None],
            "c": pl.Series(["u", "v"], dtype=pl.Categorical),
            "l": [[1], [2]],
        }
    )
    for value in (frame, frame.clear(), pl.DataFrame()):
        made = there_and_back(value)
        assert made.equals(value)
        assert made.schema == value.schema
    series = there_and_back(frame["b"])
    assert series.name == "b"
    assert series.to_list() == ["x", None]


def test_one_table_met_twice_arrives_as_one() -> None:
    one, two, three, four = there_and_back([FRAME, FRAME, TABLE, TABLE])
    assert one is two
    assert three is four


class Special(pd.DataFrame):
    pass


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (pd.DataFrame({"o": [1, "x"]}), "a pandas DataFrame is not sent: .*column o"),
        (pd.DataFrame({"o": [object()]}), "a pandas DataFrame is not sent"),
        (pd.DataFrame({"p": pd.period_range("2026", periods=2, freq="M")}), "type extension<pan"),
        (pd.Series([1], name=("a", 1)), r"not sent under the name \('a', 1\): rename"),
        (Special(), "Special is not sent: it is a DataFrame and more than that"),
        (pl.DataFrame({"o": [object()]}), "a polars DataFrame of Python objects is not sent"),
        (pa.table({"r": pa.RunEndEncodedArray.from_arrays([3], [1])}), "run_end_encoded"),
        (pa.table({"u": pa.array([b"0" * 16], pa.uuid())}), "type extension<arrow.uuid>"),
        (pa.table({"n": pa.array([[None]])}), "type list<item: null> is not sent"),
        (pa.table({"v": pa.array(["x"], pa.string_view())}), "type string_view is not sent"),
    ],
    ids=[*("mixed", "objects", "periods", "name", "subclass", "polars"), *"reuv"],
)
def test_what_cannot_be_sent_is_refused_here(value: Any, why: str) -> None:
    with pytest.raises(InsecureJelly, match=why):
        jelly([value])
    assert table_jellier(int) is None


@pytest.mark.parametrize(
    ("value", "library"),
    [(TABLE, "pyarrow"), (FRAME, "pandas"), (FRAME, "pyarrow"), (pl.DataFrame(), "polars")],
    ids=["pyarrow", "pandas", "pandas without pyarrow", "polars"],
)
def test_where_a_library_is_missing_the_refusal_names_it(
    value: Any, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = jelly(value)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InsecureJelly, match=f"not installed here: pip install {library}"):
        unjelly(tree)


# From a peer that lies


def stream(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write(table)
    return bytes(sink.getvalue())


def claim(data: Any, kind: bytes = b"Table") -> list[Any]:
    return [b"pbnb.arrow", [b"list", kind, data]]


LONG = pa.table({"a": pa.array(["x" * 10_000, "y"]), "d": pa.array(["q", "r"]).dictionary_encode()})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "malformed"),
        (b"ARROW1\0\0", "malformed"),
        (stream(TABLE)[:-300], "malformed"),
        (stream(LONG, compression="zstd"), "compressed streams are not read"),
        (stream(LONG, compression="lz4"), "compressed streams are not read"),
        (stream(pa.table({"n": pa.nulls(10_000_000)})), "more rows than its bytes can hold"),
        (stream(pa.table({"u": pa.array([b"0" * 16], pa.uuid())})), "extension types"),
        (stream(pa.table({"r": pa.RunEndEncodedArray.from_arrays([2**30], [1])})), "a column r of"),
        (stream(pa.table({"n": pa.array([[None] * 9])})), "a column n of the type list"),
    ],
    ids=["empty", "a file", "cut", "zstd", "lz4", "nulls", "uuid", "runs", "nested nulls"],
)
def test_a_stream_that_is_not_plain_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InsecureJelly, match=f"malformed pbnb.arrow.*{why}|{why} pbnb.arrow"):
        unjelly(claim(data))


def test_a_stream_is_checked_whole() -> None:
    good = stream(pa.table({"t": ["größe", "x"], "i": [1, 2]}))
    assert unjelly(claim(good)).num_rows == 2
    with pytest.raises(InsecureJelly, match="malformed pbnb.arrow"):
        unjelly(claim(good.replace("größe".encode(), b"\xff" * 7)))
    with pytest.raises(InsecureJelly, match="malformed pbnb.arrow"):
        unjelly(claim(stream(pa.table({"name": [1]})).replace(b"name", b"\xffame")))
    offsets = np.array([0, 7, 8], "<i4").tobytes()
    assert offsets in good
    with pytest.raises(InsecureJelly, match="malformed pbnb.arrow"):
        unjelly(claim(good.replace(offsets, np.array([0, 2**30, 8], "<i4").tobytes())))


@pytest.mark.parametrize(
    "tree",
    [
        claim(stream(TABLE), b"Thing"),
        [b"pbnb.pandas", [b"list", b"Index", [b"None"], stream(TABLE)]],
        [b"pbnb.pandas", [b"list", b"Series", [b"None"], stream(TABLE)]],
        [b"pbnb.pandas", [b"list", b"DataFrame", [b"list"], stream(TABLE)]],
        [b"pbnb.polars", [b"list", b"Series", [b"unicode", b"n"], stream(TABLE)]],
        [b"pbnb.polars", [b"list", b"DataFrame", [b"None"], b""]],
        [b"pbnb.pandas", [b"list", b"DataFrame", [b"None"], 5]],
    ],
    ids=lambda tree: repr(tree)[:40],
)
def test_a_state_that_lies_is_refused(tree: Any) -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb"):
        unjelly(tree)


@pytest.mark.parametrize(
    "words",
    [b"{", b"[]", b'{"index_columns": [5], "columns": []}', b"[" * 50_000, b"\xff"],
    ids=lambda words: repr(words)[:20],
)
def test_what_a_peer_says_of_pandas_harms_nobody(words: bytes) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({b"pandas": words})
    try:
        made = unjelly([b"pbnb.pandas", [b"list", b"DataFrame", [b"None"], stream(table)]])
    except InsecureJelly:
        return
    assert made["a"].tolist() == [1]


GOOD = stream(TABLE)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=5))
def test_any_other_bytes_are_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, byte in changes:
        data[at] = byte
    try:
        made = unjelly(claim(bytes(data)))
    except InsecureJelly:
        return
    made.to_pylist()


def test_large_tables_travel_beside_the_message() -> None:
    async def main() -> None:
        table = pa.table({"a": np.arange(200_000), "t": [str(n) for n in range(200_000)]})
        frame = table.to_pandas()
        async with served(Echo()) as (_, ref):
            assert (await ref.callRemote("echo", table)).equals(table)
            pd.testing.assert_frame_equal(await ref.callRemote("echo", frame), frame)
            made = await ref.callRemote("echo", pl.from_pandas(frame))
            assert made.equals(pl.from_pandas(frame))
            with pytest.raises(InsecureJelly, match="Python objects"):
                await ref.callRemote("echo", pl.DataFrame({"o": [object()]}))

    asyncio.run(main())
