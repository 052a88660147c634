#include "thfr/retrieval.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/retrieval_filter.h"
#include "cpu/retrieval_topk.h"
#include "thfr/parallel.h"

namespace thfr {

THFR_DEFINE_SIMD_TABLE(RetrievalKernels, retrieval_kernels)

const RetrievalKernels& active_retrieval_kernels() { return retrieval_kernels(); }

namespace {

// Up to this many queries every pair is scored exactly while the bank streams by once: packing it would cost more.
constexpr std::int64_t kFewQueries = kStreamQueries;
constexpr std::int64_t kQueryBlock = 1024;                 // queries that the bank is multiplied with in one go, at most,
constexpr std::int64_t kPackedQueries = 16 * 1024 * 1024;  // and numbers that their packed copy may have
constexpr std::int64_t kBankBlock = 256;                   // rows of the bank in a task, at most
constexpr std::int64_t kLeastGroup = 4;                    // panels of queries in a task, at least, where there are as many

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
std::int64_t pieces(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }
std::int64_t round_up(std::int64_t n, std::int64_t unit) { return pieces(n, unit) * unit; }

// `queries` queries from number `query` + `place`, against `rows` rows of the bank from `row`.
struct Block {
  std::int64_t query, place, queries, row, rows;
};

// What one thread works with.
struct Desk {
  FilterRows known;
  std::unique_ptr<float[]> packed, products;
  std::vector<std::int32_t> places;
  std::vector<double> bounds;
  std::vector<Neighbour> order;

  Desk(std::int64_t rows, std::int64_t queries)
      : known(rows),
        packed(new float[at(rows * Filter::depth_block)]),
        products(new float[at(rows * queries)]),
        places(at(rows)),
        bounds(at(rows)) {
    order.reserve(at(rows));
  }
};

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
  bool excluded(std::int64_t q, std::int64_t n) const { return exclude_ != nullptr && exclude_[q] == n; }

  NonFinite stream();
  NonFinite multiply();
  void search_block(const Filter& filter, const Block& block, const FilterRows& known, const float* packed,
                    std::vector<std::mutex>& locks, Desk& desk, BadRow& bad);
  void rescore(const Filter& filter, const Block& block, const FilterRows& known, std::int64_t place, const float* products,
               std::mutex& lock, Desk& desk);

