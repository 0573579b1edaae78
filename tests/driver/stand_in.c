/* A library with the entry points of the CUDA driver that hectorite calls, for machines without one.

   Enters: calls of cuda-python, which finds this as libcuda.so.1 through LD_LIBRARY_PATH, or loaded
   already. Leaves: memory of the host in place of that of a device, and launches handed to a Python
   function that executes the PTX: stand_in.py, imported when the driver starts, gives it to
   stand_in_register.

   It is stricter than a driver where that finds mistakes: work on streams is done only when someone
   waits for it, new memory is filled with rubbish, a call without a current context fails, and so
   does anything but launches and copies on a stream that is being captured. There is one device,
   and threads wait for each other. Never install this. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Status;
enum {
  SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
  INVALID_PTX = 218, UNSUPPORTED_PTX_VERSION = 222, INVALID_HANDLE = 400, NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700, CAPTURE_UNSUPPORTED = 900
};

#define MOST 65536
#define RUBBISH 0xA5
#define BYTES_MOST (1ull << 33)

typedef int (*Load)(const char *text, char *log, size_t size);
typedef int (*Launch)(const char *text, const char *kernel, unsigned sizes[6], unsigned shared,
                      void **parameters);
typedef int (*Count)(const char *text, const char *kernel);
static Load load_text;
static Launch launch_kernel;
static Count parameter_count;
static int calls[4];

/* Threads take turns. Executing a launch calls back, so that one may hold the lock several times. */
static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int lock(void) { return pthread_mutex_lock(&turn); }
static void unlock(int *held) { pthread_mutex_unlock(&turn); }
#define IN_TURN __attribute__((cleanup(unlock), unused)) int held = lock()

/* What the Python side uses ---------------------------------------------------------------- */

void stand_in_register(Load load, Launch launch, Count count) {
  load_text = load, launch_kernel = launch, parameter_count = count;
}

typedef struct { uint64_t address, size; } Allocation;
static Allocation allocations[MOST];
static int allocation_count;

int stand_in_allocations(Allocation *to, int most) {
  IN_TURN;
  int n = allocation_count < most ? allocation_count : most;
  if (n) memcpy(to, allocations, n * sizeof *to);
  return allocation_count;
}

enum { COMPILED, LOADED, LAUNCHED, REPLAYED };
int stand_in_calls(int which) { return calls[which]; }

/* Contexts --------------------------------------------------------------------------------- */

static int the_context;
static _Thread_local void *contexts[16];
static _Thread_local int depth;

static void *current(void) { return depth ? contexts[depth - 1] : NULL; }
#define NEEDS_CONTEXT if (!current()) return INVALID_CONTEXT

/* Work that waits ---------------------------------------------------------------------------- */

typedef struct { char *text; } Module;
typedef struct { char *text, *name; } Function;
typedef struct Work {
  enum { FILL, READ, MOVE, RUN, FREE, STAMP } kind;
  uint64_t to, from, size;
  Function *function;
  unsigned sizes[6], shared;  /* of the grid in blocks, of a block in threads */
  uint64_t *words;
  int count;
  struct Work *next;
} Work;
typedef struct { int capturing; Work *first, **last; } Stream;
typedef struct { double at; } Event;

static Work *first_work, **last_work = &first_work;
static Status failed;
static Stream default_stream;

static Stream *stream_of(void *handle) {
  return (uintptr_t)handle <= 2 ? &default_stream : (Stream *)handle;
}

static Work *work(int kind) {
  Work *made = calloc(1, sizeof *made);
  made->kind = kind;
  return made;
}

static Status later(Work *made) {
  IN_TURN;
  *last_work = made;
  last_work = &made->next;
  return SUCCESS;
}

