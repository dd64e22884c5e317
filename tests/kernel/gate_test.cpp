#include "moe/kernel/gate.hpp"

#include <cmath>

#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::ClampedGate;
using moe::ProductGate;
using moe::QuickGelu;
using moe::Silu;

TEST_CASE("a product gate multiplies the activation with the other half", "[kernel][smoke]") {
  const ProductGate<Silu> gate;
  for (const double g : {-3.0, -0.5, 0.0, 2.0}) {
    for (const double u : {-2.0, 0.0, 1.5}) {
      CHECK(gate.value(g, u) == Silu::value(g) * u);
      CHECK(gate.partials(g, u).of_gate == Silu::derivative(g) * u);
      CHECK(gate.partials(g, u).of_up == Silu::value(g));
    }
  }
}

TEST_CASE("a clamped gate is gpt-oss's formula", "[kernel][smoke]") {
  const ClampedGate<QuickGelu> gate{7, 1};
  for (double g = -12; g <= 12; g += 0.37) {
    for (double u = -12; u <= 12; u += 0.53) {
      const double gc = std::fmin(g, 7.0), uc = std::fmax(std::fmin(u, 7.0), -7.0);
      const double want = (uc + 1) * gc / (1 + std::exp(-1.702 * gc));
      const double units =
          10 + 4 * std::fabs(gc);  // QuickGelu's bound, one addition, one product, this formula's own
      CHECK(test::within(gate.value(g, u), want, units * 2 * 0x1p-53 * (std::fabs(want) + std::fabs(gc))));
    }
  }
}

TEST_CASE("partial derivatives of a clamped gate are its slopes, and 0 beyond the limits", "[kernel]") {
  const ClampedGate<Silu> gate{3, 0.25};
  constexpr double kStep = 1e-5;
  for (double g = -6.01; g <= 6; g += 0.31) {  // never within a step of the limit
    for (double u = -6.02; u <= 6; u += 0.43) {
      const auto p = gate.partials(g, u);
      const double of_gate = (gate.value(g + kStep, u) - gate.value(g - kStep, u)) / (2 * kStep);
      const double of_up = (gate.value(g, u + kStep) - gate.value(g, u - kStep)) / (2 * kStep);
      // h^2/6 times the third derivative (below 20 here) and 2^-53 / h times the value (below 10).
      CHECK(test::within(p.of_gate, of_gate, 1e-8));
      CHECK(test::within(p.of_up, of_up, 1e-8));
      if (g > 3) CHECK(p.of_gate == 0);
      if (std::fabs(u) > 3) CHECK(p.of_up == 0);
    }
  }
  CHECK(gate.partials(3.0, 1.0).of_gate == Silu::derivative(3.0) * 1.25);
  CHECK(gate.partials(1.0, 3.0).of_up == Silu::value(1.0));
  CHECK(gate.partials(1.0, -3.0).of_up == Silu::value(1.0));
}

TEST_CASE("a bounded gate bounds what comes out of its activation, and both halves' slopes", "[kernel]") {
  const moe::BoundedGate<Silu> gate{1.5};
  constexpr double kStep = 1e-5;
  // silu(2) = 1.76 is bounded, though 2 would be under a limit of 2 before it; silu(1.5) = 1.23 is not.
  CHECK(gate.value(2.0, 3.0) == 1.5 * 1.5);
  CHECK(gate.value(1.5, -3.0) == Silu::value(1.5) * -1.5);
  for (double g = -6.01; g <= 6; g += 0.31) {  // never within a step of the limit
    for (double u = -6.02; u <= 6; u += 0.43) {
      const auto p = gate.partials(g, u);
      CHECK(gate.value(g, u) == std::fmin(Silu::value(g), 1.5) * std::fmax(std::fmin(u, 1.5), -1.5));
      // As for the clamped gate: h^2/6 times the third derivative, and 2^-53 / h times the value.
      CHECK(
          test::within(p.of_gate, (gate.value(g + kStep, u) - gate.value(g - kStep, u)) / (2 * kStep), 1e-8));
      CHECK(test::within(p.of_up, (gate.value(g, u + kStep) - gate.value(g, u - kStep)) / (2 * kStep), 1e-8));
      if (Silu::value(g) > 1.5) CHECK(p.of_gate == 0);
      if (std::fabs(u) > 1.5) CHECK(p.of_up == 0);
    }
  }
  CHECK(gate.partials(1.0, 1.5).of_up == Silu::value(1.0));
  CHECK(gate.partials(1.0, -1.5).of_up == Silu::value(1.0));
  const moe::BoundedGate<Silu> at{Silu::value(2.0)};
  CHECK(at.partials(2.0, 1.0).of_gate == Silu::derivative(2.0));
}

