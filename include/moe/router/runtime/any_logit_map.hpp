// A map of logits chosen at run time, or none.
#pragma once

#include "moe/core/one_of.hpp"
#include "moe/core/type_list.hpp"
#include "moe/router/scorer/list.hpp"

MOE_NAMESPACE_BEGIN

/// Leaves logits as they are.
struct NoLogitMap {
  static constexpr const char* kName = "none";
  template <class Real>
  void forward(Real*, Index) const noexcept {}
  template <class Real>
  void backward(const Real*, Real*, Index) const noexcept {}
};

namespace impl {
template <class... Maps>
using NoneOrOneOf = OneOf<NoLogitMap, Maps...>;
}  // namespace impl

class AnyLogitMap : public FromList<impl::NoneOrOneOf, LogitMaps> {
  using Base = FromList<impl::NoneOrOneOf, LogitMaps>;

 public:
  using Base::Base;
  AnyLogitMap() : Base(NoLogitMap{}) {}

  bool is_identity() const noexcept { return holds<NoLogitMap>(); }
  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    visit([&](const auto& map) { map.forward(row, n); });
  }
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    visit([&](const auto& map) { map.backward(raw, drow, n); });
  }
};

MOE_NAMESPACE_END
