// A product of matrices through tiles of 8 x 8 in shared memory; any sizes.
constexpr int T = 8;

extern "C" __global__ void shared_product(const float *a, const float *b, float *c, int m, int n,
                                          int k) {
  __shared__ float left[T][T], right[T][T];
  int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * T + y, column = blockIdx.x * T + x;
  float sum = 0;
  for (int start = 0; start < k; start += T) {
    left[y][x] = row < m && start + x < k ? a[row * k + start + x] : 0;
    right[y][x] = start + y < k && column < n ? b[(start + y) * n + column] : 0;
    __syncthreads();
    for (int i = 0; i < T; i++) sum += left[y][i] * right[i][x];
    __syncthreads();
  }
  if (row < m && column < n) c[row * n + column] = sum;
}
