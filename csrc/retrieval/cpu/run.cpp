#include "thfr/retrieval.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "retrieval/cpu/filter.h"
#include "retrieval/cpu/tasks.h"
#include "retrieval/cpu/topk.h"
#include "thfr/parallel.h"

namespace thfr {

THFR_DEFINE_SIMD_TABLE(RetrievalKernels, retrieval_kernels)

const RetrievalKernels& active_retrieval_kernels() { return retrieval_kernels(); }

namespace {

constexpr std::int64_t kQueryBlock = 1024;                 // queries that the bank is multiplied with in one go, at most,
constexpr std::int64_t kPackedQueries = 16 * 1024 * 1024;  // and numbers that their packed copy may have
constexpr std::int64_t kQueryPart = 144;                   // queries whose depth block stays in a core's cache
constexpr std::int64_t kBankBlock = 128;                   // rows of the bank in a task, at most
constexpr std::int64_t kDeepBlock = 384;                   // the same for deep rows, of which a block is laid out as it is used
constexpr std::int64_t kDeepWidth = 4096, kDeepQueries = 256;
constexpr std::int64_t kDepthParts = 4;  // pieces of the depth for each thread, where they share it
constexpr std::int64_t kLeastGroup = 4;  // panels of queries in a task, at least, where there are as many

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
        few_(queries_.count <= kFewQueries),
        deep_(!few_ && deep()),
        by_depth_(deep_ && threads_ > 1 && bank_.width >= kDepthParts * threads_ * kDepthBlock),
        score_(queries_, bank_, metric),
        filter_(queries_, bank_, metric, few_),
        storage_(at(queries_.count * k)) {
    best_.reserve(at(queries_.count));
    for (std::int64_t q = 0; q < queries_.count; ++q) best_.emplace_back(storage_.data() + q * k, k);
  }

  NonFinite run();

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

  bool deep() const;
  void pack_queries(QueryBlock& block, BadRow& bad) const;
  void search(QueryBlock& block, const Task& task, Scratch& scratch, BadRow& bad_query, BadRow& bad);
  void multiply(const QueryBlock& block, const Task& task, Scratch& scratch) const;
  void search_by_depth(QueryBlock& block, const Task& task, std::vector<Scratch>& scratch, BadRow& bad_query, BadRow& bad);
  void multiply_deep(std::int64_t asked, const Task& task, const FilterRows& queries, const FilterRows& rows, std::int64_t begin,
                     std::int64_t end, bool fresh, Scratch& scratch) const;
  void ask_for(std::int64_t begin, std::int64_t end, std::int64_t d, std::int64_t run) const;
  void pack_bank(const Task& task, Scratch& scratch, std::int64_t quad, std::int64_t d) const;
  void rescore(QueryBlock& block, const Task& task, std::int64_t place, const float* products, Scratch& scratch);

  // body(worker, task) for each task, handed out as workers ask: a thread that the system holds up delays nobody.
  template <typename Body>
  void share(std::int64_t tasks, const Body& body) const {
    std::atomic<std::int64_t> next{0};
    const std::int64_t workers = std::min<std::int64_t>(threads_, tasks);
    parallel_for(workers, threads_, 1, [&](std::int64_t begin, std::int64_t end) {
      const PlainFloats plain;
      for (std::int64_t worker = begin; worker < end; ++worker) {
        for (std::int64_t t = next++; t < tasks; t = next++) body(static_cast<int>(worker), t);
      }
    });
  }

