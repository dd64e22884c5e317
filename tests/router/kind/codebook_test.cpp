#include "moe/router/kind/codebook.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/router_laws.hpp"

using moe::ExpertId;
using moe::Index;

namespace {

using Router = moe::CodebookRouter<double>;
using Options = moe::CodebookRouterOptions;
using Values = std::vector<double>;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Values normal(std::size_t n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> of;
  Values v(n);
  for (double& a : v) a = of(random);
  return v;
}
/// K M codes of width 3.
Router router_of(Options options, const Values& codes) {
  const auto all = static_cast<Index>(codes.size()) / 3;
  options.width = 3;
  options.codes = all / options.levels;
  Router router(options);
  router.set_codes(moe::ConstMatrixView<double>(codes.data(), all, 3));
  return router;
}
test::RouterCall<double> call_of(const Values& x, bool training = true) {
  test::RouterCall<double> call;
  call.tokens = static_cast<Index>(x.size()) / 3;
  call.width = 3;
  call.x = x;
  for (Index t = 0; t < call.tokens; ++t) call.key.push_back(static_cast<std::uint64_t>(t));
  call.training = training;
  return call;
}
double distance(const double* a, const double* b) {
  return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}
moe::ConstMatrixView<double> rows(const Values& x) {
  return {x.data(), static_cast<Index>(x.size()) / 3, 3};
}

/// Gradients of a training call's loss, taken `scale` times.
struct Back {
  Values dcode, dx;
  Back(const Router& router, const test::RouterCall<double>& call, double scale)
      : dcode(static_cast<std::size_t>(router.levels() * router.codes() * 3), 0), dx(call.x.size(), 0) {
    moe::Workspace memory;
    moe::Arena arena = memory.arena(1 << 16);
    auto table =
        moe::RouteTable<double>::carve(arena, call.tokens, router.experts(), call.tokens * router.levels());
    Router::Tape tape;
    Router::Gradients gradients = router.make_gradients();
    moe::SerialExecutor executor;
    const moe::RouterInput<double> in = call.input();
    router.route_train(in, table, tape, arena, executor);
    moe::RouteGradients<double> out;
    out.auxiliary_scale = scale;
    out.dx = moe::MatrixView<double>(dx.data(), call.tokens, 3);
    router.backward(in, table, tape, out, &gradients, arena, executor);
    for (std::size_t i = 0; i < dcode.size(); ++i) dcode[i] = gradients.code[static_cast<Index>(i)];
  }
};

}  // namespace

TEST_CASE("a row on a code: no loss, no gradient, expert j mod E with weight 1; ties to the lowest",
          "[router]") {
  const Values codes = normal(15, 1);
  const Router router = router_of({.experts = 2}, codes);
  const auto call = call_of(codes);
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 5; ++t) {
    CHECK(routed.experts_of(t) == std::vector<ExpertId>{static_cast<ExpertId>(t % 2)});
    CHECK(routed.weights_of(t) == Values{1});
  }
  CHECK(routed.loss_names == std::vector<std::string>{"vq"});
  CHECK(routed.losses == Values{0});
  const Back back(router, call, 1);
  CHECK(back.dcode == Values(15, 0));
  CHECK(back.dx == Values(15, 0));

  const Router equal = router_of({.experts = 3}, {1, 0, 0, 0, 1, 0, 0, 1, 0});
  CHECK(test::route(equal, call_of({0, 1, 0, 0.5, 0.5, 0, 0, 0, 9})).expert ==
        std::vector<ExpertId>{1, 0, 0});
}

TEST_CASE("moving a row on a code by less than half the way to the next leaves its route", "[router]") {
  const Values codes = normal(18, 2);
  const Router router = router_of({.experts = 6}, codes);
  for (Index j = 0; j < 6; ++j) {
    double margin = std::numeric_limits<double>::infinity();
    Index next = -1;
    for (Index i = 0; i < 6; ++i) {
      const double d = distance(router.code(i), router.code(j));
      if (i != j && d < margin) margin = d, next = i;
    }
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const Values way = normal(3, 100 + seed);
      const double length = std::hypot(way[0], way[1], way[2]);
      Values x(router.code(j), router.code(j) + 3);
      for (std::size_t i = 0; i < 3; ++i) x[i] += way[i] / length * 0.499 * margin;
      CHECK(router.nearest(x.data()) == j);
    }
    Values across(3);
    for (Index i = 0; i < 3; ++i) {
      across[static_cast<std::size_t>(i)] = 0.499 * router.code(j)[i] + 0.501 * router.code(next)[i];
    }
    CHECK(router.nearest(across.data()) != j);
  }
}

