"""Numbers as people read them: seconds with a unit, and ratios."""


def seconds(value: float) -> str:
    """A time with three digits: `12.3 us`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def ratio(before: float, after: float) -> str:
    """How many times faster: `2.35x`."""
    return f"{before / after:.2f}x" if after > 0 else "-"
