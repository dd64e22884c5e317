// Parts with parameters of their own in every position of a token-choice router, and losses that read its
// scorer: archetypes that need all of what they are given.
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/runtime/any_balancing.hpp"
#include "moe/router/runtime/any_parts.hpp"
#include "moe/router/score/elementwise.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/expert_scale.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/storage/parameter.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using test::Matrix;
using test::Vector;
constexpr Index kWidth = 4, kOutputs = 6;

/// One trained vector [N, 1], shown as parts show it.
class TrainedVector {
 public:
  struct Gradients {
    moe::Buffer<double> value;
  };
  TrainedVector(const char* name, Index size) : name_(name) { value_.assign(size, 1); }
  double operator[](Index i) const noexcept { return value_[i]; }
  Gradients make_gradients() const { return {moe::Buffer<double>(value_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const auto view = [n = value_.size()](double* data) {
      return data == nullptr ? moe::ParameterView<double>{} : moe::ParameterView<double>{data, n, 1};
    };
    f(moe::Parameter<double>{name_, view(value_.data()),
                             view(gradients == nullptr ? nullptr : gradients->value.data())});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    f(name_, value_.data(), gradients == nullptr ? nullptr : gradients->value.data(), value_.size());
  }

 private:
  const char* name_;
  moe::Buffer<double> value_;
};

/// score_e = sigmoid(slope_e * logit_e), 0 where masked.
class SlopedScore : public moe::impl::ShareOfSum, public TrainedVector {
 public:
  using Real = double;
  using Row = moe::RowContext<double>;
  SlopedScore() : TrainedVector("slope", kOutputs) {}

  void forward(const Row& row, double* score) const noexcept {
    for (Index e = 0; e < row.n; ++e) {
      score[e] = moe::is_neg_inf(row.logit[e]) ? 0 : 1 / (1 + std::exp(-(*this)[e] * row.logit[e]));
    }
  }
  void backward(const Row& row, const double* dscore, double* dlogit) const noexcept {
    for (Index e = 0; e < row.n; ++e) dlogit[e] += (*this)[e] * darg(row, dscore, e);
  }
  void add_gradients(const Row& row, const double* dscore, Gradients& gradients) const noexcept {
    for (Index e = 0; e < row.n; ++e) {
      if (!moe::is_neg_inf(row.logit[e])) gradients.value[e] += row.logit[e] * darg(row, dscore, e);
    }
  }

 private:
  static double darg(const Row& row, const double* dscore, Index e) noexcept {
    return dscore[e] * row.score[e] * (1 - row.score[e]);
  }
};

/// weight_i = v_i / (sum of v), v_i = exp(gain of its expert) * score: every gradient needs all weights of
/// the row.
class GainedShares : public TrainedVector {
 public:
  using Real = double;
  using Row = moe::RowContext<double>;
  GainedShares() : TrainedVector("gain", kOutputs) {}

  void forward(const Row& row, const moe::Chosen& chosen, double* weight, bool* keep) const noexcept {
    const double sum = sum_of(row, chosen);
    for (Index i = 0; i < chosen.count; ++i) weight[i] = v(row, chosen.id[i]) / sum, keep[i] = true;
  }
  void backward(const Row& row, const moe::Chosen& chosen, double* dweight, double* dscore) const noexcept {
    const double sum = sum_of(row, chosen), mean = mean_of(row, chosen, dweight, sum);
    for (Index i = 0; i < chosen.count; ++i) {
      dscore[chosen.id[i]] += std::exp((*this)[chosen.id[i]]) * (dweight[i] - mean) / sum;
      dweight[i] = std::nan("");  // it may be overwritten
    }
  }
  void add_gradients(const Row& row, const moe::Chosen& chosen, const double* dweight,
                     const moe::WeightScratch<double>& scratch, Gradients& gradients) const noexcept {
    forward(row, chosen, scratch.weight, scratch.keep);
    double mean = 0;
    for (Index i = 0; i < chosen.count; ++i) mean += scratch.weight[i] * dweight[i];
    for (Index i = 0; i < chosen.count; ++i) {
      gradients.value[chosen.id[i]] += scratch.weight[i] * (dweight[i] - mean);
    }
  }

 private:
  double v(const Row& row, Index e) const noexcept { return std::exp((*this)[e]) * row.score[e]; }
  double sum_of(const Row& row, const moe::Chosen& chosen) const noexcept {
    double sum = 0;
    for (Index i = 0; i < chosen.count; ++i) sum += v(row, chosen.id[i]);
    return sum;
  }
  double mean_of(const Row& row, const moe::Chosen& chosen, const double* dweight,
                 double sum) const noexcept {
    double mean = 0;
    for (Index i = 0; i < chosen.count; ++i) mean += v(row, chosen.id[i]) / sum * dweight[i];
    return mean;
  }
};

/// c * mean over tokens of |p - q|^2, q trained.
class PriorLoss : public TrainedVector {
 public:
  static constexpr const char* kName = "prior";
  explicit PriorLoss(double coefficient, const char* parameter = "prior")
      : TrainedVector(parameter, kOutputs), coefficient_(coefficient) {}
  double coefficient() const noexcept { return coefficient_; }

  double forward(const moe::BalanceInput<double>& in, moe::Arena&) const {
    double sum = 0;
    each(in, [&](Index t, Index e) { sum += std::pow(in.probability(t, e) - (*this)[e], 2); });
    return in.active_count == 0 ? 0 : coefficient_ * sum / static_cast<double>(in.active_count);
  }
  void backward(const moe::BalanceInput<double>& in, double scale, const moe::BalanceGradients<double>& out,
                Gradients* gradients, moe::Arena&) const {
    const double factor = 2 * scale * coefficient_ / static_cast<double>(in.active_count);
    each(in, [&](Index t, Index e) {
      const double d = factor * (in.probability(t, e) - (*this)[e]);
      out.dprobability(t, e) += d;
      if (gradients != nullptr) gradients->value[e] -= d;
    });
  }

 private:
  template <class F>
  static void each(const moe::BalanceInput<double>& in, const F& f) {
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e) f(t, e);
    }
  }
  double coefficient_;
};