TEST_CASE("the loss in plain loops; each mean moves its own side", "[router]") {
  const Values codes = normal(12, 3);
  const Router router = router_of({.experts = 4, .loss = 0.7, .commitment = 0.3}, codes);
  auto call = call_of(normal(18, 4));
  call.valid.assign(6, true);
  call.valid[2] = false;
  call.row(2)[0] = kNaN;
  Values dcode(12), dx(18);
  double sum = 0;
  for (Index t = 0; t < 6; ++t) {
    if (!call.valid[t]) continue;
    std::size_t best = 0;
    for (std::size_t j = 1; j < 4; ++j) {
      if (distance(call.row(t), &codes[3 * j]) < distance(call.row(t), &codes[3 * best])) best = j;
    }
    for (std::size_t i = 0; i < 3; ++i) {
      const std::size_t at = 3 * static_cast<std::size_t>(t) + i;
      const double off = call.x[at] - codes[3 * best + i];
      sum += off * off;
      dcode[3 * best + i] -= 0.5 * 0.7 * 2 * off / 15;
      dx[at] += 0.5 * 0.7 * 0.3 * 2 * off / 15;
    }
  }
  CHECK(std::abs(test::route(router, call).loss() - 0.7 * 1.3 * sum / 15) <= 1e-14);
  const Back back(router, call, 0.5);
  for (std::size_t i = 0; i < 12; ++i) CHECK(std::abs(back.dcode[i] - dcode[i]) <= 1e-14);
  for (std::size_t i = 0; i < 18; ++i) CHECK(std::abs(back.dx[i] - dx[i]) <= 1e-14);

  call.training = false;
  CHECK(test::route(router, call).losses.empty());
  CHECK(Back(router, call, 1).dx == Values(18, 0));
  CHECK(test::route(router_of({.experts = 4, .loss = 0}, codes), call_of(normal(18, 4))).losses.empty());
}

TEST_CASE("the laws of routers hold for a codebook", "[router]") {
  Router router({.width = 4, .experts = 3, .codes = 5, .non_finite = moe::NonFinite::throw_});
  router.initialise(3);
  test::check_router_laws(router, {.masks = false});
  for (Index j = 0; j < 5; ++j) {
    for (Index i = 0; i < 4; ++i) CHECK(std::abs(router.code(j)[i]) <= 0.2);  // 1 / M
  }
  Router residual({.width = 4, .experts = 3, .codes = 5, .levels = 2, .measure = moe::CodeMeasure::cosine});
  residual.initialise(4);
  test::check_router_laws(residual, {.masks = false});
}

TEST_CASE("by cosine lengths of rows and codes do not matter; the loss is of differences", "[router]") {
  const Values codes{4, 0, 0, 1, 1, 0, 0, 0, 1};
  const Options cosine{.experts = 3, .measure = moe::CodeMeasure::cosine, .loss = 1, .commitment = 0};
  const Router router = router_of(cosine, codes);
  const Values x{0.5, 0.1, 0, 2, 3, 0, 0, 0, 8, 0, 0, 0};  // the last looks nowhere: the first code
  CHECK(test::route(router, call_of(x)).expert == std::vector<ExpertId>{0, 1, 2, 0});
  CHECK(test::route(router_of({.experts = 3}, codes), call_of(x)).expert[0] == 1);  // by difference
  Values scaled = codes, longer = x;
  for (std::size_t i = 0; i < 3; ++i) scaled[3 + i] *= 64, longer[i] *= 1024;
  CHECK(test::route(router_of(cosine, scaled), call_of(longer)).expert == std::vector<ExpertId>{0, 1, 2, 0});
  const double off = 3.5 * 3.5 + 0.1 * 0.1 + 1 + 4 + 49 + 16;
  CHECK(std::abs(test::route(router, call_of(x)).loss() - off / 12) <= 1e-14);

  Options reviving = cosine;
  reviving.revive = true, reviving.decay = 0.5;
  Router revived = router_of(reviving, codes);
  revived.collect(rows({0, 0, 8, 0.5, 0.125, 0}));
  revived.on_step_end({});
  CHECK(std::abs(revived.code(1)[0] - 0.5) <= 1e-3);  // the row of its direction, however far
}

