# Source this: nvcc and the CUDA runtime from PyPI, for a build on a machine without a CUDA toolkit.
set -eu
cuda_packages=${CUDA_PACKAGES:-/tmp/cuda-packages}
python3 -m pip install --quiet --target "$cuda_packages" "nvidia-cuda-nvcc==13.*" "nvidia-cuda-cccl==13.*"
CUDAToolkit_ROOT=$(echo "$cuda_packages"/nvidia/cu*)
# The packages leave out the unversioned name, which CMake looks for; the module links the static runtime.
ln -sf "$(basename "$CUDAToolkit_ROOT"/lib/libcudart.so.*)" "$CUDAToolkit_ROOT/lib/libcudart.so"
export CUDAToolkit_ROOT CUDACXX="$CUDAToolkit_ROOT/bin/nvcc"
"$CUDACXX" --version