static Status record(Stream *on, Work *made) {
  *on->last = made;
  on->last = &made->next;
  return SUCCESS;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

static void run(Work *each) {
  void *places[256];
  for (int i = 0; i < each->count; i++) places[i] = &each->words[i];
  Function *f = each->function;
  if (launch_kernel(f->text, f->name, each->sizes, each->shared, places))
    failed = ILLEGAL_ADDRESS;
}

static void forget(uint64_t address) {
  IN_TURN;
  for (int i = 0; i < allocation_count; i++)
    if (allocations[i].address == address) {
      memset((void *)address, RUBBISH, allocations[i].size);
      free((void *)address);
      allocations[i] = allocations[--allocation_count];
      return;
    }
}

static Status finish(void) {
  IN_TURN;
  while (first_work) {
    Work *each = first_work;
    first_work = each->next;
    if (!first_work) last_work = &first_work;
    if (each->kind == FILL) {
      memcpy((void *)each->to, (void *)each->from, each->size);
      free((void *)each->from);
    } else if (each->kind == READ || each->kind == MOVE) {
      memcpy((void *)each->to, (void *)each->from, each->size);
    } else if (each->kind == RUN && !failed) {
      run(each);
    } else if (each->kind == FREE) {
      forget(each->to);
    } else if (each->kind == STAMP) {
      ((Event *)each->to)->at = now();
    }
    if (each->kind == RUN) free(each->words);
    free(each);
  }
  return failed;
}

/* Devices ------------------------------------------------------------------------------------ */

/* Have the Python that called register its functions; the checkout is in its path. */
static int connected(void) {
  int (*begin)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
  void (*end)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "PyGILState_Release");
  int (*run)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "PyRun_SimpleString");
  if (!load_text && begin && end && run) {
    int state = begin();
    run("__import__('tests.driver.stand_in', fromlist=['register']).register()");
    end(state);
  }
  return load_text != NULL;
}
Status cuInit(unsigned flags) {
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  if (getenv("STAND_IN_EMPTY") || (visible && !*visible)) return NO_DEVICE;
  return connected() ? SUCCESS : NO_DEVICE;
}
Status cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Status cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Status cuDeviceGet(int *device, int ordinal) {
  return *device = ordinal, ordinal ? INVALID_DEVICE : SUCCESS;
}
Status cuDeviceGetName(char *name, int size, int device) {
  strncpy(name, "stand-in", size);
  return SUCCESS;
}
Status cuDeviceGetAttribute(int *value, int attribute, int device) {
  const char *target = getenv("STAND_IN_TARGET");
  int sm = target ? atoi(target) : 80;
  switch (attribute) {
    case 16: *value = 108; return SUCCESS;      /* MULTIPROCESSOR_COUNT */
    case 75: *value = sm / 10; return SUCCESS;  /* COMPUTE_CAPABILITY_MAJOR */
    case 76: *value = sm % 10; return SUCCESS;  /* COMPUTE_CAPABILITY_MINOR */
    case 115: *value = !getenv("STAND_IN_NO_POOLS"); return SUCCESS; /* MEMORY_POOLS_SUPPORTED */
  }
  *value = 0;
  return SUCCESS;
}
Status cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = BYTES_MOST, SUCCESS; }
Status cuDevicePrimaryCtxRetain(void **context, int device) {
  return *context = &the_context, SUCCESS;
}
Status cuCtxGetCurrent(void **context) { return *context = current(), SUCCESS; }
Status cuCtxPushCurrent_v2(void *context) { return contexts[depth++] = context, SUCCESS; }
Status cuCtxPopCurrent_v2(void **context) {
  NEEDS_CONTEXT;
  void *top = contexts[--depth];
  if (context) *context = top;
  return SUCCESS;
}

/* Modules ------------------------------------------------------------------------------------ */

typedef struct { char *log, *text; size_t size; } Linker;

Status cuLinkCreate_v2(unsigned count, int *options, void **values, void **state) {
  NEEDS_CONTEXT;
  Linker *made = calloc(1, sizeof *made);
  for (unsigned i = 0; i < count; i++) {
    if (options[i] == 5) made->log = values[i];           /* ERROR_LOG_BUFFER */
    if (options[i] == 6) made->size = (size_t)values[i];  /* ERROR_LOG_BUFFER_SIZE_BYTES */
  }
  return *state = made, SUCCESS;
}
Status cuLinkAddData_v2(void *state, int type, void *data, size_t size, const char *name,
                        unsigned count, int *options, void **values) {
  Linker *linker = state;
  if (strstr(data, ".version 99")) return UNSUPPORTED_PTX_VERSION;
  linker->text = strdup(data);
  IN_TURN;
  if (load_text(data, linker->log, linker->size)) return INVALID_PTX;
  calls[COMPILED]++;
  return SUCCESS;
}
Status cuLinkComplete(void *state, void **cubin, size_t *size) {
  Linker *linker = state;
  *cubin = linker->text, *size = strlen(linker->text) + 1;
  return SUCCESS;
}
Status cuLinkDestroy(void *state) {
  Linker *linker = state;
  free(linker->text);
  free(linker);
  return SUCCESS;
}
Status cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options,
                          void **values) {
  NEEDS_CONTEXT;
  Module *made = malloc(sizeof *made);
  made->text = strdup(image);
  calls[LOADED]++;
  return *module = made, SUCCESS;
}
Status cuModuleGetFunction(void **function, void *module, const char *name) {
  NEEDS_CONTEXT;
  Module *from = module;
  if (parameter_count(from->text, name) < 0) return NOT_FOUND;
  Function *made = malloc(sizeof *made);
  made->text = from->text, made->name = strdup(name);
  return *function = made, SUCCESS;
}
Status cuFuncSetAttribute(void *function, int attribute, int value) {
  return value > (163 << 10) ? INVALID_VALUE : SUCCESS;
}
Status cuFuncGetAttribute(int *value, int attribute, void *function) {
  return *value = attribute == 4 ? 32 : 0, SUCCESS;
}

