"""The LLVM IR of the thread pool that `threads.py` compiles and drives.

Enters: nothing but the kind of machine. Leaves: a module that defines

- `hec_parallel(ptr fn, ptr args, i64 tasks)`: runs `fn(args, task)` for each task in [0, tasks);
- `hec_threads_reset(i32 workers)`: forgets all threads; for the start and for a forked child;
- `hec_threads_want(i32 workers)`: how many threads shall help the caller from now on;
- `hec_threads_rouse()`: wakes workers for a call that comes soon.

How a call works: `@word` is a serial number (high half) and who is inside the call (low half: an
open bit, a waiting bit, and a count). The caller publishes the work and opens the call with itself
inside; a worker enters by adding one to the very word it looked at, so it can enter no other call.
When no task is left the caller closes the call and waits until the count is zero. A worker that
comes late, or never, costs nothing. Who waits looks a bounded number of times, then sleeps. A
worker that was soon woken from its sleep looks longer the next time, so that calls which follow
each other closely find it awake. A system may wake a worker on the processor of the caller, who is
busy, though others are idle, and leave it there for milliseconds: therefore the caller lets those
that it woke start, and a worker that finds itself beside the caller goes elsewhere. Nobody is woken
for a single call of many tasks that the caller has done before a worker would be up: it begins
alone and sees how long its tasks take.

Each thread has a share of the tasks, the same in every call with as many: what it wrote in the last
call is still in its own cache. Whoever is done with its share takes from those of the others.
"""

import platform
import sys
from string import Template

SPIN_ROUNDS = 1000
"""Looks at a word before sleeping on it; with the pauses between, some 30 microseconds: about as
long as the caller's next call takes to come, and too short to hurt on a machine that is shared."""

PATIENT_ROUNDS = 10 * SPIN_ROUNDS
"""The same for a worker whose last sleep was short."""

YIELD_ROUNDS = 64
"""Looks, some 2 microseconds, after which a caller that waits lets others run on its processor, and
a worker that waits leaves that of the caller: a power of two."""

AFTER_DELAY = 100
"""Calls that wake workers without making room for them, after one that was held up by that."""

WORTH_WAKING = 40_000
"""Nanoseconds that a call takes alone for which workers are woken: they need as long to be up."""

FIRST_TASKS = 8
"""Tasks of a call that tell how long the others will take."""

MANY = 32
"""Tasks for each thread that are many: so many that the first is no great part of the whole."""

SHORT_SLEEP = 400_000
"""Nanoseconds of a sleep that would have been better spent looking, and between calls that follow
each other closely."""

