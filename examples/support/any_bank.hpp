// Any bank of experts behind virtual calls, as any_router.hpp has routers: layers compile once, and a bank
// costs its own code alone.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/executor/any.hpp"
#include "moe/expert/concept.hpp"
#include "moe/storage/parameter.hpp"

namespace example {

using moe::Index;

/// What AnyBank calls; tapes and gradients behind void pointers. Probes are those of a ProbingBank; other
/// banks are never asked for them.
class ErasedBank {
 public:
  using Held = std::shared_ptr<void>;
  using Batch = moe::RowBatch<float>;
  using Sink = moe::RowSink<float>;
  using Rows = moe::ProbeRows<float>;
  using Probes = moe::Probes<float>;
  using VisitParameter = std::function<void(const moe::Parameter<float>&)>;
  using VisitStorage = std::function<void(const char*, float*, float*, Index)>;
  using VisitState = std::function<void(const char*, double*, Index)>;
  using ReadState = std::function<void(const char*, const double*, Index)>;
  using VisitNames = std::function<void(const char*, const char*)>;

  virtual ~ErasedBank() = default;
  virtual moe::Coupling coupled(bool training) const = 0;
  virtual Index experts() const = 0;
  virtual Index width() const = 0;
  virtual Index output_width() const = 0;
  virtual void check_call(const moe::RouterInput<float>& in) const = 0;
  virtual void measure(moe::Arena& arena, Index pairs, Index concurrency) const = 0;
  virtual void measure_backward(moe::Arena& arena, Index pairs, Index concurrency) const = 0;
  virtual void forward(const Batch& batch, const Sink& sink, moe::Arena& arena,
                       moe::AnyExecutor& executor) const = 0;
  virtual void forward_train(const Batch& batch, const Sink& sink, Held& tape, moe::Arena& arena,
                             moe::AnyExecutor& executor) const = 0;
  virtual void backward(const Batch& batch, const Held& tape, const moe::RowGradients<float>& rows,
                        void* gradients, moe::Arena& arena, moe::AnyExecutor& executor) const = 0;
  virtual Index probe_width() const = 0;
  virtual Probes carve_probes(moe::Arena& arena, Index tokens) const = 0;
  virtual void measure_probe(moe::Arena& arena, Index tokens, Index concurrency) const = 0;
  virtual void measure_probe_backward(moe::Arena& arena, Index tokens, Index concurrency) const = 0;
  virtual void probe(const Rows& rows, const Probes& probes, moe::Arena& arena,
                     moe::AnyExecutor& executor) const = 0;
  virtual void probe_train(const Rows& rows, const Probes& probes, Held& tape, moe::Arena& arena,
                           moe::AnyExecutor& executor) const = 0;
  virtual void probe_backward(const Rows& rows, const Held& tape, const Probes& probes, const Probes& dprobes,
                              const moe::MatrixView<float>& dx, void* gradients, moe::Arena& arena,
                              moe::AnyExecutor& executor) const = 0;
  virtual Held make_gradients() const = 0;
  virtual void visit_parameters(void* gradients, const VisitParameter& f) = 0;
  virtual void visit_storage(void* gradients, const VisitStorage& f) = 0;
  virtual void visit_state(const VisitState& f) = 0;
  virtual void visit_state(const ReadState& f) const = 0;
  virtual void visit_names(const char* role, const VisitNames& f) const = 0;
  virtual void take_statistics(void* gradients) = 0;
};

namespace impl {

template <moe::TrainableExpertBank B>
class HeldBank final : public ErasedBank {
  static constexpr bool kProbes = moe::ProbingBank<B>;
  using Gradients = moe::impl::GradientsOf<B>;
  template <class T>
  static T& made(Held& tape) {
    if (tape == nullptr) tape = std::make_shared<T>();
    return *static_cast<T*>(tape.get());
  }

 public:
  explicit HeldBank(B bank) : bank_(std::move(bank)) {}

