#include <pybind11/pybind11.h>

#include "bindings/bindings.h"
#include "bindings/caster.h"
#include "fibers.h"
#include "toys.h"

namespace py = pybind11;

PYBIND11_MODULE(_emulated, module) {
  module.doc() = "The CUDA kernels of thfr_ext on the CPU.";
  module.def(
      "set_options", [](unsigned seed, int dropped_barrier) { emulator::options() = {seed, dropped_barrier}; },
      py::arg("seed") = 0, py::arg("dropped_barrier") = -1);
  // (launches, barriers that a thread has met at most) since the last call.
  module.def("statistics", [] {
    const emulator::Statistics seen = std::exchange(emulator::statistics(), {});
    return py::make_tuple(seen.launches, seen.barriers);
  });
  // What a library would launch, since the last call of statistics: running sums, sorts, their passes.
  module.def("library", [] {
    const emulator::Statistics& seen = emulator::statistics();
    return py::make_tuple(seen.sums, seen.sorts, seen.passes);
  });
  module.def("toy", [](const thfr::TensorView& values, const thfr::TensorView& sums, int fault) {
    thfr::bindings::require_launch("toy", toys::block_sums(values, sums, static_cast<toys::Fault>(fault)));
  });
  thfr::bindings::bind_cuda_scoring(module);
  thfr::bindings::bind_cuda_retrieval(module);
  thfr::bindings::bind_cuda_sweep(module);
}
