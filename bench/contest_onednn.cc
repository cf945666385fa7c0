// oneDNN, in the layout of the case and in its own blocked layout. Primitives and blocked copies of
// the data are made outside the clock.
#include <dnnl.hpp>
#include <unordered_map>

#include "bench/contestant.h"

namespace evenkeel::bench {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

memory::data_type type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return memory::data_type::bf16;
    case Dtype::f16:
      return memory::data_type::f16;
    case Dtype::f32:
      break;
  }
  return memory::data_type::f32;
}

// One primitive with its arguments.
class Primitive {
 public:
  Primitive(Problem& problem, bool blocked) : p(problem) {
    const Case& c = p.of;
    if (c.is_layer_norm()) {
      plain_ = {{c.n, c.c}, type_of(c.dtype), Tag::nc};
    } else {
      // Without positions nchw and nhwc are the same memory; oneDNN's code for nhwc suits it.
      const auto tag = c.order == Order::nchw ? Tag::nchw : Tag::nhwc;
      plain_ = {{c.n, c.c, c.h, c.w}, type_of(c.dtype), tag};
    }
    data_ = blocked ? memory::desc({c.n, c.c, c.h, c.w}, type_of(c.dtype), Tag::nChw16c) : plain_;
    if (c.is_batch_norm()) {
      batch_norm();
    } else if (c.is_layer_norm()) {
      layer_norm();
    } else {
      local_response_norm();
    }
  }

  void run() {
    primitive_.execute(stream_, args_);
    stream_.wait();
  }

  std::vector<std::vector<float>> outputs() {
    const bool backward = p.of.direction == Direction::backward;
    const memory& out = args_.at(backward ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST);
    memory plain(plain_, engine_);
    reorder(out, plain);
    std::vector<std::vector<float>> result = {
        sample(plain.get_data_handle(), p.of.dtype, p.of.size())};
    if (backward && p.of.op != Op::local_response_norm) {
      const auto half = diff_scale_shift_.begin() + p.of.c;
      result.emplace_back(diff_scale_shift_.begin(), half);
      result.emplace_back(half, diff_scale_shift_.end());
    }
    return result;
  }

 private:
  void reorder(memory from, memory to) {
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
  }

  // The case's buffer itself, or a blocked copy of it.
  memory tensor(const Buffer& buffer) {
    memory plain(plain_, engine_, buffer.data());
    if (data_ == plain_) return plain;
    memory blocked(data_, engine_);
    reorder(plain, blocked);
    return blocked;
  }

  memory vector(const memory::desc& desc, std::vector<float>& values) {
    return {desc, engine_, values.data()};
  }

  template <class Descriptor>
  void workspace(const Descriptor& descriptor) {
    const memory::desc desc = descriptor.workspace_desc();
    if (desc.get_size()) args_.insert({DNNL_ARG_WORKSPACE, memory(desc, engine_)});
  }

  // The forward writes the workspace that its backward reads.
  void run_forward_first(const dnnl::primitive& forward) {
    std::unordered_map<int, memory> args = args_;
    args.insert({DNNL_ARG_DST, memory(data_, engine_)});
    forward.execute(stream_, args);
    stream_.wait();
  }

  void gradients(const memory::desc& scale_shift) {
    diff_scale_shift_.resize(scale_shift_.size());
    args_.insert({DNNL_ARG_DIFF_DST, tensor(p.dy)});
    args_.insert({DNNL_ARG_DIFF_SRC, tensor(p.out)});
    args_.insert({DNNL_ARG_DIFF_SCALE_SHIFT, vector(scale_shift, diff_scale_shift_)});
  }

  template <class Descriptor>
  void affine_and_statistics(const Descriptor& forward) {
    scale_shift_ = p.weight;
    scale_shift_.insert(scale_shift_.end(), p.bias.begin(), p.bias.end());
    args_.insert({DNNL_ARG_SRC, tensor(p.x)});
    args_.insert({DNNL_ARG_SCALE_SHIFT, vector(forward.weights_desc(), scale_shift_)});
    mean_ = p.mean;
    var_ = p.var;
    args_.insert({DNNL_ARG_MEAN, vector(forward.mean_desc(), mean_)});
    args_.insert({DNNL_ARG_VARIANCE, vector(forward.variance_desc(), var_)});
  }

