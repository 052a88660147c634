#include "retrieval/cuda/coreset.cuh"

#include <algorithm>

#include "retrieval/cuda/types.h"

namespace thfr::cuda {

const char* largest_magnitude(const TensorView& bank, const TensorView& largest, void* stream) {
  return with_type(bank.dtype, [&](auto of) {
    using T = typename decltype(of)::type;
    return launch(largest_kernel<T>, looping_blocks(bank.size[0], search_warps), search_threads, 0, stream, to_rows(bank),
                  largest.as<unsigned long long>());
  });
}

// Every block reads what all have found: no more than can be at work at once.
std::int64_t coreset_blocks(std::int64_t rows, std::int64_t width) {
  const int of_block = rows_at_once<1> * (is_wide(width) ? 1 : search_warps);
  return std::max<std::int64_t>(std::min<std::int64_t>(ceil_div(rows, of_block), 2LL * multiprocessors()), 1);
}

const char* greedy_coreset(const TensorView& bank, const TensorView& largest, std::int64_t first, const TensorView& distances,
                           const Lists& farthest, const TensorView& chosen, std::int64_t begin, std::int64_t end, void* stream) {
  const Coreset to{to_rows(bank),
                   largest.as<const std::int64_t>(),
                   distances.as<double>(),
                   farthest.keys.as<double>(),
                   farthest.rows.as<std::int64_t>(),
                   chosen.as<std::int64_t>(),
                   first,
                   static_cast<int>(farthest.keys.size[1])};
  return with_type(bank.dtype, [&](auto of) -> const char* {
    using T = typename decltype(of)::type;
    for (std::int64_t step = std::max<std::int64_t>(begin, 1); step < end; ++step) {
      const auto blocks = static_cast<unsigned>(to.blocks);
      if (const char* error = launch(step_kernel<T>, blocks, search_threads, 0, stream, to, step)) return error;
    }
    return launch(last_kernel, 1, search_threads, 0, stream, to, end);
  });
}

}  // namespace thfr::cuda
