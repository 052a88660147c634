#include "thfr/retrieval.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/retrieval_filter.h"
#include "cpu/retrieval_topk.h"
#include "thfr/parallel.h"

namespace thfr {

THFR_DEFINE_SIMD_TABLE(RetrievalKernels, retrieval_kernels)

const RetrievalKernels& active_retrieval_kernels() { return retrieval_kernels(); }

namespace {

// Up to this many queries every pair is scored exactly while the bank streams by once: packing it would cost more.
constexpr std::int64_t kFewQueries = 4;
constexpr std::int64_t kQueryBlock = 1024;      // queries that a bank block is multiplied with at a time, at most
constexpr std::int64_t kProducts = 512 * 1024;  // products kept at a time (fp32): the bank block is cut to fit
constexpr std::int64_t kLeastBankBlock = 512;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

class Search {
 public:
  Search(const TensorView& queries, const TensorView& bank, std::int64_t k, Metric metric, const TensorView* exclude, int threads)
      : kernels_(retrieval_kernels()),
        queries_(rows_of(queries)),
        bank_(rows_of(bank)),
        k_(k),
        metric_(metric),
        exclude_(exclude == nullptr ? nullptr : exclude->as<std::int64_t>()),
        threads_(std::max(threads, 1)),
        score_(queries_, bank_, metric),
        storage_(at(queries_.count * k)) {
    best_.reserve(at(queries_.count));
    for (std::int64_t q = 0; q < queries_.count; ++q) best_.emplace_back(storage_.data() + q * k, k);
  }

  NonFinite run() { return queries_.count <= kFewQueries ? stream() : multiply(); }

  void write(const TensorView& scores, const TensorView& indices) {
    const double sign = metric_ == Metric::l2 ? -1 : 1;
    for (std::int64_t q = 0; q < queries_.count; ++q) {
      const Neighbour* sorted = best_[at(q)].sorted();
      for (std::int64_t j = 0; j < k_; ++j) {
        const double score = sign * sorted[j].key + 0.0;
        if (scores.dtype == DType::f64) {
          scores.as<double>()[q * k_ + j] = score;
        } else {
          scores.as<float>()[q * k_ + j] = static_cast<float>(score);
        }
        indices.as<std::int64_t>()[q * k_ + j] = sorted[j].row;
      }
    }
  }

 private:
  double key(std::int64_t q, const RowFacts& query, std::int64_t n, const RowFacts& row) const {
    const double score = score_(q, query, n, row);
    return metric_ == Metric::l2 ? -score : score;
  }
  bool excluded(std::int64_t q, std::int64_t n) const { return exclude_ != nullptr && exclude_[q] == n; }

  NonFinite stream();
  NonFinite multiply();
  void multiply_block(Filter& filter, std::int64_t query_begin, std::int64_t query_count, std::int64_t bank_begin,
                      std::int64_t bank_count);
  void rescore(const Filter& filter, std::int64_t q, std::int64_t first, std::int64_t count, const float* products,
               std::vector<std::int32_t>& places, std::vector<double>& bounds, std::vector<Neighbour>& order);

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  std::int64_t k_;
  Metric metric_;
  const std::int64_t* exclude_;
  int threads_;
  PairScore score_;
  std::vector<Neighbour> storage_;
  std::vector<TopK> best_;
  std::vector<float> packed_queries_, packed_bank_, products_;
};

// Few queries: each thread takes a part of the bank and keeps its own best; the order is total, so merging is exact.
NonFinite Search::stream() {
  const std::int64_t count = queries_.count;
  std::vector<RowFacts> facts(at(count));
  for (std::int64_t q = 0; q < count; ++q) {
    if (describe_row(kernels_, queries_, q, &facts[at(q)])) continue;
    BadRow bad;
    bad.report(q);
    return bad.as("queries", queries_);
  }
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(bank_.width, 1));
  const std::int64_t parts = std::min<std::int64_t>(threads_, std::max<std::int64_t>(1, bank_.count / grain));
  std::vector<Neighbour> storage(at(parts * count * k_));
  std::vector<TopK> best;
  for (std::int64_t i = 0; i < parts * count; ++i) best.emplace_back(storage.data() + i * k_, k_);
  BadRow bad;
  parallel_for(parts, threads_, 1, [&](std::int64_t part_begin, std::int64_t part_end) {
    for (std::int64_t part = part_begin; part < part_end; ++part) {
      for (std::int64_t n = bank_.count * part / parts; n < bank_.count * (part + 1) / parts; ++n) {
        RowFacts row;
        if (!describe_row(kernels_, bank_, n, &row)) {
          bad.report(n);
          break;
        }
        for (std::int64_t q = 0; q < count; ++q) {
          if (!excluded(q, n)) best[at(part * count + q)].offer({key(q, facts[at(q)], n, row), n});
        }
      }
    }
  });
  if (bad.found()) return bad.as("bank", bank_);
  for (std::int64_t i = 0; i < parts * count; ++i) {
    for (std::int64_t j = 0; j < best[at(i)].size(); ++j) best_[at(i % count)].offer(best[at(i)].entries()[j]);
  }
  return {};
}

// Many queries: blocks of the bank are multiplied with blocks of queries in fp32, and the filter's survivors scored exactly.
NonFinite Search::multiply() {
  Filter filter(queries_, bank_, metric_);
  BadRow bad_query;
  parallel_for(queries_.count, threads_, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t q = begin; q < end; ++q) {
      if (!filter.describe_query(q)) bad_query.report(q);
    }
  });
  if (bad_query.found()) return bad_query.as("queries", queries_);

  const std::int64_t query_blocks = (queries_.count + kQueryBlock - 1) / kQueryBlock;
  const std::int64_t query_step = round_up((queries_.count + query_blocks - 1) / query_blocks, kernels_.query_panel);
  const std::int64_t wanted = std::max(kLeastBankBlock, kProducts / query_step);
  const std::int64_t bank_step = std::min(round_up(wanted, kernels_.bank_panel), round_up(bank_.count, kernels_.bank_panel));
  packed_queries_.resize(at(query_step * Filter::depth_block));
  packed_bank_.resize(at(bank_step * Filter::depth_block));
  products_.resize(at(query_step * bank_step));

  for (std::int64_t q = 0; q < queries_.count; q += query_step) {
    for (std::int64_t n = 0; n < bank_.count; n += bank_step) {
      const std::int64_t rows = std::min(bank_step, bank_.count - n);
      if (q == 0) {
        BadRow bad;
        parallel_for(rows, threads_, 8, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = n + begin; i < n + end; ++i) {
            if (!filter.describe_bank_row(i)) bad.report(i);
          }
        });
        if (bad.found()) return bad.as("bank", bank_);
      }
      multiply_block(filter, q, std::min(query_step, queries_.count - q), n, rows);
    }
  }
  return {};
}

