#include "moe/depth/parallel.hpp"

#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/depth/chain.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"
#include "support/taken.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Branch = moe::MoeLayer<moe::SoftmaxTopK<double>, Bank>;

constexpr Index kTokens = 5, kWidth = 4;

Branch branch(Index experts, moe::NonFinite non_finite = moe::NonFinite::throw_) {
  return Branch(
      moe::softmax_top_k<double>({.width = kWidth, .experts = experts, .k = 2, .non_finite = non_finite}),
      Bank({.experts = experts, .width = kWidth, .hidden = 3}));
}
moe::Parallel<Branch> parallel(moe::Join join, moe::NonFinite non_finite = moe::NonFinite::throw_) {
  std::vector<Branch> branches;
  for (const Index experts : {3, 4, 3}) branches.push_back(branch(experts, non_finite));
  moe::Parallel made(std::move(branches), join);
  test::draw_parameters(made, 5);
  return made;
}

}  // namespace

TEST_CASE("branches keep the laws of layers: of one type, of two, over one bank, one that looks at a segment",
          "[depth]") {
  test::check_layer(
      "three", [] { return parallel(moe::Join::add); },
      [] {
        std::vector<Branch> two;
        for (int i = 0; i < 2; ++i) two.push_back(branch(3));
        return moe::Parallel(std::move(two));
      });
  test::check_layer("two types", [] {
    using Choice = moe::MoeLayer<moe::ExpertChoice<double>, Bank>;
    return moe::Parallel(std::tuple(
        branch(3), Choice(moe::expert_choice<double>({.width = kWidth, .experts = 2, .capacity_factor = 1.5}),
                          Bank({.experts = 2, .width = kWidth, .hidden = 3}))));
  });
  static Bank bank({.experts = 3, .width = kWidth, .hidden = 3});
  test::check_layer("one bank", [] {
    using Shared = moe::MoeLayer<moe::SoftmaxTopK<double>, Bank&>;
    std::vector<Shared> branches;
    for (int i = 0; i < 2; ++i) {
      branches.emplace_back(moe::softmax_top_k<double>({.width = kWidth, .experts = 3, .k = 2}), bank);
    }
    return moe::Parallel(std::move(branches));
  });
}

TEST_CASE("results are beside each other or added in order, with the bits of the layers alone",
          "[depth][smoke]") {
  const Values x = test::normal_rows(3, kTokens, kWidth);
  const Values wide = test::normal_rows(4, kTokens, 3 * kWidth);
  auto beside = parallel(moe::Join::concatenate), added = parallel(moe::Join::add);
  CHECK(beside.out_width() == 3 * kWidth);
  CHECK(added.out_width() == kWidth);
  test::Trained a(beside, test::rows_of(x, kWidth), wide);
  Values dx(x.size()), sum(x.size()), gradients;
  double losses = 0;
  for (Index i = 0; i < 3; ++i) {
    Values dy;
    for (Index t = 0; t < kTokens; ++t) {
      const double* const from = wide.data() + t * 3 * kWidth + i * kWidth;
      dy.insert(dy.end(), from, from + kWidth);
    }
    auto& layer = beside.layers()[static_cast<std::size_t>(i)];
    test::Trained own(layer, test::rows_of(x, kWidth), dy);
    for (Index t = 0; t < kTokens; ++t) {
      for (Index j = 0; j < kWidth; ++j) {
        const auto at = static_cast<std::size_t>(t * kWidth + j);
        CHECK(a.y[static_cast<std::size_t>(t * 3 * kWidth + i * kWidth + j)] == own.y[at]);
        dx[at] = i == 0 ? own.dx[at] : dx[at] + own.dx[at];
        sum[at] = i == 0 ? own.y[at] : sum[at] + own.y[at];
      }
    }
    losses += own.losses;
    const auto flat = test::flat_gradients(layer, own.gradients);
    gradients.insert(gradients.end(), flat.begin(), flat.end());
  }
  CHECK(test::same_bits(a.dx, dx));
  CHECK(test::same_bits(test::flat_gradients(beside, a.gradients), gradients));
  CHECK(std::abs(a.losses - losses) <= 1e-15);
  test::Trained b(added, test::rows_of(x, kWidth), x);
  CHECK(test::same_bits(b.y, sum));
}

