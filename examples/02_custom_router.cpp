// A router of your own. This one asks every expert by itself: expert e has a direction w[e], and a token x
// goes to all experts with <x, w[e]> > 0, weighted by tanh(<x, w[e]>). A token may so get any number of
// experts, or none. What the layer asks of a router is moe::Router (inference) and moe::TrainableRouter:
// moe/router/concept.hpp.
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <utility>

#include "moe/moe.hpp"

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class TanhRouter {
 public:
  using Real = double;
  struct Tape {};     // what backward needs beside the input and the table: nothing
  struct Gradients {  // mirrors the parameters
    moe::Buffer<double> direction;
  };

  TanhRouter(Index experts, Index width) : experts_(experts), width_(width), direction_(experts * width) {}

  // The facts a layer asks for. Here a token's route depends on that token alone.
  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::row_independent; }
  Index experts() const noexcept { return experts_; }
  Index width() const noexcept { return width_; }
  Index max_pairs(const moe::CallShape& shape) const {
    return moe::checked_product("pairs", shape.tokens, experts_);
  }
  void measure(moe::Arena&, const moe::CallShape&, Index) const {}  // route takes nothing from its arena
  void measure_backward(moe::Arena&, const moe::CallShape&, Index) const {}

  // Tokens in order, and of each token its pairs (expert, weight).
  template <moe::Executor X>
  void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, moe::Arena&, X&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (!in.takes_part(t)) continue;  // padding
      for (Index e = 0; e < experts_; ++e) {
        const double logit = row(in, t).dot(direction(e));
        if (logit > 0) table.push(t, static_cast<moe::ExpertId>(e), std::tanh(logit));
      }
    }
  }
  template <moe::Executor X>
  void route_train(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, Tape&, moe::Arena& arena,
                   X& executor) const {
    route(in, table, arena, executor);
  }

  // A pair's weight w = tanh(<x, d>): with tanh' = 1 - w^2, dx += dlogit * d and dd += dlogit * x.
  template <moe::Executor X>
  void backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table, const Tape&,
                const moe::RouteGradients<Real>& out, Gradients* gradients, moe::Arena&, X&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        const Index e = table.expert[p];
        const double dlogit = out.dweight[p] * (1 - table.weight[p] * table.weight[p]);
        if (out.dx) Eigen::Map<Eigen::RowVectorXd>(out.dx.row(t), width_) += dlogit * direction(e);
        if (gradients != nullptr) {
          Eigen::Map<Eigen::RowVectorXd>(gradients->direction.data() + e * width_, width_) +=
              dlogit * row(in, t);
        }
      }
    }
  }

  void on_step_end(const moe::RouteStats&) {}  // no state beside the parameters
  Gradients make_gradients() const { return {moe::Buffer<double>(experts_ * width_)}; }

  // For saving, and for optimisers that want flat ranges.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const auto view = [&](double* data) {
      return moe::ParameterView<double>{data, experts_, width_, 1, width_, 1};
    };
    f(moe::Parameter<double>{"gate.weight", view(direction_.data()),
                             view(gradients == nullptr ? nullptr : gradients->direction.data())});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    moe::visit_buffer(f, "gate.weight", direction_, gradients, &Gradients::direction);
  }
  template <class Visitor>
  void visit_state(Visitor&) {}

 private:
  using Row = Eigen::Map<const Eigen::RowVectorXd>;
  Row row(const moe::RouterInput<Real>& in, Index t) const { return {in.x.row(t), width_}; }
  Row direction(Index e) const { return {direction_.data() + e * width_, width_}; }

  Index experts_;
  Index width_;
  moe::Buffer<double> direction_;  // [E, D]
};

int main() {
  constexpr Index kTokens = 20, kWidth = 12, kExperts = 4;
  moe::Glu<moe::Silu, double> bank({.experts = kExperts, .width = kWidth, .hidden = 16});
  bank.initialise(1);
  moe::MoeLayer layer(TanhRouter(kExperts, kWidth), std::move(bank));
  using Layer = decltype(layer);
  auto gradients = layer.make_gradients();
  moe::Parameter<double> gate;
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    if (std::string_view(p.name) == "gate.weight") gate = p;
  });
  const Rows directions = Rows::Random(kExperts, kWidth);
  gate.value.assign(directions);

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
      const double w = gate.value(e, i);
      gate.value(e, i) = w + kStep;
      const double above = loss();
      gate.value(e, i) = w - kStep;
      const double below = loss();
      gate.value(e, i) = w;
      largest = std::fmax(largest, std::fabs(gate.gradient(e, i)));
      worst = std::fmax(worst, std::fabs((above - below) / (2 * kStep) - gate.gradient(e, i)));
    }
  }
  std::printf("largest gradient: %.3f, largest difference to central differences: %.1e\n", largest, worst);
  return worst < 1e-7 && largest > 0.01 ? 0 : 1;
}
