#include "moe/router/named/task_expert.hpp"

#include <Eigen/Core>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/memory.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "support/any_executor.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Ffn = moe::Glu<moe::Silu, double>;
using Bank = moe::Composite<Ffn, moe::MemoryExpert<double>>;
using Layer = moe::MoeLayer<moe::TaskExpertRouter<double>, Bank>;
constexpr Index kTokens = 6, kWidth = 4, kExperts = 2;
constexpr std::size_t kDepth = 3;
constexpr moe::TaskExpertOptions kOptions{
    .width = kWidth, .experts = kExperts, .tasks = 4, .load_balance = 0.2, .z_loss = 0.1};

const test::RouterCases kCases{
    {"TaskExpertRouter",
     [] { return moe::task_expert_router<double>(kOptions); },
     {.laws = {.parameters = false}}},  // a gate's NaN shows in its task's rows
};

Ffn ffn(std::uint64_t seed) {
  Ffn bank({.experts = kExperts, .width = kWidth, .hidden = 3});
  bank.initialise(seed);
  return bank;
}

/// Levels of a network with rows of their own; what a level decodes is the memory of the next.
struct Levels {
  std::vector<Layer> layers;
  std::vector<Layer::Tape> tapes{kDepth};
  std::vector<Layer::Gradients> gradients;
  std::vector<Rows> x, handed;
  Rows y, dy;
  std::vector<std::int32_t> task{0, 1, 2, 3, 0, 2};
  moe::Buffer<bool> valid;
  moe::Workspace workspace;

  Levels() {
    std::srand(5);
    for (std::uint64_t l = 0; l < kDepth; ++l) {
      auto router = moe::task_expert_router<double>(kOptions);
      test::randomise(router, l + 1);
      router.set_non_finite(moe::NonFinite::isolate_row);
      layers.emplace_back(std::move(router), Bank(ffn(l + 1), moe::MemoryExpert<double>(kWidth)));
      gradients.push_back(layers.back().make_gradients());
      x.push_back(Rows::Random(kTokens, kWidth));
      x.back().row(1).setConstant(std::nan(""));  // padding
    }
    x[1].row(4).setConstant(std::nan(""));  // spoiled in the second: anew in the third, from a memory of 0
    dy = Rows::Random(kTokens, kWidth);
    valid.resize(kTokens);
    valid.fill(true);
    valid[1] = false;
  }
  double loss() {
    double sum = 0;
    y = Rows(kTokens, kWidth);
    handed.assign(kDepth, Rows::Constant(kTokens, kWidth, 8));
    for (std::size_t l = 0; l < kDepth; ++l) {
      moe::LayerInput<double> in(x[l]);
      if (l > 0) in.carry = handed[l - 1];
      in.task = task, in.valid = valid;
      moe::LayerOutput<double> out(y);
      out.carry = handed[l];
      layers[l].forward_train(in, out, tapes[l], workspace, test::serial());
      for (const auto& entry : out.losses) sum += entry.value;
    }
    for (Index t = 0; t < kTokens; ++t) sum += t == 1 ? 0 : dy.row(t).dot(y.row(t));
    return sum;
  }
};

}  // namespace

