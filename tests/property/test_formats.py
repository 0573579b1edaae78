"""Random programs mean the same whatever format their sets are stored in."""

import agreement
from datasets import datasets
from hypothesis import given, note
from hypothesis import strategies as st
from programs import programs
from sampling import sampled

POINTS = 2000


def spellings(fields):
    """Formats of a set with these fields."""
    found = []
    for one in fields:
        found += [f"csr({one})", f"csc({one})", f"ell({one})", f"ell({one}, 3)", f"dedup({one})"]
        for other in fields:
            if other != one:
                found += [
                    f"csr({one}).by({other})",
                    f"hyb({one}, {other}, 2, 1)",
                    f"hyb({one}, {other}, 1, 2)",
                    f"sgt({one}, {other}, 4, 3)",
                    f"sgt({one}, {other}, 16, 8)",
                    f"bsr({one}, {other}, 3, 2)",
                ]
    return found


def composed(draw, fields, depth=2):
    """A format of a set with these fields, perhaps of parts that have formats themselves."""
    shape = draw(st.sampled_from(["alone", "permute", "split"])) if depth else "alone"
    if shape == "alone":
        return draw(st.sampled_from(["coo", *spellings(fields)]))
    field = draw(st.sampled_from(fields))
    if shape == "permute":
        order = draw(st.sampled_from(["degree", "similar"]))
        then = composed(draw, fields, depth - 1)
        return f"permute({field}).by({order})" + ("" if then == "coo" else f".{then}")
    few, many = (composed(draw, fields, depth - 1) for _ in range(2))
    return f"split({field}, {draw(st.integers(0, 3))}).into({few}, {many})"


@st.composite
def stored(draw, schema):
    """A format for each set that data gives with maps, or for some of them."""
    formats = []
    for decl in schema.sets.values():
        if decl.given and decl.fields and draw(st.booleans()) | (not formats):
            fields = [name for name, _ in decl.fields]
            formats.append(f"{decl.name}={composed(draw, fields)}")
    return tuple(formats)


def check(data, compiled_too):
    program = data.draw(programs(most=3))
    note(program.text)
    formats = data.draw(stored(agreement.read(program).facts.schema))
    note(str(formats))
    dataset = data.draw(datasets(program, POINTS))
    agreement.check_formats(program, dataset, formats, compiled_too)


@sampled(12)
@given(st.data())
def test_statements_over_positions_mean_the_same(data):
    check(data, compiled_too=False)


@sampled(3)
@given(st.data())
def test_kernels_over_positions_mean_the_same(data):
    check(data, compiled_too=True)