  // body(worker, task) for each task, handed out as workers ask: a thread that the system holds up delays nobody.
  template <typename Body>
  void share(std::int64_t tasks, std::int64_t grain, const Body& body) const {
    std::atomic<std::int64_t> next{0};
    const std::int64_t workers = std::min<std::int64_t>(threads_, pieces(tasks, grain));
    parallel_for(workers, threads_, 1, [&](std::int64_t begin, std::int64_t end) {
      const PlainFloats plain;
      for (std::int64_t worker = begin; worker < end; ++worker) {
        for (std::int64_t t = next.fetch_add(grain); t < tasks; t = next.fetch_add(grain)) {
          for (std::int64_t i = t; i < std::min(t + grain, tasks); ++i) body(static_cast<int>(worker), i);
        }
      }
    });
  }

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  std::int64_t k_;
  Metric metric_;
  const std::int64_t* exclude_;
  int threads_;
  PairScore score_;
  std::vector<Neighbour> storage_;
  std::vector<TopK> best_;
};

// Few queries: each thread takes a part of the bank and keeps its own best; the order is total, so merging is exact.
NonFinite Search::stream() {
  const std::int64_t count = queries_.count;
  std::vector<RowFacts> facts(at(count));
  std::vector<double> wide(at(count * queries_.width));
  bool extreme = false;
  for (std::int64_t q = 0; q < count; ++q) {
    if (!describe_row(kernels_, queries_, q, &facts[at(q)])) {
      BadRow bad;
      bad.report(q);
      return bad.as("queries", queries_);
    }
    extreme |= facts[at(q)].extreme;
    kernels_.widen(queries_, q, 1.0, wide.data() + q * queries_.width);
  }
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / bank_.width);
  // More parts than threads, that none waits long for the last; not where k makes their memory matter.
  const std::int64_t most = k_ * 8 > bank_.count ? threads_ : 4 * threads_;
  const std::int64_t parts = std::clamp<std::int64_t>(bank_.count / grain, 1, most);
  std::vector<Neighbour> storage(at(parts * count * k_));
  std::vector<TopK> best;
  for (std::int64_t i = 0; i < parts * count; ++i) best.emplace_back(storage.data() + i * k_, k_);
  BadRow bad;
  share(parts, 1, [&](int, std::int64_t part) {
    double sums[1 + kStreamQueries];
    for (std::int64_t n = bank_.count * part / parts; n < bank_.count * (part + 1) / parts; ++n) {
      kernels_.stream(bank_, n, wide.data(), count, metric_ == Metric::l2, sums);
      RowFacts row;
      if (!describe_row(kernels_, bank_, n, sums[0], &row)) return bad.report(n);
      for (std::int64_t q = 0; q < count; ++q) {
        if (excluded(q, n)) continue;
        const RowFacts& query = facts[at(q)];
        const double key = extreme || row.extreme ? score_.key(q, query, n, row) : score_.key(query, row, sums[1 + q]);
        best[at(part * count + q)].offer({key, n});
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
  const Filter filter(queries_, bank_, metric_);
  const std::int64_t mr = kernels_.query_panel, nr = kernels_.bank_panel;
  const std::int64_t most = std::clamp<std::int64_t>(kPackedQueries / bank_.width, 1, kQueryBlock);
  const std::int64_t blocks = pieces(queries_.count, most), step = round_up(pieces(queries_.count, blocks), mr);
  const std::unique_ptr<float[]> packed(new float[at(step * bank_.width)]);
  FilterRows known(step);
  std::vector<std::mutex> locks(at(step));

  // Tasks: bank blocks, small enough for a core's cache and for several a thread; then queries in groups, if blocks are too few.
  const std::int64_t wanted = 3 * threads_;
  const std::int64_t rows = std::clamp(round_up(pieces(bank_.count, wanted), nr), nr, round_up(kBankBlock, nr));
  const std::int64_t bank_blocks = pieces(bank_.count, rows);
  const std::int64_t group_panels = std::max(pieces(step / mr, pieces(wanted, bank_blocks)), std::min(kLeastGroup, step / mr));
  const std::int64_t groups = pieces(step / mr, group_panels);
  std::vector<Desk> desks;
  for (int t = 0; t < threads_; ++t) desks.emplace_back(rows, group_panels * mr);

  for (std::int64_t first = 0; first < queries_.count; first += step) {
    const std::int64_t count = std::min(step, queries_.count - first);
    BadRow bad_query, bad_row;
    share(pieces(count, mr), 1, [&](int, std::int64_t p) {
      for (std::int64_t q = p * mr; q < std::min((p + 1) * mr, count); ++q) {
        if (!filter.describe_query(first + q, known, q)) bad_query.report(first + q);
      }
      kernels_.pack(filter.query_packing(first, count, known, 0, 0, bank_.width, packed.get()), p, p + 1);
    });
    if (bad_query.found()) return bad_query.as("queries", queries_);
    share(bank_blocks * groups, 1, [&](int worker, std::int64_t t) {
      if (bad_row.found()) return;
      const std::int64_t place = t % groups * group_panels * mr, row = t / groups * rows;
      if (place >= count) return;
      const Block block{first, place, std::min(group_panels * mr, count - place), row, std::min(rows, bank_.count - row)};
      search_block(filter, block, known, packed.get(), locks, desks[at(worker)], bad_row);
    });
    if (bad_row.found()) return bad_row.as("bank", bank_);
  }
  return {};
}

void Search::search_block(const Filter& filter, const Block& block, const FilterRows& known, const float* packed,
                          std::vector<std::mutex>& locks, Desk& desk, BadRow& bad) {
  for (std::int64_t i = 0; i < block.rows; ++i) {
    if (!filter.describe_bank_row(block.row + i, desk.known, i)) return bad.report(block.row + i);
  }
  const std::int64_t mr = kernels_.query_panel, nr = kernels_.bank_panel, depth = bank_.width;
  const std::int64_t query_panels = pieces(block.queries, mr), bank_panels = pieces(block.rows, nr), row = bank_panels * nr;
  const float* queries = packed + block.place * depth;
  for (std::int64_t d = 0; d < depth; d += Filter::depth_block) {
    const std::int64_t run = std::min(Filter::depth_block, depth - d);
    kernels_.pack(filter.bank_packing(block.row, block.rows, desk.known, d, run, desk.packed.get()), 0, bank_panels);
    for (std::int64_t n = 0; n < bank_panels; ++n) {
      for (std::int64_t m = 0; m < query_panels; ++m) {
        kernels_.tile(queries + (m * depth + d) * mr, desk.packed.get() + n * nr * run, run,
                      desk.products.get() + m * mr * row + n * nr, row, d == 0);
      }
    }
  }
  for (std::int64_t i = 0; i < block.queries; ++i) {
    const std::int64_t place = block.place + i;
    rescore(filter, block, known, place, desk.products.get() + i * row, locks[at(place)], desk);
  }
}

// The most promising first: the threshold rises at once, and the rest mostly falls below it.
void Search::rescore(const Filter& filter, const Block& block, const FilterRows& known, std::int64_t place, const float* products,
                     std::mutex& lock, Desk& desk) {
  const std::int64_t q = block.query + place;
  const RowFacts& query = known.facts[at(place)];
  TopK& best = best_[at(q)];
  double threshold;
  {
    const std::lock_guard<std::mutex> guard(lock);
    threshold = filter.threshold(query, best.threshold());
  }
  const std::int64_t found =
      filter.select(known, place, desk.known, block.rows, products, threshold, desk.places.data(), desk.bounds.data());
  std::vector<Neighbour>& order = desk.order;
  order.clear();
  for (std::int64_t j = 0; j < found; ++j) {
    const double bound = desk.bounds[at(j)];
    order.push_back({bound == bound ? bound : std::numeric_limits<double>::infinity(), desk.places[at(j)]});
  }
  const auto worse = [](const Neighbour& a, const Neighbour& b) { return better(b, a); };
  std::make_heap(order.begin(), order.end(), worse);
  for (auto end = order.end(); end != order.begin(); --end) {
    if (order.front().key < threshold) return;
    const std::int64_t n = order.front().row;
    if (!excluded(q, block.row + n)) {
      const double key = score_.key(q, query, block.row + n, desk.known.facts[at(n)]);
      const std::lock_guard<std::mutex> guard(lock);
      best.offer({key, block.row + n});
      threshold = filter.threshold(query, best.threshold());
    }
    std::pop_heap(order.begin(), end, worse);
  }
}

}  // namespace

NonFinite nearest_templates(const TensorView& queries, const TensorView& bank, std::int64_t k, Metric metric,
                            const TensorView* exclude, const TensorView& scores, const TensorView& indices, int threads) {
  const PlainFloats plain;
  Search search(queries, bank, k, metric, exclude, threads);
  const NonFinite problem = search.run();
  if (problem.argument == nullptr) search.write(scores, indices);
  return problem;
}

}  // namespace thfr
