// oneDNN, in the layout of the case and in its own blocked layout. Primitives and blocked copies of
// the data are made outside the clock. It fuses ReLU into BatchNorm; an addition, and ReLU after
// it, are a primitive of their own.
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

using Arguments = std::unordered_map<int, memory>;

// The primitives of a case with their arguments.
class Sequence {
 public:
  Sequence(Problem& problem, bool blocked) : p(problem) {
    const Case& c = p.of;
    if (c.is_of_samples() || c.op == Op::rms_norm)
      throw std::runtime_error("this oneDNN does not have it");
    if (c.is_layer_norm()) {
      plain_ = {{c.n, c.c}, type_of(c.dtype), Tag::nc};
    } else {
      // Without positions nchw and nhwc are the same memory; oneDNN's code for nhwc suits it.
      const auto tag = c.order == Order::nchw ? Tag::nchw : Tag::nhwc;
      plain_ = {{c.n, c.c, c.h, c.w}, type_of(c.dtype), tag};
    }
    data_ = blocked ? memory::desc({c.n, c.c, c.h, c.w}, type_of(c.dtype), Tag::nChw16c) : plain_;
    out_ = tensor(p.out);
    if (p.of.has_second_output()) out2_ = tensor(p.out2);
    if (c.is_batch_norm()) {
      batch_norm();
    } else if (c.is_layer_norm()) {
      layer_norm();
    } else {
      local_response_norm();
    }
  }

  void run() {
    for (const Step& step : steps_) step.primitive.execute(stream_, step.arguments);
    stream_.wait();
  }

  std::vector<std::vector<float>> outputs() {
    std::vector<std::vector<float>> result = {values(out_)};
    if (p.of.direction == Direction::backward && p.of.op != Op::local_response_norm) {
      const auto half = diff_scale_shift_.begin() + p.of.c;
      result.emplace_back(diff_scale_shift_.begin(), half);
      result.emplace_back(half, diff_scale_shift_.end());
    }
    if (p.of.has_second_output()) result.push_back(values(out2_));
    return result;
  }

 private:
  std::vector<float> values(const memory& of) {
    memory plain(plain_, engine_);
    reorder(of, plain);
    return sample(plain.get_data_handle(), p.of.dtype, p.of.size());
  }

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
    Arguments args = args_;
    args.insert({DNNL_ARG_DST, memory(data_, engine_)});
    forward.execute(stream_, args);
    stream_.wait();
  }

  void gradients(const memory::desc& scale_shift) {
    diff_scale_shift_.resize(scale_shift_.size());
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

  void add_step(const dnnl::primitive& primitive, const Arguments& more) {
    Arguments arguments = args_;
    arguments.insert(more.begin(), more.end());
    steps_.push_back({primitive, arguments});
  }

  // to = from + other, or the ReLU of that.
  void add_addition(const memory& from, const memory& other, const memory& to, bool relu) {
    dnnl::primitive_attr attributes;
    if (relu) {
      dnnl::post_ops after;
      after.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
      attributes.set_post_ops(after);
    }
    const dnnl::binary::primitive_desc descriptor(
        {dnnl::algorithm::binary_add, data_, data_, data_}, attributes, engine_);
    steps_.push_back({dnnl::binary(descriptor),
                      {{DNNL_ARG_SRC_0, from}, {DNNL_ARG_SRC_1, other}, {DNNL_ARG_DST, to}}});
  }

  // to = dy where y > 0, else 0.
  void add_relu_backward(const memory& dy, const memory& y, const memory& to) {
    constexpr auto kRelu = dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
    const dnnl::eltwise_forward::primitive_desc forward(
        {dnnl::prop_kind::forward_training, kRelu, data_, 0, 0}, engine_);
    const dnnl::eltwise_backward::primitive_desc descriptor({kRelu, data_, data_, 0, 0}, engine_,
                                                            forward);
    steps_.push_back({dnnl::eltwise_backward(descriptor),
                      {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DST, y}, {DNNL_ARG_DIFF_SRC, to}}});
  }

  void batch_norm() {
    using enum dnnl::normalization_flags;
    using Forward = dnnl::batch_normalization_forward;
    using Backward = dnnl::batch_normalization_backward;
    auto flags = use_scale_shift;
    const bool fuses_relu = p.of.has_relu() && !p.of.has_residual();
    if (fuses_relu) flags |= fuse_norm_relu;
    if (p.of.direction == Direction::inference) flags |= use_global_stats;
    constexpr auto kEps = static_cast<float>(Problem::kEps);
    const auto kind = p.of.direction == Direction::inference ? dnnl::prop_kind::forward_inference
                                                             : dnnl::prop_kind::forward_training;
    const Forward::primitive_desc forward({kind, data_, kEps, flags}, engine_);
    affine_and_statistics(forward);
    workspace(forward);
    if (p.of.direction != Direction::backward) {
      add_step(Forward(forward), {{DNNL_ARG_DST, out_}});
      if (p.of.has_residual()) add_addition(out_, tensor(p.residual), out_, p.of.has_relu());
      return;
    }
    if (fuses_relu) run_forward_first(Forward(forward));
    memory dy = tensor(p.dy);
    if (p.of.has_residual()) {
      add_relu_backward(dy, tensor(p.y), out2_);
      dy = out2_;
    }
    const Backward::primitive_desc descriptor(
        {dnnl::prop_kind::backward, data_, data_, kEps, flags}, engine_, forward);
    gradients(descriptor.diff_weights_desc());
    add_step(Backward(descriptor), {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DIFF_SRC, out_}});
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
      if (p.of.has_residual()) {
        add_addition(tensor(p.x), tensor(p.residual), out2_, false);
        args_.at(DNNL_ARG_SRC) = out2_;
      }
      add_step(Forward(forward), {{DNNL_ARG_DST, out_}});
      return;
    }
    const Backward::primitive_desc descriptor(
        {dnnl::prop_kind::backward, data_, data_, statistics, kEps, use_scale_shift}, engine_,
        forward);
    gradients(descriptor.diff_weights_desc());
    add_step(Backward(descriptor), {{DNNL_ARG_DIFF_DST, tensor(p.dy)}, {DNNL_ARG_DIFF_SRC, out_}});
    if (p.of.has_residual()) add_addition(out_, tensor(p.residual), out_, false);
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
      add_step(Forward(forward), {{DNNL_ARG_DST, out_}});
      return;
    }
    run_forward_first(Forward(forward));
    const Backward::primitive_desc descriptor(
        {kAlgorithm, data_, data_, Problem::kLrnSize, kAlpha, kBeta, kK}, engine_, forward);
    add_step(Backward(descriptor), {{DNNL_ARG_DIFF_DST, tensor(p.dy)}, {DNNL_ARG_DIFF_SRC, out_}});
  }

  Problem& p;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  memory::desc plain_, data_;
  std::vector<float> scale_shift_, diff_scale_shift_, mean_, var_;
  memory out_, out2_;
  Arguments args_;  // what the normalization reads, and where it writes other than tensors
  struct Step {
    dnnl::primitive primitive;
    Arguments arguments;
  };
  std::vector<Step> steps_;
};

Contestant contestant(std::string name, Problem& p, bool blocked) {
  const auto sequence = std::make_shared<Sequence>(p, blocked);
  return {std::move(name), [sequence] { sequence->run(); },
          [sequence] { return sequence->outputs(); }};
}

}  // namespace

Contestant onednn_contestant(Problem& p) { return contestant("onednn", p, false); }
Contestant onednn_blocked_contestant(Problem& p) { return contestant("onednn_blocked", p, true); }

}  // namespace evenkeel::bench
