// A sparse matrix by rows times a dense one: one warp for each row, 32 columns at a time.
extern "C" __global__ void spmm_csr(const int *starts, const int *columns, const float *values,
                                    const float *x, float *y, int rows, int width) {
  int row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  for (int d = threadIdx.x; d < width; d += 32) {
    float sum = 0;
    for (int e = starts[row]; e < starts[row + 1]; e++)
      sum += values[e] * x[(size_t)columns[e] * width + d];
    y[(size_t)row * width + d] = sum;
  }
}
