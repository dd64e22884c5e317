// Three layers trained through what their routers hand on, with a padding and a spoiled row, losses included:
// gradients against central differences, in one object where layers share a part.
#include <Eigen/Core>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/moe_plus_plus.hpp"
#include "moe/router/named/rmoe.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Bank = moe::Glu<moe::Silu, double>;
constexpr Index kTokens = 6, kWidth = 4, kExperts = 4, kPadding = 1, kSpoiled = 4;
constexpr double kScale = 0.7, kNan = std::numeric_limits<double>::quiet_NaN();

Bank bank(std::uint64_t seed) {
  Bank b({.experts = kExperts, .width = kWidth, .hidden = 3});
  b.initialise(seed);
  return b;
}
bool takes_part(Index t) {
  return t != kPadding && t != kSpoiled;
}

/// y and what is handed on of a layer are x and carry of the next; the first has no carry.
template <class Layer>
class Stack {
 public:
  explicit Stack(const std::function<Layer(std::uint64_t)>& make) {
    for (std::uint64_t l = 0; l < 3; ++l) layers.push_back(make(l + 1));
    tapes.resize(3);
    for (const Layer& layer : layers) gradients.push_back(layer.make_gradients());
    std::srand(3);
    x = Rows::Random(kTokens, kWidth), dy = Rows::Random(kTokens, kWidth);
    dhanded = Rows::Random(kTokens, layers[0].carry_width());
    for (const Index t : {kPadding, kSpoiled}) {
      x.row(t).setConstant(kNan), dy.row(t).setConstant(kNan), dhanded.row(t).setConstant(kNan);
    }
    valid.resize(kTokens);
    valid.fill(true);
    valid[kPadding] = false;
  }

  double loss() { return forward(moe::SerialExecutor{}); }
  template <class X>
  double forward(X&& executor) {
    double sum = 0;
    y.assign(3, Rows::Zero(kTokens, kWidth));
    handed.assign(3, Rows::Constant(kTokens, layers[0].carry_width(), 8));
    for (std::size_t l = 0; l < 3; ++l) {
      moe::LayerInput<double> in(l == 0 ? x : y[l - 1]);
      if (l > 0) in.carry = handed[l - 1];
      in.valid = valid;
      moe::LayerOutput<double> out(y[l]);
      out.carry = handed[l];
      layers[l].forward_train(in, out, tapes[l], workspace, executor);
      for (const auto& entry : out.losses) sum += kScale * entry.value;
    }
    for (Index t = 0; t < kTokens; ++t) {
      if (takes_part(t)) sum += dy.row(t).dot(y[2].row(t)) + dhanded.row(t).dot(handed[2].row(t));
    }
    return sum;
  }
  /// `ready(gradients)` before they are used.
  template <class X>
  void backward(X&& executor, const std::function<void(typename Layer::Gradients&)>& ready = {}) {
    dx = dy, dcarry = dhanded;
    for (std::size_t l = 3; l-- > 0;) {
      layers[l].zero_gradients(gradients[l]);
      if (ready) ready(gradients[l]);
      Rows dx_below(kTokens, kWidth), dcarry_below(kTokens, dcarry.cols());
      typename Layer::LayerGradients back(dx, dx_below, gradients[l]);
      back.auxiliary_scale = kScale;
      back.dcarry_out = dcarry;
      if (l > 0) back.dcarry = dcarry_below;
      layers[l].backward(tapes[l], back, workspace, executor);
      dx = dx_below;
      if (l > 0) dcarry = dcarry_below;
    }
  }

  void agrees(double& value, double gradient) {
    const double held = value, step = 1e-5;
    value = held + step;
    const double up = loss();
    value = held - step;
    const double down = loss();
    value = held;
    CHECK(gradient == Approx((up - down) / (2 * step)).epsilon(1e-6).margin(1e-8));
  }
  void check() {
    for (const Index t : {kPadding, kSpoiled}) {
      for (const Rows& carry : handed) CHECK((carry.row(t).array() == 0).all());
      CHECK((dx.row(t).array() == 0).all());
      CHECK((dcarry.row(t).array() == 0).all());
    }
    for (Index t = 0; t < kTokens; ++t) {
      for (Index j = 0; takes_part(t) && j < kWidth; ++j) agrees(x(t, j), dx(t, j));
    }
    for (std::size_t l = 0; l < 3; ++l) {
      layers[l].visit_parameters(gradients[l], [&](const moe::Parameter<double>& p) {
        INFO("layer " << l << ", " << p.name);
        for (Index i = 0; i < p.value.rows; ++i) {
          for (Index j = 0; j < p.value.cols; ++j) agrees(p.value(i, j), p.gradient(i, j));
        }
      });
    }
  }
  std::vector<double> results() {
    std::vector<double> all(dx.data(), dx.data() + dx.size());
    all.insert(all.end(), dcarry.data(), dcarry.data() + dcarry.size());
    for (std::size_t l = 0; l < 3; ++l) {
      all.insert(all.end(), handed[l].data(), handed[l].data() + handed[l].size());
      layers[l].visit_storage(
          gradients[l], [&](const char*, double*, double* g, Index n) { all.insert(all.end(), g, g + n); });
    }
    return all;
  }

