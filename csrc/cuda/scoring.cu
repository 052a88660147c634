#include "thfr/scoring.h"

#include "launch.cuh"
#include "scoring.cuh"

namespace thfr::cuda {

template <typename T>
static const char* obvious(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                           void* stream) {
  constexpr int block = 256;
  const std::int64_t blocks = ceil_div(distance.elements(), block);
  if (blocks > 0x7fffffff) return "more than 2^31 blocks of locations";
  return launch(cosine_distance_kernel<T>, static_cast<unsigned>(blocks), block, 0, stream, features, restored, eps, distance);
}

const char* cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                            void* stream) {
  if (distance.elements() == 0) return nullptr;
  switch (features.dtype) {
    case DType::f64: return obvious<double>(features, restored, eps, distance, stream);
    case DType::f16: return obvious<__half>(features, restored, eps, distance, stream);
    case DType::bf16: return obvious<__nv_bfloat16>(features, restored, eps, distance, stream);
    default: return obvious<float>(features, restored, eps, distance, stream);
  }
}

}  // namespace thfr::cuda
