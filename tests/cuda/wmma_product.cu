// Products of one warp by the older interface: f16 with sums in f32, bytes with sums in s32.
#include <mma.h>
using namespace nvcuda::wmma;

extern "C" __global__ void wmma_product(const half *a, const half *b, float *c, int n, int k) {
  fragment<matrix_a, 16, 16, 16, half, row_major> left;
  fragment<matrix_b, 16, 16, 16, half, col_major> right;
  fragment<accumulator, 16, 16, 16, float> sum;
  fill_fragment(sum, 1.0f);
  for (int start = 0; start < k; start += 16) {
    load_matrix_sync(left, a + blockIdx.y * 16 * k + start, k);
    load_matrix_sync(right, b + blockIdx.x * 16 * k + start, k);
    mma_sync(sum, left, right, sum);
  }
  for (int i = 0; i < sum.num_elements; i++) sum.x[i] *= 2;
  store_matrix_sync(c + blockIdx.y * 16 * n + blockIdx.x * 16, sum, n, mem_row_major);
}

extern "C" __global__ void wmma_bytes(const signed char *a, const signed char *b, int *c) {
  fragment<matrix_a, 32, 8, 16, signed char, col_major> left;
  fragment<matrix_b, 32, 8, 16, signed char, row_major> right;
  fragment<accumulator, 32, 8, 16, int> sum;
  __shared__ int held[32 * 8];
  fill_fragment(sum, 0);
  load_matrix_sync(left, a, 32);
  load_matrix_sync(right, b, 8);
  mma_sync(sum, left, right, sum);
  store_matrix_sync(held, sum, 32, mem_col_major);
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * 8; i += 32) c[i] = held[i];
}
