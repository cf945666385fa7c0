#include "evenkeel/torch/replace.h"

#include <memory>
#include <string>
#include <typeinfo>

#include "evenkeel/torch/batch_norm.h"
#include "evenkeel/torch/layer_norm.h"
#include "evenkeel/torch/local_response_norm.h"

namespace evenkeel::nn {
namespace {

// Exactly torch's class: one derived from it, ours or a user's, has a forward of its own.
template <class Ours, class Theirs>
bool replace_entry(torch::nn::SequentialImpl& sequential, const std::string& name,
                   torch::nn::AnyModule& entry) {
  const auto module = entry.ptr();
  const torch::nn::Module& present = *module;
  if (typeid(present) != typeid(Theirs)) return false;
  auto ours = std::make_shared<Ours>(dynamic_cast<const Theirs&>(present));
  // A Sequential keeps its modules twice: registered by name, and boxed in order of execution.
  sequential.replace_module(name, ours);
  entry = torch::nn::AnyModule(std::move(ours));
  return true;
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
        replace_entry<LayerNormImpl, torch::nn::LayerNormImpl>(sequential, *name, entry) ||
        replace_entry<LocalResponseNormImpl, torch::nn::LocalResponseNormImpl>(sequential, *name,
                                                                               entry);
    ++name;
  }
  return replaced;
}

}  // namespace

std::int64_t replace_normalization(torch::nn::Module& network) {
  std::int64_t replaced = 0;
  for (const auto& module : network.modules()) {
    if (auto* sequential = dynamic_cast<torch::nn::SequentialImpl*>(module.get())) {
      replaced += replace_entries(*sequential);
    }
  }
  return replaced;
}

}  // namespace evenkeel::nn
