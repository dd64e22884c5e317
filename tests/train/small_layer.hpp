// A layer in double with matrices and vectors, for tests of training.
#pragma once

#include <Eigen/Core>
#include <utility>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/top_k.hpp"

namespace test {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using SmallLayer = moe::MoeLayer<moe::SoftmaxTopK<double>, moe::Glu<moe::Silu, double>, moe::Dropless,
                                 moe::NoShared, moe::OutputBias<double>>;

/// Widths that leave padding in the panels.
inline SmallLayer small_layer(std::uint64_t seed = 1) {
  auto router = moe::softmax_top_k<double>({.width = 10, .experts = 5, .k = 2, .load_balance = 0});
  router.scorer().initialise(seed);
  moe::Glu<moe::Silu, double> bank({.experts = 5, .width = 10, .hidden = 7, .bias = true});
  bank.initialise(seed + 1);
  return {std::move(router), std::move(bank), {}, {}, moe::OutputBias<double>(10)};
}

/// Adds those of <dy, y>; returns y.
template <class Gradients>
Rows add_gradients(const SmallLayer& layer, const Rows& x, const Rows& dy, Gradients& gradients) {
  Rows y(x.rows(), x.cols());
  moe::LayerOutput<double> out(y);
  moe::Workspace workspace;
  SmallLayer::Tape tape;
  layer.forward_train(x, out, tape, workspace);
  SmallLayer::LayerGradients back(dy, {}, gradients);
  layer.backward(tape, back, workspace);
  return y;
}

template <class Model>
std::vector<double> flat_gradients(const Model& model) {
  std::vector<double> all;
  model.visit_storage([&](const char*, double*, double* g, Index n) { all.insert(all.end(), g, g + n); });
  return all;
}
template <class Model>
std::vector<double> flat_values(const Model& model) {
  std::vector<double> all;
  model.visit_storage([&](const char*, double* w, double*, Index n) { all.insert(all.end(), w, w + n); });
  return all;
}

}  // namespace test
