// The data of one case, in memory that every contestant shares.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "bench/case.h"
#include "evenkeel/tensor.h"

namespace evenkeel::bench {

// Calls f with a null pointer of the element type.
template <class F>
auto with_type(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::bf16:
      return f(static_cast<BFloat16*>(nullptr));
    case Dtype::f16:
      return f(static_cast<Float16*>(nullptr));
    case Dtype::f32:
      break;
  }
  return f(static_cast<float*>(nullptr));
}

// A tensor of the case's type, from malloc's heap as a user's would be, touched before any clock
// runs.
class Buffer {
 public:
  Buffer() = default;  // none
  explicit Buffer(std::int64_t bytes);
  void* data() const { return memory_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
};

struct Problem {
  explicit Problem(const Case& of);

  Shape shape() const;  // as evenkeel sees it
  // An absent view if the case does not have the tensor.
  template <class T>
  TensorView<T> view(const Buffer& buffer) const {
    if (!buffer.data()) return {};
    return {buffer.as<T>(), shape()};
  }

  Case of;
  Buffer x, dy, out;      // out: y or dx
  Buffer residual, out2;  // in LayerNorm's backward, dsum; out2: dresidual, or LayerNorm's sum
  Buffer y;               // the forward's, from which peers take ReLU's mask in a backward
  std::vector<float> weight, bias;
  std::vector<float> mean, var, rstd;          // of the groups; exact for a backward
  std::vector<double> saved_mean, saved_rstd;  // mean and rstd as this library keeps them
  std::vector<float> dweight, dbias;           // outputs
  // PyTorch's and oneDNN's convention, in the form for which oneDNN has its fastest code.
  static constexpr double kEps = 1e-5;
  static constexpr std::int64_t kLrnSize = 5;
  static constexpr double kLrnAlpha = 0.5, kLrnBeta = 0.75, kLrnK = 1;
};

// Values of a tensor as floats: all of a small one, some at equal distances of a large one.
std::vector<float> sample(const void* data, Dtype dtype, std::int64_t size);

}  // namespace evenkeel::bench
