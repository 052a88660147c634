// What a search is cut into, and the scratch buffers of its threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "retrieval/cpu/filter.h"

namespace thfr {

inline std::int64_t pieces(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }
inline std::int64_t round_up(std::int64_t n, std::int64_t unit) { return pieces(n, unit) * unit; }

// `count` queries from number `first`, packed: panels of each depth block side by side, or row by row if few.
struct QueryBlock {
  std::int64_t first, count, step;
  FilterRows known;
  std::unique_ptr<float[]> packed;
  std::vector<std::mutex> locks;  // of a query's `known` and best

  QueryBlock(std::int64_t most, std::int64_t width)
      : first(0), count(0), step(most), known(most), packed(new float[at(most * width)]), locks(at(most)) {}
};

// `queries` of a query block from `place`, against `rows` rows of the bank from `row`.
struct Task {
  std::int64_t place, queries, row, rows;
};

// What one thread works with.
struct Scratch {
  FilterRows known, asked;  // of the bank; of deep queries, which each task packs for itself
  std::unique_ptr<float[]> packed, queries, products, by_row;
  std::vector<double> row_squares, query_squares;  // of the depth that this thread has multiplied
  std::vector<Neighbour> found;

  Scratch(std::int64_t rows, std::int64_t group, bool deep)
      : known(rows),
        asked(deep ? group : 0),
        packed(new float[at((deep ? 1 : 2) * rows * kDepthBlock)]),
        queries(new float[deep ? at(group * kDepthBlock) : 0]),
        products(new float[at(rows * group)]),
        by_row(new float[deep ? at(rows * group) : 0]),
        row_squares(deep ? at(rows) : 0),
        query_squares(deep ? at(group) : 0),
        found(at(rows)) {}
};

}  // namespace thfr
