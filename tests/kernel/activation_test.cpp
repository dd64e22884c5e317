#include "moe/kernel/activation.hpp"

#include <cmath>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::AnyActivation;
using moe::Index;
using moe::native_arch;
using moe::reference_arch;
using test::GuardedRow;

/// What the policy says for one element, by the vector form where Arch has one: rows must give these bits.
template <class Arch, class T, class F>
T one(const F& f, T a, T b) {
  if constexpr (moe::SimdArch<Arch, T>) {
    using B = moe::Batch<T, Arch>;
    T y[B::size];
    B(f(B(a), B(b))).store_unaligned(y);
    return y[0];
  } else {
    return f(a, b);
  }
}

template <class T, class Arch, class Act>
void check_rows(const Act& act) {
  test::Numbers numbers(41);
  for (const Index n : test::kSizes) {
    for (Index shift = 0; shift < 3; ++shift) {
      const GuardedRow<T> x(n, shift, numbers, -9, 9), u(n, 1, numbers), d(n, 2, numbers);
      GuardedRow<T> y(n, 1), dx(n, 3), h(n, shift), dg(n, 1), du(n, 2);
      moe::activate_row<Arch>(act, x.data(), y.data(), n);
      moe::activate_backward_row<Arch>(act, x.data(), d.data(), dx.data(), n);
      moe::gated_row<Arch>(act, x.data(), u.data(), h.data(), n);
      moe::gated_backward_row<Arch>(act, x.data(), u.data(), d.data(), dg.data(), du.data(), n);
      GuardedRow<T> want(n), want_dx(n), want_h(n), want_dg(n), want_du(n);
      for (Index j = 0; j < n; ++j) {
        want[j] = one<Arch>([&](const auto& v, const auto&) { return act.value(v); }, x[j], u[j]);
        const T slope = one<Arch>([&](const auto& v, const auto&) { return act.derivative(v); }, x[j], u[j]);
        want_dx[j] = d[j] * slope;
        want_h[j] = want[j] * u[j];
        want_dg[j] = d[j] * T(slope * u[j]);
        want_du[j] = d[j] * want[j];
      }
      CHECK(test::first_bit_difference(y.data(), want.data(), n) == -1);
      CHECK(test::first_bit_difference(dx.data(), want_dx.data(), n) == -1);
      CHECK(test::first_bit_difference(h.data(), want_h.data(), n) == -1);
      CHECK(test::first_bit_difference(dg.data(), want_dg.data(), n) == -1);
      CHECK(test::first_bit_difference(du.data(), want_du.data(), n) == -1);
      CHECK((y.guards_intact() && dx.guards_intact() && h.guards_intact() && dg.guards_intact() &&
             du.guards_intact()));

      // In place: outputs over their inputs.
      GuardedRow<T> g_in_place(x, 0), u_in_place(u, 0);
      moe::gated_backward_row<Arch>(act, g_in_place.data(), u_in_place.data(), d.data(), g_in_place.data(),
                                    u_in_place.data(), n);
      CHECK(test::first_bit_difference(g_in_place.data(), want_dg.data(), n) == -1);
      CHECK(test::first_bit_difference(u_in_place.data(), want_du.data(), n) == -1);
      GuardedRow<T> in_place(x, 3);
      moe::activate_row<Arch>(act, in_place.data(), in_place.data(), n);
      CHECK(test::first_bit_difference(in_place.data(), want.data(), n) == -1);
      CHECK(in_place.guards_intact());
    }
  }
}

template <class T>
void check_all_rows() {
  AnyActivation any;
  for (int kind = 0; kind <= static_cast<int>(moe::ActivationKind::gelu_tanh); ++kind) {
    any.kind = static_cast<moe::ActivationKind>(kind);
    INFO(any.name());
    check_rows<T, native_arch>(any);
  }
  check_rows<T, native_arch>(moe::Silu{});
  check_rows<T, reference_arch>(moe::GeluTanh{});
  check_rows<T, reference_arch>(any);
}

TEST_CASE("a row of activations has the bits of its elements, wherever they stand", "[kernel][smoke]") {
  check_all_rows<float>();
  check_all_rows<double>();
}

