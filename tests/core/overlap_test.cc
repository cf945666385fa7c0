// Which memory arguments may share: every pair of an output and another argument of every
// operation, as the very same memory and shifted by a little.
#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

const Shape kShape{4, 4, 4};

// Where an argument lies. It stands for a tensor of kShape, or for a span of `size` values.
struct Place {
  std::byte* at = nullptr;
  std::size_t size = 0;

  template <class T>
  operator TensorView<T>() const {
    return {reinterpret_cast<T*>(at), kShape};
  }
  template <class P>
  operator std::span<P>() const {
    return {reinterpret_cast<P*>(at), size};
  }
};

struct Argument {
  std::string name;
  std::size_t size;  // elements, of 8 bytes at most
  bool is_output = false;
  std::vector<std::string> may_be = {};
};
constexpr std::size_t kAll = 64;

Argument in(std::string name, std::size_t size) { return {std::move(name), size}; }
Argument out(std::string name, std::size_t size, std::vector<std::string> may_be = {}) {
  return {std::move(name), size, true, std::move(may_be)};
}

struct Operation {
  std::string name;
  std::vector<Argument> arguments;
  std::function<void(const std::vector<Place>&)> call;
};

// Every operation with every argument, in the order of `arguments`.
std::vector<Operation> operations() {
  std::vector<Operation> all;
  ChannelMoments moments(kShape.c);
  const auto values = random_values<float>(kShape.size());
  moments.add(view(values, kShape));

  const std::vector<Argument> batch_norm = {
      in("x", kAll),         in("weight", 4),      in("bias", 4),
      out("mean", 4),        out("rstd", 4),       out("running.mean", 4),
      out("running.var", 4), in("residual", kAll), out("y", kAll, {"x", "residual"})};
  const auto forward = [](const std::vector<Place>& at) {
    return BatchNormForward<float>{.x = at[0],
                                   .weight = at[1],
                                   .bias = at[2],
                                   .mean = at[3],
                                   .rstd = at[4],
                                   .running = {.mean = at[5], .var = at[6]},
                                   .residual = at[7],
                                   .y = at[8]};
  };
  const BatchNormOptions options{.update = RunningUpdate::moving_average(0.5),
                                 .activation = Activation::relu};
  all.push_back({"batch_norm", batch_norm,
                 [=](const auto& at) { batch_norm_forward<float>(forward(at), options); }});
  all.push_back({"batch_norm of moments", batch_norm, [=](const auto& at) {
                   batch_norm_forward<float>(forward(at), moments, options);
                 }});
  all.push_back({"batch_norm_inference",
                 {in("x", kAll), in("weight", 4), in("bias", 4), in("mean", 4), in("var", 4),
                  out("rstd", 4), in("residual", kAll), out("y", kAll, {"x", "residual"})},
                 [](const auto& at) {
                   batch_norm_inference<float>({.x = at[0],
                                                .weight = at[1],
                                                .bias = at[2],
                                                .mean = at[3],
                                                .var = at[4],
                                                .rstd = at[5],
                                                .residual = at[6],
                                                .y = at[7]});
                 }});

  const std::vector<Argument> batch_norm_gradient = {
      in("x", kAll),        in("dy", kAll),          in("weight", 4),
      in("bias", 4),        in("mean", 4),           in("rstd", 4),
      in("residual", kAll), out("dx", kAll, {"dy"}), out("dresidual", kAll, {"dy", "residual"})};
  const auto with = [](std::vector<Argument> arguments, const std::vector<Argument>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const auto backward = [](const std::vector<Place>& at) {
    return BatchNormBackward<float>{.dy = at[1],
                                    .x = at[0],
                                    .weight = at[2],
                                    .bias = at[3],
                                    .mean = at[4],
                                    .rstd = at[5],
                                    .residual = at[6],
                                    .dx = at[7],
                                    .dresidual = at[8]};
  };
  const BatchNormBackwardOptions relu{.activation = Activation::relu};
  all.push_back({"batch_norm_backward",
                 with(batch_norm_gradient, {out("dweight", 4), out("dbias", 4)}),
                 [=](const auto& at) {
                   auto args = backward(at);
                   args.dweight = at[9];
                   args.dbias = at[10];
                   batch_norm_backward<float>(args, relu);
                 }});
  // It leaves dx and dresidual alone.
  all.push_back({"batch_norm_gradient_sums",
                 with({batch_norm_gradient.begin(), batch_norm_gradient.begin() + 7},
                      {out("dweight", 4), out("dbias", 4), out("sums.dy", 4), out("sums.dy_x", 4)}),
                 [=](const auto& at) {
                   batch_norm_gradient_sums<float>({.dy = at[1],
                                                    .x = at[0],
                                                    .weight = at[2],
                                                    .bias = at[3],
                                                    .mean = at[4],
                                                    .rstd = at[5],
                                                    .residual = at[6],
                                                    .dweight = at[7],
                                                    .dbias = at[8]},
                                                   {.dy = at[9], .dy_x = at[10]}, relu);
                 }});
  all.push_back(
      {"batch_norm_backward of sums",
       with(batch_norm_gradient, {in("sums.dy", 4), in("sums.dy_x", 4)}), [=](const auto& at) {
         batch_norm_backward<float>(backward(at), {.dy = at[9], .dy_x = at[10]}, 16, relu);
       }});
  all.push_back({"update_running_statistics",
                 {out("running.mean", 4), out("running.var", 4)},
                 [=](const auto& at) {
                   update_running_statistics<float>(moments, options.update,
                                                    {.mean = at[0], .var = at[1]});
                 }});
  all.push_back(
      {"batch_norm_identity_init", {out("weight", 4), out("bias", 4)}, [=](const auto& at) {
         batch_norm_identity_init<float>(moments, 1, at[0], at[1]);
       }});

  all.push_back(
      {"group_norm",
       {in("x", kAll), in("weight", 4), in("bias", 4), out("mean", 8), out("rstd", 8),
        out("y", kAll, {"x"})},
       [](const auto& at) {
         group_norm_forward<float>(
             {.x = at[0], .weight = at[1], .bias = at[2], .mean = at[3], .rstd = at[4], .y = at[5]},
             {.groups = 2});
       }});
  all.push_back({"group_norm_backward",
                 {in("x", kAll), in("dy", kAll), in("weight", 4), in("bias", 4), in("mean", 8),
                  in("rstd", 8), out("dx", kAll, {"dy"}), out("dweight", 4), out("dbias", 4)},
                 [](const auto& at) {
                   group_norm_backward<float>({.dy = at[1],
                                               .x = at[0],
                                               .weight = at[2],
                                               .bias = at[3],
                                               .mean = at[4],
                                               .rstd = at[5],
                                               .dx = at[6],
                                               .dweight = at[7],
                                               .dbias = at[8]},
                                              {.groups = 2, .activation = Activation::silu});
                 }});
  all.push_back({"instance_norm",
                 {in("x", kAll), in("weight", 4), in("bias", 4), out("mean", 16), out("rstd", 16),
                  out("running.mean", 4), out("running.var", 4), out("y", kAll, {"x"})},
                 [](const auto& at) {
                   instance_norm_forward<float>({.x = at[0],
                                                 .weight = at[1],
                                                 .bias = at[2],
                                                 .mean = at[3],
                                                 .rstd = at[4],
                                                 .running = {.mean = at[5], .var = at[6]},
                                                 .y = at[7]},
                                                {.update = RunningUpdate::moving_average(0.5)});
                 }});
  all.push_back({"instance_norm_backward",
                 {in("x", kAll), in("dy", kAll), in("weight", 4), in("mean", 16), in("rstd", 16),
                  out("dx", kAll, {"dy"}), out("dweight", 4), out("dbias", 4)},
                 [](const auto& at) {
                   instance_norm_backward<float>({.dy = at[1],
                                                  .x = at[0],
                                                  .weight = at[2],
                                                  .mean = at[3],
                                                  .rstd = at[4],
                                                  .dx = at[5],
                                                  .dweight = at[6],
                                                  .dbias = at[7]});
                 }});

  all.push_back({"layer_norm",
                 {in("x", kAll), in("weight", 16), in("bias", 16), out("mean", 4), out("rstd", 4),
                  in("residual", kAll), out("sum", kAll, {"x", "residual"}),
                  out("y", kAll, {"x", "residual"})},
                 [](const auto& at) {
                   layer_norm_forward<float>({.x = at[0],
                                              .weight = at[1],
                                              .bias = at[2],
                                              .mean = at[3],
                                              .rstd = at[4],
                                              .residual = at[5],
                                              .sum = at[6],
                                              .y = at[7]});
                 }});
  all.push_back(
      {"layer_norm_backward",
       {in("x", kAll), in("dy", kAll), in("weight", 16), in("mean", 4), in("rstd", 4),
        in("dsum", kAll), out("dx", kAll, {"dy", "dsum"}), out("dweight", 16), out("dbias", 16)},
       [](const auto& at) {
         layer_norm_backward<float>({.dy = at[1],
                                     .x = at[0],
                                     .weight = at[2],
                                     .mean = at[3],
                                     .rstd = at[4],
                                     .dsum = at[5],
                                     .dx = at[6],
                                     .dweight = at[7],
                                     .dbias = at[8]});
       }});
  all.push_back({"rms_norm",
                 {in("x", kAll), in("weight", 16), out("rstd", 4), in("residual", kAll),
                  out("sum", kAll, {"x", "residual"}), out("y", kAll, {"x", "residual"})},
                 [](const auto& at) {
                   rms_norm_forward<float>({.x = at[0],
                                            .weight = at[1],
                                            .rstd = at[2],
                                            .residual = at[3],
                                            .sum = at[4],
                                            .y = at[5]});
                 }});
  all.push_back({"rms_norm_backward",
                 {in("x", kAll), in("dy", kAll), in("weight", 16), in("rstd", 4), in("dsum", kAll),
                  out("dx", kAll, {"dy", "dsum"}), out("dweight", 16)},
                 [](const auto& at) {
                   rms_norm_backward<float>({.dy = at[1],
                                             .x = at[0],
                                             .weight = at[2],
                                             .rstd = at[3],
                                             .dsum = at[4],
                                             .dx = at[5],
                                             .dweight = at[6]});
                 }});
  all.push_back({"local_response_norm", {in("x", kAll), out("y", kAll, {"x"})}, [](const auto& at) {
                   local_response_norm_forward<float>({.x = at[0], .y = at[1]});
                 }});
  all.push_back({"local_response_norm_backward",
                 {in("x", kAll), in("dy", kAll), out("dx", kAll, {"dy"})},
                 [](const auto& at) {
                   local_response_norm_backward<float>({.dy = at[1], .x = at[0], .dx = at[2]});
                 }});
  const Standardization standardization = Standardization::from(moments);
  all.push_back({"standardization", {in("x", kAll), out("y", kAll, {"x"})}, [=](const auto& at) {
                   standardization.apply(TensorView<const float>(at[0]), TensorView<float>(at[1]));
                 }});
  return all;
}

// Memory for the arguments of one call, each in a place of its own, with the same values each time.
class Arena {
 public:
  explicit Arena(const std::vector<Argument>& arguments) {
    for (const Argument& argument : arguments) {
      offsets_.push_back(bytes_);
      bytes_ += 8 * argument.size;
    }
    bytes_ += 8 * (kAll + 1);  // where one that is put elsewhere may reach
    const std::vector<float> values =
        random_values<float>(static_cast<std::int64_t>(bytes_ / 4), 3);
    memory_.resize(bytes_ / 8);
    std::memcpy(memory_.data(), values.data(), bytes_);
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      places_.push_back({start() + offsets_[i], arguments[i].size});
    }
  }

  // Puts argument i `shift` bytes behind where argument j starts.
  void put(std::size_t i, std::size_t j, std::size_t shift) {
    places_[i].at = start() + offsets_[j] + shift;
  }
  const std::vector<Place>& places() const { return places_; }
  // The values of a tensor, or as many floats of a span.
  std::vector<float> values(std::size_t i) const {
    std::vector<float> result(places_[i].size);
    std::memcpy(result.data(), places_[i].at, 4 * result.size());
    return result;
  }
  const std::vector<double>& memory() const { return memory_; }
  bool has_same_bytes(const std::vector<double>& other) const {
    return std::memcmp(memory_.data(), other.data(), bytes_) == 0;
  }

 private:
  std::byte* start() { return reinterpret_cast<std::byte*>(memory_.data()); }

  std::size_t bytes_ = 0;
  std::vector<std::size_t> offsets_;
  std::vector<double> memory_;
  std::vector<Place> places_;
};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// Calls visit(operation, i, j) for each output i and each other argument j.
void for_each_pair(
    const std::function<void(const Operation&, std::size_t i, std::size_t j)>& visit) {
  for (const Operation& operation : operations()) {
    const auto& arguments = operation.arguments;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      for (std::size_t j = 0; j < arguments.size() && arguments[i].is_output; ++j) {
        SCOPED_TRACE(operation.name + ": " + arguments[i].name + " and " + arguments[j].name);
        if (i != j) visit(operation, i, j);
      }
    }
  }
}

