// The law by which routed language models scale: Clark et al. 2202.01169.
//   log10 L = a log10 N + b log10 S + c log10 N log10 S + d
// N parameters of the dense model, S the experts E, saturated: 1/S = 1/(E - 1 + 1/(1/start - 1/most)) +
// 1/most. A model of one expert has S = start.
#pragma once

#include <cmath>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

/// Coefficients of a fit. Those of the paper's three routers (table 3) are below.
struct RoutedScalingLaw {
  double a = 0, b = 0, c = 0, d = 0;
  double start = 1, most = 2;  // 0 < start < most
};
inline constexpr RoutedScalingLaw kSBaseLaw{-0.082, -0.108, 0.009, 1.104, 1.847, 314.478};
inline constexpr RoutedScalingLaw kRlRLaw{-0.083, -0.126, 0.012, 1.111, 1.880, 469.982};
inline constexpr RoutedScalingLaw kHashLaw{-0.087, -0.136, 0.012, 1.157, 4.175, 477.741};

namespace impl {

inline void check_scaling(const RoutedScalingLaw& law, double parameters, double experts) {
  for (const double v : {law.a, law.b, law.c, law.d, law.start, law.most}) {
    if (!is_finite(v)) fail<config_error>("scaling law: expected finite coefficients, got ", v);
  }
  if (!(law.start > 0 && law.start < law.most)) {
    fail<config_error>("scaling law: expected 0 < start < most, got ", law.start, " and ", law.most);
  }
  if (!(law.a + law.c * std::log10(law.start) < 0)) {
    fail<config_error>("scaling law: expected a loss that falls with the size of a dense model, got a = ",
                       law.a, ", c = ", law.c);
  }
  if (!(parameters > 0 && is_finite(parameters))) {
    fail<config_error>("parameters: expected a finite number > 0, got ", parameters);
  }
  if (!(experts >= 1 && is_finite(experts))) {
    fail<config_error>("experts: expected a finite number >= 1, got ", experts);
  }
}

}  // namespace impl

/// S: start for one expert, towards `most` for many.
inline double saturated_experts(const RoutedScalingLaw& law, double experts) {
  impl::check_scaling(law, 1, experts);
  const double offset = 1 / (1 / law.start - 1 / law.most);
  return 1 / (1 / (experts - 1 + offset) + 1 / law.most);
}

/// L of a model of N parameters when dense, with E experts in its routed layers.
inline double routed_loss(const RoutedScalingLaw& law, double parameters, double experts) {
  impl::check_scaling(law, parameters, experts);
  const double n = std::log10(parameters), s = std::log10(saturated_experts(law, experts));
  return std::pow(10.0, law.a * n + law.b * s + law.c * n * s + law.d);
}

/// The effective parameter count (EPC): parameters of the dense model with the loss of one of N with E
/// experts. N itself for one expert; it grows with E as long as b + c log10 N < 0, and shrinks beyond, where
/// the law says that experts do harm. Throws config_error for a law, a size or a number of experts that makes
/// no sense.
inline double effective_parameter_count(const RoutedScalingLaw& law, double parameters, double experts) {
  impl::check_scaling(law, parameters, experts);
  const double n = std::log10(parameters), start = std::log10(law.start);
  // How much more of the experts' log there is than with one: exactly 0 then, and N exactly N.
  const double more = experts == 1 ? 0.0 : std::log10(saturated_experts(law, experts)) - start;
  return parameters * std::pow(10.0, (law.b + law.c * n) * more / (law.a + law.c * start));
}

MOE_NAMESPACE_END