/// c * sum over pairs of experts of <w_a, w_b>^2 of the scorer's rows.
class Orthogonality {
 public:
  static constexpr const char* kName = "orthogonality";
  using Scorer = moe::LinearScorer<double>;
  explicit Orthogonality(double coefficient) : coefficient_(coefficient) {}
  double coefficient() const noexcept { return coefficient_; }
  void measure(moe::Arena& arena, Index, Index outputs) const { arena.take<double>(outputs * outputs); }

  double forward(const moe::BalanceInput<double>& in, const Scorer& scorer, moe::Arena& arena) const {
    const double* const dots = products(in, scorer, arena);
    double sum = 0;
    for (Index i = 0; i < in.outputs() * in.outputs(); ++i) sum += dots[i] * dots[i] / 2;
    return coefficient_ * sum;
  }
  void backward(const moe::BalanceInput<double>& in, const Scorer& scorer, double scale,
                const moe::BalanceGradients<double>&, Scorer::Gradients* gradients, moe::Arena& arena) const {
    if (gradients == nullptr) return;
    const double* const dots = products(in, scorer, arena);
    const auto w = scorer.projection().weight();
    const auto dw = scorer.projection().weight_of(*gradients);
    for (Index a = 0; a < w.rows; ++a) {
      for (Index b = 0; b < w.rows; ++b) {
        for (Index j = 0; j < w.cols; ++j) {
          dw(a, j) += 2 * scale * coefficient_ * dots[a * w.rows + b] * w(b, j);
        }
      }
    }
  }

 private:
  /// [N, N], the diagonal 0.
  static const double* products(const moe::BalanceInput<double>& in, const Scorer& scorer,
                                moe::Arena& arena) {
    const Index n = in.outputs();
    const moe::ParameterView<const double> w = scorer.projection().weight();
    double* const dots = arena.take<double>(n * n);
    for (Index a = 0; a < n; ++a) {
      for (Index b = 0; b < n; ++b) {
        dots[a * n + b] = 0;
        for (Index j = 0; a != b && j < w.cols; ++j) dots[a * n + b] += w(a, j) * w(b, j);
      }
    }
    return dots;
  }
  double coefficient_;
};

/// Both: c * sum_e (|w_e|^2 - target_e)^2 of the clean scorer of a noisy one, the targets trained.
class NormLoss : public TrainedVector {
 public:
  static constexpr const char* kName = "norm";
  using Scorer = moe::NoisyScorer<double>;
  explicit NormLoss(double coefficient) : TrainedVector("norm", kOutputs), coefficient_(coefficient) {}
  double coefficient() const noexcept { return coefficient_; }

