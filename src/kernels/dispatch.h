// How the passes reach the kernels: one table of functions per geometry and type, which holds the
// code of the active SIMD target. Looking it up is the run-time dispatch, done for megabytes of
// work at a time.
//
// T is the type of the activations; what is computed with, and the parameters, are P = Wide<T>.
// Kernels are serial and check nothing. They take their arguments by value: behind a reference,
// each vector store might have changed them.
#pragma once

#include "hwy/targets.h"
#include "src/base/types.h"

namespace evenkeel::kernels {

// The target whose kernels run. The first call reads EVENKEEL_SIMD, and throws Error if that names
// no runnable target. The choice is this library's own: other users of Highway in the process are
// not affected.
const hwy::ChosenTarget& active_target();

}  // namespace evenkeel::kernels

// Within a target's namespace: functions name_float() and so on that return tables, which the
// function template table<T>() makes.
#define EVENKEEL_KERNEL_TABLE(T, name, Table) \
  const kernels::Table<T>* name##_##T() { return table<T>(); }
#define EVENKEEL_KERNEL_TABLES(name, Table) \
  EVENKEEL_FOR_EACH_TYPE(EVENKEEL_KERNEL_TABLE, name, Table)

// Once per file: the function name<T>() of the header, dispatched to the active target.
#define EVENKEEL_EXPORT_TABLE(T, name, Table)                             \
  HWY_EXPORT(name##_##T);                                                 \
  template <>                                                             \
  const Table<T>& name<T>() {                                             \
    return *HWY_DISPATCH_TABLE(name##_##T)[active_target().GetIndex()](); \
  }
#define EVENKEEL_EXPORT_KERNELS(name, Table)                 \
  namespace evenkeel::kernels {                              \
  EVENKEEL_FOR_EACH_TYPE(EVENKEEL_EXPORT_TABLE, name, Table) \
  }
