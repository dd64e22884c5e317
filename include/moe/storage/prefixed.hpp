// Names of parameters of parts that stand in a whole of several.
#pragma once

#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Hands on what it is shown, with "prefix" and "number." before the names (no number below 0).
template <class F>
class PrefixedVisitor {
 public:
  PrefixedVisitor(F& f, const char* prefix, Index number) noexcept
      : f_(f), prefix_(number < 0 ? ParameterName(prefix, ".") : ParameterName(prefix, number, ".")) {}

  template <class P>
  requires requires(const P& p) { p.value; }
  void operator()(const P& p) const {
    const ParameterName name(prefix_.c_str(), p.name);
    P shown = p;
    shown.name = name.c_str();
    f_(shown);
  }
  template <class T, class... More>
  void operator()(const char* name, T* values, More... more) const {
    f_(ParameterName(prefix_.c_str(), name).c_str(), values, more...);
  }

 private:
  F& f_;
  ParameterName prefix_;
};

}  // namespace impl

MOE_NAMESPACE_END