MAX_THREADS = 1024
POOL = Template("""
; Each on cache lines of its own, as different threads write them.
@work = internal global { ptr, ptr, i64, i64, [96 x i8] } zeroinitializer, align 128
@next = internal global [$max_threads x [16 x i64]] zeroinitializer, align 128 ; of each share
@word = internal global [16 x i64] zeroinitializer, align 128
@busy = internal global [32 x i32] zeroinitializer, align 128 ; 1 during a call
@sleepers = internal global [32 x i32] zeroinitializer, align 128 ; workers in the kernel
@caller = internal global [32 x i32] zeroinitializer, align 128 ; the last one's processor
@started = internal global i32 0
@wanted = internal global i32 0
@last = internal global i64 0 ; when a call last found workers asleep
@roused = internal global i64 0 ; when workers were last told of a call that comes soon
@held = internal global i32 0 ; calls that are to wake workers and not let them start at once
@mutex = internal global [16 x i64] zeroinitializer, align 128
@condition = internal global [16 x i64] zeroinitializer, align 128

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
$declarations

; At the start, and in a forked child: nobody is inside and no worker exists.
define void @hec_threads_reset(i32 %workers) nounwind {
  store i64 0, ptr @word
  store i32 0, ptr @busy
  store i32 0, ptr @sleepers
  store i32 0, ptr @started
  store i32 %workers, ptr @wanted
  $prepare
  ret void
}

define void @hec_threads_want(i32 %workers) nounwind {
  store atomic i32 %workers, ptr @wanted seq_cst, align 4
  ret void
}

; Those that sleep get up and look for a while. One that starts its sleep now may miss it.
define void @hec_threads_rouse() nounwind {
  %sleeping = load atomic i32, ptr @sleepers seq_cst, align 4
  %workers = load atomic i32, ptr @wanted monotonic, align 4
  %asleep = icmp ne i32 %sleeping, 0
  %helped = icmp sgt i32 %workers, 0
  %useful = and i1 %asleep, %helped
  br i1 %useful, label %tell, label %out
tell:
  %here = call i32 @processor()
  store atomic i32 %here, ptr @caller monotonic, align 4 ; workers keep away from it
  %now = call i64 @nanoseconds()
  store atomic i64 %now, ptr @roused monotonic, align 8
  %all = sext i32 %sleeping to i64
  call void @wake(ptr getelementptr (i8, ptr @word, i64 4), i64 %all)
  br label %out
out:
  ret void
}

define void @hec_parallel(ptr %fn, ptr %args, i64 %tasks) nounwind {
  %workers = load atomic i32, ptr @wanted monotonic, align 4
  %alone = icmp slt i32 %workers, 1
  %small = icmp slt i64 %tasks, 2
  %serial = or i1 %alone, %small
  br i1 %serial, label %serially, label %claim
claim:
  %claimed = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %claimed, 1
  br i1 %mine, label %ready, label %serially
ready:
  %running = load i32, ptr @started
  %lacking = icmp slt i32 %running, %workers
  br i1 %lacking, label %start, label %publish
start:
  call void @start_workers(i32 %workers)
  br label %publish
publish:
  %here = call i32 @processor()
  store atomic i32 %here, ptr @caller monotonic, align 4 ; workers keep away from it
  store ptr %fn, ptr @work
  store ptr %args, ptr getelementptr (i8, ptr @work, i64 8)
  store i64 %tasks, ptr getelementptr (i8, ptr @work, i64 16)
  %now.wanted = load atomic i32, ptr @wanted monotonic, align 4
  %helpers = sext i32 %now.wanted to i64
  %shares = add i64 %helpers, 1
  store i64 %shares, ptr getelementptr (i8, ptr @work, i64 24)
  br label %deal
deal:
  %share = phi i64 [ 0, %publish ], [ %share.next, %deal ]
  %first = call i64 @first_of(i64 %share, i64 %tasks, i64 %shares)
  %counter = getelementptr [16 x i64], ptr @next, i64 %share
  store i64 %first, ptr %counter
  %share.next = add i64 %share, 1
  %dealt = icmp sge i64 %share.next, %shares
  br i1 %dealt, label %open, label %deal
open:
  %old = load atomic i64, ptr @word monotonic, align 8
  %following = add i64 %old, 4294967296
  %empty = and i64 %following, -4294967296
  %opened = or i64 %empty, $open_and_one
  store atomic i64 %opened, ptr @word seq_cst, align 8
  %sleeping = load atomic i32, ptr @sleepers seq_cst, align 4
  %asleep = icmp ne i32 %sleeping, 0
  br i1 %asleep, label %consider, label %begin
consider:
  %enough.tasks = mul i64 %shares, $many
  %is.many = icmp sge i64 %tasks, %enough.tasks
  %of.mine = call i64 @first_of(i64 1, i64 %tasks, i64 %shares)
  %began = call i64 @nanoseconds()
  %previous = load i64, ptr @last
  store i64 %began, ptr @last
  %since = sub i64 %began, %previous
  %is.single = icmp ugt i64 %since, $short_sleep
  %begins.alone = and i1 %is.many, %is.single
  br i1 %begins.alone, label %alone.look, label %rouse
alone.look: ; tasks of its own, until it is clear that the rest takes long
  %done.alone = load atomic i64, ptr @next monotonic, align 8
  %left.alone = icmp slt i64 %done.alone, %of.mine
  br i1 %left.alone, label %alone.take, label %begin
alone.take:
  %task.alone = atomicrmw add ptr @next, i64 1 monotonic
  %real.alone = icmp slt i64 %task.alone, %of.mine
  br i1 %real.alone, label %alone.run, label %begin
alone.run:
  call void %fn(ptr %args, i64 %task.alone)
  %by.now = call i64 @nanoseconds()
  %spent = sub i64 %by.now, %began
  %tasks.done = add i64 %task.alone, 1
  %all.would = mul i64 %spent, %tasks
  %limit.would = mul i64 %tasks.done, $worth_waking
  %is.long = icmp ugt i64 %all.would, %limit.would
  %is.known = icmp uge i64 %tasks.done, $first_tasks
  %has.lasted = icmp ugt i64 %spent, $worth_waking
  %is.sure = or i1 %is.known, %has.lasted
  %worth = and i1 %is.long, %is.sure
  br i1 %worth, label %rouse, label %alone.look
rouse:
  %others = sub i64 %tasks, 1
  %enough = icmp sgt i64 %others, $max_threads
  %count = select i1 %enough, i64 $max_threads, i64 %others
  call void @wake(ptr getelementptr (i8, ptr @word, i64 4), i64 %count)
  call void @let_start()
  br label %begin
begin:
  call void @run_tasks(ptr %fn, ptr %args, i64 %tasks, i64 %shares, i64 0)
  %closed = atomicrmw sub ptr @word, i64 $open_and_one seq_cst
  br label %wait
wait:
  %rounds = phi i32 [ 0, %begin ], [ %more, %pause ], [ $spin, %sleep ]
  %seen = load atomic i64, ptr @word acquire, align 8
  %inside = and i64 %seen, $count
  %done = icmp eq i64 %inside, 0
  br i1 %done, label %finish, label %look
look:
  %more = add i32 %rounds, 1
  %patient = icmp ult i32 %rounds, $spin
  br i1 %patient, label %pause, label %mark
pause:
  call void @pause(i32 %rounds)
  br label %wait
mark:
  %marked = atomicrmw or ptr @word, i64 $waiting seq_cst
  %left = and i64 %marked, $count
  %late = icmp eq i64 %left, 0
  br i1 %late, label %finish, label %sleep
sleep:
  %expected = or i64 %left, $waiting
  call void @wait(ptr @word, i64 %expected)
  br label %wait
finish:
  store atomic i32 0, ptr @busy release, align 4
  ret void
serially:
  %any = icmp sgt i64 %tasks, 0
  br i1 %any, label %each, label %out
each:
  %task = phi i64 [ 0, %serially ], [ %task.next, %each ]
  call void %fn(ptr %args, i64 %task)
  %task.next = add i64 %task, 1
  %further = icmp slt i64 %task.next, %tasks
  br i1 %further, label %each, label %out
out:
  ret void
}

; Shares lie one after the other and differ in length by one at most.
define internal i64 @first_of(i64 %share, i64 %tasks, i64 %shares) alwaysinline nounwind {
  %product = mul i64 %share, %tasks
  %first = sdiv i64 %product, %shares
  ret i64 %first
}

; Runs the tasks of share `own`, then what is left of the others.
define internal void @run_tasks(ptr %fn, ptr %args, i64 %tasks, i64 %shares, i64 %own) nounwind {
  br label %visit
visit:
  %share = phi i64 [ %own, %0 ], [ %share.next, %leave ]
  %visited = phi i64 [ 1, %0 ], [ %visited.next, %leave ]
  %following = add i64 %share, 1
  %end = call i64 @first_of(i64 %following, i64 %tasks, i64 %shares)
  %counter = getelementptr [16 x i64], ptr @next, i64 %share
  br label %look
look:
  %seen = load atomic i64, ptr %counter monotonic, align 8
  %some = icmp slt i64 %seen, %end
  br i1 %some, label %take, label %leave
take:
  %task = atomicrmw add ptr %counter, i64 1 monotonic
  %real = icmp slt i64 %task, %end
  br i1 %real, label %run, label %leave
run:
  call void %fn(ptr %args, i64 %task)
  br label %look
leave:
  %is.last = icmp eq i64 %following, %shares
  %share.next = select i1 %is.last, i64 0, i64 %following
  %visited.next = add i64 %visited, 1
  %further = icmp slt i64 %visited, %shares
  br i1 %further, label %visit, label %out
out:
  ret void
}

define internal ptr @worker(ptr %number) nounwind {
  %index = ptrtoint ptr %number to i64
  br label %look
look:
  %last = phi i64 [ 0, %0 ], [ %last, %idle ], [ %last, %aside ], [ %last, %doze ],
                  [ %last, %enter ], [ %call, %leave ], [ %call, %rouse ]
  %limit.rounds = phi i32 [ $spin, %0 ], [ %limit.rounds, %idle ], [ %limit.rounds, %aside ],
                          [ %limit.next, %doze ], [ %limit.rounds, %enter ],
                          [ %limit.rounds, %leave ], [ %limit.rounds, %rouse ]
  %rounds = phi i32 [ 0, %0 ], [ %more, %idle ], [ %more, %aside ], [ 0, %doze ], [ 0, %enter ],
                    [ 0, %leave ], [ 0, %rouse ]
  %seen = load atomic i64, ptr @word acquire, align 8
  %call = lshr i64 %seen, 32
  %bit = and i64 %seen, $open
  %open = icmp ne i64 %bit, 0
  %fresh = icmp ne i64 %call, %last
  %limit = load atomic i32, ptr @wanted monotonic, align 4
  %limit.wide = sext i32 %limit to i64
  %among = icmp slt i64 %index, %limit.wide
  %inviting = and i1 %open, %fresh
  %invited = and i1 %inviting, %among
  br i1 %invited, label %enter, label %rest
enter:
  %entered = add i64 %seen, 1
  %exchange = cmpxchg ptr @word, i64 %seen, i64 %entered seq_cst monotonic
  %in = extractvalue { i64, i1 } %exchange, 1
  br i1 %in, label %work, label %look
work:
  %fn = load ptr, ptr @work
  %args = load ptr, ptr getelementptr (i8, ptr @work, i64 8)
  %tasks = load i64, ptr getelementptr (i8, ptr @work, i64 16)
  %shares = load i64, ptr getelementptr (i8, ptr @work, i64 24)
  %share = add i64 %index, 1
  %has.share = icmp slt i64 %share, %shares
  %own = select i1 %has.share, i64 %share, i64 0
  call void @run_tasks(ptr %fn, ptr %args, i64 %tasks, i64 %shares, i64 %own)
  br label %leave
leave:
  %before = atomicrmw sub ptr @word, i64 1 seq_cst
  %low = and i64 %before, 4294967295
  %awaited = icmp eq i64 %low, $waiting_and_one
  br i1 %awaited, label %rouse, label %look
rouse:
  call void @wake(ptr @word, i64 1)
  br label %look
rest:
  %more = add i32 %rounds, 1
  %patient = icmp ult i32 %rounds, %limit.rounds
  br i1 %patient, label %idle, label %doze
idle:
  call void @pause(i32 %rounds)
  %since = and i32 %rounds, $yield_mask
  %long = icmp eq i32 %since, $yield_mask
  br i1 %long, label %aside, label %look
aside:
  call void @make_room()
  br label %look
doze:
  %fell.asleep = call i64 @nanoseconds()
  %more.sleepers = atomicrmw add ptr @sleepers, i32 1 seq_cst
  call void @wait(ptr getelementptr (i8, ptr @word, i64 4), i64 %call)
  %fewer.sleepers = atomicrmw sub ptr @sleepers, i32 1 seq_cst
  %woke = call i64 @nanoseconds()
  %slept = sub i64 %woke, %fell.asleep
  call void @make_room()
  %briefly = icmp ult i64 %slept, $short_sleep
  %told = load atomic i64, ptr @roused monotonic, align 8
  %since.told = sub i64 %woke, %told
  %lately = icmp ult i64 %since.told, $short_sleep
  %expectant = or i1 %briefly, %lately
  %limit.next = select i1 %expectant, i32 $patient, i32 $spin
  br label %look
}

; Between two looks of the caller. Now and then whoever else is to run on its processor may: a
; worker that it waits for, say.
define internal void @pause(i32 %rounds) nounwind {
  $pause
  %since = and i32 %rounds, $yield_mask
  %long = icmp eq i32 %since, $yield_mask
  br i1 %long, label %yield, label %out
yield:
  %failed = call i32 @sched_yield()
  br label %out
out:
  ret void
}

; For a caller who has woken workers: one that the system put on its own processor starts now, sees
; that, and goes elsewhere. If that takes long it is others that have run, and the next calls do not
; stand back for them.
define internal void @let_start() nounwind {
  %held = load i32, ptr @held
  %free = icmp eq i32 %held, 0
  br i1 %free, label %yield, label %count
count:
  %less = sub i32 %held, 1
  store i32 %less, ptr @held
  ret void
yield:
  %before = call i64 @nanoseconds()
  %failed = call i32 @sched_yield()
  %after = call i64 @nanoseconds()
  %took = sub i64 %after, %before
  %long = icmp ugt i64 %took, $short_sleep
  %next = select i1 %long, i32 $after_delay, i32 0
  store i32 %next, ptr @held
  ret void
}

; For a worker: makes room for the caller where both are on one processor.
define internal void @make_room() nounwind {
  %here = call i32 @processor()
  %there = load atomic i32, ptr @caller monotonic, align 4
  %beside = icmp ne i32 %here, %there
  br i1 %beside, label %out, label %move
move:
  call void @leave_processor(i32 %here)
  br label %out
out:
  ret void
}

define internal i64 @nanoseconds() nounwind {
  %place = alloca [2 x i64]
  %failed = call i32 @clock_gettime(i32 $clock, ptr %place)
  %seconds = load i64, ptr %place
  %second = getelementptr i64, ptr %place, i64 1
  %rest = load i64, ptr %second
  %whole = mul i64 %seconds, 1000000000
  %time = add i64 %whole, %rest
  ret i64 %time
}

; Signals are for the interpreter's threads: workers start with all of them blocked.
define internal void @start_workers(i32 %workers) nounwind {
  %thread = alloca i64
  %all = alloca [16 x i64]
  %mask = alloca [16 x i64]
  store [16 x i64] [$all_signals], ptr %all
  %blocked = call i32 @pthread_sigmask(i32 $set_mask, ptr %all, ptr %mask)
  %first = load i32, ptr @started
  br label %each
each:
  %index = phi i32 [ %first, %0 ], [ %index.next, %good ]
  %number = sext i32 %index to i64
  %argument = inttoptr i64 %number to ptr
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %argument)
  %created = icmp eq i32 %failed, 0
  br i1 %created, label %good, label %bad
good:
  %handle = load i64, ptr %thread
  %detached = call i32 @pthread_detach(i64 %handle)
  %index.next = add i32 %index, 1
  store i32 %index.next, ptr @started
  %further = icmp slt i32 %index.next, %workers
  br i1 %further, label %each, label %out
bad: ; the system gives no more: do with those there are
  store atomic i32 %index, ptr @wanted seq_cst, align 4
  br label %out
out:
  %restored = call i32 @pthread_sigmask(i32 $set_mask, ptr %mask, ptr null)
  ret void
}
""")

