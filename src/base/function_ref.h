// A reference to a callable, for parameters that are called and not kept: unlike std::function it
// never allocates.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace evenkeel {

template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef(const F& f)  // NOLINT(google-explicit-constructor): a lambda is passed as it is
      : object_(std::addressof(f)), call_([](const void* object, Args... args) -> R {
          return (*static_cast<const F*>(object))(std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  const void* object_;
  R (*call_)(const void*, Args...);
};

}  // namespace evenkeel
