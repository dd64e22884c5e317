// A layer of a released model behind one type, whatever its parts and its storage: erased once per call, not
// inside it. load_layer() of moe/models/file/load_layer.hpp makes one from a model's folder.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/moved.hpp"
#include "moe/executor/any.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/describe.hpp"
#include "moe/layer/frame/any.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/any.hpp"
#include "moe/models/any/any_parts.hpp"
#include "moe/models/preset/spec.hpp"
#include "moe/plan/capacity/dropless.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

using moe::operator<<;  // of layers: found for an AnyLayer by its namespace

/// What an AnyLayer holds.
template <class Storage, class Capacity = Dropless>
using ModelLayer =
    MoeLayer<OptionsRouter<float>, AnyBank<Storage>, Capacity, AnyShared<FeedForward<Storage>>, AnyFrame<>>;

/// Parts of a layer that training may change.
struct Trained {
  bool router = true;
  bool experts = true;
  bool shared = true;
  bool frame = true;
};

/// Borrows a callable; for visitors behind a virtual call.
template <class Signature>
class FunctionRef;
template <class... Args>
class FunctionRef<void(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>) FunctionRef(F& f)
  noexcept  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Args... args) { (*static_cast<F*>(object))(args...); }) {}
  void operator()(Args... args) const { call_(object_, args...); }

 private:
  void* object_;
  void (*call_)(void*, Args...);
};

namespace impl {

/// Its address stands for the type: what dynamic_cast would tell, without run-time type information.
template <class T>
inline constexpr char kTypeOf = 0;

class ErasedTape {
 public:
  virtual ~ErasedTape() = default;
  virtual const char* type() const noexcept = 0;
  virtual Index tokens() const noexcept = 0;
  virtual const RouteTable<float>& routes() const noexcept = 0;
  virtual const DispatchPlan<float>& plan() const noexcept = 0;
};
class ErasedGradients {
 public:
  virtual ~ErasedGradients() = default;
  virtual const char* type() const noexcept = 0;
};

/// AnyLayer::Backward with erased gradients.
struct ErasedBackward {
  ConstMatrixView<float> dy, dlogit, dcarry_out;
  MatrixView<float> dx, router_dx, dcarry;
  double auxiliary_scale = 1;
  Column<double> advantage;
  Column<bool> frozen_pair;
  ErasedGradients* gradients = nullptr;
  Trained trained{};
};

class ErasedLayer {
 public:
  using VisitParameter = FunctionRef<void(const Parameter<float>&)>;
  using VisitStorage = FunctionRef<void(const char*, float*, float*, Index)>;
  using VisitPacked = FunctionRef<void(const char*, std::byte*, Index)>;
  using VisitNames = FunctionRef<void(const char*, const char*)>;
  using VisitState = FunctionRef<void(const char*, double*, Index)>;
  using ReadState = FunctionRef<void(const char*, const double*, Index)>;

  virtual ~ErasedLayer() = default;
  virtual const char* type() const noexcept = 0;
  virtual Coupling coupling(bool training) const noexcept = 0;
  virtual void visit_names(VisitNames f) const = 0;
  virtual Index bytes() const noexcept = 0;
  virtual Index carry_width() const noexcept = 0;
  virtual Index workspace_bytes(const CallShape& shape, Mode mode, Index concurrency) const = 0;
  virtual void forward(const LayerInput<float>& in, LayerOutput<float>& out, Workspace& workspace,
                       AnyExecutor executor) const = 0;
  virtual std::unique_ptr<ErasedTape> make_tape() const = 0;
  virtual void forward_train(const LayerInput<float>& in, LayerOutput<float>& out, ErasedTape& tape,
                             Workspace& workspace, AnyExecutor executor) const = 0;
  virtual void backward(const ErasedTape& tape, const ErasedBackward& call, Workspace& workspace,
                        AnyExecutor executor) const = 0;
  virtual std::unique_ptr<ErasedGradients> make_gradients() const = 0;
  virtual void visit_parameters(ErasedGradients* gradients, VisitParameter f) = 0;
  virtual void visit_storage(ErasedGradients* gradients, Trained trained, VisitStorage f) = 0;
  virtual void visit_packed(VisitPacked f) = 0;
  virtual void visit_state(VisitState f) = 0;
  virtual void visit_state(ReadState f) const = 0;
  virtual void on_step_end(const RouteStats& stats) = 0;
};

template <class Layer>
class ErasedModel final : public ErasedLayer {
  struct Tape final : ErasedTape {
    typename Layer::Tape tape;
    const char* type() const noexcept override { return &kTypeOf<Layer>; }
    Index tokens() const noexcept override { return tape.tokens(); }
    const RouteTable<float>& routes() const noexcept override { return tape.routes(); }
    const DispatchPlan<float>& plan() const noexcept override { return tape.plan(); }
  };
  struct Gradients final : ErasedGradients {
    explicit Gradients(typename Layer::Gradients g) : gradients(std::move(g)) {}
    const char* type() const noexcept override { return &kTypeOf<Layer>; }
    typename Layer::Gradients gradients;
  };

