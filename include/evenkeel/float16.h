// The two 16-bit activation types. They only store: all arithmetic is in float.
//
// Both have the memory of the types of the same format elsewhere (std::bfloat16_t, std::float16_t,
// c10::BFloat16, c10::Half, __bf16, _Float16), so views may be taken of such arrays by a cast.
#pragma once

#include <bit>
#include <cstdint>

namespace evenkeel {

// bfloat16: the upper half of a float; 8 bits of exponent, 8 of precision (7 stored).
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  // To nearest, ties to even; beyond the largest number to infinity; NaN stays NaN.
  explicit constexpr BFloat16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const bool nan = (u & 0x7fffffffU) > 0x7f800000U;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40U
                                          : (u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  }
  explicit constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  friend constexpr bool operator==(const BFloat16&, const BFloat16&) = default;  // of the bits
};

// IEEE 754 binary16: 5 bits of exponent, 11 of precision (10 stored); largest 65504.
struct Float16 {
  std::uint16_t bits = 0;

  Float16() = default;
  // To nearest, ties to even, subnormals included; from 65520 on to infinity; NaN stays NaN.
  explicit constexpr Float16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t magnitude = u & 0x7fffffffU;
    std::uint32_t half = 0;
    if (magnitude > 0x7f800000U) {
      half = 0x7e00U | ((magnitude >> 13) & 0x1ffU);
    } else if (magnitude >= 0x477ff000U) {  // 65520
      half = 0x7c00U;
    } else if (magnitude >= 0x38800000U) {  // 2^-14, the smallest normal
      half = (magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13;
    } else {
      // In 0.5 to 1 floats have the spacing 2^-24 of subnormals: adding 0.5 rounds.
      half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
    }
    bits = static_cast<std::uint16_t>(half | ((u >> 16) & 0x8000U));
  }
  explicit constexpr operator float() const {
    const std::uint32_t sign = (bits & 0x8000U) << 16;
    const std::uint32_t magnitude = bits & 0x7fffU;
    if (magnitude < 0x400U) {  // subnormal: a whole number of 2^-24
      const float value = static_cast<float>(magnitude) * 0x1p-24F;
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
    }
    const std::uint32_t exponent = magnitude >= 0x7c00U ? 0x70000000U : 0x38000000U;
    return std::bit_cast<float>(((magnitude << 13) + exponent) | sign);
  }
  friend constexpr bool operator==(const Float16&, const Float16&) = default;  // of the bits
};

}  // namespace evenkeel