TEST_CASE("residual codes: every level's expert has its share, what several send to one is added",
          "[router]") {
  const Values codes{4, 0, 0, 0, 4, 0, 1, 0, 0, 0, 1, 0};  // level 0, then level 1
  const Router router = router_of({.experts = 2, .levels = 2, .loss = 0.7, .commitment = 0.3}, codes);
  const Values x{5, 0.1, 0, 4, 1.5, 0, 1, 4.5, 0};
  const auto routed = test::route(router, call_of(x));
  CHECK(routed.experts_of(0) == std::vector<ExpertId>{0});
  CHECK(routed.weights_of(0) == Values{1});
  CHECK(routed.experts_of(1) == std::vector<ExpertId>{0, 1});
  CHECK(routed.weights_of(1) == Values{0.5, 0.5});
  CHECK(routed.experts_of(2) == std::vector<ExpertId>{1, 0});

  constexpr std::size_t code[3][2] = {{0, 0}, {0, 1}, {1, 0}};
  Values dcode(12), dx(9);
  double sum = 0;
  for (std::size_t t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < 3; ++i) {
      double r = x[3 * t + i];
      for (std::size_t l = 0; l < 2; ++l) {
        const std::size_t at = 6 * l + 3 * code[t][l] + i;
        r -= codes[at];
        sum += r * r;
        dcode[at] -= 0.5 * 0.7 * 2 * r / 9;
        dx[3 * t + i] += 0.5 * 0.7 * 0.3 * 2 * r / 9;
      }
    }
  }
  CHECK(std::abs(routed.loss() - 0.7 * 1.3 * sum / 9) <= 1e-14);
  const Back back(router, call_of(x), 0.5);
  for (std::size_t i = 0; i < 12; ++i) CHECK(std::abs(back.dcode[i] - dcode[i]) <= 1e-14);
  for (std::size_t i = 0; i < 9; ++i) CHECK(std::abs(back.dx[i] - dx[i]) <= 1e-14);

  Router counted = router_of({.experts = 2, .levels = 2, .decay = 0.75}, codes);
  counted.collect(rows(x));
  counted.on_step_end({});
  CHECK(counted.usage(0) == 0.25 * 2 / 3.0);
  CHECK(counted.usage(1, 1) == 0.25 * 1 / 3.0);
}

TEST_CASE("a codebook leaves its codes in a table that has room for them", "[router]") {
  const Router router = router_of({.experts = 2, .levels = 2}, {4, 0, 0, 0, 4, 0, 1, 0, 0, 0, 1, 0});
  auto call = call_of({5, 0.1, 0, 4, 1.5, 0, 9, 9, 9});
  call.valid.assign(3, true);
  call.valid[2] = false;
  moe::Workspace memory;
  moe::Arena arena = memory.arena(1 << 12);
  auto table = moe::RouteTable<double>::carve(arena, 3, 2, 6, router.codes_per_token());
  moe::SerialExecutor executor;
  router.route(call.input(), table, arena, executor);
  CHECK(table.coded_by == &router);
  CHECK(std::vector<std::int32_t>(table.code, table.code + 6) ==
        std::vector<std::int32_t>{0, 0, 0, 1, -1, -1});
}