 public:
  explicit ErasedModel(Layer layer) : layer_(std::move(layer)) {}

  const Layer& layer() const noexcept { return layer_; }
  const char* type() const noexcept override { return &kTypeOf<Layer>; }
  Coupling coupling(bool training) const noexcept override { return Layer::coupling(training); }
  Index carry_width() const noexcept override { return layer_.carry_width(); }
  void visit_names(VisitNames f) const override { layer_.visit_names(f); }
  Index bytes() const noexcept override {
    const auto of_bank = [](const auto& bank) { return bank.bytes(); };
    Index bytes = layer_.experts().visit([&](const auto& bank) {
      if constexpr (requires { bank.template bank<1>(); }) {
        return bank.template bank<0>().visit(of_bank) + bank.template bank<1>().bytes();
      } else {
        return bank.visit(of_bank);
      }
    });
    return bytes;
  }
  Index workspace_bytes(const CallShape& shape, Mode mode, Index concurrency) const override {
    return layer_.workspace_bytes(shape, mode, concurrency);
  }
  void forward(const LayerInput<float>& in, LayerOutput<float>& out, Workspace& workspace,
               AnyExecutor executor) const override {
    layer_.forward(in, out, workspace, executor);
  }
  std::unique_ptr<ErasedTape> make_tape() const override { return std::make_unique<Tape>(); }
  void forward_train(const LayerInput<float>& in, LayerOutput<float>& out, ErasedTape& tape,
                     Workspace& workspace, AnyExecutor executor) const override {
    layer_.forward_train(in, out, own(tape).tape, workspace, executor);
  }
  void backward(const ErasedTape& tape, const ErasedBackward& erased, Workspace& workspace,
                AnyExecutor executor) const override {
    typename Layer::LayerGradients call = trained_gradients(erased.gradients, erased.trained);
    call.dy = erased.dy;
    call.dx = erased.dx;
    call.router_dx = erased.router_dx;
    call.auxiliary_scale = erased.auxiliary_scale;
    call.dlogit = erased.dlogit;
    call.advantage = erased.advantage.borrow();
    call.frozen_pair = erased.frozen_pair.borrow();
    call.dcarry_out = erased.dcarry_out;
    call.dcarry = erased.dcarry;
    layer_.backward(own(tape).tape, call, workspace, executor);
  }
  std::unique_ptr<ErasedGradients> make_gradients() const override {
    return std::make_unique<Gradients>(layer_.make_gradients());
  }
  void visit_parameters(ErasedGradients* gradients, VisitParameter f) override {
    if (gradients == nullptr) {
      layer_.visit_parameters(f);
    } else {
      layer_.visit_parameters(own(*gradients).gradients, f);
    }
  }
  void visit_storage(ErasedGradients* gradients, Trained trained, VisitStorage f) override {
    layer_.visit_storage(trained_gradients(gradients, trained), f);
  }
  void visit_packed(VisitPacked f) override { layer_.visit_packed(f); }
  void visit_state(VisitState f) override { layer_.visit_state(f); }
  void visit_state(ReadState f) const override { layer_.visit_state(f); }
  void on_step_end(const RouteStats& stats) override { layer_.on_step_end(stats); }

