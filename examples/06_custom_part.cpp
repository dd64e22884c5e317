// Parts of one's own in a router: a scorer, a weighting with a parameter, and a loss, each a few dozen lines,
// forward and backward together; trained with the rest of the layer. docs/add_a_part.md explains them.
#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "moe/catalogue.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// logit_e = -|x - c_e|^2 / D, c_e the prototype of expert e. Parameter "prototype.weight" [N, D].
class PrototypeScorer {
 public:
  using Real = float;
  static constexpr const char* kName = "prototype";
  struct Options {
    Index width = 0;    // D
    Index outputs = 0;  // N
  };
  struct Tape {};
  struct Gradients {
    moe::Buffer<float> prototype;  // [N, D]
  };

  explicit PrototypeScorer(Options options)
      : options_(options), prototype_(options.outputs * options.width) {}

  Index width() const { return options_.width; }
  Index outputs() const { return options_.outputs; }
  void initialise(std::uint64_t seed) {
    const moe::KeyedRandom draw(seed, 0, moe::DrawStream::initialise);
    for (Index i = 0; i < prototype_.size(); ++i) {
      prototype_[i] = static_cast<float>(draw.normal(static_cast<std::uint64_t>(i), 0));
    }
  }

  void measure(moe::Arena&, Index, Index) const {}  // takes no scratch memory
  void measure_backward(moe::Arena&, Index, Index) const {}

  template <moe::Executor X>
  void logits(const moe::RouterInput<float>& in, const moe::Logits<float>& out, Tape*, moe::Arena&,
              X& executor) const {
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      for (Index e = 0; e < outputs(); ++e) {
        float squares = 0;
        for (Index j = 0; j < width(); ++j) squares += square(in.x(t, j) - c(e)[j]);
        out.value(t, e) = -squares / static_cast<float>(width());
      }
    });
  }

  /// d logit_e / d x = -2 (x - c_e) / D, and the opposite for c_e. Rows ascend: sums have one order (contract
  /// C3).
  template <moe::Executor X>
  void backward(const moe::RouterInput<float>& in, const Tape&, const moe::Logits<float>& dlogits,
                const moe::MatrixView<float>& dx, Gradients* gradients, moe::Arena&, X&) const {
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    for (Index a = 0; a < count; ++a) {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      for (Index e = 0; e < outputs(); ++e) {
        const float factor = 2 * dlogits.value(t, e) / static_cast<float>(width());
        for (Index j = 0; j < width(); ++j) {
          const float d = factor * (in.x(t, j) - c(e)[j]);
          if (dx) dx(t, j) -= d;
          if (gradients != nullptr) gradients->prototype[e * width() + j] += d;
        }
      }
    }
  }

  Gradients make_gradients() const { return {moe::Buffer<float>(prototype_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    f(moe::Parameter<float>{"prototype.weight", view(prototype_),
                            gradients == nullptr ? moe::ParameterView<float>{} : view(gradients->prototype)});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    moe::visit_buffer(f, "prototype.weight", prototype_, gradients, &Gradients::prototype);
  }

 private:
  static float square(float v) { return v * v; }
  const float* c(Index e) const { return prototype_.data() + e * width(); }
  moe::ParameterView<float> view(moe::Buffer<float>& of) const {
    return {of.data(), outputs(), width(), 1, width(), 1};
  }

  Options options_;
  moe::Buffer<float> prototype_;  // [N, D]
};

/// weight_i = gain_e * score_e of the chosen expert e. Parameter "gain" [N, 1], 1 at first.
class GainWeighting {
 public:
  using Real = float;
  static constexpr const char* kName = "gain";
  struct Gradients {
    moe::Buffer<float> gain;  // [N]
  };

  explicit GainWeighting(Index outputs) { gain_.assign(outputs, 1); }
  void check(Index outputs) const { moe::require_extent("gains", "entries", outputs, gain_.size()); }

  void forward(const moe::RowContext<float>& row, const moe::Chosen& chosen, float* weight,
               bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = gain_[chosen.id[i]] * row.score[chosen.id[i]];
      keep[i] = true;
    }
  }
  void backward(const moe::RowContext<float>&, const moe::Chosen& chosen, const float* dweight,
                float* dscore) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) dscore[chosen.id[i]] += dweight[i] * gain_[chosen.id[i]];
  }
  /// The same for the parameter; called row by row, in ascending order.
  void add_gradients(const moe::RowContext<float>& row, const moe::Chosen& chosen, const float* dweight,
                     const moe::WeightScratch<float>&, Gradients& gradients) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      gradients.gain[chosen.id[i]] += dweight[i] * row.score[chosen.id[i]];
    }
  }

  Gradients make_gradients() const { return {moe::Buffer<float>(gain_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    f(moe::Parameter<float>{"gain",
                            {gain_.data(), gain_.size(), 1},
                            gradients == nullptr
                                ? moe::ParameterView<float>{}
                                : moe::ParameterView<float>{gradients->gain.data(), gain_.size(), 1}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    moe::visit_buffer(f, "gain", gain_, gradients, &Gradients::gain);
  }

 private:
  moe::Buffer<float> gain_;  // [N]
};

/// c * mean over tokens of sum_e p_e log p_e: the negative entropy of the probabilities, small when they are
/// undecided.
class ConfidenceLoss {
 public:
  static constexpr const char* kName = "confidence";
  explicit ConfidenceLoss(double coefficient) : coefficient_(coefficient) {}
  double coefficient() const { return coefficient_; }

  template <class Real>
  double forward(const moe::BalanceInput<Real>& in, moe::Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
        const auto p = static_cast<double>(in.probability(t, e));
        if (p > 0) sum += p * std::log(p);
      }
    }
    return in.active_count == 0 ? 0.0 : coefficient_ * sum / static_cast<double>(in.active_count);
  }
  template <class Real>
  void backward(const moe::BalanceInput<Real>& in, double scale, const moe::BalanceGradients<Real>& out,
                moe::Arena&) const {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) {
        const auto p = static_cast<double>(in.probability(t, e));
        const double factor = scale * coefficient_ / static_cast<double>(in.active_count);
        if (p > 0) out.dprobability(t, e) += static_cast<Real>(factor * (1 + std::log(p)));
      }
    }
  }

 private:
  double coefficient_;
};

