// The sum and the greatest of an array: shuffles in a warp, shared memory in a block, atomics.
__device__ float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
  return value;
}

extern "C" __global__ void block_reduce(const float *x, float *sum, int *greatest, int n) {
  __shared__ float parts[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float value = 0;
  int most = -2147483647;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    value += x[i];
    most = max(most, (int)rintf(x[i]));
  }
  value = warp_sum(value);
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  if (warp == 0) {
    value = lane < blockDim.x / 32 ? parts[lane] : 0;
    value = warp_sum(value);
    if (lane == 0) atomicAdd(sum, value);
  }
  atomicMax(greatest, most);
}