# `wait` sleeps while the 32-bit word at a place has a value; `wake` ends that for some who wait.
FUTEX = Template("""
declare i64 @syscall(i64, ...)

define internal void @wait(ptr %place, i64 %value) nounwind {
  %r = call i64 (i64, ...) @syscall(i64 $call, ptr %place, i64 128, i64 %value, i64 0, i64 0, i64 0)
  ret void
}

define internal void @wake(ptr %place, i64 %count) nounwind {
  %r = call i64 (i64, ...) @syscall(i64 $call, ptr %place, i64 129, i64 %count, i64 0, i64 0, i64 0)
  ret void
}
""")

# Where a thread is, and how it gets to another processor that it may use: it may not be where it
# is, and then may be anywhere again.
AFFINITY = """
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)

define internal i32 @processor() nounwind {
  %number = call i32 @sched_getcpu()
  ret i32 %number
}

define internal void @leave_processor(i32 %number) nounwind {
  %allowed = alloca [16 x i64]
  %others = alloca [16 x i64]
  %unknown = call i32 @sched_getaffinity(i32 0, i64 128, ptr %allowed)
  %known = icmp sge i32 %unknown, 0
  %fits = icmp ult i32 %number, 1024
  %can = and i1 %known, %fits
  br i1 %can, label %move, label %out
move:
  %mask = load [16 x i64], ptr %allowed
  store [16 x i64] %mask, ptr %others
  %word.number = lshr i32 %number, 6
  %word = getelementptr i64, ptr %others, i32 %word.number
  %in.word = and i32 %number, 63
  %shift = zext i32 %in.word to i64
  %bit = shl i64 1, %shift
  %old = load i64, ptr %word
  %flipped = xor i64 %old, %bit
  store i64 %flipped, ptr %word
  %failed = call i32 @sched_setaffinity(i32 0, i64 128, ptr %others)
  %moved = icmp eq i32 %failed, 0
  br i1 %moved, label %restore, label %out
restore:
  %ignored = call i32 @sched_setaffinity(i32 0, i64 128, ptr %allowed)
  br label %out
out:
  ret void
}
"""