/* Memory ------------------------------------------------------------------------------------- */

Status cuMemPoolCreate(void **pool, const void *wanted) { return *pool = &the_context, SUCCESS; }
Status cuMemPoolSetAttribute(void *pool, int attribute, void *value) { return SUCCESS; }
Status cuMemPoolTrimTo(void *pool, size_t bytes) { return SUCCESS; }
Status cuMemAlloc_v2(uint64_t *address, size_t size) {
  NEEDS_CONTEXT;
  IN_TURN;
  if (!size || allocation_count == MOST) return INVALID_VALUE;
  if (size > BYTES_MOST) return OUT_OF_MEMORY;
  void *made = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(made, RUBBISH, size);
  *address = (uint64_t)made;
  allocations[allocation_count++] = (Allocation){*address, size};
  return SUCCESS;
}
Status cuMemAllocFromPoolAsync(uint64_t *address, size_t size, void *pool, void *stream) {
  return stream_of(stream)->capturing ? CAPTURE_UNSUPPORTED : cuMemAlloc_v2(address, size);
}
Status cuMemFreeAsync(uint64_t address, void *stream) {
  NEEDS_CONTEXT;
  if (stream_of(stream)->capturing) return CAPTURE_UNSUPPORTED;
  Work *made = work(FREE);
  made->to = address;
  return later(made);
}
Status cuMemFree_v2(uint64_t address) {
  NEEDS_CONTEXT;
  finish();
  forget(address);
  return SUCCESS;
}
Status cuPointerGetAttribute(void *data, int attribute, uint64_t address) {
  *(int *)data = 0;
  return SUCCESS;
}
static Status copy(int kind, uint64_t to, uint64_t from, size_t size, void *stream) {
  NEEDS_CONTEXT;
  Stream *on = stream_of(stream);
  if (on->capturing && kind != MOVE) return CAPTURE_UNSUPPORTED;
  Work *made = work(kind);
  made->to = to, made->from = from, made->size = size;
  if (kind == FILL) made->from = (uint64_t)memcpy(malloc(size), (void *)from, size);
  return on->capturing ? record(on, made) : later(made);
}
Status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
  return copy(FILL, to, (uint64_t)from, size, stream);
}
Status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
  return copy(READ, (uint64_t)to, from, size, stream);
}
Status cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
  return copy(MOVE, to, from, size, stream);
}

/* Streams, events and graphs ----------------------------------------------------------------- */

