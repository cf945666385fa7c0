#include "cli/norm_page.h"

#include <fmt/format.h>

#include "cli/page.h"

namespace evenkeel::cli {
namespace {

// "A" to "Z", then "AA", "AB", ...
std::string letters(std::int64_t group) {
  std::string name(1, static_cast<char>('A' + group % 26));
  return group < 26 ? name : letters(group / 26 - 1) + name;
}

class NormPage {
 public:
  NormPage(const NormExample& example, const Grouping& grouping, const Worked& worked,
           bool centered, bool bold)
      : example_(example), grouping_(grouping), worked_(worked), centered_(centered), bold_(bold) {}

  std::string text() const {
    return input() + groups() + statistics() + normalized() + scaled() + by_hand();
  }

 private:
  std::string matrix(const std::function<std::string(std::int64_t, std::int64_t)>& cell) const {
    return Table{.columns = grouping_.columns,
                 .rows = numbered("s", example_.x.samples),
                 .cell = cell,
                 .bold = [this](std::int64_t n,
                                std::int64_t c) { return bold_ && grouping_.group_of(n, c) == 0; }}
        .text();
  }

  std::string input() const {
    return fmt::format("Input x: {}\n", grouping_.input) +
           matrix([&](auto n, auto c) { return number(example_.x.at(n, c)); });
  }

  std::string groups() const {
    return "\nWho is averaged with whom: values with the same letter form one group\n" +
           matrix([&](auto n, auto c) { return letters(grouping_.group_of(n, c)); });
  }

  std::string statistics() const {
    std::vector<std::string> rows;
    for (std::size_t g = 0; g < grouping_.names.size(); ++g) {
      rows.push_back(
          fmt::format("{} ({})", letters(static_cast<std::int64_t>(g)), grouping_.names[g]));
    }
    std::vector<std::string> columns = {"K", "ms", "rstd"};
    if (centered_) columns = {"K", "mu", "var", "rstd"};
    const std::string formulas =
        centered_ ? "     mu = sum(x) / K     var = sum((x - mu)^2) / K     rstd = 1 / sqrt(var + "
                    "eps)\n"
                  : "     ms = sum(x^2) / K     rstd = 1 / sqrt(ms + eps)\n";
    const auto cell = [&](std::int64_t r, std::int64_t c) {
      const auto g = static_cast<std::size_t>(r);
      const Moments& moments = worked_.moments[g];
      if (c == 0) return number(moments.count);
      if (c == 1) return decimal(moments.mean);
      const bool variance = centered_ && c == 2;
      return decimal(variance ? moments.biased_variance() : worked_.rstd[g]);
    };
    return "\n1. Statistics of each group of K values\n" + formulas +
           Table{.columns = columns,
                 .rows = rows,
                 .cell = cell,
                 .bold = [this](std::int64_t r, std::int64_t) { return bold_ && r == 0; }}
               .text();
  }

  std::string normalized() const {
    return fmt::format("\n2. Normalize: x^ = {} * rstd, with the statistics of the value's group\n",
                       centered_ ? "(x - mu)" : "x") +
           matrix([&](auto n, auto c) { return decimal(worked_.normalized.at(n, c)); });
  }

  std::string scaled() const {
    const std::string weight = example_.unit_offset ? "(1 + weight)" : "weight";
    return fmt::format("\n3. Scale{}, by {}: y = x^ * {}{}\n", centered_ ? " and shift" : "",
                       grouping_.weight_unit, weight, centered_ ? " + bias" : "") +
           parameters() + matrix([&](auto n, auto c) { return decimal(worked_.y.at(n, c)); });
  }

  std::string parameters() const {
    if (example_.weight.empty() && example_.bias.empty()) {
      return fmt::format("  weight is {}{}, as when training starts, so y = x^.\n",
                         number(weight(0)), centered_ ? " and bias is 0" : "");
    }
    std::vector<std::string> rows = {"weight"};
    if (centered_) rows.emplace_back("bias");
    const bool channels = grouping_.weight_unit == "channel";
    return Table{.columns = numbered(channels ? "c" : "f", example_.channels()),
                 .rows = rows,
                 .cell =
                     [&](std::int64_t r, std::int64_t c) {
                       const auto i = static_cast<std::size_t>(c);
                       return number(r == 0 ? weight(i) : bias(i));
                     },
                 .bold = {}}
        .text();
  }

  double weight(std::size_t channel) const {
    if (!example_.weight.empty()) return example_.weight[channel];
    return example_.unit_offset ? 0 : 1;
  }

  double bias(std::size_t channel) const {
    return example_.bias.empty() ? 0 : example_.bias[channel];
  }

  std::string by_hand() const {
    const Matrix& x = example_.x;
    std::vector<double> group;  // the values of the first one
    for (std::int64_t n = 0; n < x.samples; ++n) {
      for (std::int64_t c = 0; c < x.features; ++c) {
        if (grouping_.group_of(n, c) == 0) group.push_back(x.at(n, c));
      }
    }
    const auto count = static_cast<std::int64_t>(group.size());
    const auto sum_of = [&](auto term) {
      return spelled_sum(count,
                         [&](std::int64_t i) { return term(group[static_cast<std::size_t>(i)]); });
    };
    const double center = centered_ ? worked_.moments[0].mean : 0;
    const double square =
        centered_ ? worked_.moments[0].biased_variance() : worked_.moments[0].mean;
    const std::string rstd = number(worked_.rstd[0]);

    std::string out = fmt::format("\nOne value by hand: {}, group A\n", grouping_.first_value);
    if (centered_) {
      out += fmt::format("  mu   = ({}) / {} = {}\n", sum_of(operand), count, number(center));
      out += fmt::format("  var  = ({}) / {} = {}\n", sum_of([&](double value) {
                           return fmt::format("({} - {})^2", number(value), operand(center));
                         }),
                         count, number(square));
    } else {
      out += fmt::format("  ms   = ({}) / {} = {}\n",
                         sum_of([](double value) { return operand(value) + "^2"; }), count,
                         number(square));
    }
    out += fmt::format("  rstd = 1 / sqrt({} + {}) = {}\n", number(square), number(example_.eps),
                       rstd);
    const std::string normalized = number(worked_.normalized.at(0, 0));
    if (centered_) {
      out += fmt::format("  x^   = ({} - {}) * {} = {}\n", number(x.at(0, 0)), operand(center),
                         rstd, normalized);
    } else {
      out += fmt::format("  x^   = {} * {} = {}\n", number(x.at(0, 0)), rstd, normalized);
    }
    const std::string factor =
        example_.unit_offset ? fmt::format("(1 + {})", operand(weight(0))) : operand(weight(0));
    out += fmt::format("  y    = {} * {}{} = {}\n", normalized, factor,
                       centered_ ? " + " + operand(bias(0)) : "", number(worked_.y.at(0, 0)));
    return out;
  }

  const NormExample& example_;
  const Grouping& grouping_;
  const Worked& worked_;
  bool centered_;
  bool bold_;
};

}  // namespace

std::string norm_page(const NormExample& example, const Grouping& grouping, const Worked& worked,
                      bool centered, bool bold) {
  return NormPage(example, grouping, worked, centered, bold).text();
}

}  // namespace evenkeel::cli
