"""Sorting of short stretches of numbers, as LLVM IR.

Enters: a module. Leaves: in it `void @sort.BITS(ptr %numbers, i64 %count)`, which sorts integers
of so many bits, none of them twice, in place: by insertion if they are few, else as a heap.
"""

from __future__ import annotations

from string import Template

from llvmlite import ir

from hectorite.backends.cpu.lanes import I64, declare
from hectorite.backends.cpu.memory import POINTER

INSERTION = 40
"""Stretches up to this are sorted by insertion, longer ones as heaps."""

SORT = Template("""
define internal void @sort.$bits(ptr %a, i64 %n) nounwind {
entry:
  %some = icmp sgt i64 %n, 1
  br i1 %some, label %look, label %out
look:                                     ; in order already?
  %p = phi i64 [ 1, %entry ], [ %p.next, %ordered ]
  %p.before = sub i64 %p, 1
  %p.left = getelementptr i$bits, ptr %a, i64 %p.before
  %p.right = getelementptr i$bits, ptr %a, i64 %p
  %left = load i$bits, ptr %p.left
  %right = load i$bits, ptr %p.right
  %good = icmp slt i$bits %left, %right
  br i1 %good, label %ordered, label %choose
ordered:
  %p.next = add i64 %p, 1
  %over = icmp eq i64 %p.next, %n
  br i1 %over, label %out, label %look
choose:
  %few = icmp sle i64 %n, $insertion
  br i1 %few, label %insert, label %build
insert:                                   ; by insertion, from the first that is out of order
  %i = phi i64 [ %p, %choose ], [ %i.next, %placed ]
  %i.at = getelementptr i$bits, ptr %a, i64 %i
  %moving = load i$bits, ptr %i.at
  br label %slide
slide:
  %j = phi i64 [ %i, %insert ], [ %j.before, %shift ]
  %first = icmp eq i64 %j, 0
  br i1 %first, label %placed, label %compare
compare:
  %j.before = sub i64 %j, 1
  %j.left = getelementptr i$bits, ptr %a, i64 %j.before
  %other = load i$bits, ptr %j.left
  %after = icmp sgt i$bits %other, %moving
  br i1 %after, label %shift, label %placed
shift:
  %j.at = getelementptr i$bits, ptr %a, i64 %j
  store i$bits %other, ptr %j.at
  br label %slide
placed:
  %place = getelementptr i$bits, ptr %a, i64 %j
  store i$bits %moving, ptr %place
  %i.next = add i64 %i, 1
  %done = icmp eq i64 %i.next, %n
  br i1 %done, label %out, label %insert
build:                                    ; a heap, the greatest number first
  %half = lshr i64 %n, 1
  br label %heapify
heapify:
  %h = phi i64 [ %half, %build ], [ %root, %heapify ]
  %root = sub i64 %h, 1
  call void @sift.$bits(ptr %a, i64 %root, i64 %n)
  %more = icmp sgt i64 %root, 0
  br i1 %more, label %heapify, label %take
take:                                     ; the greatest of what is left goes to its end
  %m = phi i64 [ %n, %heapify ], [ %last, %take ]
  %last = sub i64 %m, 1
  %end = getelementptr i$bits, ptr %a, i64 %last
  %top = load i$bits, ptr %a
  %low = load i$bits, ptr %end
  store i$bits %low, ptr %a
  store i$bits %top, ptr %end
  call void @sift.$bits(ptr %a, i64 0, i64 %last)
  %left.over = icmp sgt i64 %last, 1
  br i1 %left.over, label %take, label %out
out:
  ret void
}

; Let the number at %start sink among the first %n until none below it is greater.
define internal void @sift.$bits(ptr %a, i64 %start, i64 %n) nounwind {
entry:
  %start.at = getelementptr i$bits, ptr %a, i64 %start
  %value = load i$bits, ptr %start.at
  br label %down
down:
  %i = phi i64 [ %start, %entry ], [ %child, %sink ]
  %twice = shl i64 %i, 1
  %one = add i64 %twice, 1
  %has = icmp slt i64 %one, %n
  br i1 %has, label %pick, label %rest
pick:
  %two = add i64 %twice, 2
  %both = icmp slt i64 %two, %n
  %two.safe = select i1 %both, i64 %two, i64 %one
  %one.at = getelementptr i$bits, ptr %a, i64 %one
  %two.at = getelementptr i$bits, ptr %a, i64 %two.safe
  %x = load i$bits, ptr %one.at
  %y = load i$bits, ptr %two.at
  %second = icmp sgt i$bits %y, %x
  %child = select i1 %second, i64 %two.safe, i64 %one
  %greater = select i1 %second, i$bits %y, i$bits %x
  %below = icmp sgt i$bits %greater, %value
  br i1 %below, label %sink, label %rest
sink:
  %i.at = getelementptr i$bits, ptr %a, i64 %i
  store i$bits %greater, ptr %i.at
  br label %down
rest:
  %place = getelementptr i$bits, ptr %a, i64 %i
  store i$bits %value, ptr %place
  ret void
}
""")


def sort_function(module: ir.Module, bits: int) -> ir.Function:
    """The function in a module, declared; `sort_text` is what defines it."""
    return declare(module, f"sort.{bits}", ir.VoidType(), [POINTER, I64])


def sort_text(bits: int) -> str:
    """The definition of the function for integers of so many bits."""
    return SORT.substitute(bits=bits, insertion=INSERTION)
