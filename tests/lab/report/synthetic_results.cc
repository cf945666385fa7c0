#include "tests/lab/report/synthetic_results.h"

#include <cmath>

namespace evenkeel::lab {
namespace {

using nlohmann::json;

constexpr int total_steps = 400;
constexpr int steps_per_record = 20;
constexpr int layer_count = 3;

// How fast a made-up arm learns, in 1 / steps; every seed a little differently.
double learning_rate(const std::string& norm, int seed) {
  const double rate = norm == "batch"   ? 0.03
                      : norm == "layer" ? 0.02
                      : norm == "lrn"   ? 0.006
                                        : 0.002;
  return rate * (1 + 0.05 * seed);
}

json synthetic_arm(const std::string& network, const std::string& norm, int seed) {
  const double rate = learning_rate(norm, seed);
  const double seconds_per_step = norm == "none" ? 0.005 : 0.007;
  const auto learned = [&](int step) { return 1 - std::exp(-rate * step); };
  const auto accuracy = [&](int step) { return 0.1 + 0.78 * learned(step); };
  json train = json::array();
  json eval = json::array();
  json probe = json::array();
  json batch_norm_eval = json::array();
  for (int step = 0; step <= total_steps; step += steps_per_record) {
    const double seconds = seconds_per_step * step;
    const double loss = 2.3 - 1.9 * learned(step);
    if (step > 0) train.push_back({{"step", step}, {"seconds", seconds}, {"loss", loss}});
    eval.push_back({{"step", step},
                    {"seconds", seconds},
                    {"loss", loss + 0.05},
                    {"accuracy", accuracy(step)}});
    json bands = json::array();
    json saturated = json::array();
    json gradient_norm = json::array();
    for (int layer = 0; layer < layer_count; ++layer) {
      const double drift = norm == "none" ? 0.004 * step * (layer + 1) : 0.2 * learned(step);
      bands.push_back({drift - 1.1, drift, drift + 1.2});
      saturated.push_back(0.05 * (layer + 1) + 0.2 * learned(step));
      gradient_norm.push_back(rate * std::pow(10.0, layer - 2) * (1.2 - learned(step)));
    }
    probe.push_back({{"step", step},
                     {"bands", bands},
                     {"saturated", saturated},
                     {"gradient_norm", gradient_norm}});
    batch_norm_eval.push_back({{"step", step},
                               {"moving_average", accuracy(step) * learned(2 * step + 1)},
                               {"exact", accuracy(step)},
                               {"batch", accuracy(step) - 0.004}});
  }
  json test = {{"loss", 2.35 - 1.9 * learned(total_steps)},
               {"accuracy", accuracy(total_steps) - 0.01}};
  if (norm == "batch") {
    test["exact"] = accuracy(total_steps) - 0.009;
    test["batch"] = accuracy(total_steps) - 0.015;
  }
  return {{"network", network},
          {"norm", norm},
          {"seed", seed},
          {"status", "done"},
          {"error", nullptr},
          {"diverged_at_step", nullptr},
          {"parameters", norm == "none" || norm == "lrn" ? 99710 : 100310},
          {"steps", total_steps},
          {"seconds", seconds_per_step * total_steps},
          {"train", train},
          {"eval", eval},
          {"probe", probe},
          {"batch_norm_eval", norm == "batch" ? batch_norm_eval : json()},
          {"test", test}};
}

}  // namespace

json synthetic_results(const std::vector<std::string>& networks,
                       const std::vector<std::string>& norms, const std::vector<int>& seeds) {
  json descriptions = json::object();
  json steps = json::object();
  json batch_sizes = json::object();
  json rates = json::object();
  json arms = json::array();
  for (const std::string& network : networks) {
    const bool sigmoid = network == "mlp";
    descriptions[network] = {{"title", "a made-up network for tests"},
                             {"activation", sigmoid ? "sigmoid" : "relu"},
                             {"layers", {"hidden 1", "hidden 2", "hidden 3"}}};
    steps[network] = total_steps;
    batch_sizes[network] = 60;
    rates[network] = 0.1;
    for (const std::string& norm : norms) {
      for (const int seed : seeds) arms.push_back(synthetic_arm(network, norm, seed));
    }
  }
  return {
      {"format", "evenkeel-compare"},
      {"format_version", 1},
      {"command", "evenkeel compare --network mlp,cnn --norms none,batch,layer,lrn --steps 400"},
      {"started", "2024-01-01T10:00:00Z"},
      {"finished", "2024-01-01T10:04:00Z"},
      {"interrupted", false},
      {"quick", false},
      {"versions",
       {{"evenkeel", "0.1.0"},
        {"libtorch", "1.13.1"},
        {"blas", "made-up BLAS"},
        {"compiler", "GCC 12.2.0"}}},
      {"machine",
       {{"cpu", "made-up processor"},
        {"cores", 2},
        {"memory_gib", 8.0},
        {"os", "Debian GNU/Linux 12"},
        {"simd_target", "AVX2"}}},
      {"data",
       {{"name", "fashion-mnist"},
        {"train", 50000},
        {"held_out", 10000},
        {"test", 10000},
        {"classes", 10}}},
      {"config",
       {{"networks", networks},
        {"norms", norms},
        {"seeds", seeds},
        {"steps", steps},
        {"batch_size", batch_sizes},
        {"lr", rates},
        {"exact_images", 10000},
        {"jobs", 2}}},
      {"networks", descriptions},
      {"arms", arms}};
}

}  // namespace evenkeel::lab
