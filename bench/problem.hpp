// Layers of a given shape and storage with random weights, the batches they read, and the check of a result.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "cache.hpp"
#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "reference.hpp"
#include "storages.hpp"
#include "suite.hpp"

namespace bench {

/// How tokens spread over experts: by the random router alone, by Zipf's law (s = 1.2), or all to the same K
/// experts. Every token has K experts in all three: the number of pairs is the same.
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

/// The router's answer for a batch, kept.
template <class Real>
class Routing {
 public:
  template <class Router>
  Routing(const Router& router, const moe::LayerInput<Real>& input) {
    const moe::CallShape shape{input.x.rows, 1, {}};
    const Index pairs = router.max_pairs(shape);
    moe::RouterInput<Real> in;
    in.x = input.x;
    in.logit_mask = input.logit_mask;
    moe::SerialExecutor serial;
    const auto call = [&](moe::Arena arena) {
      table_ = moe::RouteTable<Real>::carve(arena, input.x.rows, router.experts(), pairs);
      if (arena.measuring()) {
        router.measure(arena, shape, 1);
      } else {
        router.route(in, table_, arena, serial);
      }
      return arena.bytes();
    };
    call(memory_.arena(call(moe::Arena())));
  }

  const moe::RouteTable<Real>& table() const { return table_; }
  Index touched() const {
    return static_cast<Index>(std::set<moe::ExpertId>(table_.expert, table_.expert + table_.pairs()).size());
  }

 private:
  moe::Workspace memory_;
  moe::RouteTable<Real> table_;
};

/// Layers whose weights together exceed the last-level cache many times: calls take them in turn, so that
/// experts come from memory.
template <class Storage>
class Problem {
 public:
  using Bank = moe::Glu<moe::Silu, Storage>;
  using Real = typename Bank::Real;
  using Layer = moe::MoeLayer<moe::SoftmaxTopK<Real>, Bank>;

  explicit Problem(const Shape& shape) : shape_(shape) {
    moe::PoolExecutor pool(static_cast<Index>(std::max(1u, std::thread::hardware_concurrency())));
    const Index count = sets(shape);
    for (Index s = 0; s < count; ++s) {
      auto router = moe::softmax_top_k<Real>({.width = shape.D,
                                              .experts = shape.E,
                                              .k = shape.K,
                                              .load_balance = 0,
                                              .weights = {.normalise = moe::Normalise::sum}});
      router.scorer().initialise(static_cast<std::uint64_t>(s) + 1);
      Bank experts({.experts = shape.E, .width = shape.D, .hidden = shape.F});
      experts.initialise(static_cast<std::uint64_t>(s) + 100, pool);
      layers_.push_back(std::make_unique<Layer>(std::move(router), std::move(experts)));
    }
  }

  /// Of one layer's experts, about.
  static Index bytes(const Shape& shape) {
    return static_cast<Index>(3.0 * StorageInfo<Storage>::kBytes *
                              static_cast<double>(shape.D * shape.F * shape.E));
  }
  /// 512 MiB in all, or 8.
  static Index sets(const Shape& shape) {
    return std::clamp<Index>(moe::ceil_div(Index{512} << 20, std::max<Index>(bytes(shape), 1)), 1, 8);
  }

  const Shape& shape() const { return shape_; }
  std::size_t size() const { return layers_.size(); }
  Layer& layer(std::size_t call) { return *layers_[call % layers_.size()]; }

  /// What one call with this routing must do.
  Cost cost(const Routing<Real>& routing) {
    const auto T = static_cast<double>(routing.table().tokens), D = static_cast<double>(shape_.D);
    const auto pairs = static_cast<double>(routing.table().pairs());
    const auto router = D * static_cast<double>(shape_.E);
    const double expert_bytes =
        static_cast<double>(layer(0).experts().bytes()) / static_cast<double>(shape_.E);
    return {
        .expert_flops = 6 * D * static_cast<double>(shape_.F) * pairs,
        .router_flops = 2 * router * T,
        .bytes = static_cast<double>(routing.touched()) * expert_bytes + sizeof(Real) * (router + 2 * T * D)};
  }

