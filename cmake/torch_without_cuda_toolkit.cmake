# Lets find_package(Torch) accept a PyTorch that was built for CUDA where no CUDA toolkit is
# installed, for programs that run on the CPU. Pass this file to CMake as CMAKE_PROJECT_INCLUDE.
#
# PyTorch's CMake files stop if they do not find the toolkit, and look for it unless this target
# exists. The CUDA libraries that libtorch itself loads come with it.
if(NOT TARGET torch::cudart)
  add_library(torch::cudart INTERFACE IMPORTED GLOBAL)
endif()
