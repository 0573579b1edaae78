"""Where the elements of a set stand once they are sorted by a map, by machine code.

Enters: a map. Leaves: where the elements with each value begin, and whether they are in order as
they are, both found in one go; and values that share the elements out evenly, looked for among
these places.

Elements in order need no counting: each tells where the next one of its value would stand, and the
last one of a value is right. Values that nobody has begin where those before them end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from hectorite.backends.cache import cache_key, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.host.memory import address_of

Array = np.ndarray[Any, Any]

ENTRIES = ("adjacency", "cuts")

TEXT = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; The ends of the values 0 .. %extent - 1 behind a 0, in %ends; returns whether they are in order.
define i64 @adjacency(ptr noalias %values, i64 %count, ptr noalias %ends, i64 %extent) nounwind {
entry:
  %length = shl i64 %extent, 2
  %bytes = add i64 %length, 4
  call void @llvm.memset.p0.i64(ptr align 4 %ends, i8 0, i64 %bytes, i1 false)
  %behind = getelementptr i32, ptr %ends, i64 1
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %each, label %ordered
each:
  %i = phi i64 [ 0, %entry ], [ %next, %each ]
  %before = phi i32 [ 0, %entry ], [ %value, %each ]
  %back = phi i1 [ false, %entry ], [ %bad, %each ]
  %value.at = getelementptr i32, ptr %values, i64 %i
  %value = load i32, ptr %value.at, align 4
  %less = icmp slt i32 %value, %before
  %bad = or i1 %back, %less
  %next = add nuw nsw i64 %i, 1
  %end = trunc i64 %next to i32
  %place = sext i32 %value to i64
  %place.at = getelementptr i32, ptr %behind, i64 %place
  store i32 %end, ptr %place.at, align 4
  %more = icmp slt i64 %next, %count
  br i1 %more, label %each, label %look
look:
  br i1 %bad, label %clear, label %ordered
ordered:
  %any = icmp sgt i64 %extent, 0
  br i1 %any, label %spread, label %yes
spread:
  %s = phi i64 [ 0, %ordered ], [ %s.next, %spread ]
  %so.far = phi i32 [ 0, %ordered ], [ %reached, %spread ]
  %s.at = getelementptr i32, ptr %behind, i64 %s
  %own = load i32, ptr %s.at, align 4
  %greater = icmp sgt i32 %own, %so.far
  %reached = select i1 %greater, i32 %own, i32 %so.far
  store i32 %reached, ptr %s.at, align 4
  %s.next = add nuw nsw i64 %s, 1
  %s.more = icmp slt i64 %s.next, %extent
  br i1 %s.more, label %spread, label %yes
yes:
  ret i64 1
clear:
  call void @llvm.memset.p0.i64(ptr align 4 %ends, i8 0, i64 %bytes, i1 false)
  br label %tally
tally:
  %t = phi i64 [ 0, %clear ], [ %t.next, %tally ]
  %t.at = getelementptr i32, ptr %values, i64 %t
  %t.value = load i32, ptr %t.at, align 4
  %t.place = sext i32 %t.value to i64
  %t.end = getelementptr i32, ptr %behind, i64 %t.place
  %old = load i32, ptr %t.end, align 4
  %new = add i32 %old, 1
  store i32 %new, ptr %t.end, align 4
  %t.next = add nuw nsw i64 %t, 1
  %t.more = icmp slt i64 %t.next, %count
  br i1 %t.more, label %tally, label %sum
sum:
  %u = phi i64 [ 0, %tally ], [ %u.next, %sum ]
  %total = phi i32 [ 0, %tally ], [ %total.next, %sum ]
  %u.at = getelementptr i32, ptr %behind, i64 %u
  %many = load i32, ptr %u.at, align 4
  %total.next = add i32 %total, %many
  store i32 %total.next, ptr %u.at, align 4
  %u.next = add nuw nsw i64 %u, 1
  %u.more = icmp slt i64 %u.next, %extent
  br i1 %u.more, label %sum, label %no
no:
  ret i64 0
}

; In %bounds for each of %parts + 1 shares of %ends[%extent] + %extent the first value that has so
; many values and elements before it.
define void @cuts(ptr noalias %ends, i64 %extent, i64 %parts, ptr noalias %bounds) nounwind {
entry:
  %all.at = getelementptr i32, ptr %ends, i64 %extent
  %all = load i32, ptr %all.at, align 4
  %elements = sext i32 %all to i64
  %work = add i64 %elements, %extent
  br label %each
each:
  %part = phi i64 [ 0, %entry ], [ %part.next, %found ]
  %shares = mul i64 %part, %work
  %share = sdiv i64 %shares, %parts
  br label %halve
halve:
  %low = phi i64 [ 0, %each ], [ %low.next, %look ]
  %high = phi i64 [ %extent, %each ], [ %high.next, %look ]
  %open = icmp slt i64 %low, %high
  br i1 %open, label %look, label %found
look:
  %sum = add i64 %low, %high
  %middle = lshr i64 %sum, 1
  %end.at = getelementptr i32, ptr %ends, i64 %middle
  %end = load i32, ptr %end.at, align 4
  %end.wide = sext i32 %end to i64
  %done = add i64 %end.wide, %middle
  %less = icmp slt i64 %done, %share
  %above = add i64 %middle, 1
  %low.next = select i1 %less, i64 %above, i64 %low
  %high.next = select i1 %less, i64 %high, i64 %middle
  br label %halve
found:
  %bound = trunc i64 %low to i32
  %bound.at = getelementptr i32, ptr %bounds, i64 %part
  store i32 %bound, ptr %bound.at, align 4
  %part.next = add i64 %part, 1
  %more = icmp sle i64 %part.next, %parts
  br i1 %more, label %each, label %last
last:
  %last.at = getelementptr i32, ptr %bounds, i64 %parts
  %extent.narrow = trunc i64 %extent to i32
  store i32 %extent.narrow, ptr %last.at, align 4
  ret void
}
"""


def segments(values: Array, extent: int) -> tuple[Array, bool]:
    """int32[extent + 1]: elements with the value `v` of a map stand at [v] .. [v + 1] - 1 once
    they are sorted; and whether they are. `values` is int32, contiguous, in 0 .. extent - 1."""
    ends = np.empty(extent + 1, np.int32)
    arguments = address_of(values), len(values), address_of(ends), extent
    return ends, bool(_functions()["adjacency"](*arguments))


def cuts(ends: Array, parts: int) -> Array:
    """int32[parts + 1]: as `order.cuts` of what `segments` returned."""
    bounds = np.empty(parts + 1, np.int32)
    _functions()["cuts"](address_of(ends), len(ends) - 1, parts, address_of(bounds))
    return bounds


@cache
def _functions() -> dict[str, Callable[..., Any]]:
    store, key = default_cache(), cache_key("adjacency", str(jit.host()), TEXT)
    entry = store.lookup(key)
    if entry is None:
        object_code = jit.compile_object(TEXT, "adjacency.ll")
        store.store(key, {"what": "adjacency"}, {"object": object_code})
    else:
        object_code = entry.blobs["object"]
    code, integer, pointer = jit.load(object_code, ENTRIES), ctypes.c_int64, ctypes.c_void_p
    adjacency = code.function("adjacency", integer, pointer, integer, pointer, integer)
    cuts = code.function("cuts", None, pointer, integer, integer, pointer)
    return {"adjacency": adjacency, "cuts": cuts}