  const RetrievalKernels& kernels_;
  Rows queries_, bank_;
  std::int64_t k_;
  Metric metric_;
  const std::int64_t* exclude_;
  int threads_;
  bool few_, deep_, by_depth_;
  PairScore score_;
  Filter filter_;
  std::vector<Neighbour> storage_;
  std::vector<TopK> best_;
};

// Blocks of the bank are multiplied with blocks of queries in fp32, and the filter's survivors scored exactly.
NonFinite Search::run() {
  const std::int64_t mr = few_ ? 1 : deep_ ? kernels_.bank_panel : kernels_.query_panel;
  const std::int64_t nr = few_ ? 1 : deep_ ? kernels_.query_panel : kernels_.bank_panel;
  const std::int64_t most = std::clamp<std::int64_t>(kPackedQueries / bank_.width, few_ ? kFewQueries : 1, kQueryBlock);
  // No queries are one empty block: the bank is looked at all the same.
  const std::int64_t blocks = std::max<std::int64_t>(pieces(queries_.count, most), 1);
  QueryBlock block(std::max(round_up(pieces(queries_.count, blocks), mr), mr), deep_ ? 0 : bank_.width);

  // Tasks: bank blocks, small enough for a core's cache and for several a thread; then queries in groups, if blocks are too few.
  const std::int64_t wanted = deep_ && (threads_ == 1 || by_depth_) ? 1 : 2 * threads_, panels = block.step / mr;
  const std::int64_t most_rows = round_up(deep_ ? kDeepBlock : kBankBlock, nr);
  const std::int64_t rows = std::clamp(round_up(pieces(bank_.count, wanted), nr), nr, most_rows);
  const std::int64_t bank_blocks = pieces(bank_.count, rows), bank_panels = pieces(bank_.count, nr);
  // Panels are shared out evenly, the larger shares first: with a short block at the end, threads would wait for each other.
  const auto begin_of = [&](std::int64_t i) {
    const std::int64_t panels_before = bank_panels / bank_blocks * i + std::min(bank_panels % bank_blocks, i);
    return std::min(panels_before * nr, bank_.count);
  };
  const std::int64_t splits = few_ ? 1 : std::min(pieces(wanted, bank_blocks), std::max<std::int64_t>(panels / kLeastGroup, 1));
  const std::int64_t group = pieces(panels, splits) * mr, groups = pieces(block.step, group);
  std::vector<Scratch> scratch;
  for (int t = 0; t < threads_; ++t) scratch.emplace_back(rows, group, deep_);

  for (std::int64_t i = 0; i < blocks; ++i) {
    BadRow bad_query, bad_row;
    block.first = i * block.step;
    block.count = std::min(block.step, queries_.count - block.first);
    if (!deep_) pack_queries(block, bad_query);
    if (bad_query.found()) return bad_query.as("queries", queries_);
    for (std::int64_t b = 0; by_depth_ && b < bank_blocks && !bad_query.found() && !bad_row.found(); ++b) {
      search_by_depth(block, {0, block.count, begin_of(b), begin_of(b + 1) - begin_of(b)}, scratch, bad_query, bad_row);
    }
    share(by_depth_ ? 0 : bank_blocks * groups, [&](int worker, std::int64_t t) {
      const std::int64_t place = t % groups * group, row = begin_of(t / groups);
      const Task task{place, std::min(group, block.count - place), row, begin_of(t / groups + 1) - row};
      if (task.queries > 0 || queries_.count == 0) search(block, task, scratch[at(worker)], bad_query, bad_row);
    });
    if (bad_query.found()) return bad_query.as("queries", queries_);
    if (bad_row.found()) return bad_row.as("bank", bank_);
  }
  return {};
}

// Wide rows and not very many queries: copying rows costs less than interleaving them, and the interleaved queries of a block of
// depth stay in the cache, where all of them would not. Unless more would be padded.
bool Search::deep() const {
  if (bank_.width < kDeepWidth || queries_.count > kDeepQueries) return false;
  const std::int64_t narrow = kernels_.query_panel, wide = kernels_.bank_panel;
  const std::int64_t deep = round_up(queries_.count, wide) * round_up(bank_.count, narrow);
  return deep <= round_up(queries_.count, narrow) * round_up(bank_.count, wide) * 9 / 8;
}

void Search::pack_queries(QueryBlock& block, BadRow& bad) const {
  const std::int64_t width = bank_.width;
  const int mr = few_ ? 1 : kernels_.query_panel;
  share(pieces(block.count, mr), [&](int, std::int64_t p) {
    const std::int64_t begin = p * mr, end = std::min(begin + mr, block.count);
    if (!filter_.begin(Filter::query, block.first + begin, end - begin, block.known, begin, bad)) return;
    for (std::int64_t d = 0; d < width; d += kDepthBlock) {
      const std::int64_t run = std::min(kDepthBlock, width - d);
      float* out = few_ ? block.packed.get() + begin * width + d : block.packed.get() + d * block.step + begin * run;
      for (int r = 0; r < mr; r += 4) {
        const std::int64_t place = begin + r, count = std::clamp<std::int64_t>(end - place, 0, 4);
        filter_.pack(Filter::query, block.first + place, count, block.known, place, block.known.squares.data() + place, d, run,
                     std::min(mr - r, 4), mr, out + r);
      }
    }
    filter_.end(Filter::query, block.first + begin, end - begin, block.known, begin, bad);
  });
}

void Search::search(QueryBlock& block, const Task& task, Scratch& scratch, BadRow& bad_query, BadRow& bad) {
  const std::int64_t asked = block.first + task.place;
  if (deep_ && !filter_.begin(Filter::query, asked, task.queries, scratch.asked, 0, bad_query)) return;
  if (bad.found_below(task.row) || !filter_.begin(Filter::bank, task.row, task.rows, scratch.known, 0, bad)) return;
  const std::int64_t row = few_ || deep_ ? task.rows : round_up(task.rows, kernels_.bank_panel);
  if (few_) {
    filter_.few_products(task.row, task.rows, scratch.known, block.packed.get(), scratch.products.get(), row);
  } else if (deep_) {
    multiply_deep(asked, task, scratch.asked, scratch.known, 0, bank_.width, true, scratch);
    std::copy_n(scratch.row_squares.data(), task.rows, scratch.known.squares.data());
    std::copy_n(scratch.query_squares.data(), task.queries, scratch.asked.squares.data());
    const std::int64_t panel = round_up(task.queries, kernels_.bank_panel);
    for (std::int64_t n = 0; n < task.rows; ++n) {
      for (std::int64_t q = 0; q < task.queries; ++q) scratch.products[at(q * row + n)] = scratch.by_row[at(n * panel + q)];
    }
    if (!filter_.end(Filter::query, asked, task.queries, scratch.asked, 0, bad_query)) return;
  } else {
    multiply(block, task, scratch);
  }
  if (!filter_.end(Filter::bank, task.row, task.rows, scratch.known, 0, bad) || bad.found()) return;
  for (std::int64_t i = 0; i < task.queries; ++i) rescore(block, task, task.place + i, scratch.products.get() + i * row, scratch);
}

// Few rows for many threads: these share the depth, so that no row is packed twice, and what each has is added up.
void Search::search_by_depth(QueryBlock& block, const Task& task, std::vector<Scratch>& scratch, BadRow& bad_query, BadRow& bad) {
  FilterRows &asked = block.known, &rows = scratch[0].known;
  share(threads_, [&](int, std::int64_t t) {
    const auto part = [&](std::int64_t count, std::int64_t i) { return count * i / threads_; };
    const std::int64_t q = part(task.queries, t), n = part(task.rows, t);
    filter_.begin(Filter::query, block.first + q, part(task.queries, t + 1) - q, asked, q, bad_query);
    filter_.begin(Filter::bank, task.row + n, part(task.rows, t + 1) - n, rows, n, bad);
  });
  if (bad_query.found() || bad.found()) return;

  const std::int64_t chunk = pieces(bank_.width, kDepthParts * threads_ * kDepthBlock) * kDepthBlock;
  std::vector<char> begun(at(threads_));
  share(pieces(bank_.width, chunk), [&](int worker, std::int64_t t) {
    const std::int64_t end = std::min((t + 1) * chunk, bank_.width);
    multiply_deep(block.first, task, asked, rows, t * chunk, end, !begun[at(worker)], scratch[at(worker)]);
    begun[at(worker)] = true;
  });
  std::vector<const Scratch*> parts;
  for (std::int64_t w = 0; w < threads_; ++w) {
    if (!begun[at(w)]) continue;
    parts.push_back(&scratch[at(w)]);
    for (std::int64_t n = 0; n < task.rows; ++n) rows.squares[at(n)] += parts.back()->row_squares[at(n)];
    for (std::int64_t q = 0; q < task.queries; ++q) asked.squares[at(q)] += parts.back()->query_squares[at(q)];
  }
  if (!filter_.end(Filter::query, block.first, task.queries, asked, 0, bad_query)) return;
  if (!filter_.end(Filter::bank, task.row, task.rows, rows, 0, bad)) return;
  for (std::size_t w = 1; w < scratch.size(); ++w) scratch[w].known = rows;  // each completes what it needs of it

  constexpr std::int64_t some = 8;
  const std::int64_t row = round_up(task.queries, kernels_.bank_panel);
  share(pieces(task.queries, some), [&](int worker, std::int64_t t) {
    const std::int64_t begin = t * some, end = std::min(begin + some, task.queries);
    float* products = scratch[at(worker)].products.get();
    for (std::int64_t n = 0; n < task.rows; ++n) {
      for (std::int64_t q = begin; q < end; ++q) {
        float sum = 0;
        for (const Scratch* part : parts) sum += part->by_row[at(n * row + q)];
        products[(q - begin) * task.rows + n] = sum;
      }
    }
    for (std::int64_t q = begin; q < end; ++q) rescore(block, task, q, products + (q - begin) * task.rows, scratch[at(worker)]);
  });
}

// Four rows of the task, from its row 4 quad: depth block d is packed, and what comes after it in the next four asked for.
void Search::pack_bank(const Task& task, Scratch& scratch, std::int64_t quad, std::int64_t d) const {
  const std::int64_t nr = kernels_.bank_panel, place = 4 * quad, run = std::min(kDepthBlock, bank_.width - d);
  float* out = scratch.packed.get() + d / kDepthBlock % 2 * round_up(task.rows, nr) * kDepthBlock;
  filter_.pack(Filter::bank, task.row + place, std::clamp<std::int64_t>(task.rows - place, 0, 4), scratch.known, place,
               scratch.known.squares.data() + place, d, run, 4, kernels_.bank_panel, out + place / nr * nr * run + place % nr);
  ask_for(task.row + place + 4, task.row + std::min(place + 8, task.rows), d, run);
}

// Has elements [d, d + run) of rows [begin, end) of the bank come in.
void Search::ask_for(std::int64_t begin, std::int64_t end, std::int64_t d, std::int64_t run) const {
  if (bank_.stride != 1) return;
  const std::int64_t bytes = bank_.dtype == DType::f64 ? 8 : bank_.dtype == DType::f32 ? 4 : 2;
  for (std::int64_t i = begin; i < end; ++i) {
    const char* row = static_cast<const char*>(bank_.data) + (i * bank_.row_stride + d) * bytes;
    for (std::int64_t b = 0; b < run * bytes; b += 64) __builtin_prefetch(row + b, 0, 2);
  }
}

// Depth [begin, end) of all pairs, added to scratch.by_row unless `fresh`. The sides change places: a block of all queries, from
// number `asked`, is packed, and a few rows at a time are laid out and multiplied with it while they are in the nearest cache.
void Search::multiply_deep(std::int64_t asked, const Task& task, const FilterRows& queries, const FilterRows& rows,
                           std::int64_t begin, std::int64_t end, bool fresh, Scratch& scratch) const {
  const std::int64_t nr = kernels_.query_panel, mr = kernels_.bank_panel;
  const std::int64_t panels = pieces(task.queries, mr), row = panels * mr;
  const std::int64_t bytes = bank_.dtype == DType::f64 ? 8 : bank_.dtype == DType::f32 ? 4 : 2;
  if (fresh) {
    std::fill(scratch.row_squares.begin(), scratch.row_squares.end(), 0.0);
    std::fill(scratch.query_squares.begin(), scratch.query_squares.end(), 0.0);
  }
  for (std::int64_t d = begin; d < end; d += kDepthBlock) {
    const std::int64_t run = std::min(kDepthBlock, end - d);
    for (std::int64_t q = 0; q < row; q += 4) {
      const std::int64_t count = std::clamp<std::int64_t>(task.queries - q, 0, 4);
      filter_.pack(Filter::query, asked + q, count, queries, q, scratch.query_squares.data() + q, d, run, 4, static_cast<int>(mr),
                   scratch.queries.get() + q / mr * mr * run + q % mr);
    }
    for (std::int64_t n = 0; n < task.rows; n += nr) {
      const std::int64_t count = std::min(nr, task.rows - n);
      filter_.pack(Filter::bank, task.row + n, count, rows, n, scratch.row_squares.data() + n, d, run, static_cast<int>(nr), 0,
                   scratch.packed.get());
      const bool last = n + nr >= task.rows;  // behind the last rows come the first ones, a block deeper
      const std::int64_t next = task.row + (last ? 0 : n + nr), deep = last ? d + run : d;
      for (std::int64_t m = 0; m < panels; ++m) {
        const char* ahead = static_cast<const char*>(bank_.data) + ((next + 8 * (m % 2)) * bank_.row_stride + deep) * bytes;
        float* products = scratch.by_row.get() + n * row + m * mr;
        kernels_.row_tile(scratch.packed.get(), scratch.queries.get() + m * mr * run, run, products, row, fresh && d == begin,
                          ahead, bank_.row_stride * bytes);
      }
    }
  }
}

// The next depth block is packed a few rows at a time between the tiles: its rows, far apart in memory, come in meanwhile.
void Search::multiply(const QueryBlock& block, const Task& task, Scratch& scratch) const {
  const std::int64_t mr = kernels_.query_panel, nr = kernels_.bank_panel, width = bank_.width;
  const std::int64_t query_panels = pieces(task.queries, mr), bank_panels = pieces(task.rows, nr), row = bank_panels * nr;
  const std::int64_t part = kQueryPart / mr, quads = row / 4, tiles = query_panels * bank_panels;
  for (std::int64_t q = 0; q < quads; ++q) pack_bank(task, scratch, q, 0);
  for (std::int64_t d = 0; d < width; d += kDepthBlock) {
    const std::int64_t run = std::min(kDepthBlock, width - d), next = d + run;
    const float* queries = block.packed.get() + d * block.step + task.place * run;
    const float* bank = scratch.packed.get() + d / kDepthBlock % 2 * row * kDepthBlock;
    std::int64_t quad = next < width ? 0 : quads, done = 0;
    for (std::int64_t begin = 0; begin < query_panels; begin += part) {
      for (std::int64_t n = 0; n < bank_panels; ++n) {
        for (std::int64_t m = begin; m < std::min(begin + part, query_panels); ++m) {
          float* products = scratch.products.get() + m * mr * row + n * nr;
          kernels_.tile(queries + m * mr * run, bank + n * nr * run, run, products, row, d == 0);
          for (++done; quad * tiles < done * quads; ++quad) pack_bank(task, scratch, quad, next);
        }
      }
    }
  }
}

// First those of the k best bounds: the threshold rises at once, and the rest mostly falls below it.
void Search::rescore(QueryBlock& block, const Task& task, std::int64_t place, const float* products, Scratch& scratch) {
  const std::int64_t q = block.first + place;
  TopK& best = best_[at(q)];
  std::mutex& lock = block.locks[at(place)];
  const bool own = deep_ && !by_depth_;  // the thread's own queries
  FilterRows& asked = own ? scratch.asked : block.known;
  const std::int64_t number = own ? place - task.place : place;
  Neighbour worst;
  bool extreme;
  {
    const std::lock_guard<std::mutex> guard(lock);
    worst = best.worst();
    extreme = asked.metadata[at(number)].extreme;
  }
  double threshold = filter_.threshold(extreme, worst.key);
  Neighbour* found = scratch.found.data();
  const std::int64_t count = filter_.select(asked, number, scratch.known, task.rows, products, threshold, found);
  if (count == 0) return;
  if (k_ == 1) {
    std::swap(found[0], *std::min_element(found, found + count, better));
  } else if (k_ < count) {
    std::nth_element(found, found + k_, found + count, better);
  }

  RowMetadata query;
  {
    const std::lock_guard<std::mutex> guard(lock);
    query = filter_.query_metadata(q, asked, number);
  }
  for (std::int64_t j = 0; j < count; ++j) {
    const std::int64_t i = found[j].row, n = task.row + i;
    if (found[j].key < threshold || excluded(q, n)) continue;
    RowMetadata& row = scratch.known.metadata[at(i)];
    char& exact = scratch.known.exact[at(i)];
    const Neighbour newcomer{exact ? score_.key(q, query, n, row) : score_.cosine(q, query, n, &row), n};
    exact = true;
    if (!better(newcomer, worst)) continue;  // nor ever: what a newcomer must beat only gets better
    const std::lock_guard<std::mutex> guard(lock);
    best.offer(newcomer);
    worst = best.worst();
    threshold = filter_.threshold(extreme, worst.key);
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
