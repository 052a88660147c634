// Compiled once for each instruction set (cmake/simd.cmake): no standard-library templates here.
#include "cpu/scoring_simd.h"

#include <cmath>

#include "cpu/half.h"

namespace thfr {
namespace THFR_ISA {
namespace {

template <typename T>
void cosine_distance(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                     std::int64_t begin, std::int64_t end) {
  using Acc = typename Accumulator<T>::type;
  const std::int64_t channels = features.size[1], height = features.size[2], width = features.size[3];
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t b = i / (height * width), h = i / width % height, w = i % width;
    const T* x = features.as<T>() + b * features.stride[0] + h * features.stride[2] + w * features.stride[3];
    const T* y = restored.as<T>() + b * restored.stride[0] + h * restored.stride[2] + w * restored.stride[3];
    Acc xy = 0, xx = 0, yy = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
      const Acc xc = load(x[c * features.stride[1]]), yc = load(y[c * restored.stride[1]]);
      xy += xc * yc;
      xx += xc * xc;
      yy += yc * yc;
    }
    const Acc norm = std::sqrt(xx) * std::sqrt(yy);
    distance.as<Acc>()[i] = 1 - xy / (norm > Acc(eps) ? norm : Acc(eps));
  }
}

void cosine_distance_any(const TensorView& features, const TensorView& restored, double eps, const TensorView& distance,
                         std::int64_t begin, std::int64_t end) {
  switch (features.dtype) {
    case DType::f64: return cosine_distance<double>(features, restored, eps, distance, begin, end);
    case DType::f16: return cosine_distance<f16>(features, restored, eps, distance, begin, end);
    case DType::bf16: return cosine_distance<bf16>(features, restored, eps, distance, begin, end);
    default: return cosine_distance<float>(features, restored, eps, distance, begin, end);
  }
}

}  // namespace

const ScoringKernels& scoring_kernels() {
  static constexpr ScoringKernels table{cosine_distance_any};
  return table;
}

}  // namespace THFR_ISA
}  // namespace thfr
