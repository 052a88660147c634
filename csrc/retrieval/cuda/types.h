// Tensors as the kernels of retrieval take them, and the types they are made for.
#pragma once

#include <algorithm>

#include "retrieval/cuda/list.cuh"

namespace thfr::cuda {

template <typename T>
struct Type {
  using type = T;
};

// run(Type<T>) for the type of a float tensor.
template <typename Run>
const char* with_type(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::f64: return run(Type<double>{});
    case DType::f16: return run(Type<__half>{});
    case DType::bf16: return run(Type<__nv_bfloat16>{});
    default: return run(Type<float>{});
  }
}

// run(Type<U>, Type<T>) for queries and bank: fp64 with fp64, else fp32 with any other.
template <typename Run>
const char* with_types(const TensorView& bank, const Run& run) {
  return with_type(bank.dtype, [&](auto of_bank) { return run(Type<Acc<typename decltype(of_bank)::type>>{}, of_bank); });
}

inline Rows to_rows(const TensorView& view) {
  const int wide = view.dtype == DType::f64 ? 2 : view.dtype == DType::f32 ? 4 : 8;
  const bool packed = (view.stride[1] == 1 || view.size[1] == 1) && (view.size[0] == 1 || view.stride[0] % wide == 0) &&
                      reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
  return {view.data, view.size[0], view.size[1], view.stride[0], view.stride[1], packed};
}

inline Target to_target(const Search& search) {
  return {to_rows(search.queries),
          to_rows(search.bank),
          search.metadata.as<const Metadata>(),
          search.metric,
          search.exclude.as<const std::int64_t>(),
          search.bad.as<std::int64_t>()};
}

// Blocks of a grid that loops over `items`, `each` of them a block at a time.
inline unsigned looping_blocks(std::int64_t items, int each) {
  return static_cast<unsigned>(std::min<std::int64_t>(ceil_div(items, each), 16LL * multiprocessors()));
}

}  // namespace thfr::cuda
