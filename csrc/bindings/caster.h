// How a tensor comes in from Python: the tuple (data_ptr, dtype code, sizes, strides) that thfr_ext/core/tensors.py makes.
#pragma once

#include <pybind11/pybind11.h>

#include "thfr/tensor_view.h"

namespace pybind11::detail {

template <>
struct type_caster<thfr::TensorView> {
  PYBIND11_TYPE_CASTER(thfr::TensorView, const_name("tuple[int, int, tuple[int, ...], tuple[int, ...]]"));

  bool load(handle source, bool) {
    try {
      return load_tuple(source);
    } catch (const cast_error&) {  // a part is no integer, or one too large: a TypeError, as for any wrong argument
      return false;
    }
  }

 private:
  bool load_tuple(handle source) {
    if (!PyTuple_Check(source.ptr()) || PyTuple_GET_SIZE(source.ptr()) != 4) return false;
    const auto parts = reinterpret_borrow<tuple>(source);
    if (!PyTuple_Check(parts[2].ptr()) || !PyTuple_Check(parts[3].ptr())) return false;
    const auto sizes = reinterpret_borrow<tuple>(parts[2]), strides = reinterpret_borrow<tuple>(parts[3]);
    if (sizes.size() > thfr::TensorView::max_dims || sizes.size() != strides.size()) return false;
    value.data = reinterpret_cast<void*>(parts[0].cast<std::uintptr_t>());
    const int code = parts[1].cast<int>();
    if (code < 0 || code > static_cast<int>(thfr::DType::i64)) return false;
    value.dtype = static_cast<thfr::DType>(code);
    value.dims = static_cast<int>(sizes.size());
    bool empty = false;
    for (int i = 0; i < value.dims; ++i) {
      value.size[i] = sizes[static_cast<size_t>(i)].cast<std::int64_t>();
      value.stride[i] = strides[static_cast<size_t>(i)].cast<std::int64_t>();
      if (value.size[i] < 0) return false;
      empty |= value.size[i] == 0;
    }
    return value.data != nullptr || empty;
  }
};

}  // namespace pybind11::detail

namespace thfr::bindings {

// Throws if a CUDA launcher has reported an error.
inline void require_launch(const char* operator_name, const char* error) {
  if (error != nullptr) throw std::runtime_error(std::string(operator_name) + ": CUDA launch failed: " + error);
}

}  // namespace thfr::bindings
