"""Python's search for garbage in cycles, made rare for a while.

A search makes and drops millions of small objects, next to none of them in cycles. To look for
cycles after every few hundred of them takes as long as half of the search itself.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

YOUNG = 100_000
"""Objects that are made before one looks for cycles among them."""


@contextmanager
def rarely_collected() -> Generator[None]:
    """Look for cycles only after many objects; as before at the end."""
    usual = gc.get_threshold()
    if 0 < usual[0] < YOUNG:
        gc.set_threshold(YOUNG, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
