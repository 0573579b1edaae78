"""Tables interpolate, devices have a text form, and what is no device is told."""

import pytest

from hectorite.ir.device import Grid, device_from_json
from hectorite.ir.devices import CPU, DEVICES, H200, device_named
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.roofline import time_of
from hectorite.ir.statement_work import Gather, Product, Work


def test_a_table_interpolates_in_logarithms():
    grid = Grid(((1.0, 100.0), (1.0, 10.0)), (1.0, 10.0, 100.0, 1000.0))
    assert grid.at((1, 1)) == pytest.approx(1)
    assert grid.at((10, 1)) == pytest.approx(10)
    assert grid.at((10, 10)) == pytest.approx(100)
    assert grid.at((100, 10)) == pytest.approx(1000)
    assert grid.points()[2] == (100.0, 1.0)


def test_outside_a_table_keeps_its_edge():
    grid = Grid(((1.0, 100.0),), (2.0, 5.0))
    assert grid.at((0.1,)) == pytest.approx(2)
    assert grid.at((1e9,)) == pytest.approx(5)


@pytest.mark.parametrize(
    ("axes", "values"),
    [(((1.0, 2.0),), (1.0,)), (((2.0, 1.0),), (1.0, 1.0)), (((1.0,),), (0.0,)), (((),), ())],
)
def test_tables_are_checked(axes, values):
    with pytest.raises(HectoriteError, match="table"):
        Grid(axes, values)


@pytest.mark.parametrize("name", DEVICES)
def test_text_form(name):
    device = DEVICES[name]
    assert device_from_json(device.to_json()) == device


def test_tables_have_a_text_form():
    from dataclasses import replace

    device = replace(CPU, tables={"stream": Grid(((1.0, 8.0),), (1e9, 2e9))})
    assert device_from_json(device.to_json()) == device
    assert device.speed(8) == pytest.approx(2e9)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "tables": {}}', "nonsense"])
def test_what_is_no_device(text):
    with pytest.raises(HectoriteError, match="describes no device"):
        device_from_json(text)


def test_unknown_name():
    with pytest.raises(HectoriteError, match="no device `h20`") as caught:
        device_named("h20")
    assert "h200" in str(caught.value)


def test_more_threads_do_more():
    assert CPU.with_threads(8).peak["fma_f32"] == pytest.approx(4 * CPU.peak["fma_f32"])


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_time_grows_with_work(device):
    def product(rows):
        return time_of(Work(product=Product(rows, 256, 256, 1, 1, "fma_f32", 0)), device).total

    assert product(64) <= 1.001 * product(640) <= product(64000)
    one, two = (time_of(Work(gathers=(Gather(n, 256, 1e9),)), device).total for n in (1e3, 1e6))
    assert 0 < one < two
    assert time_of(Work(), device).total == 0


def test_readers_of_the_same_rows_share_a_miss():
    def seconds(readers):
        return time_of(Work(gathers=(Gather(1e5, 256, 1e9, readers),)), CPU).total

    assert seconds(2) < seconds(1) < 2 * seconds(2)


def test_bounds_are_named():
    busy = Work(operations={"fma_f32": 1e9}, streamed=8, launches=1)
    assert time_of(busy, H200).bound == "arithmetic"
    assert time_of(Work(streamed=1e9), H200).bound == "memory"
    assert time_of(Work(launches=1), H200).bound == "launch"
