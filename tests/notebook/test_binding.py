from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ipywidgets
import pytest

import pbnb as pb
from pbnb.notebook.binding import bind, view
from tests.support.serving import until


class Dials(pb.Cacheable):
    def __init__(self) -> None:
        self.observers: list[Any] = []
        self.gain, self.label = 3, "first"

    def getStateToCacheAndObserveFor(self, perspective: object, observer: Any) -> dict[str, Any]:
        self.observers.append(observer)
        return {"gain": self.gain, "label": self.label}

    def stoppedObserving(self, perspective: object, observer: Any) -> None:
        self.observers.remove(observer)

    def change(self, **fields: Any) -> None:
        vars(self).update(fields)
        for observer in self.observers:
            observer.callRemote("change", fields)


class DialsHere(pb.RemoteCache):
    def observe_change(self, fields: dict[str, Any]) -> None:
        vars(self).update(fields)


class Panel(pb.Root):
    def __init__(self) -> None:
        self.dials = Dials()
        self.told: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def remote_dials(self) -> Dials:
        return self.dials

    async def remote_set_gain(self, value: int) -> None:
        await self.gate.wait()
        if value > 90:
            raise pb.Error("too loud")
        self.told.append(value)
        self.dials.change(gain=value)


@asynccontextmanager
async def copied() -> AsyncIterator[tuple[Panel, pb.RemoteReference, Any]]:
    security = pb.SecurityOptions()
    security.allowBasicTypes()
    security.setUnjellyableForClass(Dials, DialsHere)
    panel = Panel()
    async with await pb.serve(panel) as server:
        ref = await pb.connect(server.address, security=security)
        yield panel, ref, await ref.callRemote("dials")
        await ref.broker.close()


async def _follows() -> None:
    async with copied() as (panel, ref, cache):
        slider = ipywidgets.IntSlider(max=100)
        binding = bind(cache, "gain", slider)
        assert slider.value == 3  # at once
        panel.dials.change(gain=40)
        await until(lambda: slider.value == 40)
        slider.value = 50  # it only follows: the owner's value comes back
        await until(lambda: slider.value == 40)
        assert panel.told == []
        binding.stop()
        panel.dials.change(gain=7)
        await until(lambda: cache.gain == 7)
        assert slider.value == 40


def test_a_widget_follows_a_copy() -> None:
    asyncio.run(_follows())


async def _leads() -> None:
    async with copied() as (panel, ref, cache):
        slider = ipywidgets.IntSlider(max=100)
        bind(cache, "gain", slider, ref.remoteMethod("set_gain"))
        panel.gate.clear()
        slider.value = 10
        await until(lambda: bool(panel.gate._waiters))
        for value in range(11, 60):
            slider.value = value
        panel.dials.change(gain=1)  # while the user is moving it
        await until(lambda: cache.gain == 1)
        assert slider.value == 59
        panel.gate.set()
        await until(lambda: cache.gain == 59)
        assert panel.told == [10, 59]  # the values between were never sent
        slider.value = 95  # refused: the owner's value comes back
        await until(lambda: slider.value == 59)
        assert panel.told == [10, 59]


def test_what_the_user_sets_reaches_the_owner_newest_first() -> None:
    asyncio.run(_leads())


async def _ends() -> None:
    async with copied() as (panel, ref, cache):
        slider = ipywidgets.IntSlider()
        binding = bind(cache, "gain", slider)
        await ref.broker.close()
        await until(lambda: not binding.active)
        assert slider.disabled


def test_a_widget_of_a_connection_that_ended_is_disabled() -> None:
    asyncio.run(_ends())


async def _cannot() -> None:
    async with copied() as (panel, ref, cache):
        with pytest.raises(AttributeError, match="no field 'volume'"):
            bind(cache, "volume", ipywidgets.IntSlider())
        binding = bind(cache, "gain", ipywidgets.IntSlider())
        panel.dials.change(gain="no number")
        await until(lambda: not binding.active)


def test_a_value_that_the_widget_cannot_show_ends_it() -> None:
    asyncio.run(_cannot())


async def _viewed() -> None:
    async with copied() as (panel, ref, cache):
        shown = view(cache)
        assert "<td>gain</td><td>3</td>" in shown.value and "<td>first</td>" in shown.value
        values: list[str] = []
        shown.observe(lambda change: values.append(change["new"]), "value")
        panel.dials.change(gain=4, label="<img src=x onerror=alert(1)>\x1b[31m")
        await until(lambda: bool(values))
        # Both fields at once.
        assert "<td>4</td>" in values[0] and "&lt;img src=x" in values[0]
        assert "<img" not in values[0] and "\\x1b[31m" in values[0]
        panel.dials.change(label="x" * 600_000)
        await until(lambda: "xxx" in shown.value)
        assert len(shown.value) < 2000
        shown.close()


def test_a_view_shows_all_fields_and_follows_them() -> None:
    asyncio.run(_viewed())
