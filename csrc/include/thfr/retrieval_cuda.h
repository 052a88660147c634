// The steps of retrieval on a GPU. What lies between them - products of matrices and sorts - is the caller's, as is all memory.
//
// Scores, their order and their dtypes are those of retrieval.h: the sum of a pair of rows is kept in fp64, in an order that
// depends on D and the bank's dtype alone, so every step gives the same score to the same pair.
//
// Every function starts work on `stream` (a cudaStream_t) of the current device and returns a CUDA error text, or nullptr.
// Nobody waits for values, so none is refused: `bad` (i64 [1], zero before) becomes 1 if a row of the bank is not finite, and a
// query that has no result gets NaN and -1.
#pragma once

#include <cstdint>

#include "thfr/retrieval.h"

namespace thfr::cuda {

constexpr std::int64_t most_listed = 64;  // neighbours of a query that a list holds

// Queries [Q,D] with their metadata (f64 [Q,2] from describe_queries) and what they look for.
struct Search {
  TensorView queries, metadata, bank;
  Metric metric;
  TensorView exclude;  // i64 [Q], or null data
  TensorView bad;
};

// Keys (f64) and rows (i64) of the best, [Q,L,k] contiguous: L lists a query, each best first, filled up with rows of 2^63 - 1.
struct Lists {
  TensorView keys, rows;
};

// metadata: norm and exponent of each query, the norm NaN if it is not finite.
const char* describe_queries(const TensorView& queries, const TensorView& metadata, void* stream);

// Lists a query (L) that search_bank fills.
std::int64_t bank_strips(std::int64_t queries, std::int64_t rows, std::int64_t width);
// Exact scores of all pairs, for an fp64 bank; it is read once for every four queries. k: at most most_listed.
const char* search_bank(const Search& search, const Lists& lists, void* stream);

// Exact costs (l2, or the score negated; smaller is better) of all queries with bank rows [first, first + B): costs f64 [Q,B].
// NaN for excluded rows and where an operand is not finite. The obvious way, and that for any k.
const char* pair_costs(const Search& search, std::int64_t first, const TensorView& costs, void* stream);

// Rows as operands of a product in half precision that ranks them before exact scores: operands (f16 [n,W], W >= parts * D, zeros
// from there on) holds, after multiplication by a power of two, the nearest halves `hi` of the elements and, where the row's own
// dtype has more digits, the rest `lo`: hi of each of 1 part; (hi, lo) or (hi, hi) of 2; (hi, lo, hi) or (hi, hi, lo) of 3, the
// first for queries. So the product of a query's and a bank row's operand is that of the rows. Null operands: the rows are
// operands as they are. gains: i64 [n], 8 bytes a row for select_rows. bad: null data for queries.
const char* pack_rows(const TensorView& rows, int parts, bool is_bank, Metric metric, const TensorView& operands,
                      const TensorView& gains, const TensorView& bad, void* stream);

// How wrong a product may be, relative to the operands' norms, and the square of a norm, relative to itself.
struct Slack {
  double product, square;
};
Slack multiply_slack(const TensorView& bank);
// Products (f32 [1,Q,B]) in fp32 of few queries with bank rows [first, first + B), each read once for every four queries, and the
// gains (i64 [Q] and [B]) that select_rows takes. Not of an fp64 bank.
const char* multiply_rows(const Search& search, std::int64_t first, const TensorView& products, const TensorView& query_gains,
                          const TensorView& bank_gains, void* stream);

// Lists a query (L) that select_rows takes for products with `rows` rows of the bank at most: shares of those.
std::int64_t select_strips(std::int64_t queries, std::int64_t rows);
// Products (f32 [P,Q,B], P parts of a sum) with bank rows [first, first + B), the gains of both sides, and their slack. Rows that
// can be among the k best are scored exactly and join lists [Q,L,k], which the first call (first = 0) begins, L >=
// select_strips(Q, B). k: at most most_listed.
const char* select_rows(const Search& search, const TensorView& products, const TensorView& query_gains,
                        const TensorView& bank_gains, const Slack& slack, std::int64_t first, const Lists& lists, void* stream);

// scores and indices [Q,k] from L lists a query. With L = 1, any k: the list is sorted already.
const char* conclude(const Search& search, const Lists& lists, const TensorView& scores, const TensorView& indices, void* stream);

// The largest magnitude of the bank: i64 [1], zero before, the bits of a double (above infinity's: NaN).
const char* largest_magnitude(const TensorView& bank, const TensorView& largest, void* stream);

// Blocks (L) that greedy_coreset runs in.
std::int64_t coreset_blocks(std::int64_t rows, std::int64_t width);
// Entries [begin, end) of chosen as in retrieval.h, one launch each, given largest_magnitude and what the call before left in
// distances, keys (f64 [2,L]) and rows (i64 [2,L]). first: entry 0. A bank that is not finite: every entry is -1.
const char* greedy_coreset(const TensorView& bank, const TensorView& largest, std::int64_t first, const TensorView& distances,
                           const Lists& farthest, const TensorView& chosen, std::int64_t begin, std::int64_t end, void* stream);

}  // namespace thfr::cuda