  void batch_norm() {
    using enum dnnl::normalization_flags;
    using Forward = dnnl::batch_normalization_forward;
    using Backward = dnnl::batch_normalization_backward;
    auto flags = use_scale_shift;
    if (p.of.has_relu()) flags |= fuse_norm_relu;
    if (p.of.direction == Direction::inference) flags |= use_global_stats;
    constexpr auto kEps = static_cast<float>(Problem::kEps);
    const bool backward = p.of.direction == Direction::backward;
    const auto kind = p.of.direction == Direction::inference ? dnnl::prop_kind::forward_inference
                                                             : dnnl::prop_kind::forward_training;
    const Forward::primitive_desc forward({kind, data_, kEps, flags}, engine_);
    affine_and_statistics(forward);
    workspace(forward);
    if (!backward) {
      args_.insert({DNNL_ARG_DST, tensor(p.out)});
      primitive_ = Forward(forward);
      return;
    }
    if (p.of.has_relu()) run_forward_first(Forward(forward));
    const Backward::primitive_desc descriptor(
        {dnnl::prop_kind::backward, data_, data_, kEps, flags}, engine_, forward);
    gradients(descriptor.diff_weights_desc());
    primitive_ = Backward(descriptor);
  }

  void layer_norm() {
    using enum dnnl::normalization_flags;
    using Forward = dnnl::layer_normalization_forward;
    using Backward = dnnl::layer_normalization_backward;
    const memory::desc statistics({p.of.n}, memory::data_type::f32, Tag::a);
    constexpr auto kEps = static_cast<float>(Problem::kEps);
    const Forward::primitive_desc forward(
        {dnnl::prop_kind::forward_training, data_, statistics, kEps, use_scale_shift}, engine_);
    affine_and_statistics(forward);
    if (p.of.direction == Direction::forward) {
      args_.insert({DNNL_ARG_DST, tensor(p.out)});
      primitive_ = Forward(forward);
      return;
    }
    const Backward::primitive_desc descriptor(
        {dnnl::prop_kind::backward, data_, data_, statistics, kEps, use_scale_shift}, engine_,
        forward);
    gradients(descriptor.diff_weights_desc());
    primitive_ = Backward(descriptor);
  }

  void local_response_norm() {
    using Forward = dnnl::lrn_forward;
    using Backward = dnnl::lrn_backward;
    constexpr auto kAlgorithm = dnnl::algorithm::lrn_across_channels;
    constexpr auto kAlpha = static_cast<float>(Problem::kLrnAlpha);
    constexpr auto kBeta = static_cast<float>(Problem::kLrnBeta);
    constexpr auto kK = static_cast<float>(Problem::kLrnK);
    const Forward::primitive_desc forward({dnnl::prop_kind::forward_training, kAlgorithm, data_,
                                           Problem::kLrnSize, kAlpha, kBeta, kK},
                                          engine_);
    args_.insert({DNNL_ARG_SRC, tensor(p.x)});
    workspace(forward);
    if (p.of.direction == Direction::forward) {
      args_.insert({DNNL_ARG_DST, tensor(p.out)});
      primitive_ = Forward(forward);
      return;
    }
    run_forward_first(Forward(forward));
    const Backward::primitive_desc descriptor(
        {kAlgorithm, data_, data_, Problem::kLrnSize, kAlpha, kBeta, kK}, engine_, forward);
    args_.insert({DNNL_ARG_DIFF_DST, tensor(p.dy)});
    args_.insert({DNNL_ARG_DIFF_SRC, tensor(p.out)});
    primitive_ = Backward(descriptor);
  }

  Problem& p;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  memory::desc plain_, data_;
  std::vector<float> scale_shift_, diff_scale_shift_, mean_, var_;
  std::unordered_map<int, memory> args_;
  dnnl::primitive primitive_;
};

Contestant contestant(std::string name, Problem& p, bool blocked) {
  const auto primitive = std::make_shared<Primitive>(p, blocked);
  return {std::move(name), [primitive] { primitive->run(); },
          [primitive] { return primitive->outputs(); }};
}

}  // namespace

Contestant onednn_contestant(Problem& p) { return contestant("onednn", p, false); }
Contestant onednn_blocked_contestant(Problem& p) { return contestant("onednn_blocked", p, true); }

}  // namespace evenkeel::bench
