// What a layer's router hands on to the next layer's: out, in, and both gradients, for a scorer of the
// user's own and whatever stands around it.
#include <Eigen/Core>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/scorer/segment_pool.hpp"
#include "moe/router/scorer/zero_last.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Bank = moe::Glu<moe::Silu, double>;
constexpr Index kTokens = 7, kWidth = 4, kExperts = 3;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// logits = x W^T + tanh(carry), which are handed on: R = N.
struct Running : moe::LinearScorer<double> {
  using LinearScorer::LinearScorer;
  Index carry_width() const { return outputs(); }

  template <moe::Executor X>
  void logits(const moe::RouterInput<double>& in, const moe::Logits<double>& out, Tape* tape,
              moe::Arena& arena, X& executor) const {
    LinearScorer::logits(in, out, tape, arena, executor);
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; e < outputs(); ++e) {
        if (in.carry) out.value(t, e) += std::tanh(in.carry(t, e));
        out.carry(t, e) = out.value(t, e);
      }
    }
  }
  template <moe::Executor X>
  void backward(const moe::RouterInput<double>& in, const Tape& tape, const moe::Logits<double>& d,
                const moe::MatrixView<double>& dx, Gradients* gradients, moe::Arena& arena,
                X& executor) const {
    for (Index a = 0; a < d.row_count; ++a) {
      const Index t = d.rows[a];
      for (Index e = 0; e < outputs(); ++e) {
        if (d.dcarry_out) d.value(t, e) += d.dcarry_out(t, e);
        const double u = in.carry ? std::tanh(in.carry(t, e)) : 0;
        if (d.dcarry) d.dcarry(t, e) += d.value(t, e) * (1 - u * u);
      }
    }
    LinearScorer::backward(in, tape, d, dx, gradients, arena, executor);
  }
};
static_assert(moe::CarryingScorer<Running> && !moe::CarryingScorer<moe::LinearScorer<double>>);

template <class S>
using RouterOf = moe::TokenChoice<S, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;
using Router = RouterOf<Running>;
using Layer = moe::MoeLayer<Router, Bank>;
static_assert(moe::CarryingRouter<Router>);

template <class S>
RouterOf<S> router_of(S scorer) {
  return {std::move(scorer),      {}, moe::TopKSelection(2),
          moe::GatherWeighting{}, {}, moe::NonFinite::isolate_row};
}
Bank bank(std::uint64_t seed, Index experts = kExperts) {
  Bank b({.experts = experts, .width = kWidth, .hidden = 3});
  b.initialise(seed);
  return b;
}
Running running(std::uint64_t seed) {
  Running scorer({.width = kWidth, .outputs = kExperts});
  scorer.initialise(seed, 2);
  return scorer;
}
Layer layer_of(std::uint64_t seed) {
  return Layer(router_of(running(seed)), bank(seed + 10));
}
const moe::Buffer<bool>& valid() {
  static const moe::Buffer<bool> rows = [] {
    moe::Buffer<bool> v(kTokens);
    v.fill(true);
    v[2] = false;
    return v;
  }();
  return rows;
}

/// Layers one above the other: y and carry of one are x and carry of the next.
struct Stack {
  std::vector<Layer> layers;
  std::vector<Layer::Tape> tapes;
  Rows x = Rows::Random(kTokens, kWidth), carry = Rows::Random(kTokens, kExperts);
  std::vector<Rows> y, handed;
  moe::Workspace workspace;
  bool first_has_carry = true;

  explicit Stack(Index depth) {
    for (Index l = 0; l < depth; ++l) layers.push_back(layer_of(static_cast<std::uint64_t>(l + 1)));
    tapes.resize(static_cast<std::size_t>(depth));
    x.row(2).setConstant(kNan);  // padding
    carry.row(2).setConstant(kNan);
    x.row(5).setConstant(kNan);  // spoiled
  }
  void forward() {
    y.assign(layers.size(), Rows::Constant(kTokens, kWidth, 8));
    handed.assign(layers.size(), Rows::Constant(kTokens, kExperts, 8));
    for (std::size_t l = 0; l < layers.size(); ++l) {
      moe::LayerInput<double> in(l == 0 ? x : y[l - 1]);
      if (l > 0 || first_has_carry) in.carry = l == 0 ? carry : handed[l - 1];
      in.valid = valid();
      moe::LayerOutput<double> out(y[l]);
      out.carry = handed[l];
      layers[l].forward_train(in, out, tapes[l], workspace);
    }
  }
  double loss(const Rows& dy, const Rows& dcarry) {
    forward();
    double sum = 0;
    for (Index t = 0; t < kTokens; ++t) {
      if (t == 2 || t == 5) continue;
      sum += dy.row(t).dot(y.back().row(t)) + dcarry.row(t).dot(handed.back().row(t));
    }
    return sum;
  }
};