  moe::Coupling coupled(bool training) const override { return moe::impl::bank_coupling<B>(training); }
  Index experts() const override { return bank_.experts(); }
  Index width() const override { return bank_.width(); }
  Index output_width() const override { return moe::impl::output_width_of(bank_); }
  void check_call(const moe::RouterInput<float>& in) const override { moe::impl::check_call_of(bank_, in); }
  void measure(moe::Arena& arena, Index pairs, Index concurrency) const override {
    moe::impl::measure_of(bank_, arena, pairs, concurrency);
  }
  void measure_backward(moe::Arena& arena, Index pairs, Index concurrency) const override {
    moe::impl::measure_backward_of(bank_, arena, pairs, concurrency);
  }
  void forward(const Batch& batch, const Sink& sink, moe::Arena& arena,
               moe::AnyExecutor& executor) const override {
    bank_.forward(batch, sink, arena, executor);
  }
  void forward_train(const Batch& batch, const Sink& sink, Held& tape, moe::Arena& arena,
                     moe::AnyExecutor& executor) const override {
    moe::impl::forward_train_of(bank_, batch, sink, made<typename B::Tape>(tape), arena, executor);
  }
  void backward(const Batch& batch, const Held& tape, const moe::RowGradients<float>& rows, void* gradients,
                moe::Arena& arena, moe::AnyExecutor& executor) const override {
    bank_.backward(batch, *static_cast<const typename B::Tape*>(tape.get()), rows,
                   static_cast<Gradients*>(gradients), arena, executor);
  }

  Index probe_width() const override {
    if constexpr (kProbes) return bank_.probe_width();
    return 0;
  }
  Probes carve_probes(moe::Arena& arena, Index tokens) const override {
    if constexpr (kProbes) return bank_.carve_probes(arena, tokens);
    return {};
  }
  void measure_probe(moe::Arena& arena, Index tokens, Index concurrency) const override {
    if constexpr (kProbes) bank_.measure_probe(arena, tokens, concurrency);
  }
  void measure_probe_backward(moe::Arena& arena, Index tokens, Index concurrency) const override {
    if constexpr (kProbes) bank_.measure_probe_backward(arena, tokens, concurrency);
  }
  void probe(const Rows& rows, const Probes& probes, moe::Arena& arena,
             moe::AnyExecutor& executor) const override {
    if constexpr (kProbes) bank_.probe(rows, probes, arena, executor);
  }
  void probe_train(const Rows& rows, const Probes& probes, Held& tape, moe::Arena& arena,
                   moe::AnyExecutor& executor) const override {
    if constexpr (kProbes) {
      bank_.probe_train(rows, probes, made<typename B::ProbeTape>(tape), arena, executor);
    }
  }
  void probe_backward(const Rows& rows, const Held& tape, const Probes& probes, const Probes& dprobes,
                      const moe::MatrixView<float>& dx, void* gradients, moe::Arena& arena,
                      moe::AnyExecutor& executor) const override {
    if constexpr (kProbes) {
      bank_.probe_backward(rows, *static_cast<const typename B::ProbeTape*>(tape.get()), probes, dprobes, dx,
                           static_cast<Gradients*>(gradients), arena, executor);
    }
  }

  Held make_gradients() const override {
    return std::make_shared<Gradients>(moe::impl::make_gradients_of(bank_));
  }
  void visit_parameters(void* gradients, const VisitParameter& f) override {
    moe::impl::visit_parameters_of(bank_, static_cast<Gradients*>(gradients), f);
  }
  void visit_storage(void* gradients, const VisitStorage& f) override {
    moe::impl::visit_storage_of(bank_, static_cast<Gradients*>(gradients), f);
  }
  void visit_state(const VisitState& f) override { moe::impl::visit_state_of(bank_, f); }
  void visit_state(const ReadState& f) const override { moe::impl::visit_state_of(bank_, f); }
  void visit_names(const char* role, const VisitNames& f) const override {
    moe::impl::visit_names_of(role, bank_, f);
  }
  void take_statistics(void* gradients) override {
    if constexpr (requires(Gradients & own) { bank_.take_statistics(own); }) {
      bank_.take_statistics(*static_cast<Gradients*>(gradients));
    }
  }

 private:
  B bank_;
};

}  // namespace impl

/// A bank that owns any other, probing ones included. How much of the batch the other looks at is coupled();
/// the routers beside it want segments anyway (AnyRouter).
class AnyBank {
 public:
  static constexpr const char* kName = "any";
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;
  using Real = float;
  class Tape {
    friend class AnyBank;
    ErasedBank::Held held_;
  };
  using ProbeTape = Tape;
  class Gradients {
    friend class AnyBank;
    explicit Gradients(ErasedBank::Held held) : held_(std::move(held)) {}
    ErasedBank::Held held_;
  };

