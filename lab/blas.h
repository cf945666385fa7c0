// The BLAS behind libtorch's matrix products: whichever the system has chosen for libblas.so.3.
#pragma once

#include <string>

namespace evenkeel::lab {

// "OpenBLAS 0.3.21 ..." or the path of the library; "unknown" if there is none.
std::string blas_name();

// Makes each call run in its caller's thread alone, as far as the library can be told.
void use_one_blas_thread();

// False if it is known that calls from several threads at once give wrong results.
bool blas_is_thread_safe();

}  // namespace evenkeel::lab