double difference(double& value, const std::function<double()>& loss) {
  const double held = value, step = 1e-5;
  value = held + step;
  const double up = loss();
  value = held - step;
  const double down = loss();
  value = held;
  return (up - down) / (2 * step);
}

}  // namespace

TEST_CASE("carry: three layers are trained through what they hand on", "[layer][smoke]") {
  for (const bool first_has_carry : {true, false}) {
    Stack stack(3);
    stack.first_has_carry = first_has_carry;
    Rows dy = Rows::Random(kTokens, kWidth), dcarry = Rows::Random(kTokens, kExperts);
    dy.row(2).setConstant(kNan), dcarry.row(2).setConstant(kNan), dcarry.row(5).setConstant(kNan);
    const auto loss = [&] { return stack.loss(dy, dcarry); };
    loss();
    std::vector<Layer::Gradients> gradients;
    for (const Layer& layer : stack.layers) gradients.push_back(layer.make_gradients());
    Rows dx = dy, dc = dcarry;
    for (std::size_t l = 3; l-- > 0;) {
      Rows dx_below = Rows::Constant(kTokens, kWidth, 8), dc_below = Rows::Constant(kTokens, kExperts, 8);
      Layer::LayerGradients back(dx, dx_below, gradients[l]);
      back.dcarry_out = dc;
      if (l > 0 || first_has_carry) back.dcarry = dc_below;
      stack.layers[l].backward(stack.tapes[l], back, stack.workspace);
      dx = dx_below, dc = dc_below;
    }
    for (const Index t : {2, 5}) {
      CHECK((dx.row(t).array() == 0).all());
      if (first_has_carry) CHECK((dc.row(t).array() == 0).all());
    }
    for (Index t = 0; t < kTokens; ++t) {
      if (t == 2 || t == 5) continue;
      for (Index j = 0; j < kWidth; ++j)
        CHECK(dx(t, j) == Approx(difference(stack.x(t, j), loss)).epsilon(1e-6).margin(1e-8));
      for (Index j = 0; first_has_carry && j < kExperts; ++j)
        CHECK(dc(t, j) == Approx(difference(stack.carry(t, j), loss)).epsilon(1e-6).margin(1e-8));
    }
    for (std::size_t l = 0; l < 3; ++l) {
      stack.layers[l].visit_parameters(gradients[l], [&](const moe::Parameter<double>& p) {
        for (Index i = 0; i < p.value.rows; ++i) {
          for (Index j = 0; j < p.value.cols; ++j) {
            const double want = difference(p.value(i, j), loss);
            CHECK(p.gradient(i, j) == Approx(want).epsilon(1e-6).margin(1e-8));
          }
        }
      });
    }
  }
}

TEST_CASE("carry: padding and spoiled rows hand on 0, others the same bits in any call", "[layer]") {
  Stack stack(1);
  stack.forward();
  const Rows handed = stack.handed[0], y = stack.y[0];
  for (const Index t : {2, 5}) CHECK((handed.row(t).array() == 0).all());
  CHECK(std::isnan(y(5, 0)));
  const Layer& layer = stack.layers[0];
  const auto forward = [&](const Rows& x, const Rows& carry, bool asks, auto&& executor) {
    Rows out_y(x.rows(), kWidth), out_carry = Rows::Constant(x.rows(), kExperts, 8);
    moe::LayerInput<double> in(x);
    in.carry = carry;
    if (x.rows() == kTokens) in.valid = valid();
    moe::LayerOutput<double> out(out_y);
    if (asks) out.carry = out_carry;
    moe::Workspace workspace;
    layer.forward(in, out, workspace, executor);
    return std::pair{out_y, out_carry};
  };
  const auto same = [](const Rows& a, const Rows& b) {  // bits
    return test::same_bits(std::vector<double>(a.data(), a.data() + a.size()),
                           std::vector<double>(b.data(), b.data() + b.size()));
  };
  moe::PoolExecutor pool(3);
  CHECK(same(forward(stack.x, stack.carry, true, moe::SerialExecutor{}).second, handed));
  CHECK(same(forward(stack.x, stack.carry, true, pool).second, handed));
  const auto [y_alone, none] = forward(stack.x, stack.carry, false, pool);
  CHECK((same(y_alone, y) && (none.array() == 8).all()));
  for (const Index t : {0, 1, 3, 4, 6}) {
    const auto [one_y, one] = forward(stack.x.row(t), stack.carry.row(t), true, moe::SerialExecutor{});
    CHECK((same(one, handed.row(t)) && same(one_y, y.row(t))));
  }
}

