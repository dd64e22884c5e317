// Parts that have what their concepts ask for and nothing else: a template that compiles with them asks for
// no more.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/storage/parameter.hpp"

namespace test {

/// A Router and not a TrainableRouter. A row goes to expert 0 or, if its first number is negative, to the
/// last expert.
template <class RealType>
class ArchetypeRouter {
 public:
  using Real = RealType;
  explicit ArchetypeRouter(moe::Index experts) : experts_(experts) {}
  ArchetypeRouter(ArchetypeRouter&&) = default;
  ArchetypeRouter& operator=(ArchetypeRouter&&) = delete;

  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::row_independent; }
  moe::Index experts() const noexcept { return experts_; }
  moe::Index width() const noexcept { return 1; }
  template <moe::Executor X>
  void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, moe::Arena&, X&) const {
    for (moe::Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (in.takes_part(t))
        table.push(t, static_cast<moe::ExpertId>(in.x(t, 0) < 0 ? experts_ - 1 : 0), Real{1});
    }
  }

 private:
  moe::Index experts_;
};

/// logit(t, n) = w[n] * x(t, 0).
class ArchetypeScorer {
 public:
  using Real = double;
  struct Tape {};
  struct Gradients {
    moe::Buffer<double> w;
  };

  explicit ArchetypeScorer(moe::Buffer<double> w) : w_(std::move(w)) {}
  ArchetypeScorer(ArchetypeScorer&&) = default;
  ArchetypeScorer& operator=(ArchetypeScorer&&) = delete;

  moe::Index width() const noexcept { return 1; }
  moe::Index outputs() const noexcept { return w_.size(); }
  void measure(moe::Arena&, moe::Index, moe::Index) const {}
  void measure_backward(moe::Arena&, moe::Index, moe::Index) const {}
  template <moe::Executor X>
  void logits(const moe::RouterInput<double>& in, const moe::Logits<double>& out, Tape*, moe::Arena&,
              X&) const {
    for (moe::Index t = 0; t < in.tokens(); ++t) {
      for (moe::Index n = 0; n < outputs(); ++n) out.value(t, n) = w_[n] * in.x(t, 0);
    }
  }
  template <moe::Executor X>
  void backward(const moe::RouterInput<double>& in, const Tape&, const moe::Logits<double>& dlogits,
                const moe::MatrixView<double>& dx, Gradients* gradients, moe::Arena&, X&) const {
    const moe::Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    for (moe::Index i = 0; i < count; ++i) {
      const moe::Index t = dlogits.rows == nullptr ? i : moe::Index{dlogits.rows[i]};
      for (moe::Index n = 0; n < outputs(); ++n) {
        if (dx) dx(t, 0) += w_[n] * dlogits.value(t, n);
        if (gradients != nullptr) gradients->w[n] += in.x(t, 0) * dlogits.value(t, n);
      }
    }
  }
  Gradients make_gradients() const { return {moe::Buffer<double>(w_.size())}; }
  // Asked for because there are Gradients.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const moe::Index n = w_.size();
    f(moe::Parameter<double>{"w",
                             {w_.data(), n, 1, n, n, 1},
                             {gradients == nullptr ? nullptr : gradients->w.data(), n, 1, n, n, 1}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    f("w", w_.data(), gradients == nullptr ? nullptr : gradients->w.data(), w_.size());
  }

 private:
  moe::Buffer<double> w_;
};

/// score = 1 + logit^2; probabilities are shares of the sum. Overwrites nothing it is not given.
struct ArchetypeScore {
  ArchetypeScore() = default;
  ArchetypeScore(const ArchetypeScore&) = default;
  ArchetypeScore& operator=(const ArchetypeScore&) = delete;

  using Row = moe::RowContext<double>;
  void forward(const Row& row, double* score) const {
    for (moe::Index i = 0; i < row.n; ++i) score[i] = 1 + row.logit[i] * row.logit[i];
  }
  void backward(const Row& row, const double* dscore, double* dlogit) const {
    for (moe::Index i = 0; i < row.n; ++i) dlogit[i] += 2 * row.logit[i] * dscore[i];
  }
  void probability(const Row& row, double* out) const {
    double sum = 0;
    for (moe::Index i = 0; i < row.n; ++i) sum += row.score[i];
    for (moe::Index i = 0; i < row.n; ++i) out[i] = row.score[i] / sum;
  }
  void probability_backward(const Row& row, const double* p, const double* dp, double* dscore) const {
    double sum = 0, mean = 0;
    for (moe::Index i = 0; i < row.n; ++i) {
      sum += row.score[i];
      mean += p[i] * dp[i];
    }
    for (moe::Index i = 0; i < row.n; ++i) dscore[i] += (dp[i] - mean) / sum;
  }
};

/// The single best.
struct ArchetypeSelection {
  ArchetypeSelection() = default;
  ArchetypeSelection(const ArchetypeSelection&) = default;
  ArchetypeSelection& operator=(const ArchetypeSelection&) = delete;

  moe::Index most(const moe::CallOptions&, moe::Index) const { return 1; }
  moe::Index select(const moe::RowContext<double>& row, double* choice, moe::ExpertId* out) const noexcept {
    moe::Index best = 0;
    for (moe::Index i = 1; i < row.n; ++i) best = choice[i] > choice[best] ? i : best;
    out[0] = static_cast<moe::ExpertId>(best);
    choice[best] = 0;  // `select` may overwrite the scores
    return 1;
  }
};

/// weight = 3 * score.
struct ArchetypeWeighting {
  ArchetypeWeighting() = default;
  ArchetypeWeighting(const ArchetypeWeighting&) = default;
  ArchetypeWeighting& operator=(const ArchetypeWeighting&) = delete;

  void forward(const moe::RowContext<double>& row, const moe::Chosen& chosen, double* weight,
               bool* keep) const noexcept {
    for (moe::Index i = 0; i < chosen.count; ++i) {
      weight[i] = 3 * row.score[chosen.id[i]];
      keep[i] = true;
    }
  }
  void backward(const moe::RowContext<double>&, const moe::Chosen& chosen, const double* dweight,
                double* dscore) const noexcept {
    for (moe::Index i = 0; i < chosen.count; ++i) dscore[chosen.id[i]] += 3 * dweight[i];
  }
};

}  // namespace test