TEST_CASE("SiTU is its formula, bounded, and its partial derivatives are its slopes", "[kernel]") {
  const moe::SituGate gate{4, 25};
  constexpr double kStep = 1e-4;
  for (double g = -30; g <= 30; g += 0.77) {
    for (double u = -90; u <= 90; u += 7.3) {
      const double want = 4 * std::tanh(g / 4) / (1 + std::exp(-g)) * 25 * std::tanh(u / 25);
      // Two tanh, a sigmoid and five products: 40 u; arguments of tanh rounded once more.
      CHECK(test::within(gate.value(g, u), want, 64 * 0x1p-53 * std::fabs(want) + 1e-300));
      CHECK(std::fabs(gate.value(g, u)) <= 100);
      const auto p = gate.partials(g, u);
      const double of_gate = (gate.value(g + kStep, u) - gate.value(g - kStep, u)) / (2 * kStep);
      const double of_up = (gate.value(g, u + kStep) - gate.value(g, u - kStep)) / (2 * kStep);
      // h^2/6 times the third derivative (below 25), and 2^-53 / h times the value (below 100), ten times.
      CHECK(test::within(p.of_gate, of_gate, 1e-7));
      CHECK(test::within(p.of_up, of_up, 1e-7));
    }
  }
}

TEST_CASE("a gate chosen at run time is the static one", "[kernel]") {
  using Kind = moe::AnyGate::Kind;
  const moe::AnyActivation silu{moe::ActivationKind::silu}, quick{moe::ActivationKind::quick_gelu};
  const auto check = [](const moe::AnyGate& any, const auto& gate) {
    float g[21], u[21], a[21], b[21], dg[21], du[21], dg_any[21], du_any[21];
    for (int i = 0; i < 21; ++i) {
      g[i] = static_cast<float>(i) - 10;
      u[i] = 7 - static_cast<float>(i);
    }
    moe::gated_row(gate, g, u, a, 21);
    moe::gated_row(any, g, u, b, 21);
    moe::gated_backward_row(gate, g, u, u, dg, du, 21);
    moe::gated_backward_row(any, g, u, u, dg_any, du_any, 21);
    for (int i = 0; i < 21; ++i) {
      CHECK(a[i] == b[i]);
      CHECK(dg[i] == dg_any[i]);
      CHECK(du[i] == du_any[i]);
    }
    CHECK(any.value(1.5, -2.0) == gate.value(1.5, -2.0));
    CHECK(any.partials(1.5, -2.0).of_up == gate.partials(1.5, -2.0).of_up);
  };
  check({.kind = Kind::product, .act = silu}, ProductGate<Silu>{});
  check({.kind = Kind::clamped, .act = quick, .limit = 7, .offset = 1}, ClampedGate<QuickGelu>{7, 1});
  check({.kind = Kind::situ, .limit = 25, .beta = 4}, moe::SituGate{4, 25});
  check({.kind = Kind::bounded, .act = silu, .limit = 3}, moe::BoundedGate<Silu>{3});
}

static_assert(moe::Gate<moe::SituGate> && moe::Gate<moe::AnyGate> && moe::Gate<moe::BoundedGate<Silu>>);
static_assert(moe::Gate<ProductGate<Silu>> && moe::Gate<ClampedGate<moe::AnyActivation>> && !moe::Gate<Silu>);

}  // namespace
