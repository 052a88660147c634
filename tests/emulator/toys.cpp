#include "toys.h"

#include "common/launch.cuh"

namespace toys {
namespace {

constexpr int threads = 64;

__global__ void sum_kernel(const float* values, float* sums, Fault fault) {
  THFR_SHARED(float, of_warp, [threads / 32]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  float sum = values[blockIdx.x * threads + thread];
  const unsigned mask = fault == wrong_lanes && lane < 16 ? 0xffffU : thfr::cuda::all_lanes;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(mask, sum, step);
  if (lane == 0) of_warp[warp + (fault == out_of_bounds ? 1 : 0)] = sum;
  if (fault == divergent_barrier && warp == 0) {
    __syncthreads();
  } else if (fault != missing_barrier) {
    __syncthreads();
  }
  if (thread == 0) sums[blockIdx.x] = of_warp[0] + of_warp[1];
}

}  // namespace

const char* block_sums(const thfr::TensorView& values, const thfr::TensorView& sums, Fault fault) {
  const std::size_t shared = fault == too_much_shared ? 228 * 1024 : 0;
  return thfr::cuda::launch(sum_kernel, static_cast<unsigned>(sums.size[0]), threads, shared, nullptr, values.as<float>(),
                            sums.as<float>(), fault);
}

}  // namespace toys
