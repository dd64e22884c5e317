#include "support/router_cases.hpp"
#include "moe/core/random.hpp"

#include <cxxabi.h>
#include <algorithm>
#include <cstdlib>

#include "moe/executor/pool.hpp"

namespace test {

namespace {

std::vector<RouterCase>& registered() {
  static std::vector<RouterCase> cases;
  return cases;
}

/// f(case, router) for every case, in its precision.
template <class F>
void for_each_case(bool smoke, F&& f) {
  int cases = 0;
  for (const RouterCase& one : RouterCases::all()) {
    if (smoke && !one.options.smoke) continue;
    INFO("router " << one.name);
    if (one.make) f(one, *one.make());
    if (one.make_float) f(one, *one.make_float());
    ++cases;
  }
  REQUIRE(cases > 0);  // else the files with cases were not linked
}

/// Segments of 1 to 9 tokens, some empty.
template <class Real>
RouterCall<Real> segmented(RouterCall<Real> call, std::uint64_t seed) {
  if (call.tokens == 0) return call;
  const moe::KeyedRandom draw(seed, 5, moe::DrawStream::user);
  call.segments = {0};
  while (call.segments.back() < call.tokens) {
    const auto length = static_cast<Index>(draw.bits(call.segments.size(), 0) % 10);
    call.segments.push_back(std::min(call.tokens, call.segments.back() + length));
  }
  return call;
}
template <class Real>
MakeCall<Real> segmented_calls(const ErasedRouter<Real>& router) {
  return [make = erased::calls_for(router)](Index tokens, std::uint64_t seed) {
    return segmented(make(tokens, seed), seed);
  };
}

/// Table, dx and parameter gradients of a call in training.
template <class Real>
struct Trained {
  Routed<Real> routed;
  std::vector<Real> dx, gradients;
};
template <class Real>
Trained<Real> train(ErasedRouter<Real>& router, const RouterCall<Real>& call, double auxiliary_scale,
                    AnyExecutor executor) {
  Trained<Real> all;
  const auto tape = router.make_tape(), gradients = router.make_gradients();
  OwnedTable<Real> table(router, call.shape());
  all.routed = erased::route_train(router, call, table, tape.get(), executor);
  all.dx = erased::backward(router, call, table, tape.get(), cotangents(call, all.routed), auxiliary_scale,
                            gradients.get(), true, Real{0}, executor);
  router.visit_parameters(gradients.get(), [&](const moe::Parameter<Real>& p) {
    if (!p.gradient) return;  // frozen
    for (Index o = 0; o < p.gradient.rows; ++o) {
      for (Index i = 0; i < p.gradient.cols; ++i) all.gradients.push_back(p.gradient(o, i));
    }
  });
  return all;
}

/// Contract C2: whatever stands in the middle segment, the rows of the others keep their bits, losses aside.
template <class Real>
void check_segments(ErasedRouter<Real>& router) {
  if (router.coupling(true) == moe::Coupling::per_batch) return;
  RouterCall<Real> call = erased::calls_for(router)(20, 4);
  call.training = true;
  call.segments = {0, 6, 6, 13, 20};
  RouterCall<Real> attacked = call;
  for (Index t = 6; t < 13; ++t) {
    for (Index j = 0; j < call.width; ++j) attacked.row(t)[j] = static_cast<Real>(t % 2 == 0 ? 50 : -50);
    attacked.key[static_cast<std::size_t>(t)] += 5;
    attacked.token_id[static_cast<std::size_t>(t)] = static_cast<moe::TokenId>(t);
  }
  moe::SerialExecutor serial;
  const Routed<Real> before = erased::route(router, call, AnyExecutor(serial));
  const Routed<Real> after = erased::route(router, attacked, AnyExecutor(serial));
  Trained<Real> want, got;
  if (router.trainable()) {
    want = train(router, call, 0, AnyExecutor(serial));
    got = train(router, attacked, 0, AnyExecutor(serial));
  }
  for (Index t = 0; t < 20; ++t) {
    if (t >= 6 && t < 13) continue;
    INFO("token " << t);
    CHECK(same_row(before, t, after, t));
    if (!router.trainable()) continue;
    const auto part = [&](const Trained<Real>& of) {
      return std::vector<Real>(of.dx.begin() + t * call.width, of.dx.begin() + (t + 1) * call.width);
    };
    CHECK(same_bits(part(want), part(got)));
  }
}

/// Contract C1 among threads: tables, losses and gradients have the bits of one thread.
template <class Real>
void check_threads(ErasedRouter<Real>& router) {
  RouterCall<Real> call = erased::calls_for(router)(150, 3);
  call.training = true;
  moe::SerialExecutor serial;
  const Routed<Real> alone = erased::route(router, call, AnyExecutor(serial));
  Trained<Real> want;
  if (router.trainable()) want = train(router, call, 1, AnyExecutor(serial));
  for (const Index threads : {2, 3}) {
    INFO(threads << " threads");
    moe::PoolExecutor pool(threads);
    CHECK(same_route(alone, erased::route(router, call, AnyExecutor(pool))));
    if (!router.trainable()) continue;
    const Trained<Real> got = train(router, call, 1, AnyExecutor(pool));
    CHECK(same_route(want.routed, got.routed));
    CHECK(same_bits(want.dx, got.dx));
    CHECK(same_bits(want.gradients, got.gradients));
  }
}

}  // namespace

RouterCases::RouterCases(std::initializer_list<RouterCase> cases) {
  registered().insert(registered().end(), cases.begin(), cases.end());
}
const std::vector<RouterCase>& RouterCases::all() {
  return registered();
}

void check_has_case(std::type_index part) {
  for (const RouterCase& one : RouterCases::all()) {
    if (std::find(one.types.begin(), one.types.end(), part) != one.types.end()) return;
  }
  int status = 0;
  char* const name = abi::__cxa_demangle(part.name(), nullptr, nullptr, &status);
  const std::string text = status == 0 ? name : part.name();
  std::free(name);
  FAIL_CHECK("no router case has " << text);
}

void sweep_laws(bool smoke) {
  for_each_case(smoke, [](const RouterCase& one, auto& router) {
    using Real = typename std::remove_reference_t<decltype(router)>::Real;
    erased::check_laws<Real>(router, erased::calls_for<Real>(router), one.options.laws);
    if (one.options.segments)
      erased::check_laws<Real>(router, segmented_calls<Real>(router), one.options.laws);
    if (one.options.ties) erased::check_ties<Real>(router, 3);
  });
}

void sweep_gradients(bool smoke) {
  for (const RouterCase& one : RouterCases::all()) {
    if (!one.make || (smoke && !one.options.smoke)) continue;
    INFO("router " << one.name);
    const auto router = one.make();
    if (!router->trainable()) continue;
    const auto check = [&](const MakeCall<double>& make, GradientCheck options) {
      options.step = one.options.step;
      erased::check_gradients(*router, one.options.tokens, make, options);
    };
    if (one.options.estimator) {
      check(erased::calls_for(*router), {.weight_scale = 0, .auxiliary_scale = 3});
      continue;
    }
    check(erased::calls_for(*router), {});
    check(erased::calls_for(*router), {.auxiliary_scale = 0});
    if (one.options.losses) check(erased::calls_for(*router), {.weight_scale = 0, .auxiliary_scale = 3});
    if (one.options.laws.masks) check(erased::calls_for(*router, true), {});
    if (one.options.segments) check(segmented_calls(*router), {});
  }
}

void sweep_segments() {
  for_each_case(false, [](const RouterCase&, auto& router) { check_segments(router); });
}

void sweep_threads() {
  for_each_case(false, [](const RouterCase&, auto& router) { check_threads(router); });
}

}  // namespace test
