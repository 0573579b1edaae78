// What compilers make of ordinary code: calls, a stack, tables, 64-bit division, halves, classes.
#include <cuda_fp16.h>

struct Settings {
  int count;
  float scale;
  double offset;
};

__constant__ float weights[4] = {1.0f, -2.0f, 0.5f, 4.0f};
__device__ int calls = 0;

__noinline__ __device__ float wave(float x, int n) { return n > 1 ? x * sinf(x) : x; }

extern "C" __global__ void mixture(const float *x, float *y, long long *z, __half *h, Settings s,
                                   int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float stack[8];
  for (int j = 0; j < 8; j++) stack[(j * s.count) & 7] = x[i] * j;
  switch (i % 7) {
    case 0: stack[1] += 1; break;
    case 1: stack[2] += 2; break;
    case 2: stack[3] -= 3; break;
    case 3: stack[4] *= 4; break;
    case 4: stack[5] = 5; break;
    default: stack[6] = 6;
  }
  y[i] = wave(stack[i & 7], s.count) * s.scale + (float)s.offset + weights[i & 3];
  long long wide = (long long)i * 1234567890123LL - 55555;
  z[i] = wide / (i + 3) + wide % 7;
  h[i] = __hadd(__float2half(x[i]), __hmul(__float2half(0.25f), __float2half((float)i)));
  atomicAdd(&calls, 1);
}