NO_AFFINITY = """
define internal i32 @processor() nounwind {
  ret i32 -1
}

define internal void @leave_processor(i32 %number) nounwind {
  ret void
}
"""

CONDITION = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)

define internal void @wait(ptr %place, i64 %value) nounwind {
  %expected = trunc i64 %value to i32
  %locked = call i32 @pthread_mutex_lock(ptr @mutex)
  br label %look
look:
  %seen = load atomic i32, ptr %place seq_cst, align 4
  %same = icmp eq i32 %seen, %expected
  br i1 %same, label %sleep, label %out
sleep:
  %slept = call i32 @pthread_cond_wait(ptr @condition, ptr @mutex)
  br label %look
out:
  %unlocked = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}

define internal void @wake(ptr %place, i64 %count) nounwind {
  %locked = call i32 @pthread_mutex_lock(ptr @mutex)
  %told = call i32 @pthread_cond_broadcast(ptr @condition)
  %unlocked = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
"""

PREPARE_CONDITION = """%m = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %c = call i32 @pthread_cond_init(ptr @condition, ptr null)"""

FUTEX_CALL = {"x86_64": 202, "AMD64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
"""Linux's number of the futex system call by machine."""

# The processor is told that a loop waits: the intrinsic's name, its argument.
PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", "", ""),
    "AMD64": ("llvm.x86.sse2.pause", "", ""),
    "aarch64": ("llvm.aarch64.hint", "i32", "i32 1"),
    "arm64": ("llvm.aarch64.hint", "i32", "i32 1"),
}