TEST_CASE("carry: absent and of zeros are two things only to gradients", "[layer]") {
  Stack stack(1);
  stack.carry.setZero();
  stack.forward();
  const Rows with = stack.handed[0];
  stack.first_has_carry = false;
  stack.forward();
  CHECK((with.array() == stack.handed[0].array()).all());
}

TEST_CASE("carry: workspace is exact, also where nobody asks for it", "[layer]") {
  Stack stack(1);
  const Layer& layer = stack.layers[0];
  for (const bool asks : {true, false}) {
    std::vector<std::byte> block(
        static_cast<std::size_t>(layer.workspace_bytes(kTokens, moe::Mode::training)));
    Rows y(kTokens, kWidth), handed(kTokens, kExperts);
    moe::LayerInput<double> in(stack.x);
    in.carry = stack.carry, in.valid = valid();
    moe::LayerOutput<double> out(y);
    if (asks) out.carry = handed;
    Layer::Tape tape;
    moe::Workspace exact((std::span<std::byte>(block)));
    layer.forward_train(in, out, tape, exact);
    moe::Workspace small(std::span<std::byte>(
        block.data(), static_cast<std::size_t>(layer.workspace_bytes(kTokens, moe::Mode::inference) - 1)));
    CHECK_THROWS_AS(layer.forward(in, out, small), moe::workspace_error);
  }
}

TEST_CASE("carry: a call of no rows", "[layer]") {
  const Layer layer = layer_of(1);
  Rows none(0, kWidth), handed(0, kExperts);
  moe::LayerInput<double> in(none);
  in.carry = handed;
  Rows y(0, kWidth), out_carry(0, kExperts);
  moe::LayerOutput<double> out(y);
  out.carry = out_carry;
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  layer.forward(in, out, workspace);
  layer.forward_train(in, out, tape, workspace);
  Layer::LayerGradients back(y, none, gradients);
  back.dcarry_out = out_carry, back.dcarry = handed;
  layer.backward(tape, back, workspace);
}