  std::vector<Layer> layers;
  std::vector<typename Layer::Tape> tapes;
  std::vector<typename Layer::Gradients> gradients;
  std::vector<Rows> y, handed;
  Rows x, dy, dhanded, dx, dcarry;
  moe::Buffer<bool> valid;
  moe::Workspace workspace;
};

template <class R>
void draw(R& router, std::uint64_t seed) {
  const moe::KeyedRandom random(seed, 0, moe::DrawStream::user);
  std::uint64_t row = 0;
  auto set = [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.rows; ++i, ++row) {
      for (Index j = 0; j < p.value.cols; ++j)
        p.value(i, j) = 2 * random.uniform(row, static_cast<std::uint32_t>(j)) - 1;
    }
  };
  router.visit_parameters(nullptr, set);
}

}  // namespace

TEST_CASE("three layers over one GRU cell are trained through its state; its gradients add up",
          "[depth][smoke]") {
  using Cell = moe::GruCell<double>;
  using Layer = moe::MoeLayer<moe::RmoeRouter<double>, Bank>;
  Cell cell(3, 5);
  draw(cell, 9);
  Stack<Layer> stack([&](std::uint64_t seed) {
    auto router = moe::rmoe_router<double>(
        cell, {.width = kWidth, .experts = kExperts, .load_balance = 0.3, .z_loss = 0.1});
    draw(router, seed);
    router.set_non_finite(moe::NonFinite::isolate_row);
    return Layer(std::move(router), bank(seed));
  });
  auto of_cell = cell.make_gradients();
  stack.loss();
  stack.backward(moe::SerialExecutor{}, [&](Layer::Gradients& g) { g.router.scorer.cell = &of_cell; });
  stack.check();
  double size = 0;
  auto check = [&](const moe::Parameter<double>& p) {
    INFO(p.name);
    for (Index i = 0; i < p.value.rows; ++i) {
      for (Index j = 0; j < p.value.cols; ++j) {
        stack.agrees(p.value(i, j), p.gradient(i, j));
        size += std::abs(p.gradient(i, j));
      }
    }
  };
  cell.visit_parameters(&of_cell, check);
  CHECK(size > 0.1);
  // A cell that is frozen changes no other gradient.
  stack.loss();
  const auto with = stack.results();
  stack.backward(moe::SerialExecutor{}, [](Layer::Gradients& g) { g.router.scorer.cell = nullptr; });
  CHECK(test::same_bits(stack.results(), with));
  moe::PoolExecutor pool(3);
  stack.forward(pool);
  stack.backward(pool, [](Layer::Gradients& g) { g.router.scorer.cell = nullptr; });
  CHECK(test::same_bits(stack.results(), with));
}

TEST_CASE("three layers of MoE++ are trained through their logits; the first takes none over", "[depth]") {
  using Layer = moe::MoeLayer<moe::MoePlusPlusRouter<double>, Bank>;
  Stack<Layer> stack([](std::uint64_t seed) {
    auto router = moe::moe_plus_plus_router<double>({.width = kWidth,
                                                     .ffn = kExperts - 2,
                                                     .residual = true,
                                                     .load_balance = 0.3,
                                                     .z_loss = 0.1,
                                                     .non_finite = moe::NonFinite::isolate_row});
    draw(router, seed);
    return Layer(std::move(router), bank(seed));
  });
  stack.loss();
  stack.backward(moe::SerialExecutor{});
  stack.check();
  for (std::size_t l = 0; l < 3; ++l) {
    double map = 0;
    stack.layers[l].visit_storage(stack.gradients[l], [&](const char* name, double*, double* g, Index n) {
      for (Index i = 0; std::string(name) == "gate_map.weight" && i < n; ++i) map += std::abs(g[i]);
    });
    CHECK((map > 0) == (l > 0));
  }
  const auto alone = stack.results();
  moe::PoolExecutor pool(3);
  stack.forward(pool);
  stack.backward(pool);
  CHECK(test::same_bits(stack.results(), alone));
}
