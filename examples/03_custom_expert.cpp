// Experts of your own, all of them in one bank. Here expert e only scales and shifts: z = a[e] * x + b[e],
// element by element. What the layer asks of a bank is moe::ExpertBank (inference) and
// moe::TrainableExpertBank: moe/expert/concept.hpp.
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <utility>

#include "moe/moe.hpp"

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Numbers = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Row = Eigen::Array<double, 1, Eigen::Dynamic>;

struct ScaleAndShift {
  using Real = double;
  struct Tape {};  // what backward needs beside the rows: nothing
  struct Gradients {
    Numbers scale, shift;  // [E, D]
  };
  static constexpr auto coupling = moe::Coupling::row_independent;  // a row's result needs no other row

  ScaleAndShift(Index experts, Index width) : scale(Numbers::Ones(experts, width)), shift(0 * scale) {}

  Index experts() const noexcept { return scale.rows(); }
  Index width() const noexcept { return scale.cols(); }

  // The rows come sorted: expert e has rows offsets[e] .. offsets[e + 1]. Results go to the sink, unweighted.
  void forward(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, moe::Arena&,
               auto& executor) const {
    moe::for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      out(sink.row(s)) = in(batch.row[s]) * scale.row(e) + shift.row(e);
    });
  }

  // dy is the gradient of the token's output y = ... + weight * z. So dz = weight * dy and dweight = <dy, z>;
  // parameter gradients are added to, each by one worker, in the order of the rows.
  void backward(const moe::RowBatch<Real>& batch, const Tape&, const moe::RowGradients<Real>& rows,
                Gradients* gradients, moe::Arena&, auto& executor) const {
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        const auto x = in(batch.row[s]), dy = in(rows.dy[s]);
        rows.dweight[s] = (dy * (x * scale.row(e) + shift.row(e))).sum();
        if (rows.dx.data != nullptr) out(rows.dx.row(s)) = rows.weight[s] * dy * scale.row(e);
        if (gradients == nullptr) continue;  // frozen
        gradients->scale.row(e) += rows.weight[s] * dy * x;
        gradients->shift.row(e) += rows.weight[s] * dy;
      }
    });
  }

  // For saving, and for optimisers.
  Numbers zeros() const { return Numbers::Zero(experts(), width()); }
  Gradients make_gradients() const { return {zeros(), zeros()}; }
  void visit_parameters(Gradients* g, auto& f) {
    f(moe::parameter_of<Real>("experts.scale", scale, g == nullptr ? nullptr : &g->scale));
    f(moe::parameter_of<Real>("experts.shift", shift, g == nullptr ? nullptr : &g->shift));
  }

  Eigen::Map<const Row> in(const double* row) const { return {row, width()}; }
  Eigen::Map<Row> out(double* row) const { return {row, width()}; }

  Numbers scale, shift;  // [E, D]
};

int main() {
  constexpr Index kTokens = 40, kWidth = 10, kExperts = 4;
  auto router = moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2});
  router.scorer().initialise(1);
  moe::MoeLayer layer(std::move(router), ScaleAndShift(kExperts, kWidth));
  using Layer = decltype(layer);

  // Before training a = 1 and b = 0: every expert returns its input, and a token's weights times that is y.
  const Rows x = Rows::Random(kTokens, kWidth), target = x.cwiseAbs();
  Rows y(kTokens, kWidth), dx(kTokens, kWidth);
  moe::Workspace workspace;
  Layer::Tape tape;
  moe::LayerOutput<double> out(y);
  layer.forward_train(x, out, tape, workspace);
  double wrong = 0;
  for (Index t = 0; t < kTokens; ++t) {
    const Index first = tape.routes().offsets[t];
    const double weights = tape.routes().weight[first] + tape.routes().weight[first + 1];
    wrong = std::fmax(wrong, (y.row(t) - weights * x.row(t)).cwiseAbs().maxCoeff());
  }

  // Training: half the squared distance to |x|, by plain gradient descent.
  auto gradients = layer.make_gradients();
  moe::Sgd<double> optimiser;
  const double before = (y - target).squaredNorm() / kTokens;
  for (int step = 0; step < 300; ++step) {
    layer.forward_train(x, out, tape, workspace);
    const Rows dy = (y - target) / kTokens;
    Layer::LayerGradients back(dy, dx, gradients);
    layer.backward(tape, back, workspace);
    optimiser.step(moe::TrainedLayer(layer, gradients), 1);
  }
  layer.forward(x, out, workspace);
  const double after = (y - target).squaredNorm() / kTokens;
  std::printf("identity experts: off by %.1e; squared error per token: %.3f, after training %.3f\n", wrong,
              before, after);
  return wrong < 1e-14 && after < 0.5 * before ? 0 : 1;
}
