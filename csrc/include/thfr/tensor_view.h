// A tensor that somebody else owns: pointer, element type, sizes and strides.
#pragma once

#include <cstdint>

namespace thfr {

enum class DType : int { f32 = 0, f64 = 1, f16 = 2, bf16 = 3, boolean = 4, i64 = 5 };

struct TensorView {
  static constexpr int max_dims = 4;

  void* data = nullptr;
  DType dtype = DType::f32;
  int dims = 0;
  std::int64_t size[max_dims] = {};
  std::int64_t stride[max_dims] = {};  // in elements

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }

  std::int64_t elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < dims; ++i) n *= size[i];
    return n;
  }
};

}  // namespace thfr
