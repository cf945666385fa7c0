// Kernels for rows that are each normalized by themselves: LayerNorm.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "src/kernels/kernels.h"
#include "src/kernels/row_sums-inl.h"
#include "src/kernels/rows_backward-inl.h"
#include "src/kernels/rows_forward-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

template <class P>
void add_up(const P* parts, std::int64_t count, std::int64_t stride, std::int64_t size, P* total) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t whole = size / lanes * lanes;
  HWY_ALIGN double sums[kernels::kMaxAddUp] = {};
  for (std::int64_t n = 0; n < count; ++n, parts += stride) {
    for (std::int64_t i = 0; i < whole; i += lanes) {
      hn::Store(hn::Add(hn::Load(d, sums + i), load_wide(d, parts + i)), d, sums + i);
    }
    for (std::int64_t i = whole; i < size; ++i) sums[i] += static_cast<double>(parts[i]);
  }
  for (std::int64_t i = 0; i < size; ++i) total[i] = static_cast<P>(sums[i]);
}

template <class T>
const kernels::Rows<T>* table() {
  static constexpr kernels::Rows<T> kTable = {rows_forward<T>, rows_backward<T>, add_up<Stat<T>>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(rows, Rows)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(rows, Rows)
#endif
