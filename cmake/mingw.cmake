# Toolchain of `make windows`: the C++ library and its tests for Windows, run under Wine (Debian's g++-mingw-w64-x86-64-posix, wine64).
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_EXE_LINKER_FLAGS "-static")
set(CMAKE_CROSSCOMPILING_EMULATOR wine)