/// Several rows are one row each; what lies between the strides stays.
template <class T, class Arch>
void check_strided() {
  constexpr Index kRows = 3, kStride = 40, kHiddenStride = 44;
  test::Numbers numbers(44);
  const GuardedRow<T> pre(kRows * kStride, 0, numbers, -5, 5);
  for (const Index n : {Index{1}, Index{16}, Index{19}}) {
    const GuardedRow<T> before(kRows * kHiddenStride, 0, numbers);
    GuardedRow<T> h(before, 0), want_h(before, 0), y(before, 0), want_y(before, 0);
    moe::gated_rows<Arch>(moe::Silu{}, pre.data(), pre.data() + 20, kStride, h.data(), kHiddenStride, kRows,
                          n);
    moe::activate_rows<Arch>(moe::Silu{}, pre.data(), kStride, y.data(), kHiddenStride, kRows, n);
    for (Index i = 0; i < kRows; ++i) {
      const T* const row = pre.data() + i * kStride;
      moe::gated_row<Arch>(moe::Silu{}, row, row + 20, want_h.data() + i * kHiddenStride, n);
      moe::activate_row<Arch>(moe::Silu{}, row, want_y.data() + i * kHiddenStride, n);
    }
    CHECK(test::first_bit_difference(h.data(), want_h.data(), kRows * kHiddenStride) == -1);
    CHECK(test::first_bit_difference(y.data(), want_y.data(), kRows * kHiddenStride) == -1);
    CHECK((h.guards_intact() && y.guards_intact()));
  }
}

TEST_CASE("strided rows of activations", "[kernel][smoke]") {
  check_strided<float, native_arch>();
  check_strided<double, native_arch>();
  check_strided<float, reference_arch>();
}

template <class T>
void check_clamped() {
  const moe::ClampedGate<moe::QuickGelu> gate{2, 1};
  const moe::ClampedGate<AnyActivation> any{2, 1, {moe::ActivationKind::quick_gelu}};
  test::Numbers numbers(43);
  for (const Index n : test::kSizes) {
    const GuardedRow<T> g(n, 1, numbers, -5, 5), u(n, 2, numbers, -5, 5), d(n, 0, numbers);
    GuardedRow<T> h(n, 3), any_h(n), dg(n, 1), du(n, 2), any_dg(n), any_du(n);
    moe::gated_row(gate, g.data(), u.data(), h.data(), n);
    moe::gated_backward_row(gate, g.data(), u.data(), d.data(), dg.data(), du.data(), n);
    moe::gated_row(any, g.data(), u.data(), any_h.data(), n);
    moe::gated_backward_row(any, g.data(), u.data(), d.data(), any_dg.data(), any_du.data(), n);
    for (Index j = 0; j < n; ++j) {
      const T want_h =
          one<native_arch>([&](const auto& a, const auto& b) { return gate.value(a, b); }, g[j], u[j]);
      const T of_gate = one<native_arch>(
          [&](const auto& a, const auto& b) { return gate.partials(a, b).of_gate; }, g[j], u[j]);
      const T of_up = one<native_arch>(
          [&](const auto& a, const auto& b) { return gate.partials(a, b).of_up; }, g[j], u[j]);
      const T want[] = {want_h, d[j] * of_gate, d[j] * of_up}, got[] = {h[j], dg[j], du[j]};
      CHECK(test::first_bit_difference(got, want, 3) == -1);
      // Vector and scalar forms of the gate clamp at the same place.
      CHECK((of_gate == 0) == (g[j] > 2));
      CHECK((of_up == 0) == (std::fabs(u[j]) > 2));
    }
    CHECK(test::first_bit_difference(any_h.data(), h.data(), n) == -1);
    CHECK(test::first_bit_difference(any_dg.data(), dg.data(), n) == -1);
    CHECK(test::first_bit_difference(any_du.data(), du.data(), n) == -1);
    CHECK((h.guards_intact() && dg.guards_intact() && du.guards_intact()));
  }
}

TEST_CASE("clamped gates in rows", "[kernel]") {
  check_clamped<float>();
  check_clamped<double>();
}

}  // namespace