  /// Expert e's weights of a layer as published, exactly as stored.
  static ExpertWeights weights(Layer& layer, Index e) {
    const Index D = layer.experts().width(), F = layer.experts().hidden();
    std::vector<Real> gate(static_cast<std::size_t>(D * F)), up(gate.size()), down(gate.size());
    const moe::MatrixView<Real> gate_view(gate.data(), F, D), up_view(up.data(), F, D),
        down_view(down.data(), D, F);
    if constexpr (requires { layer.experts().unpack(e, gate_view, up_view, down_view); }) {
      layer.experts().unpack(e, gate_view, up_view, down_view);
    } else {
      const std::string prefix = "experts." + std::to_string(e) + ".";
      auto read = [&](const moe::Parameter<Real>& p) {
        if (p.name == prefix + "gate_proj.weight") p.value.copy_to(gate_view);
        if (p.name == prefix + "up_proj.weight") p.value.copy_to(up_view);
        if (p.name == prefix + "down_proj.weight") p.value.copy_to(down_view);
      };
      layer.experts().visit_parameters(nullptr, read);
    }
    return {{gate.begin(), gate.end()}, {up.begin(), up.end()}, {down.begin(), down.end()}};
  }

  /// Compares the first and the last row of y with plain loops in double; the text of the first difference,
  /// empty if none.
  std::string check(Layer& layer, const moe::ConstMatrixView<Real>& x, const moe::MatrixView<Real>& y,
                    const moe::RouteTable<Real>& routes,
                    RowFormat format = StorageInfo<Storage>::kRows) const {
    for (const Index t : std::set<Index>{0, x.rows - 1}) {
      RowReference reference(shape_, {x.row(t), x.row(t) + shape_.D}, format,
                             static_cast<double>(std::numeric_limits<Real>::epsilon()) / 2);
      for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
        reference.add(weights(layer, routes.expert[p]), static_cast<double>(routes.weight[p]));
      }
      const std::string difference = reference.difference({y.row(t), y.row(t) + shape_.D});
      if (!difference.empty()) return "row " + std::to_string(t) + ", " + difference;
    }
    return {};
  }

 private:
  Shape shape_;
  std::vector<std::unique_ptr<Layer>> layers_;
};

template <class Storage>
std::shared_ptr<Problem<Storage>> problem(const Shape& shape) {
  using P = Problem<Storage>;
  return Cache::global().get<P>(std::string("weights ") + StorageInfo<Storage>::kName + shape.name,
                                static_cast<std::size_t>(P::bytes(shape) * P::sets(shape)),
                                [&] { return std::make_shared<P>(shape); });
}

/// Batches of T standard normal rows.
template <class Real>
using Batches = std::vector<std::vector<Real>>;

template <class Real>
std::shared_ptr<Batches<Real>> batches(Index count, Index tokens, Index width) {
  const std::string name = "rows " + std::to_string(sizeof(Real)) + " " + std::to_string(count) + " " +
                           std::to_string(tokens) + " " + std::to_string(width);
  return Cache::global().get<Batches<Real>>(
      name, static_cast<std::size_t>(count * tokens * width) * sizeof(Real), [&] {
        std::mt19937_64 random(7);
        std::normal_distribution<float> normal;
        auto all = std::make_shared<Batches<Real>>(static_cast<std::size_t>(count));
        for (auto& batch : *all) {
          batch.resize(static_cast<std::size_t>(tokens * width));
          for (Real& v : batch) v = static_cast<Real>(normal(random));
        }
        return all;
      });
}

/// Batches after which calls repeat: a multiple of the problem's layers, and so many that with one token a
/// call enough different experts are asked for.
template <class Storage>
Index rotation(const Problem<Storage>& p, Index tokens) {
  const Index least = tokens <= 8 ? 48 : tokens <= 64 ? 8 : 2;
  return moe::round_up(least, static_cast<Index>(p.size()));
}

/// True the first time a benchmark of this name asks: results are verified once.
inline bool to_verify(const std::string& name) {
  static std::set<std::string> verified;
  return verified.insert(name).second;
}

}  // namespace bench
