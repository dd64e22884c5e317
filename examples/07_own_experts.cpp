// Experts that are your own Eigen code. The library routes, sorts rows by expert, calls you once per expert
// with all its rows, weighs and adds up the results, and brings gradients back; weights stay yours.
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "moe/moe.hpp"

using moe::Index;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using In = moe::ConstMatrixView<float>;
using Out = moe::MatrixView<float>;

namespace {

Eigen::Map<const Rows> map(In v) {
  return {v.data, v.rows, v.cols};
}
Eigen::Map<Rows> map(Out v) {
  return {v.data, v.rows, v.cols};
}

/// Your feed-forward network: z = relu(x up^T) down^T.
struct Ffn {
  Rows up, down;    // [F, D], [D, F]
  Rows dup, ddown;  // gradients

  Rows forward(const Rows& x) const { return (x * up.transpose()).cwiseMax(0) * down.transpose(); }
  Rows backward(const Rows& x, const Rows& dz) {
    const Rows h = (x * up.transpose()).cwiseMax(0);
    const Rows dpre = (dz * down).cwiseProduct(h.cwiseSign());
    ddown += dz.transpose() * h;
    dup += dpre.transpose() * x;
    return dpre * up;
  }
  void step(float rate) {
    up -= rate * dup;
    down -= rate * ddown;
    dup.setZero();
    ddown.setZero();
  }
};

}  // namespace

int main() {
  constexpr Index kTokens = 200, kWidth = 32, kHidden = 48, kExperts = 8;
  const auto router = [] {
    auto r = moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2});
    r.scorer().initialise(1);
    return r;
  };
  // The library's own experts, for their weights and to compare with.
  moe::Mlp<moe::Relu> bank({.experts = kExperts, .width = kWidth, .hidden = kHidden});
  bank.initialise(2);
  std::vector<Ffn> ffn;
  for (Index e = 0; e < kExperts; ++e) {
    ffn.push_back({Rows(kHidden, kWidth), Rows(kWidth, kHidden), Rows::Zero(kHidden, kWidth),
                   Rows::Zero(kWidth, kHidden)});
  }
  int copied = 0;
  bank.visit_parameters(nullptr, [&](const moe::Parameter<float>& p) {
    for (std::size_t e = 0; e < ffn.size(); ++e) {
      const std::string name = "experts." + std::to_string(e) + ".";
      if (p.name == name + "fc1.weight") p.value.copy_to(ffn[e].up), ++copied;
      if (p.name == name + "fc2.weight") p.value.copy_to(ffn[e].down), ++copied;
    }
  });

  auto experts = moe::function_experts<float>(
      {.experts = kExperts, .width = kWidth}, [&](Index e, In x, Out z) { map(z) = ffn[e].forward(map(x)); },
      [&](Index e, In x, In /*z*/, In dz, Out dx) { map(dx) = ffn[e].backward(map(x), map(dz)); });
  moe::MoeLayer layer(router(), std::move(experts));
  using Layer = decltype(layer);

  const Rows x = Rows::Random(kTokens, kWidth), target = x.cwiseAbs();
  Rows y(kTokens, kWidth), theirs(kTokens, kWidth);
  moe::RouteStats stats;
  moe::LayerOutput<float> out(y, &stats), out_theirs(theirs);
  moe::Workspace workspace;
  moe::PoolExecutor threads(2);
  layer.forward(x, out, workspace, threads);
  moe::MoeLayer(router(), std::move(bank)).forward(x, out_theirs, workspace, threads);
  const float off = (y - theirs).cwiseAbs().maxCoeff();

  Layer::Tape tape;
  auto gradients = layer.make_gradients();  // the router's; the experts keep their own
  moe::Sgd<float> optimiser;
  const float before = (y - target).squaredNorm();
  for (int i = 0; i < 200; ++i) {
    layer.forward_train(x, out, tape, workspace, threads);
    const Rows dy = (y - target) / kTokens;
    Layer::LayerGradients back(dy, {}, gradients);
    layer.backward(tape, back, workspace, threads);
    optimiser.step(moe::TrainedLayer(layer, gradients), 0.5, threads);
    for (Ffn& f : ffn) f.step(0.5f);
  }
  const float after = (y - target).squaredNorm();
  std::printf(
      "%d matrices copied, off by %.1e from the library's experts; loss %.0f -> %.0f, busiest expert "
      "%.0f%% above the mean\n",
      copied, static_cast<double>(off), static_cast<double>(before), static_cast<double>(after),
      100 * stats.max_violation());
  // Sums of 48 products of numbers below 1, in another order.
  return copied == 2 * kExperts && off < 1e-5f && after < before / 2 ? 0 : 1;
}
