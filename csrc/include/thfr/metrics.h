// What a sweep keeps of scores that come in batches: everything, compressed ("packed"), or intervals ("cells").
//
// Packed: a multiset of scores, sorted, each distinct one with its count; differences and counts in blocks of 256, Rice coded
// (R. F. Rice 1979: the quotient by a power of two in unary, the rest in binary), the power chosen for each block. Trailing
// zeros that all differences of a block share are left out, so that scores of few digits need few bits, whatever their dtype.
// Sorted sets of equal size are merged as a log-structured merge tree does (O'Neil et al. 1996).
//
// Cells: int64 [3,n], rows hi, lo and weight: `weight` samples lie in [lo, hi]. hi does not rise. lo and hi are scores as
// integers of the same order (metrics/cpu/order.h). A cell with lo = hi is exact. Each area rises with the positives' scores and
// falls with the negatives', so that it lies between those of the ends of the cells.
#pragma once

#include <cstdint>
#include <vector>

#include "thfr/sweep.h"

namespace thfr {

// Scores of the pixels of maps[n] ([H,W]) that are false in masks[n] (bool [H,W]): counts[n] (i64) for each image, to scores
// (contiguous f32, or f64 as the maps need). Returns the first image with a NaN anywhere, or -1.
std::int64_t negative_scores(const Views& maps, const Views& masks, const TensorView& counts, const TensorView& scores,
                             int threads);

using Bytes = std::vector<std::uint8_t>;

// std::invalid_argument: a score is NaN, or a run is none.

// The scores ([n], f32 or f64) packed.
Bytes pack_scores(const TensorView& scores, int threads);

// The sum of packed multisets (bytes, contiguous).
Bytes merge_packed(const Views& runs);

// As spro_area, with the negatives packed.
SweepInfo packed_area(const Views& runs, const TensorView& scores, const TensorView& offsets, const TensorView& saturations,
                      const TensorView& limits, const TensorView& areas, int threads);

// Area under the ROC curve of packed negatives and positives. NaN if a class is empty.
double packed_auroc(const Views& negatives, const Views& positives);

struct Cells {
  std::vector<std::int64_t> hi, lo, weight;
};

// How cells are joined when they are too many.
struct CellLimits {
  std::int64_t most;  // cells
  double share;       // a joined cell's weight over that above it (`relative`), or over that of all
  bool relative;
};

// All cells of `sketches` (i64 [3,n], contiguous) and scores ([n], f32 or f64, of weight 1), with neighbours joined as limits
// allow; limits.share is raised until limits.most cells hold them.
Cells merge_cells(const Views& sketches, const TensorView& scores, CellLimits& limits, int threads);

// bounds (f64 [2 L]: lowest, then highest): lowest and highest AU(limits[l]) of all negatives and positives in the cells (i64
// [3,n], contiguous). The positives' weights are units of 1/total of the overlap.
void cells_area(const TensorView& negatives, const TensorView& positives, double total, const TensorView& limits,
                const TensorView& bounds);

}  // namespace thfr
