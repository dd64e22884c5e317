#include "moe/kernel/gate.hpp"

#include <cmath>

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

static_assert(moe::Gate<ProductGate<Silu>> && moe::Gate<ClampedGate<moe::AnyActivation>> && !moe::Gate<Silu>);

}  // namespace