OPEN, WAITING, COUNT = 1 << 31, 1 << 30, (1 << 30) - 1


def pool_ir(use_futex: bool) -> str:
    """The module of the pool for this machine, sleeping by futex or by condition variable."""
    name, parameters, argument = PAUSE.get(platform.machine(), ("", "", ""))
    text = POOL.substitute(
        declarations=f"declare void @{name}({parameters})" if name else "",
        pause=f"call void @{name}({argument})" if name else "",
        prepare="" if use_futex else PREPARE_CONDITION,
        open=OPEN,
        waiting=WAITING,
        count=COUNT,
        open_and_one=OPEN + 1,
        waiting_and_one=WAITING + 1,
        spin=SPIN_ROUNDS,
        patient=PATIENT_ROUNDS,
        after_delay=AFTER_DELAY,
        yield_mask=YIELD_ROUNDS - 1,
        short_sleep=SHORT_SLEEP,
        worth_waking=WORTH_WAKING,
        first_tasks=FIRST_TASKS,
        many=MANY,
        clock=1 if sys.platform == "linux" else 6,  # one that only goes forward
        max_threads=MAX_THREADS,
        set_mask=2 if sys.platform == "linux" else 3,
        all_signals=", ".join(["i64 -1"] * 16),
    )
    text += AFFINITY if sys.platform == "linux" else NO_AFFINITY
    if use_futex:
        return text + FUTEX.substitute(call=FUTEX_CALL[platform.machine()])
    return text + CONDITION