void expect_refused(const Operation& operation, std::size_t i, std::size_t j, std::size_t shift) {
  Arena arena(operation.arguments);
  arena.put(i, j, shift);
  const std::vector<double> before = arena.memory();
  const std::string &a = operation.arguments[i].name, &b = operation.arguments[j].name;
  try {
    operation.call(arena.places());
    ADD_FAILURE() << "no Error at a shift of " << shift;
  } catch (const Error& error) {
    // Of two outputs either may be the one that is named first.
    const std::string what = error.what();
    EXPECT_TRUE(what.find(": " + a + " overlaps " + b + ", expected memory of its own") !=
                    std::string::npos ||
                what.find(": " + b + " overlaps " + a + ", expected memory of its own") !=
                    std::string::npos)
        << what;
  }
  EXPECT_TRUE(arena.has_same_bytes(before)) << "at a shift of " << shift;
}

TEST(Overlap, InPartIsRefused) {
  for_each_pair([](const Operation& operation, std::size_t i, std::size_t j) {
    expect_refused(operation, i, j, 8);
  });
}

TEST(Overlap, TheVeryMemoryIsRefusedUnlessItIsAllowed) {
  for_each_pair([](const Operation& operation, std::size_t i, std::size_t j) {
    const auto& arguments = operation.arguments;
    const bool other_way =
        arguments[j].is_output && contains(arguments[j].may_be, arguments[i].name);
    if (contains(arguments[i].may_be, arguments[j].name) || other_way) return;
    expect_refused(operation, i, j, 0);
  });
}

