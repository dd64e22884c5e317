// A layer described by data, built of the library's real parts and erased: what sweeping tests work with. The
// types are instantiated once, in test_layer_float.cpp and test_layer_double.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <typeindex>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/storage/parameter.hpp"
#include "support/any_executor.hpp"
#include "support/erased_bank.hpp"
#include "support/naive_layer.hpp"

namespace test {

using moe::ConstMatrixView;
using moe::MatrixView;

/// Token-choice routers that the naive layer does not know.
enum class Named { none, noisy, gshard };

/// `naive` says which parts and holds no parameters yet; the rest are sizes and training options. Block
/// formats are in float only.
struct LayerSpec {
  NaiveLayer naive;
  int width = 4, hidden = 5, latent_width = 3, vocabulary = 11;
  bool router_bias = false, expert_bias = false;
  double load_balance = 0, z_loss = 0, sequence_balance = 0, jitter = 0;
  moe::NonFinite non_finite = moe::NonFinite::throw_;
  Named named = Named::none;
  std::uint64_t seed = 1;

  int experts() const { return naive.router.experts; }
  int outputs = 1;  // of the router: experts, then null experts
};

template <class Real>
class TestLayer {
 public:
  using Visit = std::function<void(const std::string&, moe::ParameterView<Real>, moe::ParameterView<Real>)>;

  using VisitRounded = std::function<void(const std::string&, ConstMatrixView<Real>)>;

  virtual ~TestLayer() = default;
  virtual moe::Coupling coupling(bool training) const = 0;
  virtual Index workspace_bytes(const moe::CallShape& shape, moe::Mode mode, Index concurrency) const = 0;
  virtual void forward(const moe::LayerInput<Real>& in, moe::LayerOutput<Real>& out, moe::Workspace& ws,
                       AnyExecutor executor) const = 0;
  /// Keeps its tape.
  virtual void forward_train(const moe::LayerInput<Real>& in, moe::LayerOutput<Real>& out, moe::Workspace& ws,
                             AnyExecutor executor) = 0;
  /// From the kept tape; parameter gradients start from 0 and are kept.
  virtual void backward(ConstMatrixView<Real> dy, MatrixView<Real> dx, double auxiliary_scale,
                        moe::Workspace& ws, AnyExecutor executor) = 0;
  /// From the tape that `tape_of` keeps, added to the gradients that `gradients_of` keeps. False, and nothing
  /// is done, if one is of another type than this layer.
  virtual bool backward_with(const TestLayer& tape_of, TestLayer& gradients_of, ConstMatrixView<Real> dy,
                             MatrixView<Real> dx, moe::Workspace& ws) const = 0;
  /// A layer that this one, its tape and its gradients are moved to.
  virtual std::unique_ptr<TestLayer> taken() = 0;
  /// Moves a part out of the layer.
  enum class Part { router, experts, shared, frame };
  virtual void lose(Part part) = 0;
  /// Every parameter, with the gradient of the last backward.
  virtual void visit(const Visit& visit) = 0;
  /// The matrices that the kernels multiply with and visit() does not show, because they are rounded.
  virtual void visit_rounded(const VisitRounded& visit) const = 0;
  virtual void visit_state(const std::function<void(const std::string&, double*, Index)>& visit) = 0;
  virtual const moe::RouteTable<Real>& routes() const = 0;
  virtual const moe::DispatchPlan<Real>& plan() const = 0;

  // The layer's whole interface, for calls with what is another layer's: tapes and gradients of one layer go
  // into the calls of every layer of the same type().
  using Held = std::shared_ptr<void>;
  using VisitRange = std::function<void(const std::string&, Real* values, Real* gradients, Index)>;
  using VisitPacked = std::function<void(const std::string&, std::byte*, Index)>;
  struct Back {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};
    double auxiliary_scale = 1;
    ConstMatrixView<Real> dlogit{};  // from outside, as are:
    std::span<const double> advantage{};
    std::span<const bool> frozen_pair{};
  };