  double forward(const moe::BalanceInput<double>&, const Scorer& scorer, moe::Arena&) const {
    double sum = 0;
    for (Index e = 0; e < kOutputs; ++e) sum += std::pow(excess(scorer, e), 2);
    return coefficient_ * sum;
  }
  void backward(const moe::BalanceInput<double>&, const Scorer& scorer, double scale,
                const moe::BalanceGradients<double>&, Scorer::Gradients* of_scorer, Gradients* own,
                moe::Arena&) const {
    const auto w = scorer.gate().weight();
    for (Index e = 0; e < kOutputs; ++e) {
      const double d = 2 * scale * coefficient_ * excess(scorer, e);
      if (own != nullptr) own->value[e] -= d;
      for (Index j = 0; of_scorer != nullptr && j < w.cols; ++j) {
        scorer.gate().weight_of(of_scorer->gate)(e, j) += 2 * d * w(e, j);
      }
    }
  }

 private:
  double excess(const Scorer& scorer, Index e) const {
    const auto w = scorer.gate().weight();
    double squares = 0;
    for (Index j = 0; j < w.cols; ++j) squares += w(e, j) * w(e, j);
    return squares - (*this)[e];
  }
  double coefficient_;
};

/// What scores above a trained threshold; the threshold's estimator takes a choice as a step up of its
/// weight.
class AboveThreshold : public TrainedVector {
 public:
  using Real = double;
  AboveThreshold() : TrainedVector("threshold", 1) {}
  Index most(const moe::CallOptions&, Index n) const noexcept { return n; }
  Index select(const moe::RowContext<double>& row, double* choice, moe::ExpertId* out) const noexcept {
    Index count = 0;
    for (Index e = 0; e < row.n; ++e) {
      if (choice[e] > (*this)[0] / (2 * kOutputs)) out[count++] = static_cast<moe::ExpertId>(e);
    }
    return count;
  }
  void add_gradients(const moe::RowContext<double>&, const moe::Chosen& chosen, const double* dweight,
                     Gradients& gradients) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) gradients.value[0] -= dweight[i];
  }
};

moe::LinearScorer<double> linear() {
  return moe::LinearScorer<double>({.width = kWidth, .outputs = kOutputs});
}

template <class F, class Select, class W, class... Losses>
auto router_of(F score, Select selection, W weighting, Losses... losses) {
  return moe::TokenChoice<moe::LinearScorer<double>, F, Select, W, moe::Balancing<Losses...>>(
      linear(), score, selection, weighting, moe::Balancing<Losses...>(losses...));
}
auto everything_learns() {
  return router_of(SlopedScore(), moe::TopKSelection(3), GainedShares(), PriorLoss(0.3), Orthogonality(0.2));
}
auto two_priors() {
  return router_of(moe::Softmax(), moe::TopKSelection(2), moe::GatherWeighting(), PriorLoss(0.3, "first"),
                   PriorLoss(0.7, "second"));
}
auto noisy_router() {
  return moe::TokenChoice<moe::NoisyScorer<double>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting,
                          moe::Balancing<NormLoss>>(
      moe::NoisyScorer<double>({.width = kWidth, .outputs = kOutputs}), moe::Softmax(), moe::TopKSelection(2),
      moe::GatherWeighting(), moe::Balancing<NormLoss>(NormLoss(0.3)));
}

