#include <cuda_runtime.h>

#include "thfr/info.h"

namespace thfr::cuda {

namespace {
__global__ void probe() {}
}  // namespace

std::vector<Device> devices(std::string* problem) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    *problem = cudaGetErrorString(status);
    cudaGetLastError();  // a missing driver is no error of ours: leave none behind
    return {};
  }
  if (count == 0) *problem = "the driver shows no device";
  std::vector<Device> found;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    Device device;
    device.name = properties.name;
    device.major = properties.major;
    device.minor = properties.minor;
    device.memory_bytes = static_cast<long long>(properties.totalGlobalMem);
    // Asking for a kernel's attributes loads the code for the device: it fails if the build has none that fits.
    int previous = 0;
    cudaGetDevice(&previous);
    cudaSetDevice(i);
    cudaFuncAttributes attributes{};
    device.runnable = cudaFuncGetAttributes(&attributes, probe) == cudaSuccess;
    cudaGetLastError();
    cudaSetDevice(previous);
    found.push_back(device);
  }
  return found;
}

}  // namespace thfr::cuda
