/* Hand-written kernels, compiled for the machine that runs them: the bar for generated code, and
 * the loops that measure what the machine can do at all.
 *
 * A `vec` is 16 floats; where registers are narrower the compiler splits it. Sparse kernels cut
 * the rows into blocks of equal work, keep a whole output row in registers, and fetch the row that
 * is needed AHEAD entries later.  cc -O3 -march=native -fopenmp -shared -fPIC kernels.c -lm
 */
#include <stdint.h>
#include <stdlib.h>
#ifdef __AVX512F__
#include <immintrin.h>
#define ACCUMULATORS 24 /* enough to hide the latency of two units, few enough for 32 registers */
#else
#define ACCUMULATORS 6
#endif

typedef float vec __attribute__((vector_size(64)));
typedef float anywhere __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

#define LANES 16
#define AHEAD 8
#define BLOCKS 64
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { return *(const anywhere *)p; }
INLINE void store(float *p, vec v) { *(anywhere *)p = v; }
INLINE vec all(float x) { return (vec){} + x; }

#define TURN(v, a, b, c, d) /* the four quarters of v in another order */                          \
  __builtin_shufflevector(v, v, 4 * a, 4 * a + 1, 4 * a + 2, 4 * a + 3, 4 * b, 4 * b + 1,         \
                          4 * b + 2, 4 * b + 3, 4 * c, 4 * c + 1, 4 * c + 2, 4 * c + 3, 4 * d,    \
                          4 * d + 1, 4 * d + 2, 4 * d + 3)

INLINE float sum(vec v) {
  v += TURN(v, 2, 3, 0, 1);
  v += TURN(v, 1, 0, 3, 2);
  return (v[0] + v[1]) + (v[2] + v[3]);
}

/* ------------------------------------------------------------------ what the machine can do */

/* Arithmetic: independent chains of multiply-add. Returns the operations done. */
double fma_chains(int64_t rounds) {
  double done = 0;
#pragma omp parallel reduction(+ : done)
  {
    vec chain[ACCUMULATORS], x = all(0.999f), y = all(1e-6f);
    __asm__ volatile("" : "+m"(x), "+m"(y));
    for (int i = 0; i < ACCUMULATORS; i++) chain[i] = x;
    for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 24
      for (int i = 0; i < ACCUMULATORS; i++) chain[i] = chain[i] * x + y;
    vec total = {};
    for (int i = 0; i < ACCUMULATORS; i++) total += chain[i];
    __asm__ volatile("" : : "m"(total));
    done += 2.0 * LANES * ACCUMULATORS * rounds;
  }
  return done;
}

/* Bandwidth: a = b + s c, past the caches where the machine has such stores. n is a multiple of
 * 16 and the arrays are aligned to 64 bytes. */
void triad(float *restrict a, const float *restrict b, const float *restrict c, int64_t n) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i += LANES) {
    vec v = load(b + i) + 3.0f * load(c + i);
#ifdef __AVX512F__
    _mm512_stream_ps(a + i, (__m512)v);
#else
    store(a + i, v);
#endif
  }
}

float read_all(const float *a, int64_t n) {
  float total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
  for (int64_t block = 0; block < n / 1024; block++) {
    const float *p = a + block * 1024;
    vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
    for (int i = 0; i < 1024; i += 4 * LANES) {
      s0 += load(p + i);
      s1 += load(p + i + LANES);
      s2 += load(p + i + 2 * LANES);
      s3 += load(p + i + 3 * LANES);
    }
    total += sum(s0 + s1 + s2 + s3);
  }
  return total;
}

/* Random rows: sums rows of a table of `vectors` * 16 columns, fetched ahead. */
INLINE float gather_block(int vectors, const float *table, const int32_t *index, int64_t n, int b) {
  vec acc[8] = {}, total = {};
  int64_t end = n * (b + 1) / BLOCKS;
  for (int64_t e = n * b / BLOCKS; e < end; e++) {
    const float *row = table + (int64_t)index[e] * vectors * LANES;
    const float *next = table + (int64_t)index[e + AHEAD < n ? e + AHEAD : e] * vectors * LANES;
    for (int v = 0; v < vectors; v++) __builtin_prefetch(next + v * LANES);
    for (int v = 0; v < vectors; v++) acc[v] += load(row + v * LANES);
  }
  for (int v = 0; v < vectors; v++) total += acc[v];
  return sum(total);
}
float gather64(const float *table, const int32_t *index, int64_t n) {
  float total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
  for (int b = 0; b < BLOCKS; b++) total += gather_block(4, table, index, n, b);
  return total;
}
float gather128(const float *table, const int32_t *index, int64_t n) {
  float total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
  for (int b = 0; b < BLOCKS; b++) total += gather_block(8, table, index, n, b);
  return total;
}

