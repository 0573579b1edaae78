// Small kernels of many kinds, for the PTX executor: nvcc makes PTX of them where it is installed.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

__constant__ float table[8] = {1, 2, 4, 8, 16, 32, 64, 128};
__device__ unsigned counter = 7;

__device__ __noinline__ float series(float a, int terms) {
  float sum = 0;
  for (int i = 0; i < terms; i++) sum += a * i;
  return sum;
}

extern "C" {

__global__ void product(const float* a, const float* b, float* c, int m, int n, int k) {
  __shared__ float left[16][16], right[16][17];
  int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
  float sum = 0;
  for (int start = 0; start < k; start += 16) {
    int inner = start + threadIdx.x, outer = start + threadIdx.y;
    left[threadIdx.y][threadIdx.x] = row < m && inner < k ? a[row * k + inner] : 0;
    right[threadIdx.y][threadIdx.x] = column < n && outer < k ? b[outer * n + column] : 0;
    __syncthreads();
    for (int j = 0; j < 16; j++) sum += left[threadIdx.y][j] * right[j][threadIdx.x];
    __syncthreads();
  }
  if (row < m && column < n) c[row * n + column] = sum;
}

__global__ void reduce(const float* x, float* total, int n) {
  __shared__ float parts[32];
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    sum += x[i];
  for (int step = 16; step; step >>= 1) sum += __shfl_down_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
  for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x == 0) atomicAdd(total, sum);
}

__global__ void rows_times(const int* start, const int* column, const float* value,
                           const float* x, float* y, int rows, int features) {
  int row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  for (int f = threadIdx.x; f < features; f += blockDim.x) {
    float sum = 0;
    for (int e = start[row]; e < start[row + 1]; e++)
      sum += value[e] * x[column[e] * features + f];
    y[row * features + f] = sum;
  }
}

__global__ void collatz(const unsigned* x, int* steps, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  unsigned long long v = x[i];
  int count = 0;
  for (; v != 1; count++) v = v & 1 ? 3 * v + 1 : v / 2;
  steps[i] = count;
}

__global__ void elementary(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i], size = fabsf(v);
  y[i] = expf(v);
  y[n + i] = logf(size + 1e-3f);
  y[2 * n + i] = sinf(v);
  y[3 * n + i] = tanhf(v);
  y[4 * n + i] = powf(size, 1.7f);
  y[5 * n + i] = erff(v);
  y[6 * n + i] = v / 3.7f;
  y[7 * n + i] = cosf(v * 100000.f);
}

__global__ void narrow(const __half* a, const __nv_bfloat16* b, __half* c, __nv_bfloat16* d, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  c[i] = __hfma(a[i], a[i], __float2half(0.5f));
  d[i] = __hmul(__hadd(b[i], b[i]), b[i]);
}

__global__ void calls(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = series(x[i], i % 7) + series(x[i] * 2, 3);
}

__global__ void local_array(const int* x, float* y, int n) {
  float t[16];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  for (int k = 0; k < 16; k++) t[k] = x[i] * k;
  for (int k = 0; k < 16; k++) t[(k * x[i]) & 15] += k;
  float sum = table[x[i] & 7] + counter;
  for (int k = 0; k < 16; k++) sum += t[k] * (k + 1);
  y[i] = sum;
}

__global__ void votes(const int* x, unsigned* y) {
  int i = threadIdx.x, v = x[i];
  y[i * 6] = __ballot_sync(~0u, v & 1);
  y[i * 6 + 1] = __any_sync(~0u, v > 90);
  y[i * 6 + 2] = __all_sync(~0u, v >= 0);
  y[i * 6 + 3] = __match_any_sync(~0u, v % 5);
  y[i * 6 + 4] = __reduce_add_sync(~0u, v);
  y[i * 6 + 5] = __syncthreads_count(v & 1);
}

__global__ void histogram(const int* x, int* bins, double* sum, __half* count, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(&bins[x[i] & 15], 1);
  atomicMax(&bins[16], x[i]);
  atomicAdd(sum, (double)x[i]);
  atomicAdd(count, __float2half(1.f));
}

__global__ void divide(const long long* a, const long long* b, long long* q, long long* r,
                       unsigned long long* high, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  q[i] = a[i] / b[i];
  r[i] = a[i] % b[i];
  high[i] = __umul64hi(a[i], b[i]);
}

__global__ void scan(const int* x, int* y) {
  extern __shared__ int held[];
  int i = threadIdx.x, n = blockDim.x;
  held[i] = x[blockIdx.x * n + i];
  __syncthreads();
  for (int step = 1; step < n; step *= 2) {
    int other = i >= step ? held[i - step] : 0;
    __syncthreads();
    held[i] += other;
    __syncthreads();
  }
  y[blockIdx.x * n + i] = held[i];
}
}
