// A router behind virtual calls: what is written over it (the laws, the gradient checks, the sweeps) compiles
// once, and a router costs one adapter. For tests only.
#pragma once

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/router/concept.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"

namespace test {

/// The members of a router; tapes and gradients behind void pointers. What only trainable routers have must
/// not be called on others.
template <class RealType>
class ErasedRouter {
 public:
  using Real = RealType;
  using Held = std::shared_ptr<void>;
  using VisitParameter = std::function<void(const moe::Parameter<Real>&)>;
  using VisitState = std::function<void(const char*, double*, Index)>;

  virtual ~ErasedRouter() = default;
  virtual bool trainable() const = 0;
  virtual moe::Coupling coupling(bool training) const = 0;
  virtual Index experts() const = 0;
  virtual Index outputs() const = 0;  // columns of the logit mask
  virtual Index width() const = 0;
  virtual Index carry_width() const = 0;  // columns of the carry
  virtual Index max_pairs(const moe::CallShape& shape) const = 0;
  virtual void measure(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const = 0;
  virtual void measure_backward(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const = 0;
  virtual void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, moe::Arena& arena,
                     AnyExecutor& executor) const = 0;
  virtual void route_train(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, void* tape,
                           moe::Arena& arena, AnyExecutor& executor) const = 0;
  virtual void backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table,
                        const void* tape, const moe::RouteGradients<Real>& out, void* gradients,
                        moe::Arena& arena, AnyExecutor& executor) const = 0;
  virtual Held make_tape() const = 0;
  virtual Held make_gradients() const = 0;
  virtual void visit_parameters(void* gradients, const VisitParameter& visit) = 0;
  virtual void visit_state(const VisitState& visit) = 0;
  virtual void on_step_end(const moe::RouteStats& stats) = 0;
  /// False: it has no such policy.
  virtual bool set_non_finite(moe::NonFinite policy) = 0;
};

/// A router of the caller's, by reference.
template <moe::Router R>
class RouterRef final : public ErasedRouter<typename R::Real> {
 public:
  using Real = typename R::Real;
  using Base = ErasedRouter<Real>;
  using typename Base::Held;

  explicit RouterRef(R& router) : router_(router) {}

  bool trainable() const override { return kTrainable; }
  moe::Coupling coupling(bool training) const override { return router_.coupling(training); }
  Index experts() const override { return router_.experts(); }
  Index outputs() const override {
    if constexpr (requires { router_.outputs(); }) {
      return router_.outputs();
    } else {
      return router_.experts();
    }
  }
  Index width() const override { return router_.width(); }
  Index carry_width() const override { return moe::impl::carry_width_of(router_); }
  Index max_pairs(const moe::CallShape& shape) const override {
    return moe::impl::max_pairs_of(router_, shape);
  }
  void measure(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const override {
    moe::impl::measure_of(router_, arena, shape, concurrency);
  }
  void route(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, moe::Arena& arena,
             AnyExecutor& executor) const override {
    std::as_const(router_).route(in, table, arena, executor);
  }
  void measure_backward(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const override {
    if constexpr (kTrainable) moe::impl::measure_backward_of(router_, arena, shape, concurrency);
  }
  void route_train(const moe::RouterInput<Real>& in, moe::RouteTable<Real>& table, void* tape,
                   moe::Arena& arena, AnyExecutor& executor) const override {
    if constexpr (kTrainable) {
      moe::impl::route_train_of(std::as_const(router_), in, table, *static_cast<typename R::Tape*>(tape),
                                arena, executor);
    }
  }
  void backward(const moe::RouterInput<Real>& in, const moe::RouteTable<Real>& table, const void* tape,
                const moe::RouteGradients<Real>& out, void* gradients, moe::Arena& arena,
                AnyExecutor& executor) const override {
    if constexpr (kTrainable) {
      std::as_const(router_).backward(in, table, *static_cast<const typename R::Tape*>(tape), out,
                                      static_cast<typename R::Gradients*>(gradients), arena, executor);
    }
  }
  Held make_tape() const override {
    if constexpr (kTrainable) return std::make_shared<typename R::Tape>();
    return nullptr;
  }
  Held make_gradients() const override {
    if constexpr (kTrainable)
      return std::make_shared<typename R::Gradients>(moe::impl::make_gradients_of(router_));
    return nullptr;
  }
  void visit_parameters(void* gradients, const typename Base::VisitParameter& visit) override {
    if constexpr (kTrainable) {
      auto* const g = static_cast<typename R::Gradients*>(gradients);
      moe::impl::visit_parameters_of(router_, g, visit);
    }
  }
  void visit_state(const typename Base::VisitState& visit) override {
    moe::impl::visit_state_of(router_, visit);
  }
  void on_step_end(const moe::RouteStats& stats) override {
    if constexpr (kTrainable) moe::impl::on_step_end_of(router_, stats);
  }
  bool set_non_finite(moe::NonFinite policy) override {
    if constexpr (requires { router_.set_non_finite(policy); }) {
      router_.set_non_finite(policy);
      return true;
    }
    return false;
  }

 private:
  static constexpr bool kTrainable = moe::TrainableRouter<R>;
  R& router_;
};

/// A router of its own: what `RouterRef` shows, held.
template <moe::Router R>
std::shared_ptr<ErasedRouter<typename R::Real>> own_router(R router) {
  struct Owned {
    explicit Owned(R r) : router(std::move(r)) {}
    R router;
    RouterRef<R> ref{router};
  };
  const auto owned = std::make_shared<Owned>(std::move(router));
  return {owned, &owned->ref};
}

/// `router` as an ErasedRouter, whatever it is. A const router is only ever called through const members.
template <class R>
auto erase(const R& router) {
  return RouterRef<R>(const_cast<R&>(router));
}
template <class Real>
ErasedRouter<Real>& erase(const ErasedRouter<Real>& router) {
  return const_cast<ErasedRouter<Real>&>(router);
}

}  // namespace test