/* ------------------------------------------------------------------------- sparse products */

/* First row of block b of BLOCKS, when each has the same number of entries. */
INLINE int64_t first_row(const int32_t *ptr, int64_t n, int b) {
  if (b == BLOCKS) return n;
  int64_t wanted = (int64_t)ptr[n] * b / BLOCKS, low = 0, high = n;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (ptr[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return b ? low : 0;
}

INLINE void prefetch_row(int vectors, const float *x, const int32_t *idx, int64_t e, int64_t last) {
  if (e + AHEAD > last) return;
  const float *row = x + (int64_t)idx[e + AHEAD] * vectors * LANES;
  for (int v = 0; v < vectors; v++) __builtin_prefetch(row + v * LANES);
}

/* The width is a constant of each caller: a parallel region of its own would make it a variable. */
INLINE void spmm_block(int vectors, int b, int64_t n, const int32_t *restrict ptr,
                       const int32_t *restrict idx, const float *restrict val,
                       const float *restrict x, float *restrict y) {
  int64_t last = (int64_t)ptr[n] - 1, width = vectors * LANES, end = first_row(ptr, n, b + 1);
  for (int64_t i = first_row(ptr, n, b); i < end; i++) {
    vec acc[8] = {};
    for (int64_t e = ptr[i]; e < ptr[i + 1]; e++) {
      prefetch_row(vectors, x, idx, e, last);
      const float *row = x + idx[e] * width;
      vec scale = all(val[e]);
      for (int v = 0; v < vectors; v++) acc[v] += scale * load(row + v * LANES);
    }
    for (int v = 0; v < vectors; v++) store(y + i * width + v * LANES, acc[v]);
  }
}
void spmm32(int64_t n, const int32_t *ptr, const int32_t *idx, const float *val, const float *x,
            float *y) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int b = 0; b < BLOCKS; b++) spmm_block(2, b, n, ptr, idx, val, x, y);
}
void spmm64(int64_t n, const int32_t *ptr, const int32_t *idx, const float *val, const float *x,
            float *y) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int b = 0; b < BLOCKS; b++) spmm_block(4, b, n, ptr, idx, val, x, y);
}
void spmm128(int64_t n, const int32_t *ptr, const int32_t *idx, const float *val, const float *x,
             float *y) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int b = 0; b < BLOCKS; b++) spmm_block(8, b, n, ptr, idx, val, x, y);
}

/* y = A x: the entries of a row go over the lanes, its products are gathered. */
void spmv(int64_t n, const int32_t *restrict ptr, const int32_t *restrict idx,
          const float *restrict val, const float *restrict x, float *restrict y) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int b = 0; b < BLOCKS; b++) {
    int64_t end = first_row(ptr, n, b + 1);
    for (int64_t i = first_row(ptr, n, b); i < end; i++) {
      float total = 0;
#pragma omp simd reduction(+ : total)
      for (int32_t e = ptr[i]; e < ptr[i + 1]; e++) total += val[e] * x[idx[e]];
      y[i] = total;
    }
  }
}

/* out[e] = val[e] * dot(p[row], q[col]), 64 columns */
void sddmm64(int64_t n, const int32_t *restrict ptr, const int32_t *restrict idx,
             const float *restrict val, const float *restrict p, const float *restrict q,
             float *restrict out) {
  int64_t last = (int64_t)ptr[n] - 1;
#pragma omp parallel for schedule(dynamic, 1)
  for (int b = 0; b < BLOCKS; b++) {
    int64_t end = first_row(ptr, n, b + 1);
    for (int64_t i = first_row(ptr, n, b); i < end; i++) {
      vec left[4];
      for (int v = 0; v < 4; v++) left[v] = load(p + i * 64 + v * LANES);
      for (int64_t e = ptr[i]; e < ptr[i + 1]; e++) {
        prefetch_row(4, q, idx, e, last);
        const float *row = q + (int64_t)idx[e] * 64;
        vec s = {};
        for (int v = 0; v < 4; v++) s += left[v] * load(row + v * LANES);
        out[e] = val[e] * sum(s);
      }
    }
  }
}

/* ------------------------------------------------------------------------- graph attention */