// Trained slopes choose among rows of zeros only where scores tie; they do, at 1/2.
/// Parameters that are not the scorer's spoil no logits.
constexpr test::RouterLaws kLaws{.parameters = false};
const test::RouterCases kCases{
    {"a score with parameters",
     [] { return router_of(SlopedScore(), moe::TopKSelection(2), moe::GatherWeighting(), PriorLoss(0.3)); },
     {.laws = kLaws}},
    {"a weighting with parameters",
     [] { return router_of(moe::Softmax(), moe::TopKSelection(3), GainedShares(), PriorLoss(0.3)); },
     {.laws = kLaws}},
    {"every part with parameters, a loss that reads the scorer",
     everything_learns,
     {.laws = kLaws, .smoke = true}},
    {"two losses of one type with parameters", two_priors, {.laws = kLaws}},
    {"a per-expert scale around a weighting with parameters",
     [] {
       return router_of(moe::Softmax(), moe::TopKSelection(3),
                        moe::ExpertScale<double, GainedShares>(GainedShares(), kOutputs), PriorLoss(0.3));
     },
     {.laws = kLaws}},
    {"parts with parameters chosen at run time",
     [] {
       using Score = moe::OneScore<moe::Softmax, SlopedScore>;
       using Weighting = moe::OneWeighting<moe::GatherWeighting, GainedShares>;
       using Maybe = moe::MaybePart<PriorLoss>;
       return router_of(Score(SlopedScore()), moe::TopKSelection(3), Weighting(GainedShares()),
                        Maybe(PriorLoss(0.3)), moe::MaybePart<Orthogonality>(Orthogonality(0.2)),
                        moe::MaybePart<moe::ZLoss>());
     },
     {.laws = kLaws}},
    {"a loss with parameters that reads the scorer", noisy_router, {.laws = kLaws, .ties = false}},
    {"a set selection among parts with parameters",
     [] {
       return router_of(SlopedScore(), moe::ColumnTopK({.capacity_factor = 2}), GainedShares(),
                        PriorLoss(0.3));
     },
     {.laws = kLaws, .ties = false, .segments = true}}};

/// Names with their shapes, in order.
template <class R>
std::vector<std::tuple<std::string, Index, Index>> parameters(R& router) {
  std::vector<std::tuple<std::string, Index, Index>> all;
  auto list = [&](const moe::Parameter<double>& p) {
    CHECK(!p.gradient);
    all.emplace_back(p.name, p.value.rows, p.value.cols);
  };
  router.visit_parameters(nullptr, list);
  return all;
}

}  // namespace

TEST_CASE("parameters of all parts are the router's: scorer, score, weighting, losses", "[router][smoke]") {
  STATIC_REQUIRE(moe::LearningScore<SlopedScore, double>);
  STATIC_REQUIRE(moe::LearningWeighting<GainedShares, double>);
  STATIC_REQUIRE(moe::Loss<Orthogonality, double, moe::LinearScorer<double>>);
  STATIC_REQUIRE(!moe::Loss<Orthogonality, double>);
  STATIC_REQUIRE(!moe::Loss<Orthogonality, double, moe::NoisyScorer<double>>);
  auto router = everything_learns();
  using Shapes = std::vector<std::tuple<std::string, Index, Index>>;
  CHECK(parameters(router) == Shapes{{"gate.weight", kOutputs, kWidth},
                                     {"slope", kOutputs, 1},
                                     {"gain", kOutputs, 1},
                                     {"prior", kOutputs, 1}});
  std::vector<std::string> stored;
  auto list = [&](const char* name, double*, double* gradient, Index) {
    stored.emplace_back(name);
    CHECK(gradient != nullptr);
  };
  auto gradients = router.make_gradients();
  router.visit_storage(&gradients, list);
  CHECK(stored == std::vector<std::string>{"gate.weight", "slope", "gain", "prior"});
  auto two = two_priors();
  CHECK(parameters(two) ==
        Shapes{{"gate.weight", kOutputs, kWidth}, {"first", kOutputs, 1}, {"second", kOutputs, 1}});
}

TEST_CASE("what parts learn shows in routes and losses as plain loops say", "[router]") {
  auto router = everything_learns();
  test::randomise(router, 8);
  auto call = test::random_call<double>(9, kWidth, 2);
  call.training = true;
  const auto routed = test::route(router, call);
  const Matrix w = test::parameter(router, "gate.weight"), slope = test::parameter(router, "slope"),
               gain = test::parameter(router, "gain"), prior = test::parameter(router, "prior");
  double prior_loss = 0, orthogonality = 0;
  const Matrix logits = test::linear(w, call);
  for (std::size_t t = 0; t < logits.size(); ++t) {
    Vector score, v;
    for (std::size_t e = 0; e < logits[t].size(); ++e) {
      score.push_back(1 / (1 + std::exp(-slope[e][0] * logits[t][e])));
    }
    const auto ids = test::best(score, 3);
    for (const moe::ExpertId id : ids) {
      const auto e = static_cast<std::size_t>(id);
      v.push_back(std::exp(gain[e][0]) * score[e]);
    }
    const double sum = test::total(v);
    for (double& of : v) of /= sum;
    test::check_pairs(routed, static_cast<Index>(t), ids, v);
    for (std::size_t e = 0; e < score.size(); ++e) {
      prior_loss += 0.3 / 9 * std::pow(score[e] / test::total(score) - prior[e][0], 2);
    }
  }
  for (std::size_t a = 0; a < w.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      double dot = 0;
      for (std::size_t j = 0; j < w[a].size(); ++j) dot += w[a][j] * w[b][j];
      orthogonality += 0.2 * dot * dot;
    }
  }
  REQUIRE(routed.loss_names == std::vector<std::string>{"prior", "orthogonality"});
  CHECK(test::near(routed.losses[0], prior_loss));
  CHECK(test::near(routed.losses[1], orthogonality));
}

