#include <cuda_runtime.h>

#include <cstdlib>
#include <sstream>
#include <string>

#include "thfr/info.h"

namespace thfr::cuda {

// Whether the build has code for a device: of an architecture with its major number and no larger minor one, or
// PTX of an older one. Asking the runtime instead would make a context on every device.
bool runs_on(const std::string& archs, int major, int minor) {
  std::istringstream words(archs);
  for (std::string word; words >> word;) {
    const int arch = std::atoi(word.c_str());
    const bool ptx = word.find("+PTX") != std::string::npos;
    if (ptx ? arch <= 10 * major + minor : arch / 10 == major && arch % 10 <= minor) return true;
  }
  return false;
}

const char* set_device(int index) {
  const cudaError_t status = cudaSetDevice(index);
  return status == cudaSuccess ? "" : cudaGetErrorString(status);
}

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
    device.runnable = runs_on(built_cuda_archs(), device.major, device.minor);
    found.push_back(device);
  }
  return found;
}

}  // namespace thfr::cuda