/* exp for x <= 0: 2 ** (whole + fraction), a polynomial for the fraction */
INLINE vec exp_of(vec x) {
  ivec low = x < all(-87.0f);
  x = (vec)(((ivec)all(-87.0f) & low) | ((ivec)x & ~low)) * 1.44269504f;
  vec whole = (x + 12582912.0f) - 12582912.0f, f = x - whole;
  vec p = all(1.3333558e-3f) * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  return p * (vec)((__builtin_convertvector(whole, ivec) + 127) << 23);
}

INLINE vec larger(vec a, vec b) {
  ivec first = a > b;
  return (vec)(((ivec)a & first) | ((ivec)b & ~first));
}

/* 16 lanes hold 4 edges of 4 heads: combine the edges, the result in all of them */
INLINE vec over_edges(vec v, int take_larger) {
  vec w = TURN(v, 2, 3, 0, 1);
  v = take_larger ? larger(v, w) : v + w;
  w = TURN(v, 1, 0, 3, 2);
  return take_larger ? larger(v, w) : v + w;
}

/* y[i] = sum of softmax_row(leaky_relu(s[col] + t[row])) * z[col]; 4 heads of 16 columns.
 * s and t are [n, 4]; `longest` is the largest number of entries in a row. */
void gat_edges(int64_t n, int64_t longest, const int32_t *restrict ptr,
               const int32_t *restrict idx, const float *restrict s, const float *restrict t,
               const float *restrict z, float *restrict y) {
  int64_t last = (int64_t)ptr[n] - 1;
#pragma omp parallel
  {
    float *score = malloc(sizeof(float) * 4 * (longest + 4));
#pragma omp for schedule(dynamic, 1)
    for (int b = 0; b < BLOCKS; b++) {
      int64_t end = first_row(ptr, n, b + 1);
      for (int64_t i = first_row(ptr, n, b); i < end; i++) {
        int64_t begin = ptr[i], count = ptr[i + 1] - begin;
        quad own = *(const quad *)(t + 4 * i);
        for (int64_t e = 0; e < count; e++) {
          quad a = *(const quad *)(s + 4 * (int64_t)idx[begin + e]) + own, slope = a * 0.2f;
          for (int k = 0; k < 4; k++) score[4 * e + k] = a[k] > slope[k] ? a[k] : slope[k];
        }
        for (int64_t e = count; e % 4; e++) /* fill the last vector with weightless edges */
          *(quad *)(score + 4 * e) = (quad){-1e30f, -1e30f, -1e30f, -1e30f};
        vec top = all(-1e30f), weights = {}, acc[4] = {};
        for (int64_t e = 0; e < count; e += 4) top = larger(top, load(score + 4 * e));
        top = over_edges(top, 1);
        for (int64_t e = 0; e < count; e += 4) {
          vec w = exp_of(load(score + 4 * e) - top);
          weights += w;
          store(score + 4 * e, w);
        }
        weights = over_edges(weights, 0);
        for (int64_t e = 0; e < count; e++) {
          prefetch_row(4, z, idx, begin + e, last);
          const float *row = z + (int64_t)idx[begin + e] * 64;
          for (int k = 0; k < 4; k++) acc[k] += score[4 * e + k] * load(row + k * LANES);
        }
        for (int k = 0; k < 4; k++)
          store(y + 64 * i + 16 * k, count ? acc[k] / weights[k] : acc[k]);
      }
    }
    free(score);
  }
}

/* z = x w with 64 columns in and out, s[i, k] = dot(z[i, k], al[k]), t likewise with ar. */
INLINE void gat_rows(int rows, const float *x, const float *w, const float *al, const float *ar,
                     float *z, float *s, float *t) {
  vec acc[4][4] = {};
  for (int k = 0; k < 64; k++)
    for (int r = 0; r < rows; r++)
      for (int v = 0; v < 4; v++) acc[r][v] += x[r * 64 + k] * load(w + k * 64 + v * LANES);
  for (int r = 0; r < rows; r++)
    for (int k = 0; k < 4; k++) {
      store(z + r * 64 + k * LANES, acc[r][k]);
      s[r * 4 + k] = sum(acc[r][k] * load(al + k * LANES));
      t[r * 4 + k] = sum(acc[r][k] * load(ar + k * LANES));
    }
}
void gat_nodes(int64_t n, const float *x, const float *w, const float *al, const float *ar,
               float *z, float *s, float *t) {
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < n / 4; block++) {
    int64_t i = 4 * block;
    gat_rows(4, x + i * 64, w, al, ar, z + i * 64, s + i * 4, t + i * 4);
  }
  for (int64_t i = n - n % 4; i < n; i++)
    gat_rows(1, x + i * 64, w, al, ar, z + i * 64, s + i * 4, t + i * 4);
}
