#include "lab/blas.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

namespace evenkeel::lab {
namespace {

// OpenBLAS's own functions, if that is what is loaded.
template <class Function>
Function* loaded(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_DEFAULT, name));
}

}  // namespace

std::string blas_name() {
  if (auto* config = loaded<char*()>("openblas_get_config")) return config();
  Dl_info library{};
  void* product = ::dlsym(RTLD_DEFAULT, "sgemm_");
  if (product && ::dladdr(product, &library) != 0) {
    std::error_code error;
    const auto path = std::filesystem::canonical(library.dli_fname, error);
    if (!error) return path.string();
  }
  return "unknown";
}

void use_one_blas_thread() {
  if (auto* set_threads = loaded<void(int)>("openblas_set_num_threads")) set_threads(1);
}

bool blas_is_thread_safe() {
  // OpenBLAS built without threads shares its work buffers without a lock, unless it was built with
  // USE_LOCKING, which cannot be asked: products that run side by side now and then overwrite each
  // other, unnoticed. libopenblas0-serial of Debian 12 does so.
  constexpr int sequential = 0;
  auto* parallel = loaded<int()>("openblas_get_parallel");
  return !parallel || parallel() != sequential;
}

}  // namespace evenkeel::lab
