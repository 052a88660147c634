// Kernel bodies of scoring.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "thfr/tensor_view.h"

namespace thfr::cuda {

template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }
__device__ inline float load(__half x) { return __half2float(x); }
__device__ inline float load(__nv_bfloat16 x) { return __bfloat162float(x); }

// One thread a location, one pass over the channels: the obvious kernel, any strides. It is the oracle of faster ones.
template <typename T>
__global__ void cosine_distance_kernel(TensorView features, TensorView restored, double eps, TensorView distance) {
  using Acc = typename Accumulator<T>::type;
  const std::int64_t height = features.size[2], width = features.size[3], locations = features.size[0] * height * width;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= locations) return;
  const std::int64_t b = i / (height * width), h = i / width % height, w = i % width;
  const T* x = static_cast<const T*>(features.data) + b * features.stride[0] + h * features.stride[2] + w * features.stride[3];
  const T* y = static_cast<const T*>(restored.data) + b * restored.stride[0] + h * restored.stride[2] + w * restored.stride[3];
  Acc xy = 0, xx = 0, yy = 0;
  for (std::int64_t c = 0; c < features.size[1]; ++c) {
    const Acc xc = load(x[c * features.stride[1]]), yc = load(y[c * restored.stride[1]]);
    xy += xc * yc;
    xx += xc * xc;
    yy += yc * yc;
  }
  const Acc norm = sqrt(xx) * sqrt(yy);
  static_cast<Acc*>(distance.data)[i] = 1 - xy / (norm > static_cast<Acc>(eps) ? norm : static_cast<Acc>(eps));
}

}  // namespace thfr::cuda
