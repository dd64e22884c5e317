// A layer of a given shape with random tokens, its exact costs, and a check of its result.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "moe/core/pool_executor.hpp"
#include "moe/expert/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/top_k.hpp"
#include "support/bounded.hpp"

namespace bench {

using moe::Index;

struct Shape {
  std::string name;
  Index D, F, E, K;
};

/// How tokens spread over experts: by the random router alone, by Zipf's law (s = 1.2), or all to the same K
/// experts.
enum class Skew { uniform, zipf, same };

inline const char* name_of(Skew skew) {
  return skew == Skew::uniform ? "uniform" : skew == Skew::zipf ? "zipf" : "same";
}

/// One row of logits to add, so that the router sends tokens as `skew` says.
template <class Real>
std::vector<Real> skew_mask(Skew skew, const Shape& shape) {
  std::vector<Real> mask(static_cast<std::size_t>(shape.E), Real(0));
  for (Index e = 0; e < shape.E; ++e) {
    if (skew == Skew::zipf)
      mask[static_cast<std::size_t>(e)] = static_cast<Real>(-1.2 * std::log(static_cast<double>(e + 1)));
    if (skew == Skew::same && e >= shape.K) mask[static_cast<std::size_t>(e)] = Real(-1000);
  }
  return mask;
}

/// Layers of one shape and type. Weights alone exceed the last-level cache several times, and every call sees
/// other tokens, so experts come from memory.
template <class Real>
class Problem {
 public:
  using Layer = moe::MoeLayer<moe::SoftmaxTopK<Real>, moe::Glu<moe::Silu, Real>>;

  explicit Problem(const Shape& shape) : shape_(shape) {
    const Index bytes = 3 * shape.D * shape.F * shape.E * Index{sizeof(Real)};
    const Index sets = std::clamp<Index>(moe::ceil_div(Index{256} << 20, bytes), 1, 8);
    moe::PoolExecutor pool(static_cast<Index>(std::max(1u, std::thread::hardware_concurrency())));
    for (Index s = 0; s < sets; ++s) {
      auto router = moe::softmax_top_k<Real>({.width = shape.D,
                                              .experts = shape.E,
                                              .k = shape.K,
                                              .load_balance = 0,
                                              .weights = {.normalise = moe::Normalise::sum}});
      router.scorer().initialise(static_cast<std::uint64_t>(s) + 1);
      moe::Glu<moe::Silu, Real> experts({.experts = shape.E, .width = shape.D, .hidden = shape.F});
      experts.initialise(static_cast<std::uint64_t>(s) + 100, pool);
      layers_.push_back(std::make_unique<Layer>(std::move(router), std::move(experts)));
    }
  }

  const Shape& shape() const { return shape_; }
  Layer& layer(std::size_t call) { return *layers_[call % layers_.size()]; }

  /// Compares some rows of y with plain loops in double; the text of the first difference, empty if none.
  std::string check(Layer& layer, const moe::ConstMatrixView<Real>& x, const moe::MatrixView<Real>& y,
                    const moe::RouteTable<Real>& routes) {
    test::unit_roundoff = std::numeric_limits<Real>::epsilon() / 2;
    for (const Index t : {Index{0}, x.rows / 2, x.rows - 1}) {
      test::Row in = row_of(x.row(t)), sum;
      std::vector<test::Row> terms(static_cast<std::size_t>(shape_.D)), weights = terms;
      for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
        const test::Row z = expert(layer, routes.expert[p], in);
        for (std::size_t j = 0; j < z.size(); ++j) {
          terms[j].push_back(z[j]);
          weights[j].emplace_back(static_cast<double>(routes.weight[p]));
        }
      }
      for (Index j = 0; j < shape_.D; ++j) {
        const test::Bounded want =
            test::dot(terms[static_cast<std::size_t>(j)], weights[static_cast<std::size_t>(j)]);
        if (!(std::abs(static_cast<double>(y(t, j)) - want.v) <= 2 * want.e)) {
          char text[160];
          std::snprintf(text, sizeof text, "row %td, column %td: expected %g +- %g, got %g", t, j, want.v,
                        2 * want.e, static_cast<double>(y(t, j)));
          return text;
        }
      }
    }
    return {};
  }

 private:
  test::Row row_of(const Real* x) const {
    test::Row row;
    for (Index j = 0; j < shape_.D; ++j) row.emplace_back(static_cast<double>(x[j]));
    return row;
  }

  test::Row expert(Layer& layer, Index e, const test::Row& x) const {
    test::Row gate, up, z;
    const std::string prefix = "experts." + std::to_string(e) + ".";
    const auto apply = [&](const moe::ParameterView<Real>& w, const test::Row& in, test::Row& out) {
      for (Index o = 0; o < w.rows; ++o) {
        test::Row row;
        for (Index i = 0; i < w.cols; ++i) row.emplace_back(static_cast<double>(w(o, i)));
        out.push_back(test::dot(row, in));
      }
    };
    auto first = [&](const moe::Parameter<Real>& p) {
      if (p.name == prefix + "gate_proj.weight") apply(p.value, x, gate);
      if (p.name == prefix + "up_proj.weight") apply(p.value, x, up);
    };
    layer.experts().visit_parameters(nullptr, first);
    for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = test::activate(test::Act::silu, gate[i]) * up[i];
    auto second = [&](const moe::Parameter<Real>& p) {
      if (p.name == prefix + "down_proj.weight") apply(p.value, gate, z);
    };
    layer.experts().visit_parameters(nullptr, second);
    return z;
  }

  Shape shape_;
  std::vector<std::unique_ptr<Layer>> layers_;
};

/// The problem of the last shape asked for: one at a time is in memory.
template <class Real>
Problem<Real>& problem(const Shape& shape) {
  static std::unique_ptr<Problem<Real>> last;
  if (!last || last->shape().name != shape.name) {
    last.reset();
    last = std::make_unique<Problem<Real>>(shape);
  }
  return *last;
}

/// Several batches of T standard normal rows.
template <class Real>
std::vector<std::vector<Real>> batches(Index count, Index tokens, Index width) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  std::vector<std::vector<Real>> all(static_cast<std::size_t>(count));
  for (auto& batch : all) {
    batch.resize(static_cast<std::size_t>(tokens * width));
    for (Real& v : batch) v = static_cast<Real>(normal(random));
  }
  return all;
}

/// What a call must do: arithmetic, and bytes of the distinct weights it touches, of x and of y.
struct Cost {
  double flops = 0;
  double bytes = 0;
};

template <class Real>
Cost cost_of(const Shape& shape, Index tokens, const moe::RouteStats& stats) {
  double touched = 0;
  for (const Index n : stats.load) touched += n > 0 ? 1 : 0;
  const double weights = 3.0 * static_cast<double>(shape.D * shape.F);
  const double router = static_cast<double>(shape.D * shape.E);
  return {2 * weights * static_cast<double>(stats.pairs()) + 2 * router * static_cast<double>(tokens),
          sizeof(Real) * (weights * touched + router + 2.0 * static_cast<double>(tokens * shape.D))};
}

}  // namespace bench
