#include <cmath>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "bindings/checks.h"
#include "thfr/retrieval_cuda.h"

namespace py = pybind11;

namespace thfr::bindings {
namespace {

void* to_stream(std::uintptr_t stream) { return reinterpret_cast<void*>(stream); }

bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

bool is_matrix(const TensorView& view) { return view.dims == 2 && is_float(view) && view.size[1] > 0; }

bool is_array(const TensorView& view, DType dtype, int dims) {
  return view.dims == dims && view.dtype == dtype && is_contiguous(view);
}

bool are_metadata(const TensorView& metadata, const TensorView& queries) {
  return is_array(metadata, DType::f64, 2) && metadata.size[0] == queries.size[0] && metadata.size[1] == 2;
}

bool is_flag(const TensorView& flag) { return is_vector(flag, DType::i64, 1); }

bool is_search(const cuda::Search& search) {
  const auto& [queries, metadata, bank, metric, exclude, bad] = search;
  return is_matrix(queries) && is_matrix(bank) && queries.size[1] == bank.size[1] && bank.size[0] > 0 &&
         queries.dtype == (bank.dtype == DType::f64 ? DType::f64 : DType::f32) && are_metadata(metadata, queries) &&
         metric >= Metric::cosine && metric <= Metric::dot &&
         (exclude.data == nullptr || is_vector(exclude, DType::i64, queries.size[0])) && is_flag(bad);
}

// [first,second,k], any number of lists.
bool are_lists(const cuda::Lists& lists, std::int64_t first) {
  return is_array(lists.keys, DType::f64, 3) && is_array(lists.rows, DType::i64, 3) && same_shape(lists.keys, lists.rows) &&
         lists.keys.size[0] == first && lists.keys.size[1] > 0 && lists.keys.size[2] > 0;
}

bool are_short(const cuda::Lists& lists) { return lists.keys.size[2] <= cuda::most_listed; }

// The queries, their metadata, the bank, the metric, rows to leave out, the flag.
using SearchTuple = std::tuple<TensorView, TensorView, TensorView, int, TensorView, TensorView>;
using ListsTuple = std::tuple<TensorView, TensorView>;

cuda::Search to_search(const SearchTuple& tuple) {
  const auto& [queries, metadata, bank, metric, exclude, bad] = tuple;
  return {queries, metadata, bank, static_cast<Metric>(metric), exclude, bad};
}

cuda::Lists to_lists(const ListsTuple& tuple) { return {std::get<0>(tuple), std::get<1>(tuple)}; }

void describe(const TensorView& queries, const TensorView& metadata, std::uintptr_t stream) {
  require(is_matrix(queries) && are_metadata(metadata, queries), "cuda_describe_queries");
  require_launch("nearest_templates", cuda::describe_queries(queries, metadata, to_stream(stream)));
}

void search_bank(const SearchTuple& search_tuple, const ListsTuple& lists_tuple, std::uintptr_t stream) {
  const cuda::Search search = to_search(search_tuple);
  const cuda::Lists lists = to_lists(lists_tuple);
  require(is_search(search) && search.bank.dtype == DType::f64 && are_lists(lists, search.queries.size[0]) && are_short(lists),
          "cuda_search_bank");
  require_launch("nearest_templates", cuda::search_bank(search, lists, to_stream(stream)));
}

void pair_costs(const SearchTuple& tuple, std::int64_t first, const TensorView& costs, std::uintptr_t stream) {
  const cuda::Search search = to_search(tuple);
  require(is_search(search) && is_array(costs, DType::f64, 2) && costs.size[0] == search.queries.size[0] && first >= 0 &&
              first <= search.bank.size[0] && costs.size[1] <= search.bank.size[0] - first,
          "cuda_pair_costs");
  require_launch("nearest_templates", cuda::pair_costs(search, first, costs, to_stream(stream)));
}

void pack(const TensorView& rows, int parts, bool is_bank, int metric, const TensorView& operands, const TensorView& gains,
          const TensorView& bad, std::uintptr_t stream) {
  const bool packed = operands.data != nullptr;
  require(is_matrix(rows) && parts >= 1 && parts <= 3 && is_vector(gains, DType::i64, rows.size[0]) &&
              (bad.data == nullptr || is_flag(bad)) && (packed || is_half(rows.dtype)) &&
              (!packed || (is_array(operands, DType::f16, 2) && operands.size[0] == rows.size[0] &&
                           operands.size[1] / parts >= rows.size[1])),
          "cuda_pack_rows");
  require_launch("nearest_templates",
                 cuda::pack_rows(rows, parts, is_bank, static_cast<Metric>(metric), operands, gains, bad, to_stream(stream)));
}

// Of products, of squares.
using SlackTuple = std::pair<double, double>;

SlackTuple multiply_slack(const TensorView& bank) {
  require(is_matrix(bank), "cuda_multiply_slack");
  const cuda::Slack slack = cuda::multiply_slack(bank);
  return {slack.product, slack.square};
}

void multiply(const SearchTuple& tuple, std::int64_t first, const TensorView& products, const TensorView& query_gains,
              const TensorView& bank_gains, std::uintptr_t stream) {
  const cuda::Search search = to_search(tuple);
  require(is_search(search) && search.bank.dtype != DType::f64 && is_array(products, DType::f32, 3) && products.size[0] == 1 &&
              products.size[1] == search.queries.size[0] && first >= 0 && first <= search.bank.size[0] &&
              products.size[2] <= search.bank.size[0] - first && is_vector(query_gains, DType::i64, products.size[1]) &&
              is_vector(bank_gains, DType::i64, products.size[2]),
          "cuda_multiply_rows");
  require_launch("nearest_templates", cuda::multiply_rows(search, first, products, query_gains, bank_gains, to_stream(stream)));
}

void select(const SearchTuple& search_tuple, const TensorView& products, const TensorView& query_gains,
            const TensorView& bank_gains, const SlackTuple& slack, std::int64_t first, const ListsTuple& lists_tuple,
            std::uintptr_t stream) {
  const cuda::Search search = to_search(search_tuple);
  const cuda::Lists lists = to_lists(lists_tuple);
  require(is_search(search) && are_lists(lists, search.queries.size[0]) && are_short(lists) &&
              is_array(products, DType::f32, 3) && products.size[1] == search.queries.size[0] && first >= 0 &&
              first <= search.bank.size[0] && products.size[2] <= search.bank.size[0] - first &&
              is_vector(query_gains, DType::i64, products.size[1]) && is_vector(bank_gains, DType::i64, products.size[2]) &&
              lists.keys.size[1] <= 0x7fffffff && lists.keys.size[1] >= cuda::select_strips(products.size[1], products.size[2]) &&
              slack.first > 0 && std::isfinite(slack.first) && slack.second >= 0 && std::isfinite(slack.second),
          "cuda_select_rows");
  require_launch("nearest_templates", cuda::select_rows(search, products, query_gains, bank_gains, {slack.first, slack.second},
                                                        first, lists, to_stream(stream)));
}

void conclude(const SearchTuple& search_tuple, const ListsTuple& lists_tuple, const TensorView& scores, const TensorView& indices,
              std::uintptr_t stream) {
  const cuda::Search search = to_search(search_tuple);
  const cuda::Lists lists = to_lists(lists_tuple);
  const DType dtype = search.queries.dtype == DType::f64 ? DType::f64 : DType::f32;
  require(is_search(search) && are_lists(lists, search.queries.size[0]) && (are_short(lists) || lists.keys.size[1] == 1) &&
              is_array(scores, dtype, 2) && is_array(indices, DType::i64, 2) && same_shape(scores, indices) &&
              scores.size[0] == search.queries.size[0] && scores.size[1] == lists.keys.size[2],
          "cuda_conclude");
  require_launch("nearest_templates", cuda::conclude(search, lists, scores, indices, to_stream(stream)));
}

void largest(const TensorView& bank, const TensorView& largest_bits, std::uintptr_t stream) {
  require(is_matrix(bank) && bank.size[0] > 0 && is_flag(largest_bits), "cuda_largest_magnitude");
  require_launch("greedy_coreset", cuda::largest_magnitude(bank, largest_bits, to_stream(stream)));
}

void coreset(const TensorView& bank, const TensorView& largest_bits, std::int64_t first, const TensorView& distances,
             const ListsTuple& farthest_tuple, const TensorView& chosen, std::int64_t begin, std::int64_t end,
             std::uintptr_t stream) {
  const cuda::Lists farthest = to_lists(farthest_tuple);
  require(is_matrix(bank) && is_flag(largest_bits) && first >= 0 && first < bank.size[0] &&
              is_vector(distances, DType::f64, bank.size[0]) && is_array(farthest.keys, DType::f64, 2) &&
              is_array(farthest.rows, DType::i64, 2) && same_shape(farthest.keys, farthest.rows) && farthest.keys.size[0] == 2 &&
              farthest.keys.size[1] > 0 && farthest.keys.size[1] <= 0x7fffffff && is_vector(chosen, DType::i64) &&
              chosen.size[0] <= bank.size[0] && begin >= 0 && begin < end && end <= chosen.size[0],
          "cuda_greedy_coreset");
  require_launch("greedy_coreset",
                 cuda::greedy_coreset(bank, largest_bits, first, distances, farthest, chosen, begin, end, to_stream(stream)));
}

}  // namespace

void bind_cuda_retrieval(py::module_& module) {
  module.def("cuda_describe_queries", &describe, py::arg("queries"), py::arg("metadata"), py::arg("stream"));
  module.def("cuda_bank_strips", &cuda::bank_strips, py::arg("queries"), py::arg("rows"), py::arg("width"));
  module.def("cuda_search_bank", &search_bank, py::arg("search"), py::arg("lists"), py::arg("stream"));
  module.def("cuda_pair_costs", &pair_costs, py::arg("search"), py::arg("first"), py::arg("costs"), py::arg("stream"));
  module.def("cuda_pack_rows", &pack, py::arg("rows"), py::arg("parts"), py::arg("is_bank"), py::arg("metric"),
             py::arg("operands"), py::arg("gains"), py::arg("bad"), py::arg("stream"));
  module.def("cuda_multiply_slack", &multiply_slack, py::arg("bank"));
  module.def("cuda_multiply_rows", &multiply, py::arg("search"), py::arg("first"), py::arg("products"), py::arg("query_gains"),
             py::arg("bank_gains"), py::arg("stream"));
  module.def("cuda_select_strips", &cuda::select_strips, py::arg("queries"), py::arg("rows"));
  module.def("cuda_select_rows", &select, py::arg("search"), py::arg("products"), py::arg("query_gains"), py::arg("bank_gains"),
             py::arg("slack"), py::arg("first"), py::arg("lists"), py::arg("stream"));
  module.def("cuda_conclude", &conclude, py::arg("search"), py::arg("lists"), py::arg("scores"), py::arg("indices"),
             py::arg("stream"));
  module.def("cuda_largest_magnitude", &largest, py::arg("bank"), py::arg("largest"), py::arg("stream"));
  module.def("cuda_coreset_blocks", &cuda::coreset_blocks, py::arg("rows"), py::arg("width"));
  module.def("cuda_greedy_coreset", &coreset, py::arg("bank"), py::arg("largest"), py::arg("first"), py::arg("distances"),
             py::arg("farthest"), py::arg("chosen"), py::arg("begin"), py::arg("end"), py::arg("stream"));
}

}  // namespace thfr::bindings