 private:
  /// Constness is kept.
  template <class Erased>
  requires std::is_same_v<std::remove_const_t<Erased>, ErasedTape>
  static auto& own(Erased& tape) {
    using Own = std::conditional_t<std::is_const_v<Erased>, const Tape, Tape>;
    if (tape.type() == &kTypeOf<Layer>) return static_cast<Own&>(tape);
    fail<state_error>("tape: expected one of this layer's make_tape(), got one of another kind of layer");
  }
  static Gradients& own(ErasedGradients& gradients) {
    if (gradients.type() == &kTypeOf<Layer>) return static_cast<Gradients&>(gradients);
    fail<shape_error>(
        "gradients: expected those of this layer's make_gradients(), got those of another kind of layer");
  }

  static typename Layer::LayerGradients trained_gradients(ErasedGradients* gradients, Trained trained) {
    if (gradients == nullptr) return {};
    typename Layer::LayerGradients call({}, {}, own(*gradients).gradients);
    if (!trained.router) call.router = nullptr;
    if (!trained.experts) call.experts = nullptr;
    if (!trained.shared) call.shared = nullptr;
    if (!trained.frame) call.frame = nullptr;
    return call;
  }

  Layer layer_;
};

}  // namespace impl

/// A layer of T x D rows of float. Const calls may run at the same time on different workspaces.
class AnyLayer : public moe::impl::RefusedCalls<AnyLayer> {
  using Refused = moe::impl::RefusedCalls<AnyLayer>;

  template <class T>
  static T& there(const char* what, const std::unique_ptr<T>& held) {
    moe::impl::require_there(what, held != nullptr);
    return *held;
  }

 public:
  using Real = float;
  /// What a backward needs of a forward_train; reusable.
  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none; then routes and plan must not be asked for.
    Index tokens() const noexcept { return tape_ ? tape_->tokens() : 0; }
    /// The chosen experts and weights of every token, first choice first.
    const RouteTable<float>& routes() const { return erased().routes(); }
    const DispatchPlan<float>& plan() const { return erased().plan(); }