TEST_CASE("usage is a moving average of shares, of all calls of a step, and is saved", "[router]") {
  const Values codes{0, 0, 0, 4, 0, 0, 0, 8, 0};
  Router router = router_of({.experts = 3, .decay = 0.75}, codes), twice = router;
  const Values x{1, 0, 0, 5, 0, 0, 0, 1, 0, kNaN, 0, 0, 0, 0, 0};
  moe::Buffer<bool> valid(5);
  valid.assign(5, true);
  valid[4] = false;
  router.collect(rows(x), {valid.data(), 5});
  CHECK(router.usage(0) == 0);
  router.on_step_end({});
  CHECK(router.usage(0) == 0.25 * 2 / 3.0);  // codes 0, 1, 0; neither the NaN nor padding
  CHECK(router.usage(1) == 0.25 * 1 / 3.0);
  CHECK(router.usage(2) == 0);
  for (Index j = 0; j < 9; ++j) CHECK(router.code(0)[j] == codes[static_cast<std::size_t>(j)]);
  twice.collect(rows(Values(x.begin(), x.begin() + 6)));
  twice.collect(rows(Values(x.begin() + 6, x.begin() + 9)));
  twice.on_step_end({});
  router.on_step_end({});  // without rows nothing changes
  for (Index j = 0; j < 3; ++j) CHECK(router.usage(j) == twice.usage(j));

  const auto saved = test::save_state(router);
  Router loaded = router_of({.experts = 3, .decay = 0.75}, codes);
  test::load_state(loaded, saved);
  CHECK(loaded.usage(0) == router.usage(0));
  const auto bad = [](const char*, double* values, Index) { values[0] = 1.5; };
  CHECK_THROWS_AS(loaded.visit_state(bad), moe::numeric_error);
  CHECK(loaded.usage(0) == router.usage(0));
}

TEST_CASE("a code without rows moves to the nearest row of the step, a used one stays", "[router]") {
  const Values codes{0, 0, 0, 9, 9, 9};
  Router router = router_of({.experts = 2, .decay = 0.5, .revive = true}, codes);
  router.collect(rows({1, 0, 0, 2, 1, 0}));
  router.collect(rows({-1, 0, 0}));
  router.on_step_end({});
  // u = 0.5 and 0: exp(-20 - 0.001) and exp(-0.001), anchors (1, 0, 0), the first of two as near, (2, 1, 0).
  const double used = std::exp(-20.001), dead = std::exp(-0.001);
  const Values want{used, 0, 0, 9 - 7 * dead, 9 - 8 * dead, 9 - 9 * dead};
  for (Index i = 0; i < 6; ++i) {
    CHECK(std::abs(router.code(0)[i] - want[static_cast<std::size_t>(i)]) <= 1e-14);
  }
}

TEST_CASE("what a codebook refuses", "[router]") {
  for (const Options& bad : std::vector<Options>{{.width = 0, .experts = 1},
                                                 {.width = 1, .experts = 0},
                                                 {.width = 1, .experts = 1, .codes = -1},
                                                 {.width = 1, .experts = 1, .levels = 0},
                                                 {.width = 1, .experts = 1, .loss = -1},
                                                 {.width = 1, .experts = 1, .loss = kNaN},
                                                 {.width = 1, .experts = 1, .commitment = -1},
                                                 {.width = 1, .experts = 1, .decay = 1},
                                                 {.width = 1, .experts = 1, .decay = kNaN}}) {
    CHECK_THROWS_AS(Router(bad), moe::config_error);
  }
  Router router = router_of({.experts = 3}, normal(9, 1));
  CHECK(Router({.width = 2, .experts = 3}).codes() == 3);
  const Values wide = normal(8, 2), bad{0, 0, 0, 0, kNaN, 0, 0, 0, 0};
  CHECK_THROWS_AS(router.set_codes(moe::ConstMatrixView<double>(wide.data(), 2, 4)), moe::shape_error);
  CHECK_THROWS_AS(router.set_codes(rows(bad)), moe::numeric_error);
  CHECK_THROWS_AS(router.collect(moe::ConstMatrixView<double>(wide.data(), 2, 4)), moe::shape_error);
  moe::Buffer<bool> valid(1);
  CHECK_THROWS_AS(router.collect(rows(normal(6, 1)), {valid.data(), 1}), moe::shape_error);
  auto call = call_of({0, kNaN, 0});
  CHECK_THROWS_AS(test::route(router, call), moe::numeric_error);
  call = call_of({0, 0, 0});
  call.options.experts_per_token = 2;
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  call.options = {.temperature = 2};
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  call.options = {.experts_per_token = 1};
  CHECK_NOTHROW(test::route(router, call));
  call.mask = {0, 0, 0};
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);

  moe::RouterInput<double> in = call.input();
  moe::RouteTable<double> none;
  CHECK_THROWS_AS(router.check_backward(in, none, Router::Tape{}, {}), moe::state_error);
  const Router taken = std::move(router);
  CHECK_THROWS_AS(test::route(router, call_of({0, 0, 0})), moe::state_error);
}
