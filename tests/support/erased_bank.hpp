// A bank of experts behind virtual calls. For tests only.
#pragma once

#include <memory>
#include <utility>

#include "moe/expert/concept.hpp"
#include "support/any_executor.hpp"

namespace test {

/// The members of a trainable bank; tapes and gradients behind void pointers.
template <class Real>
class ErasedBank {
 public:
  using Held = std::shared_ptr<void>;

  virtual ~ErasedBank() = default;
  virtual Index experts() const = 0;
  virtual Index width() const = 0;
  virtual void measure(moe::Arena& arena, Index pairs) const = 0;
  virtual void measure_backward(moe::Arena& arena, Index pairs) const = 0;
  virtual void forward(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, moe::Arena& arena,
                       AnyExecutor executor) const = 0;
  virtual void forward_train(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, void* tape,
                             moe::Arena& arena, AnyExecutor executor) const = 0;
  virtual void backward(const moe::RowBatch<Real>& batch, const void* tape,
                        const moe::RowGradients<Real>& rows, void* gradients, moe::Arena& arena,
                        AnyExecutor executor) const = 0;
  virtual Held make_tape() const = 0;
  virtual Held make_gradients() const = 0;
  virtual void move_tape(void* tape) const = 0;
  virtual void move_gradients(void* gradients) const = 0;
};

/// A bank of the caller's, by reference.
template <moe::TrainableExpertBank B>
class BankRef final : public ErasedBank<typename B::Real> {
 public:
  using Real = typename B::Real;
  using typename ErasedBank<Real>::Held;

  explicit BankRef(const B& bank) : bank_(bank) {}

  Index experts() const override { return bank_.experts(); }
  Index width() const override { return bank_.width(); }
  void measure(moe::Arena& arena, Index pairs) const override { bank_.measure(arena, pairs, 1); }
  void measure_backward(moe::Arena& arena, Index pairs) const override {
    bank_.measure_backward(arena, pairs, 1);
  }
  void forward(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, moe::Arena& arena,
               AnyExecutor executor) const override {
    bank_.forward(batch, sink, arena, executor);
  }
  void forward_train(const moe::RowBatch<Real>& batch, const moe::RowSink<Real>& sink, void* tape,
                     moe::Arena& arena, AnyExecutor executor) const override {
    bank_.forward_train(batch, sink, *static_cast<Tape*>(tape), arena, executor);
  }
  void backward(const moe::RowBatch<Real>& batch, const void* tape, const moe::RowGradients<Real>& rows,
                void* gradients, moe::Arena& arena, AnyExecutor executor) const override {
    bank_.backward(batch, *static_cast<const Tape*>(tape), rows, static_cast<Gradients*>(gradients), arena,
                   executor);
  }
  Held make_tape() const override { return std::make_shared<Tape>(); }
  Held make_gradients() const override { return std::make_shared<Gradients>(bank_.make_gradients()); }
  void move_tape(void* tape) const override { Tape gone(std::move(*static_cast<Tape*>(tape))); }
  void move_gradients(void* gradients) const override {
    Gradients gone(std::move(*static_cast<Gradients*>(gradients)));
  }

 private:
  using Tape = typename B::Tape;
  using Gradients = typename B::Gradients;
  const B& bank_;
};

}  // namespace test