  template <class B>
  requires(!std::is_base_of_v<AnyBank, B> &&
           moe::TrainableExpertBank<B>)  // in this order: the concept asks of copies
      explicit AnyBank(B bank)
      : held_(std::make_unique<impl::HeldBank<B>>(std::move(bank))) {}

  moe::Coupling coupled(bool training) const { return held_->coupled(training); }
  Index experts() const { return held_ == nullptr ? 0 : held_->experts(); }
  Index width() const { return held_->width(); }
  Index output_width() const { return held_->output_width(); }
  void check_call(const moe::RouterInput<float>& in) const { held_->check_call(in); }
  void measure(moe::Arena& arena, Index pairs, Index concurrency) const {
    held_->measure(arena, pairs, concurrency);
  }
  void measure_backward(moe::Arena& arena, Index pairs, Index concurrency) const {
    held_->measure_backward(arena, pairs, concurrency);
  }
  template <moe::Executor X>
  void forward(const ErasedBank::Batch& batch, const ErasedBank::Sink& sink, moe::Arena& arena,
               X& executor) const {
    moe::AnyExecutor any(executor);
    held_->forward(batch, sink, arena, any);
  }
  template <moe::Executor X>
  void forward_train(const ErasedBank::Batch& batch, const ErasedBank::Sink& sink, Tape& tape,
                     moe::Arena& arena, X& executor) const {
    moe::AnyExecutor any(executor);
    held_->forward_train(batch, sink, tape.held_, arena, any);
  }
  template <moe::Executor X>
  void backward(const ErasedBank::Batch& batch, const Tape& tape, const moe::RowGradients<float>& rows,
                Gradients* gradients, moe::Arena& arena, X& executor) const {
    moe::AnyExecutor any(executor);
    held_->backward(batch, tape.held_, rows, of(gradients), arena, any);
  }

  Index probe_width() const { return held_->probe_width(); }
  ErasedBank::Probes carve_probes(moe::Arena& arena, Index tokens) const {
    return held_->carve_probes(arena, tokens);
  }
  void measure_probe(moe::Arena& arena, Index tokens, Index concurrency) const {
    held_->measure_probe(arena, tokens, concurrency);
  }
  void measure_probe_backward(moe::Arena& arena, Index tokens, Index concurrency) const {
    held_->measure_probe_backward(arena, tokens, concurrency);
  }
  template <moe::Executor X>
  void probe(const ErasedBank::Rows& rows, const ErasedBank::Probes& probes, moe::Arena& arena,
             X& executor) const {
    moe::AnyExecutor any(executor);
    held_->probe(rows, probes, arena, any);
  }
  template <moe::Executor X>
  void probe_train(const ErasedBank::Rows& rows, const ErasedBank::Probes& probes, ProbeTape& tape,
                   moe::Arena& arena, X& executor) const {
    moe::AnyExecutor any(executor);
    held_->probe_train(rows, probes, tape.held_, arena, any);
  }
  template <moe::Executor X>
  void probe_backward(const ErasedBank::Rows& rows, const ProbeTape& tape, const ErasedBank::Probes& probes,
                      const ErasedBank::Probes& dprobes, const moe::MatrixView<float>& dx,
                      Gradients* gradients, moe::Arena& arena, X& executor) const {
    moe::AnyExecutor any(executor);
    held_->probe_backward(rows, tape.held_, probes, dprobes, dx, of(gradients), arena, any);
  }

  Gradients make_gradients() const { return Gradients(held_->make_gradients()); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    held_->visit_parameters(of(gradients), std::ref(f));
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    held_->visit_storage(of(gradients), std::ref(f));
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    held_->visit_state(ErasedBank::VisitState(std::ref(f)));
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    std::as_const(*held_).visit_state(ErasedBank::ReadState(std::ref(f)));
  }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    held_->visit_names(role, std::ref(f));
  }
  /// Of banks that collect what is not trained with their gradients, at the end of a step.
  void take_statistics(Gradients& gradients) { held_->take_statistics(gradients.held_.get()); }

 private:
  static void* of(Gradients* gradients) noexcept {
    return gradients == nullptr ? nullptr : gradients->held_.get();
  }

  std::unique_ptr<ErasedBank> held_;
};

}  // namespace example
