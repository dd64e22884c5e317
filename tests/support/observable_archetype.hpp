// A router that has what ObservableRouter asks for, and trains.
#pragma once

#include <cstddef>

#include "moe/plan/statistics.hpp"
#include "moe/router/observable.hpp"

namespace test {

/// logit(t, e) = (e + 1) x(t, 0), score = 1 + logit^2; one expert per token, e = t mod E, weight its score of
/// expert 0.
class ObservableArchetype {
 public:
  using Real = double;
  struct Tape {
    moe::Index tokens = 0;
  };
  struct Gradients {};

  explicit ObservableArchetype(moe::Index experts) : experts_(experts) {}
  ObservableArchetype(ObservableArchetype&&) = default;
  ObservableArchetype& operator=(ObservableArchetype&&) = delete;

  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::row_independent; }
  moe::Index experts() const noexcept { return experts_; }
  moe::Index width() const noexcept { return 0; }
  moe::Index outputs() const noexcept { return experts_; }
  moe::Index max_pairs(const moe::CallShape& shape) const noexcept { return shape.tokens; }
  void measure(moe::Arena& arena, const moe::CallShape& shape, moe::Index) const {
    take(arena, shape.tokens);
  }
  void measure_backward(moe::Arena&, const moe::CallShape&, moe::Index) const {}

  template <moe::Executor X>
  void route(const moe::RouterInput<double>& in, moe::RouteTable<double>& table, moe::Arena& arena,
             X& executor) const {
    double* const logit = take(arena, in.tokens());
    executor.parallel_for(in.tokens() * experts_, [&](moe::Index i, moe::Index) noexcept {
      logit[i] = in.x(i / experts_, 0) * static_cast<double>(i % experts_ + 1);
    });
    for (moe::Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (!in.takes_part(t)) continue;
      const double first = logit[t * experts_];
      table.push(t, static_cast<moe::ExpertId>(t % experts_), 1 + first * first);
    }
  }
  template <moe::Executor X>
  void route_train(const moe::RouterInput<double>& in, moe::RouteTable<double>& table, Tape& tape,
                   moe::Arena& arena, X& executor) const {
    tape.tokens = in.tokens();
    route(in, table, arena, executor);
  }
  template <moe::Executor X>
  void route_observed(const moe::RouterInput<double>& in, moe::RouteTable<double>& table, Tape* tape,
                      const moe::RouteView<double>& view, moe::Arena& arena, X& executor) const {
    if (tape != nullptr) {
      route_train(in, table, *tape, arena, executor);
    } else {
      route(in, table, arena, executor);
    }
    for (moe::Index t = 0; t < view.logit.rows; ++t) {  // none where nobody looks
      for (moe::Index e = 0; e < experts_; ++e) {
        const double logit = in.x(t, 0) * static_cast<double>(e + 1);
        view.logit(t, e) = logit;
        view.score(t, e) = 1 + logit * logit;
      }
    }
  }
  /// The weights are taken as constants.
  template <moe::Executor X>
  void backward(const moe::RouterInput<double>&, const moe::RouteTable<double>&, const Tape&,
                const moe::RouteGradients<double>&, Gradients*, moe::Arena&, X&) const {}
  void on_step_end(const moe::RouteStats&) {}
  Gradients make_gradients() const { return {}; }

 private:
  double* take(moe::Arena& arena, moe::Index tokens) const { return arena.take<double>(tokens * experts_); }

  moe::Index experts_;
};

}  // namespace test
