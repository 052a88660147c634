#include <algorithm>
#include <cmath>
#include <cstdint>

#include "retrieval/cuda/filter.cuh"
#include "retrieval/cuda/types.h"

namespace thfr::cuda {

const char* pack_rows(const TensorView& rows, int parts, bool is_bank, Metric metric, const TensorView& operands,
                      const TensorView& gains, const TensorView& bad, void* stream) {
  if (rows.size[0] == 0) return nullptr;
  // The warps of a block share long rows out: there are few of them.
  const int warps = rows.size[1] > 2 * segment ? search_warps : 1;
  const auto blocks = static_cast<unsigned>(ceil_div(rows.size[0] * warps, search_warps));
  const Operands out{operands.as<__half>(), operands.data == nullptr ? 0 : operands.size[1], parts, is_bank};
  return with_type(rows.dtype, [&](auto of) {
    using T = typename decltype(of)::type;
    return launch(pack_kernel<T>, blocks, search_threads, 0, stream, to_rows(rows), out, metric, warps, gains.as<Gain>(),
                  bad.as<std::int64_t>());
  });
}

// Strips that fill the device twice over, of rows enough for a block.
std::int64_t select_strips(std::int64_t queries, std::int64_t rows) {
  const std::int64_t wanted = std::min(ceil_div(2LL * multiprocessors(), std::max<std::int64_t>(queries, 1)),
                                       ceil_div(rows, std::int64_t{search_threads}));
  return std::max<std::int64_t>({1, wanted, ceil_div(rows, std::int64_t{strip_rows})});
}

const char* select_rows(const Search& search, const TensorView& products, const TensorView& query_gains,
                        const TensorView& bank_gains, const Slack& slack, std::int64_t first, const Lists& lists, void* stream) {
  const std::int64_t queries = search.queries.size[0], strips = lists.keys.size[1], count = products.size[2];
  if (queries == 0) return nullptr;
  if (queries > 0x7fffffff / strips) return "more than 2^31 blocks of rows";
  // Sums of P parts in fp32, and what is computed of them: 2^-23 each.
  const double widened = slack.product + static_cast<double>(products.size[0] + 8) * 0x1p-23;
  const int k = static_cast<int>(lists.keys.size[2]);
  const Products found{products.as<const float>(),
                       products.size[0],
                       count,
                       first,
                       query_gains.as<const Gain>(),
                       bank_gains.as<const Gain>(),
                       std::nextafter(static_cast<float>(widened), INFINITY),
                       static_cast<float>(slack.square) + 0x1p-19F,
                       static_cast<int>(strips),
                       static_cast<int>(ceil_div(count, strips))};
  return with_types(search.bank, [&](auto of_queries, auto of_bank) {
    using U = typename decltype(of_queries)::type;
    using T = typename decltype(of_bank)::type;
    return launch(select_kernel<U, T>, static_cast<unsigned>(queries * strips), search_threads, bytes_of_lists(search_warps, k),
                  stream, to_target(search), found, k, lists.keys.as<double>(), lists.rows.as<std::int64_t>());
  });
}

}  // namespace thfr::cuda
