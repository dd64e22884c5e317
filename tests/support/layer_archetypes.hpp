// Router and banks that have what the layer's concepts ask for and nothing else.
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/expert/concept.hpp"
#include "moe/router/concept.hpp"
#include "moe/storage/parameter.hpp"
#include "support/router_archetype.hpp"

namespace test {

/// TrainableRouter: ArchetypeRouter, whose weights are constants and so have nothing to learn.
class TrainableRouterArchetype : public ArchetypeRouter<double> {
 public:
  struct Tape {};
  struct Gradients {};
  using ArchetypeRouter<double>::ArchetypeRouter;

  template <moe::Executor X>
  void backward(const moe::RouterInput<double>&, const moe::RouteTable<double>&, const Tape&,
                const moe::RouteGradients<double>&, Gradients*, moe::Arena&, X&) const {}
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
  template <moe::Executor X>
  void forward(const moe::RowBatch<double>& batch, const moe::RowSink<double>& sink, moe::Arena&,
               X& x) const {
    x.parallel_for(batch.experts, [&](moe::Index e, moe::Index) noexcept {
      for (moe::Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        for (moe::Index j = 0; j < width_; ++j) sink.row(s)[j] = factor_[e] * batch.row[s][j];
      }
    });
  }

 protected:
  moe::Buffer<double> factor_;
  moe::Index width_;
};
static_assert(moe::ExpertBank<BankArchetype>);
static_assert(!moe::TrainableExpertBank<BankArchetype>);

/// TrainableExpertBank: the same, the factors learned.
class TrainableBankArchetype : public BankArchetype {
 public:
  struct Tape {};
  struct Gradients {
    moe::Buffer<double> factor;
  };
  using BankArchetype::BankArchetype;

  template <moe::Executor X>
  void backward(const moe::RowBatch<double>& batch, const Tape&, const moe::RowGradients<double>& rows,
                Gradients* gradients, moe::Arena&, X&) const {
    for (moe::Index e = 0; e < batch.experts; ++e) {
      for (moe::Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        double along = 0;
        for (moe::Index j = 0; j < width_; ++j) {
          along += rows.dy[s][j] * batch.row[s][j];
          if (rows.dx.data != nullptr) rows.dx.row(s)[j] = rows.weight[s] * factor_[e] * rows.dy[s][j];
        }
        rows.dweight[s] = factor_[e] * along;
        if (gradients != nullptr) gradients->factor[e] += rows.weight[s] * along;
      }
    }
  }
  // Asked for because there are Gradients.
  Gradients make_gradients() const { return {moe::Buffer<double>(factor_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const moe::Index n = factor_.size();
    f(moe::Parameter<double>{
        "factor", {factor_.data(), n, 1}, {gradients == nullptr ? nullptr : gradients->factor.data(), n, 1}});
  }
};
static_assert(moe::TrainableExpertBank<TrainableBankArchetype>);

}  // namespace test
