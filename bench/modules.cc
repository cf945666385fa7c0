// evenkeel_bench_modules: one layer of a network, as a program calls it. Measures one case in a
// process of its own, because the allocator's setting and the peak of memory belong to a process;
// bench/modules.py runs all of them.
#include <malloc.h>
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "evenkeel/torch.h"

namespace {

using torch::Tensor;
using Shape = std::vector<std::int64_t>;
// Calls the layer once; with gradients too, if the case is a step of training.
using Call = std::function<void(const Tensor& x, const Tensor& other)>;

// The layer's y for the gradient dy, and that of x.
template <class Forward>
Call training_step(Forward forward) {
  return [forward](const Tensor& x, const Tensor& dy) mutable {
    const at::AutoGradMode recorded(true);
    const Tensor leaf = x.detach().requires_grad_();
    torch::autograd::grad({forward(leaf)}, {leaf}, {dy});
  };
}

evenkeel::nn::BatchNorm2d batch_norm(std::int64_t channels, evenkeel::Activation activation,
                                     bool in_place) {
  evenkeel::nn::BatchNorm2d layer(channels);
  layer->activation = activation;
  layer->in_place = in_place;
  return layer;
}

// Keys are "<what>/<how>"; `other` is a residual, or dy in a step.
std::map<std::string, Call> calls(std::int64_t channels) {
  const auto none = evenkeel::Activation::none, relu = evenkeel::Activation::relu;
  auto ours = batch_norm(channels, none, false), ours_in_place = batch_norm(channels, none, true);
  auto ours_relu = batch_norm(channels, relu, false);
  auto ours_relu_in_place = batch_norm(channels, relu, true);
  torch::nn::BatchNorm2d torchs(channels);
  constexpr std::int64_t kLrnSize = 5;
  evenkeel::nn::LocalResponseNorm our_lrn(kLrnSize);
  torch::nn::LocalResponseNorm torchs_lrn(kLrnSize);
  return {
      {"bn/evenkeel", [=](const Tensor& x, const Tensor&) mutable { ours->forward(x); }},
      {"bn/evenkeel, in place",
       [=](const Tensor& x, const Tensor&) mutable { ours_in_place->forward(x); }},
      {"bn/torch", [=](const Tensor& x, const Tensor&) mutable { torchs->forward(x); }},
      {"bn_add_relu/evenkeel, fused",
       [=](const Tensor& x, const Tensor& r) mutable { ours_relu->forward(x, r); }},
      {"bn_add_relu/evenkeel, fused, in place",
       [=](const Tensor& x, const Tensor& r) mutable { ours_relu_in_place->forward(x, r); }},
      {"bn_add_relu/evenkeel, then torch's add_ and relu_",
       [=](const Tensor& x, const Tensor& r) mutable { ours->forward(x).add_(r).relu_(); }},
      {"bn_add_relu/torch",
       [=](const Tensor& x, const Tensor& r) mutable { torch::relu(torchs->forward(x) + r); }},
      {"bn_add_relu/torch, add_ and relu_ in place",
       [=](const Tensor& x, const Tensor& r) mutable { torchs->forward(x).add_(r).relu_(); }},
      {"bn_relu_step/evenkeel, fused",
       training_step([=](const Tensor& x) mutable { return ours_relu->forward(x); })},
      {"bn_relu_step/torch",
       training_step([=](const Tensor& x) mutable { return torch::relu(torchs->forward(x)); })},
      {"bn_relu_step/torch, relu_ in place",
       training_step([=](const Tensor& x) mutable { return torchs->forward(x).relu_(); })},
      {"lrn_step/evenkeel",
       training_step([=](const Tensor& x) mutable { return our_lrn->forward(x); })},
      {"lrn_step/torch",
       training_step([=](const Tensor& x) mutable { return torchs_lrn->forward(x); })},
  };
}

// From /proc/self/status, in bytes: "VmRSS" now, "VmHWM" its peak.
std::int64_t memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) << 10;
  throw std::runtime_error("no " + field + " in /proc/self/status");
}

// Makes the peak what is used now.
void forget_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << 5;
  file.flush();
  if (!file) throw std::runtime_error("cannot reset the peak of memory in /proc/self/clear_refs");
}

nlohmann::json measure(const Call& call, const Shape& shape, int rounds) {
  const at::NoGradGuard unrecorded;
  torch::manual_seed(1);
  // Libraries and threads are loaded by a small call.
  const Shape small = {2, shape[1], 4, 4};
  call(torch::randn(small), torch::randn(small));

  const Tensor x = torch::empty(shape).normal_(), other = torch::empty(shape).normal_();
  const std::int64_t before = memory("VmRSS");
  forget_peak();
  std::vector<double> seconds;
  std::int64_t first_growth = 0;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    call(x, other);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (i == 0) first_growth = memory("VmHWM") - before;
  }
  const std::int64_t growth = memory("VmHWM") - before;
  std::sort(seconds.begin(), seconds.end());
  return {{"shape", shape},
          {"tensor_bytes", x.nbytes()},
          {"seconds", seconds[seconds.size() / 2]},
          {"min", seconds.front()},
          {"max", seconds.back()},
          {"calls", rounds},
          {"first_growth_bytes", first_growth},  // of the peak, by the first call; by all of them
          {"peak_growth_bytes", growth}};
}

int main_(int argc, char** argv) {
  CLI::App app("Measures one layer in one process: time of a call, and growth of peak memory.");
  std::string name;
  int threads = 1, rounds = 15;
  bool no_mmap = false, list = false;
  app.add_option("case", name, "One of --list");
  app.add_option("--threads", threads, "Threads")->check(CLI::PositiveNumber);
  app.add_option("--rounds", rounds, "Calls, of which the median counts")
      ->check(CLI::PositiveNumber);
  app.add_flag("--no-mmap", no_mmap, "mallopt: M_MMAP_MAX 0, and freed memory is kept");
  app.add_flag("--list", list, "Print the cases and end");
  CLI11_PARSE(app, argc, argv);

  if (no_mmap) {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  }
  const bool lrn = name.starts_with("lrn");
  const Shape shape = lrn ? Shape{16, 96, 55, 55} : Shape{50, 64, 112, 112};
  const auto all = calls(shape[1]);
  if (list) {
    for (const auto& [key, call] : all) std::cout << key << '\n';
    return 0;
  }
  const auto found = all.find(name);
  if (found == all.end())
    throw std::runtime_error("no case '" + name + "'; --list shows their names");
  at::set_num_threads(threads);
  std::cout << measure(found->second, shape, rounds) << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return main_(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "evenkeel_bench_modules: %s\n", e.what());
    return 2;
  }
}
