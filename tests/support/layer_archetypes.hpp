// Router and banks that have what the layer's concepts ask for and nothing else.
#pragma once

#include <utility>

#include "moe/expert/concept.hpp"
#include "moe/router/concept.hpp"
#include "support/router_archetype.hpp"

namespace test {

/// TrainableRouter: ArchetypeRouter, whose weights are constants and so have nothing to learn.
class TrainableRouterArchetype {
 public:
  using Real = double;
  struct Tape {
    moe::Index tokens = 0;
  };
  struct Gradients {};

  explicit TrainableRouterArchetype(moe::Index experts) : router_(experts) {}
  TrainableRouterArchetype(TrainableRouterArchetype&&) = default;
  TrainableRouterArchetype& operator=(TrainableRouterArchetype&&) = delete;

  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::row_independent; }
  moe::Index experts() const noexcept { return router_.experts(); }
  moe::Index width() const noexcept { return router_.width(); }
  moe::Index max_pairs(const moe::CallShape& shape) const noexcept { return router_.max_pairs(shape); }
  void measure(moe::Arena& arena, const moe::CallShape& shape, moe::Index concurrency) const {
    router_.measure(arena, shape, concurrency);
  }
  void measure_backward(moe::Arena&, const moe::CallShape&, moe::Index) const {}
  template <moe::Executor X>
  void route(const moe::RouterInput<double>& in, moe::RouteTable<double>& table, moe::Arena& arena,
             X& x) const {
    router_.route(in, table, arena, x);
  }
  template <moe::Executor X>
  void route_train(const moe::RouterInput<double>& in, moe::RouteTable<double>& table, Tape& tape,
                   moe::Arena& arena, X& x) const {
    tape.tokens = in.tokens();
    router_.route(in, table, arena, x);
  }
  template <moe::Executor X>
  void backward(const moe::RouterInput<double>&, const moe::RouteTable<double>&, const Tape&,
                const moe::RouteGradients<double>&, Gradients*, moe::Arena&, X&) const {}
  void on_step_end(const moe::RouteStats&) {}
  Gradients make_gradients() const { return {}; }

 private:
  ArchetypeRouter<double> router_;
};
static_assert(moe::TrainableRouter<TrainableRouterArchetype>);
static_assert(moe::Router<ArchetypeRouter<double>>);
static_assert(!moe::TrainableRouter<ArchetypeRouter<double>>);

/// ExpertBank and no more: expert e multiplies a row [D] by factor[e].
class BankArchetype {
 public:
  using Real = double;
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;

  BankArchetype(moe::Buffer<double> factor, moe::Index width) : factor_(std::move(factor)), width_(width) {}
  BankArchetype(BankArchetype&&) = default;
  BankArchetype& operator=(BankArchetype&&) = delete;

  moe::Index experts() const { return factor_.size(); }
  moe::Index width() const { return width_; }
  void measure(moe::Arena& arena, moe::Index pairs, moe::Index) const { arena.take<double>(pairs); }
  template <moe::Executor X>
  void forward(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, moe::Arena& arena,
               X& x) const {
    double* const factor = arena.take<double>(batch.slots());
    for (moe::Index e = 0; e < batch.experts; ++e) {
      for (moe::Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) factor[s] = factor_[e];
    }
    x.parallel_for(batch.slots(), [&](moe::Index s, moe::Index) noexcept {
      for (moe::Index j = 0; j < width_; ++j) sink.row(s)[j] = factor[s] * batch.row[s][j];
    });
  }

 private:
  moe::Buffer<double> factor_;
  moe::Index width_;
};
static_assert(moe::ExpertBank<BankArchetype>);
static_assert(!moe::TrainableExpertBank<BankArchetype>);

/// TrainableExpertBank: the same, the factors learned.
class TrainableBankArchetype {
 public:
  using Real = double;
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;
  struct Tape {
    moe::Index slots = 0;
  };
  struct Gradients {
    moe::Buffer<double> factor;
  };

  TrainableBankArchetype(moe::Buffer<double> factor, moe::Index width)
      : factor_(factor), bank_(factor, width) {}
  TrainableBankArchetype(TrainableBankArchetype&&) = default;
  TrainableBankArchetype& operator=(TrainableBankArchetype&&) = delete;

  moe::Index experts() const { return bank_.experts(); }
  moe::Index width() const { return bank_.width(); }
  void measure(moe::Arena& arena, moe::Index pairs, moe::Index concurrency) const {
    bank_.measure(arena, pairs, concurrency);
  }
  void measure_backward(moe::Arena&, moe::Index, moe::Index) const {}
  template <moe::Executor X>
  void forward(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, moe::Arena& arena,
               X& x) const {
    bank_.forward(batch, sink, arena, x);
  }
  template <moe::Executor X>
  void forward_train(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, Tape& tape,
                     moe::Arena& arena, X& x) const {
    tape.slots = batch.slots();
    bank_.forward(batch, sink, arena, x);
  }
  template <moe::Executor X>
  void backward(const moe::RowBatch<double>& batch, const Tape&, const moe::RowGradients<double>& rows,
                Gradients* gradients, moe::Arena&, X&) const {
    for (moe::Index e = 0; e < batch.experts; ++e) {
      for (moe::Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        double along = 0;
        for (moe::Index j = 0; j < width(); ++j) {
          along += rows.dy[s][j] * batch.row[s][j];
          if (rows.dx.data != nullptr) rows.dx.row(s)[j] = rows.weight[s] * factor_[e] * rows.dy[s][j];
        }
        rows.dweight[s] = factor_[e] * along;
        if (gradients != nullptr) gradients->factor[e] += rows.weight[s] * along;
      }
    }
  }
  Gradients make_gradients() const { return {moe::Buffer<double>(factor_.size())}; }

 private:
  moe::Buffer<double> factor_;
  BankArchetype bank_;
};
static_assert(moe::TrainableExpertBank<TrainableBankArchetype>);

}  // namespace test
