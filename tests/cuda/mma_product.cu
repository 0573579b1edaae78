// bf16 tiles of 64 x 64 by four warps: two stages of cp.async, ldmatrix, mma.
#include <cuda_bf16.h>
#include <cstdint>

constexpr int M = 64, N = 64, K = 32, PAD = 8;

__device__ uint32_t shared_address(const void *p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ void copy16(void *to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}

extern "C" __global__ void __launch_bounds__(128)
    mma_product(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int n, int k) {
  __shared__ __align__(16) __nv_bfloat16 left[2][M][K + PAD], right[2][K][N + PAD];
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  a += (size_t)blockIdx.y * M * k;
  b += (size_t)blockIdx.x * N;
  float sum[8][4] = {};
  auto fetch = [&](int stage, int start) {
    for (int i = thread; i < M * K / 8; i += 128)
      copy16(&left[stage][i / (K / 8)][i % (K / 8) * 8], a + i / (K / 8) * k + start + i % (K / 8) * 8);
    for (int i = thread; i < K * N / 8; i += 128)
      copy16(&right[stage][i / (N / 8)][i % (N / 8) * 8],
             b + (size_t)(start + i / (N / 8)) * n + i % (N / 8) * 8);
    asm volatile("cp.async.commit_group;");
  };
  fetch(0, 0);
  for (int step = 0; step < k / K; step++) {
    if (step + 1 < k / K) {
      fetch((step + 1) % 2, (step + 1) * K);
      asm volatile("cp.async.wait_group 1;");
    } else {
      asm volatile("cp.async.wait_group 0;");
    }
    __syncthreads();
    for (int inner = 0; inner < K; inner += 16) {
      uint32_t x[4];
      uint32_t from = shared_address(&left[step % 2][warp * 16 + lane % 16][inner + lane / 16 * 8]);
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(from));
      for (int j = 0; j < 8; j++) {
        uint32_t y[2];
        from = shared_address(&right[step % 2][inner + lane % 16][j * 8]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(y[0]), "=r"(y[1])
                     : "r"(from));
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
            "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
            : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
      }
    }
    __syncthreads();
  }
  c += (size_t)(blockIdx.y * M + warp * 16) * n + blockIdx.x * N;
  for (int j = 0; j < 8; j++)
    for (int r = 0; r < 4; r++)
      c[(size_t)(lane / 4 + r / 2 * 8) * n + j * 8 + lane % 4 * 2 + r % 2] = sum[j][r];
}