TEST(Overlap, WhereItIsAllowedTheResultsAreTheSame) {
  int pairs = 0;
  for_each_pair([&](const Operation& operation, std::size_t i, std::size_t j) {
    const auto& arguments = operation.arguments;
    if (!contains(arguments[i].may_be, arguments[j].name)) return;
    ++pairs;
    Arena separate(arguments), shared(arguments);
    shared.put(i, j, 0);
    operation.call(separate.places());
    operation.call(shared.places());
    for (std::size_t k = 0; k < arguments.size(); ++k) {
      if (arguments[k].is_output) {
        expect_same(shared.values(k), separate.values(k), arguments[k].name);
      }
    }
  });
  EXPECT_EQ(pairs, 31);
}

// One behind the other, without a gap, and inputs that are one and the same.
TEST(Overlap, NeighborsAndSharedInputsAreNone) {
  std::vector<float> memory(128, 1);
  const TensorView<float> x(memory.data(), kShape), y(memory.data() + 64, kShape);
  EXPECT_NO_THROW(batch_norm_forward<float>({.x = x, .residual = x, .y = y}));
  const TensorView<float> shifted(memory.data() + 1, kShape), z(memory.data() + 65, {4, 4, 3});
  EXPECT_NO_THROW(
      batch_norm_inference<float>({.x = TensorView<float>(memory.data(), {4, 4, 3}),
                                   .mean = std::span(memory).subspan(2, 4),
                                   .var = std::span(memory).subspan(3, 4),
                                   .residual = TensorView<float>(memory.data() + 1, {4, 4, 3}),
                                   .y = z}));
  expect_error([&] { batch_norm_forward<float>({.x = x, .y = shifted}); },
               {"y overlaps x, expected memory of its own, or exactly that of x or residual"});
}