TEST_CASE("TaskExpert: experts and the memory as one more, mixed by the task's gates", "[task_expert]") {
  Levels levels;
  levels.loss();
  for (std::size_t l = 0; l < kDepth; ++l) {
    auto& router = levels.layers[l].router();
    const auto w = test::parameter(router, "gate.weight"), u = test::parameter(router, "memory_gate.weight");
    // The experts' results, by a layer of them alone with weight 1 each.
    for (Index t = 0; t < kTokens; ++t) {
      const bool spoiled = l == 1 && t == 4;
      if (t == 1 || spoiled) {
        CHECK((levels.handed[l].row(t).array() == 0).all());
        continue;
      }
      test::Vector logit;
      for (std::size_t e = 0; e < (l == 0 ? 2u : 3u); ++e) {
        const std::size_t row = 3 * static_cast<std::size_t>(levels.task[static_cast<std::size_t>(t)]) + e;
        logit.push_back(0);
        for (Index j = 0; j < kWidth; ++j) {
          logit[e] += w[row][static_cast<std::size_t>(j)] * levels.x[l](t, j);
          if (l > 0) logit[e] += u[row][static_cast<std::size_t>(j)] * levels.handed[l - 1](t, j);
        }
      }
      const auto p = test::softmax(logit);
      Rows want = l == 0 ? Rows(Rows::Zero(1, kWidth)) : Rows(p[2] * levels.handed[l - 1].row(t));
      for (Index e = 0; e < kExperts; ++e) {
        const auto& bank = levels.layers[l].experts().bank<0>();
        const std::string name = "experts." + std::to_string(e) + ".";
        std::map<std::string, test::Matrix> of;
        moe::visit_parameters(bank, [&](const auto& q) {
          test::Matrix& m = of[q.name];
          for (Index o = 0; o < q.value.rows; ++o) {
            m.emplace_back();
            for (Index i = 0; i < q.value.cols; ++i) m.back().push_back(q.value(o, i));
          }
        });
        for (std::size_t o = 0; o < 4; ++o) {
          double z = 0;
          for (std::size_t h = 0; h < 3; ++h) {
            double g = 0, v = 0;
            for (std::size_t j = 0; j < 4; ++j) {
              const double xj = levels.x[l](t, static_cast<Index>(j));
              g += of.at(name + "gate_proj.weight")[h][j] * xj;
              v += of.at(name + "up_proj.weight")[h][j] * xj;
            }
            z += of.at(name + "down_proj.weight")[o][h] * g / (1 + std::exp(-g)) * v;
          }
          want(0, static_cast<Index>(o)) += p[static_cast<std::size_t>(e)] * z;
        }
      }
      for (Index j = 0; j < kWidth; ++j) CHECK(test::near(levels.handed[l](t, j), want(0, j)));
    }
  }
}

TEST_CASE("TaskExpert: three levels are trained through the memory, by differences", "[task_expert]") {
  Levels levels;
  levels.loss();
  Rows dhanded;
  std::vector<Rows> dx(kDepth, Rows(kTokens, kWidth));
  const Rows none = Rows::Zero(kTokens, kWidth);
  for (std::size_t l = kDepth; l-- > 0;) {
    Rows dcarry(kTokens, kWidth);
    Layer::LayerGradients back(l + 1 == kDepth ? levels.dy : none, dx[l], levels.gradients[l]);
    if (l + 1 < kDepth) back.dcarry_out = dhanded;
    if (l > 0) back.dcarry = dcarry;
    levels.layers[l].backward(levels.tapes[l], back, levels.workspace);
    dhanded = dcarry;
  }
  const auto agrees = [&](double& value, double gradient) {
    const double held = value, step = 1e-5;
    value = held + step;
    const double up = levels.loss();
    value = held - step;
    const double down = levels.loss();
    value = held;
    CHECK(gradient == Approx((up - down) / (2 * step)).epsilon(1e-6).margin(1e-8));
  };
  for (std::size_t l = 0; l < kDepth; ++l) {
    for (Index t = 0; t < kTokens; ++t) {
      const bool gone = t == 1 || (l == 1 && t == 4);
      if (gone) CHECK((dx[l].row(t).array() == 0).all());
      for (Index j = 0; !gone && j < kWidth; ++j) agrees(levels.x[l](t, j), dx[l](t, j));
    }
    levels.layers[l].visit_parameters(levels.gradients[l], [&](const moe::Parameter<double>& p) {
      INFO("level " << l << ", " << p.name);
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) agrees(p.value(o, i), p.gradient(o, i));
      }
    });
  }
}

TEST_CASE("TaskExpert refuses options that do not fit", "[task_expert]") {
  const auto refuses = [](const auto& change) {
    moe::TaskExpertOptions changed = kOptions;
    change(changed);
    CHECK_THROWS_AS(moe::task_expert_router<double>(changed), moe::config_error);
  };
  refuses([](auto& o) { o.width = 0; });
  refuses([](auto& o) { o.experts = 0; });
  refuses([](auto& o) { o.experts = INT32_MAX; });
  refuses([](auto& o) { o.tasks = 0; });
  refuses([](auto& o) { o.k = 4; });
  refuses([](auto& o) { o.load_balance = std::nan(""); });
  CHECK_THROWS_AS(
      Layer(moe::task_expert_router<double>(kOptions), Bank(ffn(1), moe::MemoryExpert<double>(kWidth + 1))),
      moe::config_error);
}