Status cuStreamCreate(void **stream, unsigned flags) {
  NEEDS_CONTEXT;
  return *stream = calloc(1, sizeof(Stream)), SUCCESS;
}
Status cuStreamDestroy_v2(void *stream) { return finish(); }
Status cuStreamSynchronize(void *stream) {
  NEEDS_CONTEXT;
  return stream_of(stream)->capturing ? CAPTURE_UNSUPPORTED : finish();
}
Status cuEventCreate(void **event, unsigned flags) {
  NEEDS_CONTEXT;
  return *event = calloc(1, sizeof(Event)), SUCCESS;
}
Status cuEventDestroy_v2(void *event) { return SUCCESS; }
Status cuEventRecord(void *event, void *stream) {
  NEEDS_CONTEXT;
  if (stream_of(stream)->capturing) return CAPTURE_UNSUPPORTED;
  Work *made = work(STAMP);
  made->to = (uint64_t)event;
  return later(made);
}
Status cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
Status cuEventSynchronize(void *event) { return finish(); }
Status cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
  double from = ((Event *)start)->at, to = ((Event *)end)->at;
  if (!from || !to) return INVALID_HANDLE;
  return *milliseconds = (float)(to - from), SUCCESS;
}
Status cuLaunchKernel(void *function, unsigned grid, unsigned grid_y, unsigned grid_z,
                      unsigned block, unsigned block_y, unsigned block_z, unsigned shared,
                      void *stream, void **parameters, void **extra) {
  NEEDS_CONTEXT;
  Function *f = function;
  unsigned sizes[6] = {grid, grid_y, grid_z, block, block_y, block_z};
  for (int i = 0; i < 6; i++)
    if (!sizes[i]) return INVALID_VALUE;
  if (block * block_y * block_z > 1024) return INVALID_VALUE;
  Work *made = work(RUN);
  memcpy(made->sizes, sizes, sizeof sizes);
  made->function = f, made->shared = shared;
  made->count = parameter_count(f->text, f->name);
  made->words = malloc(8 * made->count + 8);
  for (int i = 0; i < made->count; i++) memcpy(&made->words[i], parameters[i], 8);
  calls[LAUNCHED]++;
  Stream *on = stream_of(stream);
  return on->capturing ? record(on, made) : later(made);
}
Status cuStreamBeginCapture_v2(void *stream, int mode) {
  NEEDS_CONTEXT;
  Stream *on = stream_of(stream);
  if (on == &default_stream || on->capturing) return CAPTURE_UNSUPPORTED;
  on->capturing = 1, on->first = NULL, on->last = &on->first;
  return SUCCESS;
}
Status cuStreamEndCapture(void *stream, void **graph) {
  Stream *on = stream_of(stream);
  on->capturing = 0;
  return *graph = on->first, SUCCESS;
}
Status cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
  NEEDS_CONTEXT;
  return *executable = graph, SUCCESS;
}
Status cuGraphLaunch(void *executable, void *stream) {
  NEEDS_CONTEXT;
  for (Work *each = executable; each; each = each->next) {
    Work *again = work(each->kind);
    *again = *each;
    again->next = NULL;
    if (each->kind == RUN)
      again->words = memcpy(malloc(8 * each->count + 8), each->words, 8 * each->count);
    later(again);
  }
  calls[REPLAYED]++;
  return SUCCESS;
}
Status cuGraphDestroy(void *graph) { return SUCCESS; }
Status cuGraphExecDestroy(void *executable) { return SUCCESS; }

/* What cuda-python finds the others through ------------------------------------------------------ */

Status cuGetErrorName(Status status, const char **name) { return *name = "name", SUCCESS; }
Status cuGetErrorString(Status status, const char **said) {
  return *said = status == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "refused",
         SUCCESS;
}

#define ENTRY(name) {#name, name}
#define VERSION_2(name) {#name, name##_v2}
static const struct { const char *name; void *function; } entries[] = {
  ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet),
  ENTRY(cuDeviceGetName), ENTRY(cuDeviceGetAttribute), VERSION_2(cuDeviceTotalMem),
  ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuCtxGetCurrent), VERSION_2(cuCtxPushCurrent),
  VERSION_2(cuCtxPopCurrent), VERSION_2(cuLinkCreate), VERSION_2(cuLinkAddData),
  ENTRY(cuLinkComplete), ENTRY(cuLinkDestroy), ENTRY(cuModuleLoadDataEx),
  ENTRY(cuModuleGetFunction), ENTRY(cuFuncSetAttribute), ENTRY(cuFuncGetAttribute),
  ENTRY(cuMemPoolCreate), ENTRY(cuMemPoolSetAttribute), ENTRY(cuMemPoolTrimTo),
  VERSION_2(cuMemAlloc), ENTRY(cuMemAllocFromPoolAsync), ENTRY(cuMemFreeAsync),
  VERSION_2(cuMemFree), ENTRY(cuPointerGetAttribute), VERSION_2(cuMemcpyHtoDAsync),
  VERSION_2(cuMemcpyDtoHAsync), VERSION_2(cuMemcpyDtoDAsync), ENTRY(cuStreamCreate),
  VERSION_2(cuStreamDestroy), ENTRY(cuStreamSynchronize), ENTRY(cuEventCreate),
  VERSION_2(cuEventDestroy), ENTRY(cuEventRecord), ENTRY(cuStreamWaitEvent),
  ENTRY(cuEventSynchronize), VERSION_2(cuEventElapsedTime), ENTRY(cuLaunchKernel),
  VERSION_2(cuStreamBeginCapture), ENTRY(cuStreamEndCapture),
  {"cuGraphInstantiate", cuGraphInstantiateWithFlags}, ENTRY(cuGraphInstantiateWithFlags),
  ENTRY(cuGraphLaunch), ENTRY(cuGraphDestroy), ENTRY(cuGraphExecDestroy), ENTRY(cuGetErrorName),
  ENTRY(cuGetErrorString),
};

Status cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                           int *found) {
  for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
    if (!strcmp(symbol, entries[i].name)) {
      if (found) *found = 0;
      return *function = entries[i].function, SUCCESS;
    }
  *function = NULL;
  if (found) *found = 1;
  return NOT_FOUND;
}
Status cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