void Search::multiply_block(Filter& filter, std::int64_t query_begin, std::int64_t query_count, std::int64_t bank_begin,
                            std::int64_t bank_count) {
  const std::int64_t mr = kernels_.query_panel, nr = kernels_.bank_panel;
  const std::int64_t query_panels = (query_count + mr - 1) / mr, bank_panels = (bank_count + nr - 1) / nr;
  const std::int64_t row = bank_panels * nr;
  std::fill_n(products_.begin(), query_panels * mr * row, 0.0f);
  for (std::int64_t d = 0; d < bank_.width; d += Filter::depth_block) {
    const std::int64_t depth = std::min(Filter::depth_block, bank_.width - d);
    const auto job = [&](Packing base, std::int64_t first, std::int64_t count, std::int64_t panel, std::vector<float>& out) {
      base.first = first, base.count = count, base.panel = static_cast<int>(panel), base.out = out.data();
      base.depth_begin = d, base.depth = depth;
      return base;
    };
    const Packing pack_queries = job(filter.query_packing(), query_begin, query_count, mr, packed_queries_);
    const Packing pack_bank = job(filter.bank_packing(), bank_begin, bank_count, nr, packed_bank_);
    parallel_for(bank_panels, threads_, 1, [&](std::int64_t begin, std::int64_t end) { kernels_.pack(pack_bank, begin, end); });
    parallel_for(query_panels, threads_, 1,
                 [&](std::int64_t begin, std::int64_t end) { kernels_.pack(pack_queries, begin, end); });
    parallel_for(bank_panels * query_panels, threads_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const std::int64_t n = t / query_panels, m = t % query_panels;
        kernels_.tile(packed_queries_.data() + m * mr * depth, packed_bank_.data() + n * nr * depth, depth,
                      products_.data() + m * mr * row + n * nr, row);
      }
    });
  }
  parallel_for(query_count, threads_, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int32_t> places(at(bank_count));
    std::vector<double> bounds(at(bank_count));
    std::vector<Neighbour> order;
    order.reserve(at(bank_count));
    for (std::int64_t i = begin; i < end; ++i) {
      rescore(filter, query_begin + i, bank_begin, bank_count, products_.data() + i * row, places, bounds, order);
    }
  });
}

// The most promising first: the threshold rises at once, and the rest mostly falls below it.
void Search::rescore(const Filter& filter, std::int64_t q, std::int64_t first, std::int64_t count, const float* products,
                     std::vector<std::int32_t>& places, std::vector<double>& bounds, std::vector<Neighbour>& order) {
  TopK& best = best_[at(q)];
  const std::int64_t found = filter.select(q, first, count, products, best.threshold(), places.data(), bounds.data());
  order.clear();
  for (std::int64_t j = 0; j < found; ++j) {
    const double bound = bounds[at(j)];
    order.push_back({bound == bound ? bound : std::numeric_limits<double>::infinity(), first + places[at(j)]});
  }
  const auto worse = [](const Neighbour& a, const Neighbour& b) { return better(b, a); };
  std::make_heap(order.begin(), order.end(), worse);
  double threshold = filter.threshold(q, best.threshold());
  for (auto end = order.end(); end != order.begin(); --end) {
    if (order.front().key < threshold) return;
    const std::int64_t n = order.front().row;
    if (!excluded(q, n)) {
      best.offer({key(q, filter.query_facts(q), n, filter.bank_facts(n)), n});
      threshold = filter.threshold(q, best.threshold());
    }
    std::pop_heap(order.begin(), end, worse);
  }
}

}  // namespace

NonFinite nearest_templates(const TensorView& queries, const TensorView& bank, std::int64_t k, Metric metric,
                            const TensorView* exclude, const TensorView& scores, const TensorView& indices, int threads) {
  Search search(queries, bank, k, metric, exclude, threads);
  const NonFinite problem = search.run();
  if (problem.argument == nullptr) search.write(scores, indices);
  return problem;
}

}  // namespace thfr
