// What comes out of a layer's calls.
#pragma once

#include <type_traits>
#include <utility>

#include "moe/core/view.hpp"
#include "moe/layer/call/observer.hpp"
#include "moe/plan/losses.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

/// `y` and `carry` are overwritten and must share no memory with the input. `losses` are those of this call.
template <class Real>
struct LayerOutput {
  MatrixView<Real> y;                  // [T, D]
  RouteStats* stats = nullptr;         // caller-owned; this call's counts are added
  Observer<Real>* observer = nullptr;  // caller-owned; sees this call, costs nothing when null
  MatrixView<Real> carry{};  // [T, R] or absent: what the router hands on to the next layer's, its column
                             // `carry`; 0 for padding and spoiled rows. Only of a layer with carry_width() R
  AuxiliaryLosses losses{};

  LayerOutput() = default;
  template <class M>
  requires std::is_convertible_v<M&&, MatrixView<Real>> LayerOutput(
      M&& rows, RouteStats* statistics = nullptr)  // NOLINT(google-explicit-constructor)
      : y(std::forward<M>(rows)), stats(statistics) {}
  template <impl::MistakenMatrix<Real> M>
  explicit LayerOutput(M&&, RouteStats* = nullptr) {
    impl::refuse_matrix<M, Real>();
  }
};

template <impl::MatrixOrView M>
LayerOutput(M&&, RouteStats* = nullptr) -> LayerOutput<std::remove_const_t<impl::ElementOf<M>>>;

MOE_NAMESPACE_END