constexpr Index kWidth = 16, kExperts = 6;

/// A router of these parts and two of the library's.
using Router = moe::TokenChoice<PrototypeScorer, moe::Softmax, moe::TopKSelection, GainWeighting,
                                moe::Balancing<ConfidenceLoss>>;

}  // namespace

int main() {
  PrototypeScorer scorer({.width = kWidth, .outputs = kExperts});
  scorer.initialise(1);
  moe::Glu<moe::Silu> experts({.experts = kExperts, .width = kWidth, .hidden = 32});
  experts.initialise(2);
  moe::MoeLayer layer(Router(std::move(scorer), moe::Softmax{}, moe::TopKSelection(2),
                             GainWeighting(kExperts), moe::Balancing<ConfidenceLoss>(ConfidenceLoss(0.01))),
                      std::move(experts));

  const Rows x = Rows::Random(256, kWidth), target = x.cwiseAbs() - 0.3f * x.rowwise().reverse();
  Rows y(256, kWidth), dy(256, kWidth);
  moe::LayerOutput<float> out(y);
  moe::Workspace workspace;
  decltype(layer)::Tape tape;
  auto gradients = layer.make_gradients();
  moe::Sgd<float> optimiser;
  float first = 0, last = 0;
  for (int step = 0; step < 300; ++step) {
    layer.forward_train(x, out, tape, workspace);
    dy = (y - target) / 64;
    decltype(layer)::LayerGradients back(dy, {}, gradients);
    layer.backward(tape, back, workspace);
    optimiser.step(moe::TrainedLayer(layer, gradients), 1);
    last = (y - target).squaredNorm();
    if (step == 0) first = last;
  }
  layer.visit_parameters([](const moe::Parameter<float>& p) {
    if (p.value.cols == 1) {
      std::printf("%s:", p.name);
      for (Index e = 0; e < p.value.rows; ++e) std::printf(" %.2f", static_cast<double>(p.value(e, 0)));
      std::printf("\n");
    }
  });
  for (const auto& loss : out.losses) std::printf("%s loss %.4f\n", loss.name, loss.value);
  std::printf("squared error %.0f -> %.0f\n", static_cast<double>(first), static_cast<double>(last));
  return last < first / 3 ? 0 : 1;
}