   private:
    friend class AnyLayer;
    explicit Tape(std::unique_ptr<impl::ErasedTape> tape) : tape_(std::move(tape)) {}
    impl::ErasedTape& erased() const { return there("tape", tape_); }
    std::unique_ptr<impl::ErasedTape> tape_;
  };
  /// Of all parameters, same layout.
  class Gradients {
    friend class AnyLayer;
    explicit Gradients(std::unique_ptr<impl::ErasedGradients> g) : gradients_(std::move(g)) {}
    impl::ErasedGradients& erased() const { return there("gradients", gradients_); }
    std::unique_ptr<impl::ErasedGradients> gradients_;
  };
  /// In: dy, which parts are trained, the scale of the auxiliary losses, and what comes from outside, as of
  /// MoeLayer::LayerGradients. Out: dx (overwritten, may be
  /// absent), router_dx (only for calls with router_x), and added to: the gradients of the trained parts
  /// (null: none).
  struct Backward {
    ConstMatrixView<float> dy;
    MatrixView<float> dx{};
    MatrixView<float> router_dx{};
    double auxiliary_scale = 1;
    Gradients* gradients = nullptr;
    Trained trained{};
    ConstMatrixView<float> dlogit{};      // [T, N] or absent
    Column<double> advantage{};           // [T] or empty
    Column<bool> frozen_pair{};           // [P] or empty
    ConstMatrixView<float> dcarry_out{};  // [T, R] or absent
    MatrixView<float> dcarry{};           // [T, R] or absent; overwritten
  };
  using LayerGradients = Backward;  // as TokenLayer calls it

  /// Of a ModelLayer.
  template <class... Parts>
  AnyLayer(LayerSpec spec, MoeLayer<Parts...> layer)
      : spec_(std::move(spec)),
        layer_(std::make_unique<impl::ErasedModel<MoeLayer<Parts...>>>(std::move(layer))) {}

  /// f(role, name) for the model and every part: see describe().
  template <class Visitor>
  void visit_names(Visitor&& f) const {
    f("model", spec_.model.c_str());
    erased().visit_names(f);
  }
  /// The layer if it is of that type, else null.
  template <class Layer>
  const Layer* get_if() const noexcept {
    if (layer_ == nullptr || layer_->type() != &impl::kTypeOf<Layer>) return nullptr;
    return &static_cast<const impl::ErasedModel<Layer>&>(*layer_).layer();
  }
  /// Which model and layer it is, its options and where its tensors came from.
  const LayerSpec& spec() const noexcept { return spec_; }
  Index width() const noexcept { return spec_.width; }
  /// R: columns of what the router hands on to the next layer's; 0: nothing.
  Index carry_width() const { return erased().carry_width(); }
  /// Ids in route tables are below; experts that compute nothing are among them.
  Index experts() const noexcept { return spec_.outputs(); }
  /// Of the routed experts' weights as they are stored.
  Index bytes() const { return erased().bytes(); }
  Coupling coupling(bool training) const { return erased().coupling(training); }

  Index workspace_bytes(const CallShape& shape, Mode mode = Mode::inference, Index concurrency = 1) const {
    return erased().workspace_bytes(shape, mode, concurrency);
  }
  Index workspace_bytes(Index tokens, Mode mode = Mode::inference, Index concurrency = 1) const {
    return workspace_bytes(CallShape{tokens, tokens}, mode, concurrency);
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// As MoeLayer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<float>& in, LayerOutput<float>& out, Workspace& workspace,
               X&& executor = X{}) const {
    erased().forward(in, out, workspace, AnyExecutor(executor));
  }
  Tape make_tape() const { return Tape(erased().make_tape()); }
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<float>& in, LayerOutput<float>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const {
    erased().forward_train(in, out, tape.erased(), workspace, AnyExecutor(executor));
  }
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const Backward& call, Workspace& workspace, X&& executor = X{}) const {
    const impl::ErasedBackward erased_call{
        .dy = call.dy,
        .dlogit = call.dlogit,
        .dcarry_out = call.dcarry_out,
        .dx = call.dx,
        .router_dx = call.router_dx,
        .dcarry = call.dcarry,
        .auxiliary_scale = call.auxiliary_scale,
        .advantage = call.advantage.borrow(),
        .frozen_pair = call.frozen_pair.borrow(),
        .gradients = call.gradients == nullptr ? nullptr : &call.gradients->erased(),
        .trained = call.trained};
    erased().backward(tape.erased(), erased_call, workspace, AnyExecutor(executor));
  }

  Gradients make_gradients() const { return Gradients(erased().make_gradients()); }
  void zero_gradients(Gradients& gradients) const {
    const auto zero = [](const char*, float*, float* g, Index n) {
      for (Index i = 0; i < n; ++i) g[i] = 0;
    };
    erased().visit_storage(&gradients.erased(), {}, zero);
  }
  /// f(const Parameter<float>&), values only. Weights in block storages are not among them.
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    erased().visit_parameters(nullptr, f);
  }
  template <class Visitor>
  void visit_parameters(Gradients& gradients, Visitor&& f) {
    erased().visit_parameters(&gradients.erased(), f);
  }
  /// f(name, float* values, float* gradients, n).
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) {
    erased().visit_storage(&gradients.erased(), {}, f);
  }
  /// The same with the gradients of a backward; null for the parts that it froze.
  template <class Visitor>
  void visit_storage(const Backward& call, Visitor&& f) {
    erased().visit_storage(call.gradients == nullptr ? nullptr : &call.gradients->erased(), call.trained, f);
  }
  /// f(name, std::byte* data, bytes): weights of a block storage as they lie in memory.
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    erased().visit_packed(f);
  }
  /// f(name, double* values, n): selection biases, factors of experts.
  template <class Visitor>
  void visit_state(Visitor&& f) {
    erased().visit_state(impl::ErasedLayer::VisitState(f));
  }
  /// The same of a const layer, as MoeLayer's.
  template <class Visitor>
  void visit_parameters(Visitor&& f) const {
    const moe::impl::ReadingVisitor reading(f);
    erased().visit_parameters(nullptr, reading);
  }
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) const {
    const moe::impl::ReadingVisitor reading(f);
    erased().visit_storage(&gradients.erased(), {}, reading);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) const {
    const moe::impl::ReadingVisitor reading(f);
    erased().visit_packed(reading);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) const {
    std::as_const(erased()).visit_state(impl::ErasedLayer::ReadState(f));
  }
  void on_step_end(const RouteStats& stats) { erased().on_step_end(stats); }

 private:
  impl::ErasedLayer& erased() const { return there("layer", layer_); }

  LayerSpec spec_;
  std::unique_ptr<impl::ErasedLayer> layer_;
};

}  // namespace models
MOE_NAMESPACE_END
