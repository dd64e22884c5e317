// A router of your own. This one asks every expert by itself: expert e has a direction w[e], and a token x
// goes to all experts with <x, w[e]> > 0, weighted by tanh(<x, w[e]>). A token may so get any number of
// experts, or none. What the layer asks of a router is moe::Router (inference) and moe::TrainableRouter:
// moe/router/concept.hpp.
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <utility>

#include "moe/moe.hpp"

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Row = Eigen::RowVectorXd;

struct TanhRouter {
  using Real = double;
  struct Tape {};          // what backward needs beside the input and the table: nothing
  using Gradients = Rows;  // of the parameters

  TanhRouter(Index experts, Index width) : direction(Rows::Zero(experts, width)) {}

  // The facts a layer asks for. Here a token's route depends on that token alone.
  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::row_independent; }
  Index experts() const noexcept { return direction.rows(); }
  Index width() const noexcept { return direction.cols(); }

  // Tokens in order, and of each token its pairs (expert, weight).
  void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, moe::Arena&, auto&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (!in.takes_part(t)) continue;  // padding
      for (Index e = 0; e < experts(); ++e) {
        const double logit = row(in, t).dot(direction.row(e));
        if (logit > 0) table.push(t, static_cast<moe::ExpertId>(e), std::tanh(logit));
      }
    }
  }

  // A pair's weight w = tanh(<x, d>): with tanh' = 1 - w^2, dx += dlogit * d and dd += dlogit * x.
  void backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table, const Tape&,
                const moe::RouteGradients<Real>& out, Gradients* gradients, moe::Arena&, auto&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        const Index e = table.expert[p];
        const double dlogit = out.dweight[p] * (1 - table.weight[p] * table.weight[p]);
        if (out.dx) Eigen::Map<Row>(out.dx.row(t), width()) += dlogit * direction.row(e);
        if (gradients != nullptr) gradients->row(e) += dlogit * row(in, t);
      }
    }
  }

  // For saving, and for optimisers.
  Gradients make_gradients() const { return Rows::Zero(experts(), width()); }
  void visit_parameters(Gradients* gradients, auto& f) {
    f(moe::parameter_of<Real>("gate.weight", direction, gradients));
  }

  Eigen::Map<const Row> row(const moe::RouterInput<Real>& in, Index t) const {
    return {in.x.row(t), width()};
  }

  Rows direction;  // [E, D]
};

int main() {
  constexpr Index kTokens = 20, kWidth = 12, kExperts = 4;
  moe::Glu<moe::Silu, double> bank({.experts = kExperts, .width = kWidth, .hidden = 16});
  bank.initialise(1);
  moe::MoeLayer layer(TanhRouter(kExperts, kWidth), std::move(bank));
  using Layer = decltype(layer);
  auto gradients = layer.make_gradients();
  Rows& direction = layer.router().direction;
  direction.setRandom();

  // Inference, and a loss = sum of c * y.
  const Rows x = Rows::Random(kTokens, kWidth), c = Rows::Random(kTokens, kWidth);
  Rows y(kTokens, kWidth);
  moe::Workspace workspace;
  moe::RouteStats stats;
  const auto loss = [&] {
    moe::LayerOutput<double> out(y, &stats);
    layer.forward(x, out, workspace);
    return y.cwiseProduct(c).sum();
  };
  loss();
  std::printf("experts per token: %.2f, max violation: %.2f\n", stats.experts_per_token(),
              stats.max_violation());

  // Training: dloss/dy is c. Central differences must agree.
  Layer::Tape tape;
  moe::LayerOutput<double> out(y);
  layer.forward_train(x, out, tape, workspace);
  Layer::LayerGradients step(c, {}, gradients);
  layer.backward(tape, step, workspace);
  double worst = 0, largest = 0;
  for (Index e = 0; e < kExperts; ++e) {
    for (Index i = 0; i < kWidth; ++i) {
      constexpr double kStep = 1e-6;
      const double w = direction(e, i), gradient = gradients.router(e, i);
      direction(e, i) = w + kStep;
      const double above = loss();
      direction(e, i) = w - kStep;
      const double below = loss();
      direction(e, i) = w;
      largest = std::fmax(largest, std::fabs(gradient));
      worst = std::fmax(worst, std::fabs((above - below) / (2 * kStep) - gradient));
    }
  }
  std::printf("largest gradient: %.3f, largest difference to central differences: %.1e\n", largest, worst);
  return worst < 1e-7 && largest > 0.01 ? 0 : 1;
}
