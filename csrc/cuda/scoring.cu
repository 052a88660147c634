#include "thfr/scoring.h"

#include "check.cuh"
#include "scoring.cuh"

namespace thfr::cuda {

const char* cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                            void* stream) {
  constexpr int block = 256;
  const std::int64_t blocks = (distance.elements() + block - 1) / block;
  if (blocks == 0) return nullptr;
  if (blocks > 0x7fffffff) return "more than 2^31 blocks of locations";
  const dim3 grid(static_cast<unsigned>(blocks));
  const auto queue = static_cast<cudaStream_t>(stream);
  switch (features.dtype) {
    case DType::f64: cosine_distance_kernel<double><<<grid, block, 0, queue>>>(features, restored, eps, distance); break;
    case DType::f16: cosine_distance_kernel<__half><<<grid, block, 0, queue>>>(features, restored, eps, distance); break;
    case DType::bf16: cosine_distance_kernel<__nv_bfloat16><<<grid, block, 0, queue>>>(features, restored, eps, distance); break;
    default: cosine_distance_kernel<float><<<grid, block, 0, queue>>>(features, restored, eps, distance); break;
  }
  return launch_error();
}

}  // namespace thfr::cuda
