#include "bench/accuracy/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "bench/accuracy/libraries.h"

namespace evenkeel::accuracy {
namespace {

// The spacing of numbers of type T around a value.
template <class T>
double spacing(double value) {
  int precision = 0, least = 0;
  if constexpr (kIs16Bit<T>) {
    constexpr bool brain = std::is_same_v<T, BFloat16>;
    precision = brain ? 8 : 11;
    least = brain ? -126 : -14;
  } else {
    precision = std::numeric_limits<T>::digits;
    least = std::numeric_limits<T>::min_exponent - 1;
  }
  const int exponent = value == 0 ? least : std::max(std::ilogb(value), least);
  return std::ldexp(1.0, exponent - precision + 1);
}

struct Errors {
  double mean_ulp = 0, max_ulp = 0, mean_relative = 0, max_relative = 0;
};

template <class T>
Errors errors_of(const Values& actual, const Values& expected) {
  double squares = 0;
  for (const double e : expected) squares += e * e;
  const auto count = static_cast<double>(expected.size());
  // All 0 is what dweight is where x is constant: bf16 has one number near 1e6.
  const double scale = squares == 0 ? 1 : std::sqrt(squares / count);
  Errors errors;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    const double ulp = error / spacing<T>(expected[i]), relative = error / scale;
    errors.mean_ulp += ulp / count;
    errors.mean_relative += relative / count;
    // Not std::max, which may drop a NaN.
    if (!(ulp <= errors.max_ulp)) errors.max_ulp = ulp;
    if (!(relative <= errors.max_relative)) errors.max_relative = relative;
  }
  return errors;
}

// One of the outputs, under a heading of its own.
struct Quantity {
  const char* title;
  Operation operation;
  Values Outputs::*values;
  bool is_parameter = false;  // of the type of parameters
  bool from_statistics = false;
};

constexpr std::array kQuantities = {
    Quantity{"BatchNorm in training, y", Operation::batch_norm, &Outputs::y},
    Quantity{"BatchNorm in training, dx", Operation::batch_norm, &Outputs::dx, false, true},
    Quantity{"BatchNorm in training, dweight", Operation::batch_norm, &Outputs::dweight, true,
             true},
    Quantity{"LayerNorm, y", Operation::layer_norm, &Outputs::y},
    Quantity{"LayerNorm, dx", Operation::layer_norm, &Outputs::dx, false, true},
    Quantity{"LayerNorm, dweight", Operation::layer_norm, &Outputs::dweight, true, true},
    Quantity{"LRN, y", Operation::local_response_norm, &Outputs::y},
    Quantity{"LRN, dx", Operation::local_response_norm, &Outputs::dx},
};

// A problem and everybody's answer.
struct Result {
  Problem problem;
  Outputs expected;
  std::optional<Outputs> limit, evenkeel, torch, onednn;
};

std::vector<Result> run_all() {
  std::vector<Result> results;
  for (const Operation operation :
       {Operation::batch_norm, Operation::layer_norm, Operation::local_response_norm}) {
    for (const Type type : {Type::float32, Type::bfloat16, Type::float16, Type::float64}) {
      for (const double mean : {0.0, 1e3, 1e6}) {
        if (type == Type::float16 && mean > 65504) continue;
        Problem problem = make_problem(operation, type, mean);
        Outputs expected = exact(problem);
        results.push_back({problem, std::move(expected), exact_from_stored_statistics(problem),
                           run_evenkeel(problem), run_torch(problem), run_onednn(problem)});
      }
    }
  }
  return results;
}

const char* name_of(Type type) {
  switch (type) {
    case Type::float32:
      return "float";
    case Type::float64:
      return "double";
    case Type::bfloat16:
      return "bf16";
    default:
      return "f16";
  }
}

std::string cell(const std::optional<Errors>& errors, bool in_ulp) {
  if (!errors) return "-";
  return in_ulp ? fmt::format("{:.2g} / {:.2g}", errors->mean_ulp, errors->max_ulp)
                : fmt::format("{:.1e} / {:.1e}", errors->mean_relative, errors->max_relative);
}

std::optional<Errors> errors_of(const Result& result, const Quantity& quantity,
                                const std::optional<Outputs>& outputs) {
  if (!outputs) return std::nullopt;
  return with_type(result.problem.type, [&](auto t) {
    using T = decltype(t);
    const Values &actual = (*outputs).*quantity.values,
                 &expected = result.expected.*quantity.values;
    return quantity.is_parameter ? errors_of<Wide<T>>(actual, expected)
                                 : errors_of<T>(actual, expected);
  });
}

std::string table_of(const Quantity& quantity, const std::vector<Result>& results, bool in_ulp) {
  std::string table =
      fmt::format("| {} | mean | evenkeel | PyTorch | oneDNN |{}\n|---|---|---|---|---|{}\n",
                  in_ulp ? "ulp" : "relative", quantity.from_statistics ? " limit |" : "",
                  quantity.from_statistics ? "---|" : "");
  for (const Result& result : results) {
    if (result.problem.operation != quantity.operation) continue;
    table += fmt::format("| {} | {:g} |", name_of(result.problem.type), result.problem.mean);
    std::vector columns = {&result.evenkeel, &result.torch, &result.onednn};
    if (quantity.from_statistics) columns.push_back(&result.limit);
    for (const auto* outputs : columns) {
      table += fmt::format(" {} |", cell(errors_of(result, quantity, *outputs), in_ulp));
    }
    table += '\n';
  }
  return table;
}

}  // namespace

std::string accuracy_tables() {
  const auto results = run_all();
  std::string text;
  for (const Quantity& quantity : kQuantities) {
    text += fmt::format("### {}\n\n{}\n{}\n", quantity.title, table_of(quantity, results, true),
                        table_of(quantity, results, false));
  }
  return text;
}

}  // namespace evenkeel::accuracy
