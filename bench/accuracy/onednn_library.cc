#include <cstring>
#include <dnnl.hpp>

#include "bench/accuracy/libraries.h"

namespace evenkeel::accuracy {
namespace {

using dnnl::memory;
using dnnl::prop_kind;

class OneDnn {
 public:
  explicit OneDnn(const Problem& problem) : p_(problem) {}

  Outputs run() {
    switch (p_.operation) {
      case Operation::batch_norm:
        return batch_norm();
      case Operation::layer_norm:
        return layer_norm();
      default:
        return local_response_norm();
    }
  }

 private:
  memory::data_type type() const {
    switch (p_.type) {
      case Type::float32:
        return memory::data_type::f32;
      case Type::bfloat16:
        return memory::data_type::bf16;
      default:
        return memory::data_type::f16;
    }
  }
  memory::desc desc() const {
    const Shape& s = p_.shape;
    if (p_.operation == Operation::layer_norm) {
      return {{s.n, s.c * s.s}, type(), memory::format_tag::nc};
    }
    return {{s.n, s.c, s.s, 1}, type(), memory::format_tag::nchw};
  }
  memory make(const memory::desc& desc) const { return {desc, engine_}; }
  memory activation(const Values& values) const {
    memory result = make(desc());
    with_type(p_.type, [&](auto t) { fill(result, narrow<decltype(t)>(values)); });
    return result;
  }
  memory parameter(const Values& values) const {
    memory result = make({{std::ssize(values)}, memory::data_type::f32, memory::format_tag::x});
    fill(result, narrow<float>(values));
    return result;
  }
  template <class T>
  static void fill(memory& to, const std::vector<T>& values) {
    std::memcpy(to.get_data_handle(), values.data(), values.size() * sizeof(T));
  }
  Values activation(const memory& from) const {
    return with_type(p_.type, [&](auto t) {
      return read<decltype(t)>(from, static_cast<std::size_t>(p_.shape.size()));
    });
  }
  template <class T>
  static Values read(const memory& from, std::size_t size) {
    const T* data = static_cast<const T*>(from.get_data_handle());
    return widen(std::vector<T>(data, data + size));
  }
  void execute(const dnnl::primitive& primitive, const std::unordered_map<int, memory>& arguments) {
    primitive.execute(stream_, arguments);
    stream_.wait();
  }

  // BatchNorm and LayerNorm take the same arguments.
  template <class Forward, class Backward>
  Outputs normalize(const typename Forward::primitive_desc& forward,
                    const typename Backward::primitive_desc& backward) {
    const memory x = activation(p_.x), dy = activation(p_.dy), y = make(desc()), dx = make(desc());
    const memory weight = parameter(p_.weight), bias = parameter(p_.bias);
    const memory dweight = make(weight.get_desc()), dbias = make(weight.get_desc());
    const memory mean = make(forward.mean_desc()), variance = make(forward.variance_desc());
    execute(Forward(forward), {{DNNL_ARG_SRC, x},
                               {DNNL_ARG_SCALE, weight},
                               {DNNL_ARG_SHIFT, bias},
                               {DNNL_ARG_MEAN, mean},
                               {DNNL_ARG_VARIANCE, variance},
                               {DNNL_ARG_DST, y}});
    execute(Backward(backward), {{DNNL_ARG_SRC, x},
                                 {DNNL_ARG_DIFF_DST, dy},
                                 {DNNL_ARG_SCALE, weight},
                                 {DNNL_ARG_SHIFT, bias},
                                 {DNNL_ARG_MEAN, mean},
                                 {DNNL_ARG_VARIANCE, variance},
                                 {DNNL_ARG_DIFF_SRC, dx},
                                 {DNNL_ARG_DIFF_SCALE, dweight},
                                 {DNNL_ARG_DIFF_SHIFT, dbias}});
    return {activation(y), activation(dx), read<float>(dweight, p_.weight.size())};
  }

  const dnnl::normalization_flags flags_ =
      dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;

  Outputs batch_norm() {
    using Forward = dnnl::batch_normalization_forward;
    using Backward = dnnl::batch_normalization_backward;
    const Forward::primitive_desc forward(
        {prop_kind::forward_training, desc(), static_cast<float>(kEps), flags_}, engine_);
    const Backward::primitive_desc backward(
        {prop_kind::backward, desc(), desc(), static_cast<float>(kEps), flags_}, engine_, forward);
    return normalize<Forward, Backward>(forward, backward);
  }

  Outputs layer_norm() {
    using Forward = dnnl::layer_normalization_forward;
    using Backward = dnnl::layer_normalization_backward;
    const Forward::primitive_desc forward(
        {prop_kind::forward_training, desc(), static_cast<float>(kEps), flags_}, engine_);
    const Backward::primitive_desc backward(
        {prop_kind::backward, desc(), desc(), static_cast<float>(kEps), flags_}, engine_, forward);
    return normalize<Forward, Backward>(forward, backward);
  }

  Outputs local_response_norm() {
    using Forward = dnnl::lrn_forward;
    using Backward = dnnl::lrn_backward;
    const auto across = dnnl::algorithm::lrn_across_channels;
    const auto alpha = static_cast<float>(kAlpha), beta = static_cast<float>(kBeta),
               k = static_cast<float>(kK);
    const Forward::primitive_desc forward(
        {prop_kind::forward_training, across, desc(), kWindow, alpha, beta, k}, engine_);
    const Backward::primitive_desc backward({across, desc(), desc(), kWindow, alpha, beta, k},
                                            engine_, forward);
    const memory x = activation(p_.x), dy = activation(p_.dy), y = make(desc()), dx = make(desc());
    const memory workspace = make(forward.workspace_desc());
    execute(Forward(forward),
            {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}, {DNNL_ARG_WORKSPACE, workspace}});
    execute(Backward(backward), {{DNNL_ARG_SRC, x},
                                 {DNNL_ARG_DIFF_DST, dy},
                                 {DNNL_ARG_WORKSPACE, workspace},
                                 {DNNL_ARG_DIFF_SRC, dx}});
    return {activation(y), activation(dx), {}};
  }

  const Problem& p_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
};

}  // namespace

std::optional<Outputs> run_onednn(const Problem& problem) {
  if (problem.type == Type::float64) return std::nullopt;
  try {
    return OneDnn(problem).run();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_unimplemented) return std::nullopt;
    throw;
  }
}

}  // namespace evenkeel::accuracy
