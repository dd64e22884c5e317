// A map of logits chosen at run time.
#pragma once

#include <cstdint>

#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/map/spread.hpp"

MOE_NAMESPACE_BEGIN

/// One of the maps, or none, chosen at run time.
class AnyLogitMap {
 public:
  AnyLogitMap() = default;
  AnyLogitMap(SoftCap map) : kind_(Kind::cap), cap_(map) {}            // NOLINT(google-explicit-constructor)
  AnyLogitMap(LogitSpread map) : kind_(Kind::spread), spread_(map) {}  // NOLINT(google-explicit-constructor)

  template <class Real>
  void forward(Real* row, Index n) const noexcept {
    if (kind_ == Kind::cap) cap_.forward(row, n);
    if (kind_ == Kind::spread) spread_.forward(row, n);
  }
  template <class Real>
  void backward(const Real* raw, Real* drow, Index n) const noexcept {
    if (kind_ == Kind::cap) cap_.backward(raw, drow, n);
    if (kind_ == Kind::spread) spread_.backward(raw, drow, n);
  }

 private:
  enum class Kind : std::uint8_t { none, cap, spread };
  Kind kind_ = Kind::none;
  SoftCap cap_{1};
  LogitSpread spread_{1};
};

MOE_NAMESPACE_END
