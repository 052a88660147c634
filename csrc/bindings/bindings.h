// One bind function for each component; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace thfr::bindings {

void bind_scoring(pybind11::module_& module);
void bind_retrieval(pybind11::module_& module);
void bind_sweep(pybind11::module_& module);
void bind_metrics(pybind11::module_& module);

// Kernels on the GPU; their tensors lie there.
void bind_cuda_scoring(pybind11::module_& module);
void bind_cuda_retrieval(pybind11::module_& module);
void bind_cuda_sweep(pybind11::module_& module);

}  // namespace thfr::bindings
