// Running sums for launchers that do without CUB's headers, which take long to compile.
#pragma once

#include "thfr/tensor_view.h"

namespace thfr::cuda::sweep {

// numbers (i64 [n]) become their running sums.
const char* running_sums_in_place(const TensorView& scratch, const TensorView& numbers, void* stream);

}  // namespace thfr::cuda::sweep