  virtual std::type_index type() const = 0;
  virtual Held make_tape() const = 0;
  virtual Held make_gradients() const = 0;
  virtual void train(const moe::LayerInput<Real>& in, moe::LayerOutput<Real>& out, void* tape,
                     moe::Workspace& ws, AnyExecutor executor) const = 0;
  /// P of the call on a tape.
  virtual Index pairs(const void* tape) const = 0;
  virtual void back(const void* tape, const Back& rows, void* gradients, moe::Workspace& ws,
                    AnyExecutor executor) const = 0;
  virtual void visit_gradients(void* gradients, const Visit& visit) = 0;
  virtual void visit_ranges(void* gradients, const VisitRange& visit) = 0;
  virtual void visit_packed(const VisitPacked& visit) = 0;
  /// They are moved-from then.
  virtual void move_tape(void* tape) const = 0;
  virtual void move_gradients(void* gradients) const = 0;
  /// The routed experts alone; lives as long as the layer.
  virtual const ErasedBank<Real>& bank() const = 0;
};

/// Parameters are drawn from N(0, 1/inputs), biases too, so that nothing is zero.
template <class Real>
std::unique_ptr<TestLayer<Real>> make_layer(const LayerSpec& spec);
extern template std::unique_ptr<TestLayer<float>> make_layer<float>(const LayerSpec& spec);
extern template std::unique_ptr<TestLayer<double>> make_layer<double>(const LayerSpec& spec);

/// The naive layer with the parameters of `layer`.
template <class Real>
NaiveLayer naive_of(const LayerSpec& spec, TestLayer<Real>& layer) {
  NaiveLayer naive = spec.naive;
  const auto add = [&](const std::string& name, const auto& value) {
    std::vector<Row>& rows = naive.parameter[name];
    for (Index o = 0; o < value.rows; ++o) {
      rows.emplace_back();
      for (Index i = 0; i < value.cols; ++i) rows.back().emplace_back(static_cast<double>(value(o, i)));
    }
  };
  layer.visit([&](const std::string& name, moe::ParameterView<Real> value, moe::ParameterView<Real>) {
    add(name, value);
  });
  layer.visit_rounded(add);
  return naive;
}

/// Memory of one call's input and output.
template <class Real>
struct Batch {
  std::vector<Real> x, y, mask;
  std::vector<Index> offsets;  // empty: no segments given
  std::vector<moe::TokenId> token_id;
  std::vector<std::uint64_t> row_key;
  std::unique_ptr<bool[]> valid;  // null: all
  Index tokens = 0, width = 0, outputs = 0;

  /// Standard normal rows.
  Batch(const LayerSpec& spec, Index tokens_, std::mt19937_64& random)
      : x(static_cast<std::size_t>(tokens_ * spec.width)),
        y(x.size(), Real(7)),
        tokens(tokens_),
        width(spec.width),
        outputs(spec.outputs) {
    std::normal_distribution<double> normal;
    for (Real& v : x) v = static_cast<Real>(normal(random));
    for (Index t = 0; t < tokens; ++t) {
      token_id.push_back(static_cast<moe::TokenId>(random() % static_cast<std::uint64_t>(spec.vocabulary)));
      row_key.push_back(random());
    }
  }

  ConstMatrixView<Real> x_view() const { return {x.data(), tokens, width}; }
  MatrixView<Real> y_view() { return {y.data(), tokens, width}; }

  moe::LayerInput<Real> input() const {
    moe::LayerInput<Real> in(x_view());
    in.token_id = token_id;
    in.row_key = row_key;
    if (!offsets.empty()) in.segments = moe::Segments(std::span<const Index>(offsets));
    if (valid) in.valid = std::span<const bool>(valid.get(), static_cast<std::size_t>(tokens));
    if (!mask.empty()) {
      in.logit_mask = ConstMatrixView<Real>(mask.data(), static_cast<Index>(mask.size()) / outputs, outputs);
    }
    return in;
  }

  NaiveCall naive() const {
    NaiveCall call;
    for (Index t = 0; t < tokens; ++t) {
      call.x.emplace_back();
      for (Index j = 0; j < width; ++j)
        call.x.back().emplace_back(static_cast<double>(x[static_cast<std::size_t>(t * width + j)]));
      call.token_id.push_back(token_id[static_cast<std::size_t>(t)]);
      call.valid.push_back(!valid || valid[static_cast<std::size_t>(t)]);
      if (mask.empty()) continue;
      const Index row = static_cast<Index>(mask.size()) == outputs ? 0 : t;
      call.mask.emplace_back(mask.begin() + row * outputs, mask.begin() + (row + 1) * outputs);
    }
    if (offsets.empty()) {
      call.segment_end.push_back(static_cast<int>(tokens));
    } else {
      for (std::size_t s = 1; s < offsets.size(); ++s)
        call.segment_end.push_back(static_cast<int>(offsets[s]));
    }
    return call;
  }
};

}  // namespace test