TEST_CASE("carry: what does not fit is refused before anything is written", "[layer]") {
  Stack stack(1);
  stack.x = Rows::Random(kTokens, kWidth), stack.carry = Rows::Random(kTokens, kExperts);
  Rows y(kTokens, kWidth), handed(kTokens, kExperts), wide(kTokens, kExperts + 1);
  moe::Workspace workspace;
  const auto untouched = [&] { return (y.array() == 8).all() && (handed.array() == 8).all(); };
  const auto refuses = [&]<class Error, class L>(std::type_identity<Error>, const L& layer,
                                                 const auto& change) {
    y.setConstant(8), handed.setConstant(8);
    moe::LayerInput<double> in(stack.x);
    in.carry = stack.carry;
    moe::LayerOutput<double> out(y);
    out.carry = handed;
    change(in, out);
    const std::string text = test::message_of<Error>([&] { layer.forward(in, out, workspace); });
    CHECK(untouched());
    return text;
  };
  constexpr std::type_identity<moe::shape_error> shape;
  constexpr std::type_identity<moe::config_error> config;
  const Layer& layer = stack.layers[0];
  const auto nothing = [](auto&, auto&) {};
  CHECK(refuses(shape, layer, [&](auto&, auto& out) { out.carry = wide; }) ==
        "moe: output carry: expected a matrix of 7 x 3, got 7 x 4");
  CHECK(refuses(shape, layer, [&](auto& in, auto&) { in.carry = wide; }) ==
        "moe: carry: expected 3 columns, got 4");
  CHECK(refuses(shape, layer, [&](auto&, auto& out) { out.carry = stack.carry; }) ==
        "moe: output carry: expected memory apart from carry, got overlapping matrices; give the output its "
        "own storage");
  CHECK(refuses(shape, layer, [&](auto&, auto& out) {
          out.carry = moe::MatrixView<double>(y.data(), kTokens, kExperts, kWidth);
        }).rfind("moe: output carry: expected memory apart from y", 0) == 0);
  // A router that hands nothing on: the column is nobody's, as any other.
  const moe::MoeLayer<moe::SoftmaxTopK<double>, Bank> plain(
      moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2}), bank(1));
  CHECK(plain.carry_width() == 0);
  CHECK(layer.carry_width() == kExperts);
  const std::string none =
      "moe: output carry: expected none for a router that hands nothing on, got a matrix of 3 columns";
  CHECK(refuses(config, plain, nothing) == none);
  const moe::MoeLayer<moe::HashRouter<double>, Bank> hashed(
      moe::HashRouter<double>(moe::HashTable::random(kTokens, kExperts, 1)), bank(1));
  CHECK(refuses(config, hashed, nothing) == none);
  // Refused by stage 2, when the router has run.
  using Drawing = moe::MoeLayer<Router, Bank, moe::FixedCapacity>;
  const Drawing drawing(
      router_of(running(1)), bank(1),
      moe::FixedCapacity({.tokens_per_expert = 1, .order = moe::CapacityOrder::random_rows_first}));
  CHECK(refuses(config, drawing, [](auto& in, auto&) {
          in.segments = moe::Segments::uniform(kTokens);
        }).find("draws") != std::string::npos);

  // Backward.
  stack.forward();
  auto gradients = layer.make_gradients();
  const Rows dy = Rows::Random(kTokens, kWidth), dc = Rows::Random(kTokens, kExperts);
  Rows dx(kTokens, kWidth), dcarry(kTokens, kExperts);
  const auto back_refuses = [&]<class Error>(std::type_identity<Error>, const Layer::Tape& tape,
                                             const auto& change) {
    dx.setConstant(8), dcarry.setConstant(8);
    Layer::LayerGradients back(dy, dx, gradients);
    back.dcarry_out = dc, back.dcarry = dcarry;
    change(back);
    const std::string text = test::message_of<Error>([&] { layer.backward(tape, back, workspace); });
    CHECK(((dx.array() == 8).all() && (dcarry.array() == 8).all()));
    return text;
  };
  const Layer::Tape& tape = stack.tapes[0];
  CHECK(back_refuses(shape, tape, [&](auto& back) { back.dcarry_out = wide; }) ==
        "moe: dcarry_out: expected a matrix of 7 x 3, got 7 x 4");
  CHECK(back_refuses(shape, tape, [&](auto& back) { back.dcarry = wide; }) ==
        "moe: dcarry: expected a matrix of 7 x 3, got 7 x 4");
  CHECK(back_refuses(shape, tape, [&](auto& back) { back.dcarry_out = dcarry; }).find("apart") !=
        std::string::npos);
  CHECK(back_refuses(shape, tape, [&](auto& back) {
          back.dcarry = moe::MatrixView<double>(dx.data(), kTokens, kExperts, kWidth);
        }).find("apart") != std::string::npos);
  Layer::Tape first;
  Rows unused(kTokens, kWidth);
  moe::LayerOutput<double> out(unused);
  layer.forward_train(stack.x, out, first, workspace);
  CHECK(back_refuses(config, first, [](auto&) {}) ==
        "moe: dcarry: expected none, for the call had no carry, got a matrix of 3 columns");
  auto plain_tape = plain.make_tape();
  plain.forward_train(stack.x, out, plain_tape, workspace);
  decltype(plain_tape) const& taped = plain_tape;
  typename std::remove_cvref_t<decltype(plain)>::LayerGradients of_plain(dy, dx);
  of_plain.dcarry_out = dc;
  CHECK(test::message_of<moe::config_error>([&] { plain.backward(taped, of_plain, workspace); }) ==
        "moe: dcarry_out: expected none for a router that hands nothing on, got a matrix of 3 columns");
}

TEST_CASE("carry: scorers around one that carries let it through, poolers refuse it", "[layer]") {
  const auto carried = [](auto scorer) {
    using S = decltype(scorer);
    const Index experts = scorer.outputs();
    const moe::MoeLayer<RouterOf<S>, Bank> layer(router_of(std::move(scorer)), bank(1, experts));
    const Rows x = Rows::Random(kTokens, kWidth);
    Rows y(kTokens, kWidth), handed = Rows::Constant(kTokens, kExperts, kNan);
    moe::LayerInput<double> in(x);
    moe::LayerOutput<double> out(y);
    out.carry = handed;
    moe::Workspace workspace;
    layer.forward(in, out, workspace);
    return Rows(handed);
  };
  std::srand(5);
  const Rows want = carried(running(1));
  CHECK(want.allFinite());
  std::srand(5);
  CHECK(
      (carried(moe::MappedScorer<Running, moe::SoftCap>(running(1), moe::SoftCap(2))).array() == want.array())
          .all());  // before the map
  std::srand(5);
  CHECK((carried(moe::GumbelScorer<Running>(running(1))).array() == want.array()).all());
  std::srand(5);
  CHECK((carried(moe::NormedScorer<Running>(running(1), {.enabled = false})).array() == want.array()).all());
  std::srand(5);
  CHECK((carried(moe::ZeroLast<Running>(running(1))).array() == want.array()).all());
  CHECK_THROWS_AS(moe::SegmentPool<Running>(running(1)), moe::config_error);
}
