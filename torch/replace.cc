#include "evenkeel/torch/replace.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <typeinfo>

#include "evenkeel/torch/batch_norm.h"
#include "evenkeel/torch/group_norm.h"
#include "evenkeel/torch/instance_norm.h"
#include "evenkeel/torch/layer_norm.h"
#include "evenkeel/torch/local_response_norm.h"

namespace evenkeel::nn {
namespace {

// Exactly this class: one derived from it has a forward of its own.
template <class Class>
std::shared_ptr<Class> exactly(const torch::nn::AnyModule& entry) {
  const auto module = entry.ptr();
  const torch::nn::Module& present = *module;
  return typeid(present) == typeid(Class) ? std::dynamic_pointer_cast<Class>(module) : nullptr;
}

// A Sequential keeps its modules twice: registered by name, and boxed in order of execution.
template <class Module>
void set_entry(torch::nn::SequentialImpl& sequential, const std::string& name,
               torch::nn::AnyModule& entry, std::shared_ptr<Module> module) {
  sequential.replace_module(name, module);
  entry = torch::nn::AnyModule(std::move(module));
}

template <class Ours, class Theirs>
bool replace_entry(torch::nn::SequentialImpl& sequential, const std::string& name,
                   torch::nn::AnyModule& entry) {
  const auto theirs = exactly<Theirs>(entry);
  if (theirs) set_entry(sequential, name, entry, std::make_shared<Ours>(*theirs));
  return theirs != nullptr;
}

std::int64_t replace_entries(torch::nn::SequentialImpl& sequential) {
  std::int64_t replaced = 0;
  const auto names = sequential.named_children().keys();
  auto name = names.begin();
  for (auto& entry : sequential) {
    replaced +=
        replace_entry<BatchNorm1dImpl, torch::nn::BatchNorm1dImpl>(sequential, *name, entry) ||
        replace_entry<BatchNorm2dImpl, torch::nn::BatchNorm2dImpl>(sequential, *name, entry) ||
        replace_entry<BatchNorm3dImpl, torch::nn::BatchNorm3dImpl>(sequential, *name, entry) ||
        replace_entry<InstanceNorm1dImpl, torch::nn::InstanceNorm1dImpl>(sequential, *name,
                                                                         entry) ||
        replace_entry<InstanceNorm2dImpl, torch::nn::InstanceNorm2dImpl>(sequential, *name,
                                                                         entry) ||
        replace_entry<InstanceNorm3dImpl, torch::nn::InstanceNorm3dImpl>(sequential, *name,
                                                                         entry) ||
        replace_entry<GroupNormImpl, torch::nn::GroupNormImpl>(sequential, *name, entry) ||
        replace_entry<LayerNormImpl, torch::nn::LayerNormImpl>(sequential, *name, entry) ||
        replace_entry<LocalResponseNormImpl, torch::nn::LocalResponseNormImpl>(sequential, *name,
                                                                               entry);
    ++name;
  }
  return replaced;
}

// The activation that a module of torch::nn computes, if a normalization can compute it instead.
std::optional<Activation> activation_of(const torch::nn::AnyModule& entry) {
  if (exactly<torch::nn::ReLUImpl>(entry)) return Activation::relu;
  if (exactly<torch::nn::ReLU6Impl>(entry)) return Activation::relu6;
  if (exactly<torch::nn::SiLUImpl>(entry)) return Activation::silu;
  if (const auto hardtanh = exactly<torch::nn::HardtanhImpl>(entry)) {
    return Activation::hardtanh(hardtanh->options.min_val(), hardtanh->options.max_val());
  }
  if (const auto leaky_relu = exactly<torch::nn::LeakyReLUImpl>(entry)) {
    return Activation::leaky_relu(leaky_relu->options.negative_slope());
  }
  return {};
}

// The activation within the pass of a layer of ours; null if the module is no layer that has one.
Activation* fused_activation(torch::nn::Module& module) {
  if (auto* layer = dynamic_cast<BatchNormSwitches*>(&module)) return &layer->activation;
  if (auto* layer = dynamic_cast<GroupNormImpl*>(&module)) return &layer->activation;
  return nullptr;
}

// Each layer that is followed by an activation, and that no other place of the network uses.
std::int64_t fuse_entries(torch::nn::SequentialImpl& sequential, const auto& uses) {
  std::int64_t fused = 0;
  const auto names = sequential.named_children().keys();
  Activation* before = nullptr;  // that of the entry before, if it may be set
  auto name = names.begin();
  for (auto& entry : sequential) {
    const auto activation = activation_of(entry);
    if (before && activation) {
      *before = *activation;
      set_entry(sequential, *name, entry, std::make_shared<torch::nn::IdentityImpl>());
      ++fused;
    }
    Activation* present = fused_activation(*entry.ptr());
    const bool is_free = present && *present == Activation::none && uses(present) == 1;
    before = is_free ? present : nullptr;
    ++name;
  }
  return fused;
}

// The sum of visit(sequential) over every Sequential in the network.
std::int64_t over_sequentials(torch::nn::Module& network, const auto& visit) {
  std::int64_t sum = 0;
  for (const auto& module : network.modules()) {
    if (auto* sequential = dynamic_cast<torch::nn::SequentialImpl*>(module.get())) {
      sum += visit(*sequential);
    }
  }
  return sum;
}

}  // namespace

std::int64_t replace_normalization(torch::nn::Module& network) {
  return over_sequentials(network, replace_entries);
}

std::int64_t fuse_activations(torch::nn::Module& network) {
  const auto modules = network.modules();
  const auto uses = [&](const Activation* activation) {
    return std::ranges::count_if(
        modules, [&](const auto& module) { return fused_activation(*module) == activation; });
  };
  return over_sequentials(network,
                          [&](auto& sequential) { return fuse_entries(sequential, uses); });
}

}  // namespace evenkeel::nn
