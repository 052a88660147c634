// Packed multisets: packing, merging, and the areas of packed negatives.
#include "metrics/cpu/pack.h"

#include <limits>

#include "sweep/cpu/area.h"
#include "thfr/metrics.h"

namespace thfr {
namespace sweep {
namespace {

constexpr std::size_t piece_bytes = std::size_t{1} << 18;  // far more than a block

// Appends bits to memory that has room for them and 8 bytes more.
class BitWriter {
 public:
  explicit BitWriter(std::uint8_t* to) : to_(to) {}
  void put(std::uint64_t value, int bits) {  // bits < 64, value below 2^bits
    word_ |= value << used_;
    used_ += bits;
    if (used_ < 64) return;
    std::memcpy(to_, &word_, sizeof word_);
    to_ += sizeof word_;
    used_ -= 64;
    word_ = used_ > 0 ? value >> (bits - used_) : 0;
  }
  void put_unary(std::uint64_t value) {
    for (; value > 62; value -= 62) put(0, 62);
    put(std::uint64_t{1} << value, static_cast<int>(value) + 1);
  }
  void finish() { std::memcpy(to_, &word_, sizeof word_); }

 private:
  std::uint8_t* to_;
  std::uint64_t word_ = 0;
  int used_ = 0;
};

// Quotients and rests of n values.
void put_rice(BitWriter& writer, const std::uint64_t* values, int n, int bits) {
  for (int i = 0; i < n; ++i) writer.put_unary(values[i] >> bits);
  if (bits == 0) return;
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  for (int i = 0; i < n; ++i) writer.put(values[i] & mask, bits);
}

std::uint16_t unary_bits(const std::uint64_t* values, int n, int bits) {
  auto sum = static_cast<std::uint64_t>(n);
  for (int i = 0; i < n; ++i) sum += values[i] >> bits;
  return static_cast<std::uint16_t>(sum);  // at most 256 + 512 and a few
}

}  // namespace

void Writer::flush() {
  const int n = block_.entries;
  if (n == 0) return;
  Head head{};
  head.first = block_.keys[0];
  std::uint64_t deltas[block_entries], counts[block_entries], set = 0, counted = 0;
  for (int i = 1; i < n; ++i) set |= deltas[i - 1] = distance(block_.keys[i - 1], block_.keys[i]);
  head.shift = static_cast<std::uint8_t>(set != 0 ? __builtin_ctzll(set) : 0);
  for (int i = 0; i < n - 1; ++i) deltas[i] = (deltas[i] >> head.shift) - 1;
  for (int i = 0; i < n; ++i) counted += counts[i] = static_cast<std::uint64_t>(block_.counts[i] - 1);

  const std::uint64_t span = distance(block_.keys[0], block_.keys[n - 1]) >> head.shift;
  head.delta_bits = static_cast<std::uint8_t>(rice_bits(span - static_cast<std::uint64_t>(n - 1)));
  head.delta_unary = unary_bits(deltas, n - 1, head.delta_bits);
  head.count_bits = counted == 0 ? all_ones : static_cast<std::uint8_t>(rice_bits(counted));
  if (counted != 0) head.count_unary = unary_bits(counts, n, head.count_bits);

  const std::size_t bytes = payload_bytes(head, n);
  if (payload_.empty() || payload_.back().size() + bytes + 8 > piece_bytes) {
    payload_.emplace_back();
    payload_.back().reserve(piece_bytes);
  }
  Bytes& piece = payload_.back();
  const std::size_t begin = piece.size();
  piece.resize(begin + bytes + 8);
  BitWriter writer(piece.data() + begin);
  put_rice(writer, deltas, n - 1, head.delta_bits);
  if (counted != 0) put_rice(writer, counts, n, head.count_bits);
  writer.finish();
  piece.resize(begin + bytes);
  heads_.push_back(head);
  entries_ += n;
  total_ += n + static_cast<std::int64_t>(counted);
  block_.entries = 0;
}

Bytes Writer::finish() {
  flush();
  const std::int64_t sums[2] = {entries_, total_};
  const std::size_t table = heads_.size() * sizeof(Head);
  std::size_t size = sizeof sums + table + pack_padding;
  for (const Bytes& piece : payload_) size += piece.size();
  Bytes run(size);
  std::memcpy(run.data(), sums, sizeof sums);
  auto to = std::copy_n(reinterpret_cast<const std::uint8_t*>(heads_.data()), table, run.begin() + sizeof sums);
  for (Bytes& piece : payload_) {
    to = std::copy(piece.begin(), piece.end(), to);
    piece = Bytes();
  }
  return run;
}

std::unique_ptr<Source> merged(const Views& runs, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return std::make_unique<Reader>(runs[begin]);
  const std::size_t middle = begin + (end - begin) / 2;
  return std::make_unique<Merge>(merged(runs, begin, middle), merged(runs, middle, end));
}

namespace {

std::int64_t total_of(const Views& runs) {
  std::int64_t total = 0;
  for (const TensorView& run : runs) total += Reader(run).total();
  return total;
}

}  // namespace
}  // namespace sweep

Bytes pack_scores(const TensorView& scores, int threads) {
  sweep::Writer writer;
  sweep::visit_sorted("pack_scores", scores, false, threads,
                      [&](sweep::Order key, std::int64_t count) { writer.push(key, count); });
  return writer.finish();
}

Bytes merge_packed(const Views& runs) {
  const auto source = sweep::merged(runs, 0, runs.size());
  sweep::Writer writer;
  for (sweep::Block block; source->next(block);) {
    for (int i = 0; i < block.entries; ++i) writer.push(block.keys[i], block.counts[i]);
  }
  return writer.finish();
}

SweepInfo packed_area(const Views& runs, const TensorView& scores, const TensorView& offsets, const TensorView& saturations,
                      const TensorView& limits, const TensorView& areas, int threads) {
  using Key = std::uint64_t;
  const sweep::Tops<Key> tops = sweep::top_keys<Key>(scores, offsets, saturations, threads);
  std::vector<Key> distinct = tops.keys;
  sweep::sort_distinct(distinct, threads);
  const sweep::Index<Key> index(std::move(distinct));
  std::vector<sweep::Order> values(index.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = sweep::to_order(sweep::key_score(index[i]));

  SweepInfo info;
  std::vector<std::uint64_t> bins(index.bins());  // as of Index::bin
  for (const TensorView& run : runs) {
    sweep::Reader reader(run);
    std::size_t value = 0;
    for (sweep::Block block; reader.next(block);) {
      for (int i = 0; i < block.entries; ++i) {
        while (value < values.size() && values[value] < block.keys[i]) ++value;
        const bool equal = value < values.size() && values[value] == block.keys[i];
        bins[2 * value + (equal ? 1 : 0)] += static_cast<std::uint64_t>(block.counts[i]);
      }
    }
    info.negatives += reader.total();
  }
  if (info.negatives > 0) sweep::write_areas(index, tops, bins, info.negatives, saturations, limits, areas, threads);
  return info;
}

double packed_auroc(const Views& negatives, const Views& positives) {
  const std::int64_t n = sweep::total_of(negatives), p = sweep::total_of(positives);
  if (n == 0 || p == 0) return std::numeric_limits<double>::quiet_NaN();
  const auto below = sweep::merged(negatives, 0, negatives.size()), above = sweep::merged(positives, 0, positives.size());
  sweep::Block negative, positive;
  int at = 0;
  std::int64_t lower = 0;       // negatives below the positive at hand
  unsigned __int128 twice = 0;  // twice the pairs in which the positive scores above, ties half
  while (above->next(positive)) {
    for (int i = 0; i < positive.entries; ++i) {
      const auto more = [&] { return at < negative.entries || (at = 0, below->next(negative)); };
      while (more() && negative.keys[at] < positive.keys[i]) lower += negative.counts[at++];
      const std::int64_t equal = more() && negative.keys[at] == positive.keys[i] ? negative.counts[at] : 0;
      twice += static_cast<unsigned __int128>(positive.counts[i]) * static_cast<std::uint64_t>(2 * lower + equal);
    }
  }
  const unsigned __int128 pairs = static_cast<unsigned __int128>(p) * static_cast<std::uint64_t>(n);
  return static_cast<double>(twice) / (2 * static_cast<double>(pairs));
}

}  // namespace thfr
