// Expert-router coupling loss: the router's row of an expert stands for the tokens that go there, so the
// expert should answer to it, and no other one should, as strongly as alpha says. Lv et al. 2512.23447. It
// looks at parameters alone: N rows, however many tokens a step has.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/probes.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/bank/gate_probe.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct CouplingOptions {
  double coefficient = 1;
  double alpha = 1;   // in [0, 1]; the paper's 0.5 for 256 experts
  bool noise = true;  // false: rows as they are
};

namespace impl {

/// M [N, N]: answer of expert j to row i. Returns the mean over N x N of max(M_ij - alpha M_ii, 0) +
/// max(M_ji - alpha M_ii, 0), i != j, and fills dM unless it is absent.
template <class Real>
double coupling_of(const MatrixView<Real>& m, double alpha, const MatrixView<Real>& dm) noexcept {
  const Index n = m.rows;
  const double share = 1 / (static_cast<double>(n) * static_cast<double>(n));
  double sum = 0;
  for (Index i = 0; dm && i < n; ++i) moe::fill_row(Real{0}, dm.row(i), n);
  for (Index i = 0; i < n; ++i) {
    const double bound = alpha * static_cast<double>(m(i, i));
    for (Index j = 0; j < n; ++j) {
      if (i == j) continue;
      for (const auto& [row, column] : {std::pair{i, j}, std::pair{j, i}}) {
        const double over = static_cast<double>(m(row, column)) - bound;
        if (!(over > 0)) continue;
        sum += over;
        if (!dm) continue;
        dm(row, column) += static_cast<Real>(share);
        dm(i, i) -= static_cast<Real>(alpha * share);
      }
    }
  }
  return share * sum;
}

/// eps_i = half the distance from row i to the nearest other one, over its length; 0 of a row of 0 or alone.
template <class Real>
double coupling_radius(const MatrixView<Real>& rows, Index i) noexcept {
  double nearest = -1, squares = 0;
  for (Index d = 0; d < rows.cols; ++d)
    squares += static_cast<double>(rows(i, d)) * static_cast<double>(rows(i, d));
  for (Index j = 0; j < rows.rows; ++j) {
    if (i == j) continue;
    double distance = 0;
    for (Index d = 0; d < rows.cols; ++d) {
      const double off = static_cast<double>(rows(i, d)) - static_cast<double>(rows(j, d));
      distance += off * off;
    }
    nearest = nearest < 0 ? distance : (std::min)(nearest, distance);
  }
  return nearest < 0 || squares == 0 ? 0.0 : std::sqrt(nearest / squares) / 2;
}

}  // namespace impl

