// Launch checks shared by the launchers.
#pragma once

#include <cuda_runtime.h>

namespace thfr::cuda {

// The text of the last launch's error, or nullptr. Reads the error state only: it does not synchronise.
inline const char* launch_error() {
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace thfr::cuda
