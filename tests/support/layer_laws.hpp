// What must hold for every layer, of whatever kind: MoeLayer, soft layers, layers of layers. A line in the
// test of a layer's header:
//
//   TEST_CASE("Chain: laws") { test::check_layer("Chain", [] { return moe::chain_of_experts<double>(...); });
//   }
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/describe.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/catch.hpp"
#include "support/visits.hpp"

namespace test {

/// A layer in double behind virtual calls, so that the laws compile once.
class ErasedLayer {
 public:
  /// A tape or gradients, and who deletes them.
  using Held = std::unique_ptr<void, void (*)(void*)>;
  using Visit = ParameterVisit<double>;
  struct Back {
    moe::ConstMatrixView<double> dy;
    moe::MatrixView<double> dx{};
    double auxiliary_scale = 1;
  };

  virtual ~ErasedLayer() = default;
  virtual moe::Coupling coupling(bool training) const = 0;
  virtual Index width() const = 0;
  virtual Index carry_width() const = 0;
  virtual Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode, Index concurrency) const = 0;
  virtual void forward(const moe::LayerInput<double>& in, moe::LayerOutput<double>& out, moe::Workspace& ws,
                       AnyExecutor executor) const = 0;
  virtual void train(const moe::LayerInput<double>& in, moe::LayerOutput<double>& out, void* tape,
                     moe::Workspace& ws, AnyExecutor executor) const = 0;
  /// Null gradients: all parameters are frozen.
  virtual void back(const void* tape, const Back& rows, void* gradients, moe::Workspace& ws,
                    AnyExecutor executor) const = 0;
  virtual Held make_tape() const = 0;
  virtual Held make_gradients() const = 0;
  virtual void visit(void* gradients, const Visit& visit) = 0;
};

/// A call that the laws are asked of. Rows are standard normal, as are the parameters over the root of their
/// inputs.
struct LayerCall {
  Index tokens = 7;
  std::vector<Index> ends{0, 3, 3, 7};  // segments; used by layers that couple rows
  std::uint64_t seed = 1;
  bool draw_parameters = true;  // false: as the layer comes
  bool padding = true;          // a call with rows that take no part as well
  bool gradients = true;        // false: estimators, whose test enumerates
  Index most = 40;              // entries of each parameter that are compared with differences
  double step = 1e-4;           // of the differences
  /// Columns that the layer needs, for the rows with these numbers (laws take rows out and permute them).
  std::function<void(moe::LayerInput<double>& in, const std::vector<Index>& rows)> columns{};
};

void check_erased_layer(const std::string& name, const std::function<std::unique_ptr<ErasedLayer>()>& make,
                        const std::function<std::unique_ptr<ErasedLayer>()>& other, const LayerCall& call);

template <class L>
class LayerEraser final : public ErasedLayer {
  static_assert(moe::TokenLayer<L> && std::same_as<typename L::Real, double>);

 public:
  explicit LayerEraser(L layer) : layer_(std::move(layer)) {}

  moe::Coupling coupling(bool training) const override { return layer_.coupling(training); }
  Index width() const override { return layer_.width(); }
  Index carry_width() const override { return moe::impl::carry_width_of(layer_); }
  Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode, Index concurrency) const override {
    return layer_.workspace_bytes(shape, mode, concurrency);
  }
  void forward(const moe::LayerInput<double>& in, moe::LayerOutput<double>& out, moe::Workspace& ws,
               AnyExecutor executor) const override {
    layer_.forward(in, out, ws, executor);
  }
  void train(const moe::LayerInput<double>& in, moe::LayerOutput<double>& out, void* tape, moe::Workspace& ws,
             AnyExecutor executor) const override {
    layer_.forward_train(in, out, *static_cast<Tape*>(tape), ws, executor);
  }
  void back(const void* tape, const Back& rows, void* gradients, moe::Workspace& ws,
            AnyExecutor executor) const override {
    typename L::LayerGradients out;
    if (gradients != nullptr) {
      out = typename L::LayerGradients(rows.dy, rows.dx, *static_cast<Gradients*>(gradients));
    } else {
      out.dy = rows.dy;
      out.dx = rows.dx;
    }
    out.auxiliary_scale = rows.auxiliary_scale;
    layer_.backward(*static_cast<const Tape*>(tape), out, ws, executor);
  }
  Held make_tape() const override {
    return {new Tape(layer_.make_tape()), [](void* tape) { delete static_cast<Tape*>(tape); }};
  }
  Held make_gradients() const override {
    return {new Gradients(layer_.make_gradients()), [](void* g) { delete static_cast<Gradients*>(g); }};
  }
  void visit(void* gradients, const Visit& visit) override {
    layer_.visit_parameters(*static_cast<Gradients*>(gradients), visit);
  }

 private:
  using Tape = typename L::Tape;
  using Gradients = typename L::Gradients;
  L layer_;
};

void check_printed(const std::string& text);
/// Counts parameters that are not there.
ErasedLayer::Visit absent_counter(Index& absent);
void check_no_absent(Index absent);

/// What was moved from shows no parameter that is not there, and a layer that names its parts prints.
template <class L>
void check_shown(L layer) {
  if constexpr (moe::NamesParts<L>) {
    std::ostringstream text;
    text << layer;
    check_printed(text.str());
  }
  const L there = std::move(layer);
  static_cast<void>(there);
  Index absent = 0;
  const ErasedLayer::Visit count = absent_counter(absent);
  layer.visit_parameters(count);
  check_no_absent(absent);
}

template <class Make>
auto erased_maker(const Make& make) {
  using L = std::invoke_result_t<Make>;
  return [&make] { return std::unique_ptr<ErasedLayer>(new LayerEraser<L>(make())); };
}
/// `make()` gives the layer by value.
template <std::invocable Make>
void check_layer(const std::string& name, const Make& make, const LayerCall& call = {}) {
  check_shown(make());
  check_erased_layer(name, erased_maker(make), {}, call);
}
/// `other` gives one of another shape, whose gradients are to be refused.
template <std::invocable Make, std::invocable Other>
void check_layer(const std::string& name, const Make& make, const Other& other, const LayerCall& call = {}) {
  static_assert(std::same_as<std::invoke_result_t<Make>, std::invoke_result_t<Other>>);
  check_shown(make());
  check_erased_layer(name, erased_maker(make), erased_maker(other), call);
}

}  // namespace test