/// c / N^2 * sum over i != j of max(M_ij - alpha M_ii, 0) + max(M_ji - alpha M_ii, 0), M_ij the response of
/// expert j to row i of the router's weights, multiplied entry by entry by draws from U(1 - eps_i, 1 +
/// eps_i), eps_i = min over j of |R_i - R_j| / (2 |R_i|), a constant. `experts` probes: a GateProbe of gated
/// experts, or a ProbingBank, whose gradients are in `dexperts`. Adds scale times the gradient to `drouter`
/// and `dexperts`; null: frozen. Takes the key of a call from `draws`.
///
/// Throws config_error for options out of range and for other numbers of experts, shape_error for rows of
/// another width and gradients of another shape, numeric_error for weights that are not finite, before
/// anything is written.
template <class Probing, Executor X = SerialExecutor>
double coupling_loss(const CouplingOptions& options, const Projection<typename Probing::Real>& router,
                     const Probing& experts, DrawCounter& draws, double scale,
                     typename Projection<typename Probing::Real>::Gradients* drouter,
                     typename Probing::Gradients* dexperts, Workspace& workspace, X&& executor = X{}) {
  using Real = typename Probing::Real;
  const Index n = router.out(), d = router.in();
  if (!(options.alpha >= 0 && options.alpha <= 1)) {
    fail<config_error>("alpha: expected a value in [0, 1], got ", options.alpha);
  }
  if (!is_finite(options.coefficient) || !is_finite(scale)) {
    fail<config_error>("coupling loss: expected a finite coefficient and scale, got ", options.coefficient,
                       " and ", scale);
  }
  if (Index{experts.experts()} != n) {
    fail<config_error>("coupling loss: expected as many experts as the router has outputs, ", n, ", got ",
                       Index{experts.experts()});
  }
  require_extent("router rows", "columns", Index{experts.width()}, d);
  auto nobody = [](auto&&...) noexcept {};
  const_cast<Projection<Real>&>(router).visit_storage("the router", drouter, nobody);
  struct Scratch {
    Real *row, *factor, *drow;  // [N, D]
    Real* dm;                   // [N, N]
    std::int32_t* rows;         // [N]
    Probes<Real> probes, dprobes;
    Scratch(Arena& arena, const Probing& of, Index n, Index d) {
      for (Real** matrix : {&row, &factor, &drow}) *matrix = arena.take<Real>(checked_product("rows", n, d));
      dm = arena.take<Real>(checked_product("answers", n, n));
      rows = arena.take<std::int32_t>(n);
      probes = of.carve_probes(arena, n);
      dprobes = of.carve_probes(arena, n);
    }
  };
  const auto carve = [&](Arena& arena) {
    const Scratch scratch(arena, experts, n, d);
    const Index mark = arena.mark();
    if (arena.measuring()) {
      experts.measure_probe(arena, n, executor.concurrency());
      arena.rewind(mark);
      experts.measure_probe_backward(arena, n, executor.concurrency());
      arena.rewind(mark);
    }
    return scratch;
  };
  Arena measuring;
  carve(measuring);
  Arena arena = workspace.arena(measuring.bytes());
  Scratch scratch = carve(arena);
  const Index mark = arena.mark();
  const MatrixView<Real> row(scratch.row, n, d), drow(scratch.drow, n, d);
  const ParameterView<const Real> weight = router.weight();
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < d; ++j) row(i, j) = weight(i, j);
    scratch.rows[i] = static_cast<std::int32_t>(i);
  }
  const KeyedRandom random(draws.key(), DrawStream::jitter);
  executor.parallel_for(n, [&](Index i, Index) noexcept {
    const double radius = options.noise ? impl::coupling_radius(row, i) : 0;
    for (Index j = 0; j < d; ++j) {
      const double u = random.uniform(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(j));
      scratch.factor[i * d + j] = static_cast<Real>(1 + radius * (2 * u - 1));
    }
  });
  for (Index i = 0; i < n * d; ++i) scratch.row[i] *= scratch.factor[i];
  const ProbeRows<Real> asked{row, scratch.rows, n};
  typename Probing::ProbeTape tape;
  if constexpr (requires { experts.probe_train(asked, scratch.probes, tape, arena, executor); }) {
    experts.probe_train(asked, scratch.probes, tape, arena, executor);
  } else {
    experts.probe(asked, scratch.probes, arena, executor);
  }
  arena.rewind(mark);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      if (!is_finite(scratch.probes.response(i, j))) {
        fail<numeric_error>(
            "coupling loss: expected weights of router and experts whose products are finite, "
            "got ",
            scratch.probes.response(i, j), " of row ", i, " and expert ", j);
      }
    }
  }
  const bool backward = scale != 0 && options.coefficient != 0 && (drouter != nullptr || dexperts != nullptr);
  const MatrixView<Real> dm = backward ? MatrixView<Real>(scratch.dm, n, n) : MatrixView<Real>{};
  const double loss = options.coefficient * impl::coupling_of(scratch.probes.response, options.alpha, dm);
  if (backward) {
    const auto factor = static_cast<Real>(scale * options.coefficient);
    fill_row(Real{0}, scratch.dprobes.data, scratch.dprobes.size);
    fill_row(Real{0}, scratch.drow, n * d);
    for (Index i = 0; i < n; ++i) scale_row(factor, dm.row(i), scratch.dprobes.response.row(i), n);
    experts.probe_backward(asked, tape, scratch.probes, scratch.dprobes,
                           drouter == nullptr ? MatrixView<Real>{} : drow, dexperts, arena, executor);
    if (drouter != nullptr) {
      const ParameterView<Real> gradient = router.weight_of(*drouter);
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < d; ++j) gradient(i, j) += drow(i, j) * scratch.factor[i * d + j];
      }
    }
  }
  draws.advance();
  return loss;
}

/// The same of a layer of a TokenChoice over a LinearScorer and a bank of gated experts; `gradients` are the
/// layer's (null: none).
template <class L, Executor X = SerialExecutor>
requires requires(const L& layer) {
  layer.router().scorer().projection();
  GateProbe(layer.experts());
}
double coupling_loss(const CouplingOptions& options, const L& layer, DrawCounter& draws, double scale,
                     typename L::Gradients* gradients, Workspace& workspace, X&& executor = X{}) {
  return coupling_loss(options, layer.router().scorer().projection(), GateProbe(layer.experts()), draws,
                       scale, gradients == nullptr ? nullptr : &gradients->router.scorer,
                       gradients == nullptr ? nullptr : &gradients->experts, workspace, executor);
}

MOE_NAMESPACE_END