TEST_CASE("a row that one branch isolates is NaN in all columns and has no gradient in the others",
          "[depth]") {
  for (const moe::Join join : {moe::Join::add, moe::Join::concatenate}) {
    auto made = parallel(join, moe::NonFinite::isolate_row);
    // Only the middle branch reads column 0 into its logits with a weight that overflows.
    test::visit_layer(made, [](const moe::Parameter<double>& p) {
      if (std::string(p.name).find("gate") == std::string::npos) return;
      for (Index e = 0; e < p.value.rows; ++e)
        p.value(e, 0) = std::string(p.name).starts_with("branch1") ? 1e200 : 0;
    });
    const Values x0 = test::normal_rows(3, kTokens, kWidth);
    Values x = x0;
    for (Index t = 0; t < kTokens; ++t) x[static_cast<std::size_t>(t * kWidth)] = t == 1 ? 1e200 : 1e-200;
    const Index wide = made.out_width();
    Values dy = test::normal_rows(4, kTokens, wide);
    for (Index j = 0; j < wide; ++j) dy[static_cast<std::size_t>(wide + j)] = NAN;
    test::Trained trained(made, test::rows_of(x, kWidth), dy);
    for (Index t = 0; t < kTokens; ++t) {
      for (Index j = 0; j < wide; ++j)
        CHECK(std::isnan(trained.y[static_cast<std::size_t>(t * wide + j)]) == (t == 1));
    }
    for (const double d : trained.dx) CHECK(std::isfinite(d));
    for (const double g : test::flat_gradients(made, trained.gradients)) CHECK(std::isfinite(g));
  }
}

TEST_CASE("what a later branch refuses leaves y, draws and counts, and an empty tape", "[depth]") {
  auto made = parallel(moe::Join::add);
  test::visit_layer(made, [](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "branch2.gate.weight")
      p.value(0, 0) = std::numeric_limits<double>::quiet_NaN();
  });
  const Values x = test::normal_rows(3, kTokens, kWidth);
  Values y(x.size(), 7);
  moe::DrawCounter draws(3);
  moe::RouteStats stats;
  moe::LayerInput<double> in(test::rows_of(x, kWidth));
  in.draws = &draws;
  moe::LayerOutput<double> out(test::rows_of(y, kWidth), &stats);
  auto tape = made.make_tape();
  moe::Workspace workspace;
  CHECK_THROWS_AS(made.forward_train(in, out, tape, workspace, test::serial()), moe::numeric_error);
  CHECK(y == Values(y.size(), 7));
  CHECK(draws.calls() == 0);
  CHECK(stats.tokens == 0);
  CHECK(tape.tokens() == 0);
}

TEST_CASE("branches refuse what does not fit", "[depth]") {
  CHECK_THROWS_AS(moe::Parallel(std::vector<Branch>{}), moe::config_error);
  std::vector<Branch> wide;
  wide.push_back(branch(3));
  wide.emplace_back(moe::softmax_top_k<double>({.width = kWidth + 1, .experts = 3, .k = 2}),
                    Bank({.experts = 3, .width = kWidth + 1, .hidden = 3}));
  CHECK_THROWS_AS(moe::Parallel(std::move(wide), moe::Join::concatenate), moe::config_error);
  // Results that are not as wide as rows: to be added to those that are, or to be read by the next step.
  CHECK_THROWS_AS(moe::Parallel(std::tuple(branch(3), parallel(moe::Join::concatenate))), moe::config_error);
  CHECK_THROWS_AS(moe::Chain(std::tuple(parallel(moe::Join::concatenate), branch(3))), moe::config_error);
  const moe::Chain fits(std::tuple(parallel(moe::Join::add), branch(3)));

  auto made = parallel(moe::Join::concatenate);
  const Values x = test::normal_rows(3, kTokens, kWidth);
  Values y(3 * x.size());
  moe::LayerOutput<double> narrow(test::rows_of(y, kWidth)), out(test::rows_of(y, 3 * kWidth));
  moe::Workspace workspace;
  CHECK_THROWS_AS(made.forward(test::rows_of(x, kWidth), narrow, workspace, test::serial()),
                  moe::shape_error);
  auto moved = test::taken(made);
  CHECK_THROWS_AS(made.forward(test::rows_of(x, kWidth), out, workspace, test::serial()), moe::state_error);
  moved.forward(test::rows_of(x, kWidth), out, workspace, test::serial());
}
