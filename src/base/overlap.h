// Which memory the arguments of one call may share.
//
// What is written into memory that another argument occupies destroys that argument while it may
// still be read. So an output has memory of its own, or is the very memory of an input of which its
// documentation says so: there, each value is read before it is written. Inputs may share whatever
// they like.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace evenkeel {

// Names of the inputs whose very memory an output may be.
using MayBe = std::initializer_list<std::string_view>;

// The arguments that a call has named so far.
class ArgumentMemory {
 public:
  // Two arguments that share what they must not; null names if there are none. `written` is an
  // output.
  struct Overlap {
    const char* written = nullptr;
    const char* other = nullptr;
  };
  // The most arguments with elements in one call: batch_norm_backward with given sums has 13.
  static constexpr std::size_t kMost = 16;

  bool full() const { return count_ == kMost; }

  // Adds the next argument, of `size` values; one without values occupies nothing. It is an output
  // if its values are not const.
  template <class T>
  Overlap add(const char* name, T* values, std::int64_t size, MayBe may_be) {
    if (size == 0) return {};
    const auto begin = reinterpret_cast<std::uintptr_t>(values);
    const Argument added{name, begin, begin + static_cast<std::uintptr_t>(size) * sizeof(T),
                         !std::is_const_v<T>};
    for (std::size_t i = 0; i < count_; ++i) {
      const Argument& earlier = arguments_[i];
      if (!added.meets(earlier) || (!added.is_output && !earlier.is_output)) continue;
      if (added.is_same(earlier) && contains(may_be, earlier.name)) continue;
      if (added.is_output) return {name, earlier.name};
      return {earlier.name, name};
    }
    arguments_[count_++] = added;
    return {};
  }

 private:
  struct Argument {
    const char* name;
    std::uintptr_t begin, end;  // in memory
    bool is_output;

    bool meets(const Argument& other) const { return begin < other.end && other.begin < end; }
    bool is_same(const Argument& other) const { return begin == other.begin && end == other.end; }
  };

  static bool contains(MayBe names, std::string_view name) {
    for (const std::string_view each : names) {
      if (each == name) return true;
    }
    return false;
  }

  std::array<Argument, kMost> arguments_;  // the first count_ of them; the others are undefined
  std::size_t count_ = 0;
};

}  // namespace evenkeel
