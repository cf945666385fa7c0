// What the operators share: PyTorch's tensors as the core's views.
//
// Only torch's stable ABI is used here, so that one binary serves every PyTorch from 2.10 on. The
// schemas, the shapes and strides of the results and the gradients stand in evenkeel_norm/ops/.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "evenkeel/evenkeel.h"

namespace evenkeel::python {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

// What a forward hands to its backward: mean and rstd. SAVED_DTYPE of evenkeel_norm/ops/library.py
// says the same.
using Saved = double;
inline constexpr ScalarType kSavedDtype = ScalarType::Double;

// The dtype of the core's Wide<T> for the dtype T of x.
inline ScalarType wide_dtype(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// While it lives, the calling thread's operations use as many threads as PyTorch's own would.
// OpenMP's setting is not enough: in a new thread it does not know of torch.set_num_threads.
class TorchThreads {
 public:
  TorchThreads() : before_(num_threads()) {
    set_num_threads(static_cast<int>(torch::stable::get_num_threads()));
  }
  ~TorchThreads() { set_num_threads(before_); }
  TorchThreads(const TorchThreads&) = delete;
  TorchThreads& operator=(const TorchThreads&) = delete;

 private:
  int before_;
};

[[noreturn]] void refuse_dtype(std::string_view op, const Tensor& x);

// Calls body.template operator()<T>() with the element type of x. All work of the core is started
// here.
template <class Body>
void dispatch(std::string_view op, const Tensor& x, const Body& body) {
  const TorchThreads threads;
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return body.template operator()<float>();
    case ScalarType::Double:
      return body.template operator()<double>();
    case ScalarType::BFloat16:
      return body.template operator()<BFloat16>();
    case ScalarType::Half:
      return body.template operator()<Float16>();
    default:
      refuse_dtype(op, x);
  }
}

// How x, of shape (samples, channels, ...), lies or will lie once it is dense.
evenkeel::Layout layout_of(const Tensor& x);

// x itself if it is dense in one of the two layouts, else a contiguous copy.
Tensor dense(const Tensor& x);

// A tensor of the shape of x in the memory order and the dtype of x, which is dense: itself if it
// is so already, else a copy.
Tensor aligned(const Tensor& tensor, const Tensor& x);
Optional aligned(const Optional& tensor, const Tensor& x);

// A tensor as contiguous values of a dtype: itself if it is so already, else a copy.
Tensor converted(const Tensor& tensor, ScalarType dtype);
Optional converted(const Optional& tensor, ScalarType dtype);

// A new tensor.
inline Tensor empty(const Tensor& beside, Sizes sizes, ScalarType dtype) {
  return torch::stable::new_empty(beside, sizes, dtype);
}

// Throw evenkeel::Error unless a parameter or statistic has the given shape and the dtype of x or
// its wide dtype; unless x has samples and channels; unless a residual has the shape and the dtype
// of x.
void check_parameter(std::string_view op, std::string_view argument, const Optional& tensor,
                     const Tensor& x, Sizes shape);
void check_channels(std::string_view op, const Tensor& x, const Optional& weight,
                    const Optional& bias);
void check_residual(std::string_view op, const Optional& residual, const Tensor& x);

// The memory of a tensor of exactly that dtype.
template <class V>
std::span<V> values(const Tensor& tensor) {
  return {static_cast<V*>(tensor.data_ptr()), static_cast<std::size_t>(tensor.numel())};
}
template <class V>
std::span<V> values(const Optional& tensor) {
  return tensor ? values<V>(*tensor) : std::span<V>{};
}

evenkeel::Shape shape_of(const Tensor& x, evenkeel::Layout layout);

// A dense tensor (samples, channels, ...) as the core sees it.
template <class T>
TensorView<T> view(const Tensor& x, evenkeel::Layout layout) {
  return {static_cast<T*>(x.data_ptr()), shape_of(x, layout)};
}
template <class T>
TensorView<T> view(const Optional& x, evenkeel::Layout layout) {
  return x ? view<T>(*x, layout) : TensorView<T>{};
}

// The inputs that a normalization of channels reads, checked and as the core takes them.
struct Inputs {
  Inputs(std::string_view op, const Tensor& x_in, const Optional& weight_in,
         const Optional& bias_in, const Optional& residual_in = {});

  Tensor x;
  evenkeel::Layout layout;
  Optional weight, bias, residual;
};

// Which results a backward is asked for; bits of the operators' argument `wanted`.
enum class Want : std::int64_t { dx = 1, dweight = 2, dbias = 4, dresidual = 8 };
inline bool wants(std::int64_t wanted, Want what) {
  return (wanted & static_cast<std::int64_t>(what)) != 0;
}

// A result like x, or of some sizes in the dtype of parameters, if it is wanted.
inline Optional result_like(const Tensor& x, bool wanted) {
  return wanted ? Optional(torch::stable::empty_like(x)) : std::nullopt;
}
inline Optional parameter_gradient(const Tensor& x, Sizes sizes, bool wanted) {
  return wanted ? Optional(empty(x, sizes, wide_dtype(x))) : std::nullopt;
}
// Stands for a result that was not wanted.
inline Tensor or_nothing(const Optional& result, const Tensor& x) {
  return result ? *result : empty(x, {0}, x.scalar_type());
}

// The activation of that name, "" for none; `first` and `second` are its parameters, if it has any.
Activation activation_of(const std::string& name, double first, double second);

}  // namespace evenkeel::python