TEST(Overlap, NothingIsSharedWithoutElements) {
  std::vector<float> memory(64, 1);
  const TensorView<float> empty(memory.data() + 1, {0, 4, 4}), x(memory.data(), {0, 4, 4});
  EXPECT_NO_THROW(batch_norm_forward<float>({.x = x, .y = empty}));
  EXPECT_NO_THROW(layer_norm_forward<float>({.x = x, .residual = x, .sum = empty, .y = empty}));
}

TEST(Overlap, CountsAreOutputsToo) {
  const auto x = random_values<float>(kShape.size());
  std::vector<float> y(x.size());
  std::vector<double> statistics(8, 1);
  std::int64_t count = 3;
  const auto run = [&](const RunningStatistics<double>& running) {
    ChannelMoments moments(kShape.c);
    moments.add(view(x, kShape));
    update_running_statistics<double>(moments, RunningUpdate::cumulative(), running);
  };
  const std::span<double> mean = std::span(statistics).first(4),
                          var = std::span(statistics).last(4);
  expect_error([&] { run({.mean = mean, .var = var, .batches = &count, .skipped = &count}); },
               {"running.skipped overlaps running.batches"});
  expect_error(
      [&] {
        run({.mean = mean,
             .var = var,
             .batches = reinterpret_cast<std::int64_t*>(statistics.data() + 5)});
      },
      {"running.batches overlaps running.var"});
  EXPECT_EQ(count, 3);
  EXPECT_EQ(statistics, std::vector<double>(8, 1));
}

}  // namespace
}  // namespace evenkeel::testing