TEST_CASE("parts chosen at run time learn as the static ones do", "[router]") {
  using Score = moe::OneScore<moe::Softmax, SlopedScore>;
  using Weighting = moe::OneWeighting<moe::GatherWeighting, GainedShares>;
  auto fixed = everything_learns();
  auto chosen =
      router_of(Score(SlopedScore()), moe::TopKSelection(3), Weighting(GainedShares()),
                moe::MaybePart<PriorLoss>(PriorLoss(0.3)), moe::MaybePart<Orthogonality>(Orthogonality(0.2)));
  CHECK(parameters(chosen) == parameters(fixed));
  test::randomise(fixed, 8);
  test::randomise(chosen, 8);
  auto call = test::random_call<double>(9, kWidth, 2);
  call.training = true;
  CHECK(test::same_bits(test::all_gradients(chosen, call), test::all_gradients(fixed, call)));
}

TEST_CASE("a selection's parameters get their estimator's gradient, row by row", "[router]") {
  STATIC_REQUIRE(moe::LearningSelection<AboveThreshold, double>);
  auto router = router_of(moe::Softmax(), AboveThreshold(), moe::GatherWeighting());
  test::randomise(router, 3);
  auto call = test::random_call<double>(12, kWidth, 2);
  call.training = true;
  decltype(router)::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  const auto dweight = test::cotangents(call, routed);
  REQUIRE(!dweight.empty());
  auto gradients = router.make_gradients();
  test::backward(router, call, table, tape, dweight, 0, &gradients);
  double want = 0;
  for (const double d : dweight) want -= d;
  CHECK(gradients.selection.value[0] == want);

  using Chosen = moe::OneSelection<moe::TopKSelection, AboveThreshold>;
  auto chosen = router_of(moe::Softmax(), Chosen(AboveThreshold()), moe::GatherWeighting());
  test::randomise(chosen, 3);
  CHECK(test::same_bits(test::all_gradients(chosen, call), test::all_gradients(router, call)));
}

TEST_CASE("two losses of one type have gradients of their own", "[router]") {
  auto router = two_priors();
  test::randomise(router, 4);
  auto call = test::random_call<double>(6, kWidth, 2);
  call.training = true;
  const auto gradient_of = [&](std::size_t which) {
    const auto all = test::all_gradients(router, call);
    const auto begin = all.begin() + kOutputs * kWidth + static_cast<Index>(which) * kOutputs;
    return Vector(begin, begin + kOutputs);
  };
  // d loss / d q = -2 c mean(p - q): the sums over experts are 2 c (sum of q - 1).
  const char* const names[] = {"first", "second"};
  const double coefficients[] = {0.3, 0.7};
  for (const std::size_t i : {0, 1}) {
    double q = 0;
    for (const Vector& row : test::parameter(router, names[i])) q += row[0];
    CHECK(test::near(test::total(gradient_of(i)), 2 * coefficients[i] * (q - 1)));
  }
}

TEST_CASE("frozen parameters change no other gradient, and losses off the scale none at all", "[router]") {
  auto router = everything_learns();
  test::randomise(router, 4);
  auto call = test::random_call<double>(40, kWidth, 2);
  call.training = true;
  decltype(router)::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  auto gradients = router.make_gradients();
  const auto dweight = test::cotangents(call, routed);
  const auto dx = test::backward(router, call, table, tape, dweight, 0, &gradients);
  CHECK(test::same_bits(dx, test::backward(router, call, table, tape, dweight, 0, nullptr)));
  for (const auto& element : test::elements(router, gradients)) {
    INFO(element.name);
    CHECK((*element.gradient == 0) == (element.name.substr(0, 5) == "prior"));
  }
}
