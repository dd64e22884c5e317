// Any router of the library behind virtual calls: the layer around it, the training loop and the benchmark
// compile once, and a router costs its own code alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/executor/any.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/observable.hpp"
#include "moe/storage/parameter.hpp"

namespace example {

using moe::Index;

/// What AnyRouter calls; tapes and gradients behind void pointers.
class ErasedRouter {
 public:
  using Held = std::shared_ptr<void>;
  using Input = moe::RouterInput<float>;
  using Table = moe::RouteTable<float>;
  using View = moe::RouteView<float>;
  using VisitParameter = std::function<void(const moe::Parameter<float>&)>;
  using VisitStorage = std::function<void(const char*, float*, float*, Index)>;
  using VisitState = std::function<void(const char*, double*, Index)>;
  using ReadState = std::function<void(const char*, const double*, Index)>;
  using VisitNames = std::function<void(const char*, const char*)>;

  virtual ~ErasedRouter() = default;
  virtual moe::Coupling coupled(bool training) const = 0;
  virtual Index experts() const = 0;
  virtual Index outputs() const = 0;
  virtual Index width() const = 0;
  virtual Index max_pairs(const moe::CallShape& shape) const = 0;
  virtual moe::WeightPlace weight_place() const = 0;
  virtual void measure(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const = 0;
  virtual void measure_backward(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const = 0;
  virtual Index carry_width() const = 0;
  virtual bool may_probe(bool training) const = 0;
  virtual bool probes(const Input& in) const = 0;
  /// Without a tape (null) as in inference.
  virtual void route(const Input& in, Table& table, Held* tape, const View& view, moe::Arena& arena,
                     moe::AnyExecutor& executor) = 0;
  virtual void backward(const Input& in, const Table& table, const Held& tape,
                        const moe::RouteGradients<float>& out, void* gradients, moe::Arena& arena,
                        moe::AnyExecutor& executor) const = 0;
  virtual void check_backward(const Input& in, const Table& table, const Held& tape,
                              const moe::RouteGradients<float>& out) const = 0;
  virtual Held make_gradients() const = 0;
  virtual void visit_parameters(void* gradients, const VisitParameter& f) = 0;
  virtual void visit_storage(void* gradients, const VisitStorage& f) = 0;
  virtual void visit_state(const VisitState& f) = 0;
  virtual void visit_state(const ReadState& f) const = 0;
  virtual void visit_names(const VisitNames& f) const = 0;
  virtual void on_step_end(const moe::RouteStats& stats) = 0;
  virtual void initialise(std::uint64_t seed) = 0;
  virtual void settle() = 0;
};

namespace impl {

/// The scorer's own initialise(), or that of the one which it wraps.
template <class Scorer>
void initialise_scorer(Scorer& scorer, std::uint64_t seed) {
  if constexpr (requires { scorer.initialise(seed); }) {
    scorer.initialise(seed);
  } else if constexpr (requires { scorer.inner(); }) {
    initialise_scorer(scorer.inner(), seed);
  }
}

template <moe::TrainableRouter R>
class HeldRouter final : public ErasedRouter {
 public:
  explicit HeldRouter(R router) : router_(std::move(router)) {}

  moe::Coupling coupled(bool training) const override { return R::coupling(training); }
  Index experts() const override { return router_.experts(); }
  Index outputs() const override {
    if constexpr (requires { router_.outputs(); }) {
      return router_.outputs();
    } else {
      return router_.experts();
    }
  }
  Index width() const override { return router_.width(); }
  Index max_pairs(const moe::CallShape& shape) const override {
    return moe::impl::max_pairs_of(router_, shape);
  }
  moe::WeightPlace weight_place() const override { return moe::impl::weight_place(router_); }
  void measure(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const override {
    moe::impl::measure_of(router_, arena, shape, concurrency);
  }
  void measure_backward(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const override {
    moe::impl::measure_backward_of(router_, arena, shape, concurrency);
  }
  Index carry_width() const override { return moe::impl::carry_width_of(router_); }
  bool may_probe(bool training) const override {
    if constexpr (requires { router_.may_probe(training); }) return router_.may_probe(training);
    return true;
  }
  bool probes(const Input& in) const override {
    if constexpr (requires { router_.probes(in); }) return router_.probes(in);
    return true;
  }
  void route(const Input& in, Table& table, Held* tape, const View& view, moe::Arena& arena,
             moe::AnyExecutor& executor) override {
    const R& router = router_;
    if (tape != nullptr && *tape == nullptr) *tape = std::make_shared<typename R::Tape>();
    auto* const own = tape == nullptr ? nullptr : static_cast<typename R::Tape*>(tape->get());
    if constexpr (moe::ObservableRouter<R>) {
      router.route_observed(in, table, own, view, arena, executor);
    } else if (own == nullptr) {
      router.route(in, table, arena, executor);
    } else {
      moe::impl::route_train_of(router, in, table, *own, arena, executor);
    }
    if constexpr (requires { router_.scorer().collect(in.x, table); }) {
      if (own != nullptr) router_.scorer().collect(in.x, table);
    }
  }
  void backward(const Input& in, const Table& table, const Held& tape, const moe::RouteGradients<float>& out,
                void* gradients, moe::Arena& arena, moe::AnyExecutor& executor) const override {
    router_.backward(in, table, *static_cast<const typename R::Tape*>(tape.get()), out,
                     static_cast<typename R::Gradients*>(gradients), arena, executor);
  }
  void check_backward(const Input& in, const Table& table, const Held& tape,
                      const moe::RouteGradients<float>& out) const override {
    moe::impl::check_backward_of(router_, in, table, *static_cast<const typename R::Tape*>(tape.get()), out);
  }
  Held make_gradients() const override {
    return std::make_shared<typename R::Gradients>(moe::impl::make_gradients_of(router_));
  }
  void visit_parameters(void* gradients, const VisitParameter& f) override {
    moe::impl::visit_parameters_of(router_, static_cast<typename R::Gradients*>(gradients), f);
  }
  void visit_storage(void* gradients, const VisitStorage& f) override {
    moe::impl::visit_storage_of(router_, static_cast<typename R::Gradients*>(gradients), f);
  }
  void visit_state(const VisitState& f) override { moe::impl::visit_state_of(router_, f); }
  void visit_state(const ReadState& f) const override { moe::impl::visit_state_of(router_, f); }
  void visit_names(const VisitNames& f) const override { moe::impl::visit_names_of("router", router_, f); }
  void on_step_end(const moe::RouteStats& stats) override { moe::impl::on_step_end_of(router_, stats); }
  void initialise(std::uint64_t seed) override {
    if constexpr (requires { router_.scorer(); }) initialise_scorer(router_.scorer(), seed);
  }
  void settle() override {
    if constexpr (requires { router_.scorer().fix(); }) router_.scorer().fix();
  }

 private:
  R router_;
};

}  // namespace impl

/// A router that owns any other. To the layer it is as coupled as a router can be, so that it wants segments;
/// what the other's routes depend on is coupled().
class AnyRouter {
 public:
  static constexpr const char* kName = "any";
  using Real = float;
  class Tape {
    friend class AnyRouter;
    ErasedRouter::Held held_;
  };
  class Gradients {
    friend class AnyRouter;
    explicit Gradients(ErasedRouter::Held held) : held_(std::move(held)) {}
    ErasedRouter::Held held_;
  };

  template <class R>
  requires(!std::is_same_v<R, AnyRouter> &&
           moe::TrainableRouter<R>)  // in this order: the concept asks of copies
      explicit AnyRouter(R router)
      : held_(std::make_unique<impl::HeldRouter<R>>(std::move(router))) {}

  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::per_batch; }
  moe::Coupling coupled(bool training) const { return held_->coupled(training); }
  Index experts() const { return held_->experts(); }
  /// N: experts, and outputs that stand for none.
  Index outputs() const { return held_->outputs(); }
  Index width() const { return held_->width(); }
  Index max_pairs(const moe::CallShape& shape) const { return held_->max_pairs(shape); }
  moe::WeightPlace weight_place() const { return held_->weight_place(); }
  /// The scorer's parameters, where they are not drawn when it is made.
  void initialise(std::uint64_t seed) { held_->initialise(seed); }
  /// No more training: what can be made once is made, not in every call.
  void settle() { held_->settle(); }

  void measure(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const {
    held_->measure(arena, shape, concurrency);
  }
  void measure_backward(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const {
    held_->measure_backward(arena, shape, concurrency);
  }
  /// Of routers that hand something on, and of those that read probes (layer/probe/probing_layer.hpp).
  Index carry_width() const { return held_->carry_width(); }
  bool may_probe(bool training) const { return held_->may_probe(training); }
  bool probes(const ErasedRouter::Input& in) const { return held_->probes(in); }

  template <moe::Executor X>
  void route(const ErasedRouter::Input& in, ErasedRouter::Table& table, moe::Arena& arena,
             X& executor) const {
    route_observed(in, table, nullptr, {}, arena, executor);
  }
  template <moe::Executor X>
  void route_train(const ErasedRouter::Input& in, ErasedRouter::Table& table, Tape& tape, moe::Arena& arena,
                   X& executor) const {
    route_observed(in, table, &tape, {}, arena, executor);
  }
  /// The view stays as it is if the router shows nothing. With a tape routers that are means of their rows
  /// collect these here, for on_step_end().
  template <moe::Executor X>
  void route_observed(const ErasedRouter::Input& in, ErasedRouter::Table& table, Tape* tape,
                      const ErasedRouter::View& view, moe::Arena& arena, X& executor) const {
    moe::AnyExecutor any(executor);
    held_->route(in, table, tape == nullptr ? nullptr : &tape->held_, view, arena, any);
  }
  template <moe::Executor X>
  void backward(const ErasedRouter::Input& in, const ErasedRouter::Table& table, const Tape& tape,
                const moe::RouteGradients<float>& out, Gradients* gradients, moe::Arena& arena,
                X& executor) const {
    moe::AnyExecutor any(executor);
    held_->backward(in, table, tape.held_, out, of(gradients), arena, any);
  }

  void check_backward(const ErasedRouter::Input& in, const ErasedRouter::Table& table, const Tape& tape,
                      const moe::RouteGradients<float>& out) const {
    held_->check_backward(in, table, tape.held_, out);
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
    held_->visit_state(ErasedRouter::VisitState(std::ref(f)));
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    std::as_const(*held_).visit_state(ErasedRouter::ReadState(std::ref(f)));
  }
  template <class Visitor>
  void visit_names(const char*, Visitor& f) const {
    held_->visit_names(std::ref(f));
  }
  void on_step_end(const moe::RouteStats& stats) { held_->on_step_end(stats); }

 private:
  static void* of(Gradients* gradients) noexcept {
    return gradients == nullptr ? nullptr : gradients->held_.get();
  }

  std::unique_ptr<ErasedRouter> held_;
};

}  // namespace example
