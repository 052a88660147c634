#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "bindings/bindings.h"
#include "thfr/info.h"

namespace py = pybind11;

static py::dict build_info() {
  py::dict info;
  info["version"] = thfr::version();
  info["compiler"] = thfr::compiler();
  info["simd_built"] = thfr::built_simd_levels();
  info["simd"] = thfr::active_simd_level();
  info["cuda_built"] = thfr::built_with_cuda();
  info["cuda_version"] = thfr::built_cuda_version();
  info["cuda_archs"] = thfr::built_cuda_archs();
  return info;
}

static py::dict cuda_devices() {
  std::string problem;
  py::list devices;
  for (const thfr::cuda::Device& device : thfr::cuda::devices(&problem)) {
    py::dict entry;
    entry["name"] = device.name;
    entry["capability"] = py::make_tuple(device.major, device.minor);
    entry["memory_bytes"] = device.memory_bytes;
    entry["runnable"] = device.runnable;
    devices.append(entry);
  }
  py::dict result;
  result["devices"] = devices;
  result["problem"] = problem;
  return result;
}

PYBIND11_MODULE(_C, module) {
  module.doc() = "Native kernels of thfr_ext. Not public: use thfr_ext.";
  module.def("build_info", &build_info);
  module.def("cuda_devices", &cuda_devices);
  thfr::bindings::bind_scoring(module);
  thfr::bindings::bind_retrieval(module);
  thfr::bindings::bind_sweep(module);
  thfr::bindings::bind_metrics(module);
#ifdef THFR_HAS_CUDA
  module.def("cuda_set_device", [](int index) {
    const std::string problem = thfr::cuda::set_device(index);
    if (!problem.empty()) throw std::runtime_error("thfr_ext: device " + std::to_string(index) + ": " + problem);
  });
  thfr::bindings::bind_cuda_scoring(module);
  thfr::bindings::bind_cuda_retrieval(module);
  thfr::bindings::bind_cuda_sweep(module);
#endif
}
