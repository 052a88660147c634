#include <algorithm>
#include <cstdint>

#include "retrieval/cuda/multiply.cuh"
#include "retrieval/cuda/search.cuh"
#include "retrieval/cuda/types.h"

namespace thfr::cuda {

const char* describe_queries(const TensorView& queries, const TensorView& metadata, void* stream) {
  if (queries.size[0] == 0) return nullptr;
  return with_type(queries.dtype, [&](auto of) {
    using T = typename decltype(of)::type;
    return launch(describe_kernel<T>, looping_blocks(queries.size[0], search_warps), search_threads, 0, stream, to_rows(queries),
                  metadata.as<Metadata>());
  });
}

static int queries_at_once(std::int64_t queries) { return queries == 1 ? 1 : 4; }

// Two blocks are at work on a multiprocessor; twice as many even out their ends.
std::int64_t bank_strips(std::int64_t queries, std::int64_t rows, std::int64_t width) {
  const int at_once = queries_at_once(queries) == 1 ? rows_at_once<1> : rows_at_once<4>;
  const int of_block = at_once * (is_wide(width) ? 1 : search_warps);
  return std::max<std::int64_t>(std::min<std::int64_t>(ceil_div(rows, of_block), 4LL * multiprocessors()), 1);
}

template <typename U, typename T, bool L2>
static const char* search_with(const Search& search, const Lists& lists, void* stream) {
  const int k = static_cast<int>(lists.keys.size[2]), at_once = queries_at_once(search.queries.size[0]);
  const auto run = [&](void (*kernel)(Target, int, double*, std::int64_t*)) {
    return launch(kernel, static_cast<unsigned>(lists.keys.size[1]), search_threads, bytes_of_lists(search_warps * at_once, k),
                  stream, to_target(search), k, lists.keys.as<double>(), lists.rows.as<std::int64_t>());
  };
  return at_once == 1 ? run(search_kernel<U, T, L2, 1>) : run(search_kernel<U, T, L2, 4>);
}

const char* search_bank(const Search& search, const Lists& lists, void* stream) {
  if (search.queries.size[0] == 0) return nullptr;
  if (search.bank.dtype != DType::f64) return "the bank is not fp64";
  return search.metric == Metric::l2 ? search_with<double, double, true>(search, lists, stream)
                                     : search_with<double, double, false>(search, lists, stream);
}

// run(Type<T>) for the type of a bank that is not fp64.
template <typename Run>
static const char* with_single(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::f16: return run(Type<__half>{});
    case DType::bf16: return run(Type<__nv_bfloat16>{});
    case DType::f32: return run(Type<float>{});
    default: return "the bank is fp64";
  }
}

Slack multiply_slack(const TensorView& bank) {
  const std::int64_t width = bank.size[1];
  const double slack = bank.dtype == DType::f32 ? multiply_slack<float>(width) : multiply_slack<__half>(width);
  return {2 * slack, slack};  // the norms that a product is divided by are wrong too
}

const char* multiply_rows(const Search& search, std::int64_t first, const TensorView& products, const TensorView& query_gains,
                          const TensorView& bank_gains, void* stream) {
  if (products.elements() == 0) return nullptr;
  const Multiplied out{first, products.size[2], products.as<float>(), query_gains.as<Gain>(), bank_gains.as<Gain>()};
  return with_single(search.bank.dtype, [&](auto of_bank) {
    using T = typename decltype(of_bank)::type;
    const int teams = search_threads / lanes_for<T>(search.bank.size[1]);
    const auto blocks = static_cast<unsigned>(
        std::min<std::int64_t>(ceil_div(out.count, std::int64_t{group_rows} * teams), 2LL * multiprocessors()));
    const auto kernel = queries_at_once(search.queries.size[0]) == 1 ? multiply_kernel<T, 1> : multiply_kernel<T, 4>;
    return launch(kernel, blocks, search_threads, 0, stream, to_target(search), out);
  });
}

const char* pair_costs(const Search& search, std::int64_t first, const TensorView& costs, void* stream) {
  if (costs.elements() == 0) return nullptr;
  return with_types(search.bank, [&](auto of_queries, auto of_bank) {
    using U = typename decltype(of_queries)::type;
    using T = typename decltype(of_bank)::type;
    return launch(cost_kernel<U, T>, looping_blocks(costs.elements(), search_warps), search_threads, 0, stream, to_target(search),
                  first, costs.size[1], costs.as<double>());
  });
}

const char* conclude(const Search& search, const Lists& lists, const TensorView& scores, const TensorView& indices,
                     void* stream) {
  if (scores.elements() == 0) return nullptr;
  const Results out{lists.keys.as<const double>(), lists.rows.as<const std::int64_t>(), lists.keys.size[1], scores.data,
                    indices.as<std::int64_t>(),    scores.dtype == DType::f64};
  if (out.lists == 1) {
    return launch(write_kernel, looping_blocks(scores.elements(), search_threads), search_threads, 0, stream, to_target(search),
                  out, scores.size[1]);
  }
  const int k = static_cast<int>(scores.size[1]);
  return launch(merge_kernel, static_cast<unsigned>(scores.size[0]), search_threads, bytes_of_lists(search_warps, k), stream,
                to_target(search), out, k);
}

}  // namespace thfr::cuda
