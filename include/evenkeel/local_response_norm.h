// Local response normalization (Krizhevsky, Sutskever & Hinton 2012, section 3.3).
//
// For channel c of C, at each position of each sample:
//
//   base_c = k + alpha * sum_{j = max(0, c - behind)}^{min(C - 1, c + ahead)} x_j^2
//   y_c    = x_c * base_c^-beta
//
// Frameworks disagree about alpha and the window; the named constructors translate their
// conventions into this one form.
#pragma once

#include <cstdint>

#include "evenkeel/tensor.h"

namespace evenkeel {

struct LocalResponseNormOptions {
  std::int64_t behind = 2;  // channels before the center, >= 0
  std::int64_t ahead = 2;   // channels after the center, >= 0
  double alpha = 1e-4;      // multiplies the plain sum of squares
  double beta = 0.75;
  double k = 2;

  // AlexNet and the notes: alpha multiplies the sum; floor(n/2) to each side, so n + 1 points for
  // even n. Defaults of the paper.
  static LocalResponseNormOptions paper(std::int64_t n = 5, double alpha = 1e-4, double beta = 0.75,
                                        double k = 2);
  // torch.nn.LocalResponseNorm: alpha is divided by size; floor(size/2) behind, floor((size-1)/2)
  // ahead. PyTorch's default k is 1.
  static LocalResponseNormOptions torch(std::int64_t size, double alpha = 1e-4, double beta = 0.75,
                                        double k = 1);
  // ONNX LRN: alpha / size; floor((size-1)/2) behind, ceil((size-1)/2) ahead.
  static LocalResponseNormOptions onnx(std::int64_t size, double alpha = 1e-4, double beta = 0.75,
                                       double bias = 1);
  // cuDNN lrnN: the window of ONNX, with the defaults of cudnnCreateLRNDescriptor.
  static LocalResponseNormOptions cudnn(std::int64_t n = 5, double alpha = 1e-4, double beta = 0.75,
                                        double k = 2);
  // Caffe LRN, across channels: alpha / local_size, odd local_size only.
  static LocalResponseNormOptions caffe(std::int64_t local_size = 5, double alpha = 1,
                                        double beta = 0.75, double k = 1);
  // tf.nn.local_response_normalization: alpha multiplies the sum; 2*depth_radius + 1 points.
  static LocalResponseNormOptions tensorflow(std::int64_t depth_radius = 5, double bias = 1,
                                             double alpha = 1, double beta = 0.5);
};

// Required: x, y.
template <class T = float>
struct LocalResponseNormForward {
  TensorView<const T> x = {};
  TensorView<T> y = {};  // shape of x; may be x itself
};

// Elements and window sums in Wide<T>. The window sum of each value is added afresh, without a
// sliding subtraction, so a large value leaves no error in its neighbors' windows. Throws Error
// before any work if shapes differ, behind or ahead is negative, or alpha, beta or k is not finite.
// A base of 0 follows IEEE 754; a negative one, which k >= 0 and alpha >= 0 exclude, is NaN for
// most beta. An empty x is legal.
template <class T = float>
void local_response_norm_forward(const LocalResponseNormForward<T>& args,
                                 const LocalResponseNormOptions& options = {});

// Required: dy, x, dx.
template <class T = float>
struct LocalResponseNormBackward {
  TensorView<const T> dy = {};
  TensorView<const T> x = {};  // the input of the forward; nothing else is stored
  TensorView<T> dx = {};       // shape of x; may be dy itself, not x
};

// dx_c = dy_c * base_c^-beta - 2*alpha*beta * x_c * sum_{j : c in window of j}
// dy_j*x_j*base_j^(-beta-1)
template <class T = float>
void local_response_norm_backward(const LocalResponseNormBackward<T>& args,
                                  const LocalResponseNormOptions& options = {});

}  // namespace evenkeel
