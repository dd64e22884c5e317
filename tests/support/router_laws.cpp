#include "support/router_laws.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"

namespace test {

template <class Real>
RouterCall<Real> random_call(Index tokens, Index width, std::uint64_t seed) {
  RouterCall<Real> call;
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  call.tokens = tokens;
  call.width = width;
  for (Index t = 0; t < tokens; ++t) {
    const auto row = static_cast<std::uint64_t>(t);
    for (Index i = 0; i < width; ++i) {
      call.x.push_back(static_cast<Real>(2 * draw.uniform(row, static_cast<std::uint32_t>(i)) - 1));
    }
    call.key.push_back(1000 * seed + 17 * row);
    call.token_id.push_back(static_cast<moe::TokenId>(draw.bits(row, 1u << 20) % 50));
  }
  call.columns = Columns<Real>::random(tokens, seed);
  return call;
}

template <class Real>
void mask_some(RouterCall<Real>& call, Index outputs, bool per_row) {
  const moe::KeyedRandom draw(11, 0, moe::DrawStream::user);
  call.mask_per_row = per_row;
  call.mask.assign(static_cast<std::size_t>(call.mask_rows() * outputs), 0);
  for (Index t = 0; t < call.mask_rows(); ++t) {
    const auto row = static_cast<std::uint64_t>(t);
    const auto open = static_cast<Index>(draw.bits(row, 1u << 21) % static_cast<std::uint64_t>(outputs));
    for (Index e = 0; e < outputs; ++e) {
      if (e != open && draw.uniform(row, static_cast<std::uint32_t>(e)) < 0.7) {
        call.mask[static_cast<std::size_t>(t * outputs + e)] = -std::numeric_limits<Real>::infinity();
      }
    }
  }
}

template <class Real>
void add_carry(RouterCall<Real>& call, Index width) {
  if (width == 0) return;
  const moe::KeyedRandom draw(19, 0, moe::DrawStream::user);
  std::vector<Real>& carry = call.columns.reals["carry"];
  carry.clear();
  for (Index t = 0; t < call.tokens; ++t) {
    for (Index j = 0; j < width; ++j) {
      const double u = draw.uniform(static_cast<std::uint64_t>(t), static_cast<std::uint32_t>(j));
      carry.push_back(static_cast<Real>(2 * u - 1));
    }
  }
}

template <class Real>
void add_targets(RouterCall<Real>& call, Index outputs) {
  const moe::KeyedRandom draw(17, 0, moe::DrawStream::user);
  std::vector<Real>& target = call.columns.reals["target"];
  for (Index t = 0; t < call.tokens; ++t) {
    double sum = 0;
    for (const bool summed : {false, true}) {
      for (Index e = 0; e < outputs; ++e) {
        const double u = draw.uniform(static_cast<std::uint64_t>(t), static_cast<std::uint32_t>(e));
        if (summed) target.push_back(static_cast<Real>(u / sum));
        if (!summed) sum += u;
      }
    }
  }
}

template <class Real>
std::vector<Real> cotangents(const RouterCall<Real>& call, const Routed<Real>& routed, double scale) {
  const moe::KeyedRandom draw(23, 0, moe::DrawStream::user);
  std::vector<Real> dweight;
  for (Index t = 0; t < call.tokens; ++t) {
    for (const ExpertId e : routed.experts_of(t)) {
      const double u = draw.uniform(call.key[static_cast<std::size_t>(t)], static_cast<std::uint32_t>(e));
      dweight.push_back(static_cast<Real>(scale * (2 * u - 1)));
    }
  }
  return dweight;
}

namespace erased {

template <class Real>
void Elements<Real>::operator()(const moe::Parameter<Real>& p) {
  for (Index o = 0; o < p.value.rows; ++o) {
    for (Index i = 0; i < p.value.cols; ++i) {
      all.push_back({std::string(p.name) + "(" + std::to_string(o) + "," + std::to_string(i) + ")",
                     &p.value(o, i), p.gradient ? &p.gradient(o, i) : nullptr});
    }
  }
}

void SaveState::operator()(const char* name, double* values, Index n) {
  state.emplace_back(name, std::vector<double>(values, values + n));
}
void LoadState::operator()(const char* name, double* values, Index n) {
  REQUIRE(next < state.size());
  REQUIRE(state[next].first == name);
  REQUIRE(static_cast<Index>(state[next].second.size()) == n);
  std::copy(state[next].second.begin(), state[next].second.end(), values);
  ++next;
}

template <class Real>
void randomise(const std::vector<Element<Real>>& elements, std::uint64_t seed, double scale) {
  const moe::KeyedRandom draw(seed, 1, moe::DrawStream::user);
  std::uint64_t i = 0;
  for (const Element<Real>& element : elements) {
    *element.value = static_cast<Real>(scale * (2 * draw.uniform(i++, 0) - 1));
  }
}

template <class Real>
Routed<Real> route(const ErasedRouter<Real>& router, const RouterCall<Real>& call, AnyExecutor executor) {
  OwnedTable<Real> table(router, call.shape());
  MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), executor.concurrency()); });
  moe::Arena arena = memory.arena();
  router.route(call.input(), *table, arena, executor);
  return table.copy();
}

template <class Real>
Routed<Real> route_train(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                         OwnedTable<Real>& table, void* tape, AnyExecutor executor) {
  MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), executor.concurrency()); });
  moe::Arena arena = memory.arena();
  router.route_train(call.input(), *table, tape, arena, executor);
  return table.copy();
}

template <class Real>
std::vector<Real> backward(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                           OwnedTable<Real>& table, const void* tape, const std::vector<Real>& dweight,
                           double auxiliary_scale, void* gradients, bool wants_dx, Real dx_start,
                           AnyExecutor executor) {
  std::vector<Real> dx(call.x.size(), dx_start);
  moe::RouteGradients<Real> out;
  out.dweight = dweight.data();
  out.auxiliary_scale = auxiliary_scale;
  if (wants_dx && !dx.empty()) out.dx = moe::MatrixView<Real>(dx.data(), call.tokens, call.width);
  MeasuredMemory memory(
      [&](moe::Arena& a) { router.measure_backward(a, call.shape(), executor.concurrency()); });
  moe::Arena arena = memory.arena();
  router.backward(call.input(), *table, tape, out, gradients, arena, executor);
  return dx;
}

namespace {

/// The last index first, by three workers.
AnyExecutor backwards() {
  static BackwardsExecutor executor;
  return AnyExecutor(executor);
}

template <class Real>
Routed<Real> route(const ErasedRouter<Real>& router, const RouterCall<Real>& call) {
  return erased::route(router, call, serial());
}
template <class Real>
Routed<Real> route_train(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                         OwnedTable<Real>& table, void* tape) {
  return erased::route_train(router, call, table, tape, serial());
}
template <class Real>
std::vector<Real> backward(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                           OwnedTable<Real>& table, const void* tape, const std::vector<Real>& dweight,
                           double auxiliary_scale, void* gradients, bool wants_dx = true, Real dx_start = 0) {
  return erased::backward(router, call, table, tape, dweight, auxiliary_scale, gradients, wants_dx, dx_start,
                          serial());
}
template <class Real>
std::vector<Element<Real>> elements(ErasedRouter<Real>& router, void* gradients) {  // without frozen ones
  Elements<Real> collect;
  router.visit_parameters(gradients, std::ref(collect));
  if (gradients != nullptr) std::erase_if(collect.all, [](const auto& e) { return e.gradient == nullptr; });
  return std::move(collect.all);
}

}  // namespace

template <class Real>
std::vector<Real> all_gradients(ErasedRouter<Real>& router, const RouterCall<Real>& call) {
  const auto tape = router.make_tape();
  OwnedTable<Real> table(router, call.shape());
  const Routed<Real> routed = route_train(router, call, table, tape.get());
  const auto gradients = router.make_gradients();
  const std::vector<Real> dx =
      backward(router, call, table, tape.get(), cotangents(call, routed), 1, gradients.get());
  std::vector<Real> all;
  for (const auto& element : elements(router, gradients.get())) all.push_back(*element.gradient);
  all.insert(all.end(), dx.begin(), dx.end());
  return all;
}

namespace {

/// Offsets ascend from 0, at most max_pairs pairs, ids in range, no expert twice for a token, finite weights.
template <class Real>
void check_well_formed(const ErasedRouter<Real>& router, const RouterCall<Real>& call,
                       const Routed<Real>& routed) {
  REQUIRE(routed.tokens() == call.tokens);
  REQUIRE(routed.offsets.front() == 0);
  REQUIRE(routed.pairs() <= router.max_pairs(call.shape()));
  for (Index t = 0; t < call.tokens; ++t) {
    INFO("token " << t);
    const std::vector<ExpertId> ids = routed.experts_of(t);
    std::vector<bool> seen(static_cast<std::size_t>(router.experts()), false);
    for (const ExpertId e : ids) {
      REQUIRE((e >= 0 && e < router.experts()));
      REQUIRE(!seen[static_cast<std::size_t>(e)]);
      seen[static_cast<std::size_t>(e)] = true;
    }
    for (const auto w : routed.weights_of(t)) REQUIRE(moe::is_finite(w));
    if (!call.valid.empty() && !call.valid[t]) REQUIRE(ids.empty());
  }
  for (const double loss : routed.losses) REQUIRE(moe::is_finite(loss));
}

template <class Real>
void check_batch_laws(ErasedRouter<Real>& router, const RouterCall<Real>& call) {
  const Routed<Real> routed = route(router, call);
  check_well_formed(router, call, routed);
  CHECK(same_route(routed, route(router, call)));
  CHECK(same_route(routed, erased::route(router, call, backwards())));

  if (router.coupling(call.training) == moe::Coupling::row_independent) {
    std::vector<Index> reversed;
    for (Index t = call.tokens - 1; t >= 0; --t) reversed.push_back(t);
    const Routed<Real> mirrored = route(router, call.subset(reversed));
    for (Index t = 0; t < call.tokens; ++t) {
      INFO("token " << t << " alone and in the reversed batch");
      CHECK(same_row(routed, t, mirrored, call.tokens - 1 - t));
      CHECK(same_row(routed, t, route(router, call.subset({t})), 0));
    }
  }
}

/// Rows that take no part leave no trace, whatever they hold: as if the call were without them.
template <class Real>
void check_padding(ErasedRouter<Real>& router, RouterCall<Real> call) {
  call.segments.clear();
  const auto routed = route(router, call);
  call.valid.assign(call.tokens, true);
  CHECK(same_route(routed, route(router, call)));
  std::vector<Index> kept;
  for (Index t = 0; t < call.tokens; ++t) {
    call.valid[t] = t % 3 != 1;
    if (call.valid[t]) kept.push_back(t);
  }
  const RouterCall<Real> clean = call;
  for (Index t = 1; t < call.tokens && call.width > 0; t += 3) {
    std::fill_n(call.row(t), call.width, std::numeric_limits<Real>::quiet_NaN());
  }
  const auto padded = route(router, call);
  check_well_formed(router, call, padded);
  const auto without = route(router, call.subset(kept));
  CHECK(padded.pairs() == without.pairs());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    INFO("token " << kept[i]);
    CHECK(same_row(padded, kept[i], without, static_cast<Index>(i)));
  }
  CHECK(same_bits(padded.losses, without.losses));
  if (router.trainable()) {
    CHECK(same_bits(all_gradients(router, call), all_gradients(router, clean)));
  }
}

template <class Real>
void check_masks(ErasedRouter<Real>& router, RouterCall<Real> call) {
  const Index outputs = router.outputs();
  for (const bool per_row : {false, true}) {
    mask_some(call, outputs, per_row);
    const auto routed = route(router, call);
    check_well_formed(router, call, routed);
    for (Index t = 0; t < call.tokens; ++t) {
      for (const ExpertId e : routed.experts_of(t)) {
        INFO("token " << t << ", masked expert " << e);
        CHECK(call.mask[static_cast<std::size_t>((per_row ? t : 0) * outputs + e)] == 0);
      }
    }
    if (router.trainable()) {
      for (const auto g : all_gradients(router, call)) CHECK(moe::is_finite(g));
    }
  }
}

template <class Real>
constexpr Real kNotFinite[] = {std::numeric_limits<Real>::quiet_NaN(), std::numeric_limits<Real>::infinity(),
                               -std::numeric_limits<Real>::infinity()};

/// What a call throws for logits that are not numbers; empty if it does not.
template <class Real>
std::string refused(const ErasedRouter<Real>& router, const RouterCall<Real>& call) {
  try {
    route(router, call);
  } catch (const moe::numeric_error& error) {
    return error.what();
  }
  return "";
}

/// A row that is not finite is refused by its number or, isolated, as if it were not there.
template <class Real>
void check_isolation(ErasedRouter<Real>& router, RouterCall<Real> call) {
  const Index spoiled = call.tokens / 2;
  RouterCall<Real> without = call;
  without.valid.assign(call.tokens, true);
  without.valid[spoiled] = false;
  const Routed<Real> expected = route(router, without);
  std::vector<Real> gradients;
  if (router.trainable()) gradients = all_gradients(router, without);
  for (const Real bad : kNotFinite<Real>) {
    INFO("x is " << bad);
    call.row(spoiled)[call.width - 1] = bad;
    const std::string message = refused(router, call);
    INFO(message);
    CHECK(message.find("token " + std::to_string(spoiled)) != std::string::npos);
    router.set_non_finite(moe::NonFinite::isolate_row);
    const Routed<Real> isolated = route(router, call);
    if (router.trainable()) CHECK(same_bits(all_gradients(router, call), gradients));
    router.set_non_finite(moe::NonFinite::throw_);
    for (Index t = 0; t < call.tokens; ++t)
      CHECK(isolated.spoiled[static_cast<std::size_t>(t)] == (t == spoiled));
    CHECK(isolated.offsets == expected.offsets);
    CHECK(isolated.expert == expected.expert);
    CHECK(same_bits(isolated.weight, expected.weight));
    CHECK(same_bits(isolated.losses, expected.losses));
  }
}

/// A parameter that is not finite spoils all rows, or the call does not read it: in inference.
template <class Real>
void check_spoiled_parameters(ErasedRouter<Real>& router, const RouterCall<Real>& call) {
  const Routed<Real> clean = route(router, call);
  for (const Element<Real>& element : elements(router, nullptr)) {
    if (!element.name.ends_with("(0,0)")) continue;
    const Real good = *element.value;
    for (const Real bad : kNotFinite<Real>) {
      INFO(element.name << " is " << bad);
      *element.value = bad;
      const bool read = !refused(router, call).empty();
      CHECK((read || !call.training));
      router.set_non_finite(moe::NonFinite::isolate_row);
      const Routed<Real> isolated = route(router, call);
      if (read) CHECK(isolated.spoiled == std::vector<bool>(isolated.spoiled.size(), true));
      if (!read) CHECK(same_route(isolated, clean));
      if (router.trainable() && call.training) {
        for (const Real g : all_gradients(router, call)) CHECK(g == 0);
      }
      router.set_non_finite(moe::NonFinite::throw_);
    }
    *element.value = good;
  }
}

/// Training: the same table with a tape (a used one too), any executor, frozen parameters, gradients added
/// to.
template <class Real>
void check_training_laws(ErasedRouter<Real>& router, const RouterCall<Real>& call,
                         const RouterCall<Real>& larger) {
  const auto tape = router.make_tape();
  OwnedTable<Real> larger_table(router, larger.shape());
  route_train(router, larger, larger_table, tape.get());
  OwnedTable<Real> table(router, call.shape());
  const Routed<Real> routed = route_train(router, call, table, tape.get());
  CHECK(same_route(routed, route(router, call)));

  const std::vector<Real> dweight = cotangents(call, routed);
  const auto gradients = router.make_gradients();
  const std::vector<Real> dx = backward(router, call, table, tape.get(), dweight, 1, gradients.get());
  std::vector<Real> all;
  for (const auto& element : elements(router, gradients.get())) all.push_back(*element.gradient);

  CHECK(same_bits(dx, backward(router, call, table, tape.get(), dweight, 1, nullptr)));
  const auto again = router.make_gradients();
  CHECK(same_bits(dx, erased::backward(router, call, table, tape.get(), dweight, 1, again.get(), true,
                                       Real{0}, backwards())));
  std::vector<Real> second;
  for (const auto& element : elements(router, again.get())) second.push_back(*element.gradient);
  CHECK(same_bits(all, second));
  const auto alone = router.make_gradients();
  backward(router, call, table, tape.get(), dweight, 1, alone.get(), false);
  second.clear();
  for (const auto& element : elements(router, alone.get())) second.push_back(*element.gradient);
  CHECK(same_bits(all, second));

  // Added to what was there: one more rounding of each element, at a size of |old| + |new|.
  const std::vector<Real> on_top =
      backward(router, call, table, tape.get(), dweight, 1, gradients.get(), true, Real{1});
  const Real u = std::numeric_limits<Real>::epsilon();
  Real largest = 1;
  for (const Real v : dx) largest += std::abs(v);
  for (const Real v : all) largest += std::abs(v);
  for (std::size_t i = 0; i < dx.size(); ++i) CHECK(std::abs(on_top[i] - 1 - dx[i]) <= 8 * u * largest);
  std::size_t i = 0;
  for (const auto& element : elements(router, gradients.get())) {
    CHECK(std::abs(*element.gradient - 2 * all[i++]) <= 8 * u * static_cast<Real>(call.tokens + 2) * largest);
  }

  // Without losses a row's dx depends on that row alone.
  if (router.coupling(true) == moe::Coupling::row_independent) {
    const std::vector<Real> free = backward(router, call, table, tape.get(), dweight, 0, nullptr);
    for (Index t = 0; t < call.tokens; ++t) {
      const RouterCall<Real> row = call.subset({t});
      OwnedTable<Real> row_table(router, row.shape());
      const Routed<Real> row_routed = route_train(router, row, row_table, tape.get());
      const std::vector<Real> row_dx =
          backward(router, row, row_table, tape.get(), cotangents(row, row_routed), 0, nullptr);
      INFO("dx of token " << t);
      CHECK(same_bits(row_dx,
                      std::vector<Real>(free.begin() + t * call.width, free.begin() + (t + 1) * call.width)));
    }
  }
}

}  // namespace

template <class Real>
void check_laws(ErasedRouter<Real>& router, const MakeCall<Real>& make, RouterLaws laws) {
  REQUIRE(router.experts() >= 1);
  for (const bool training : {false, true}) {
    INFO((training ? "training" : "inference"));
    for (const Index tokens : {0, 1, 2, 33, 70}) {  // routers work in blocks of 32 tokens
      INFO("T = " << tokens);
      RouterCall<Real> call = make(tokens, static_cast<std::uint64_t>(tokens + 1));
      call.training = training;
      check_batch_laws(router, call);
    }
    RouterCall<Real> call = make(Index{20}, std::uint64_t{5});
    call.training = training;
    if (laws.padding) check_padding(router, call);
    if (laws.masks) check_masks(router, call);
    if (laws.isolation && router.set_non_finite(moe::NonFinite::throw_)) {
      check_isolation(router, call);
      if (router.trainable() && laws.parameters) check_spoiled_parameters(router, call);
    }
  }
  if (router.trainable()) {
    for (const Index tokens : {0, 1, 40}) {
      INFO("training with a tape, T = " << tokens);
      RouterCall<Real> call = make(tokens, std::uint64_t{9}), larger = make(Index{50}, std::uint64_t{10});
      call.training = larger.training = true;
      check_training_laws(router, call, larger);
    }
  }
}

template <class Real>
MakeCall<Real> calls_for(const ErasedRouter<Real>& router, bool masked) {
  return [width = router.width(), outputs = router.outputs(), carry = router.carry_width(), masked](
             Index tokens, std::uint64_t seed) {
    RouterCall<Real> call = random_call<Real>(tokens, width, seed);
    add_targets(call, outputs);
    add_carry(call, carry);
    if (masked) mask_some(call, outputs, true);
    return call;
  };
}

template <class Real>
void check_ties(const ErasedRouter<Real>& router, Index tokens) {
  RouterCall<Real> call = random_call<Real>(tokens, router.width(), 1);
  std::fill(call.x.begin(), call.x.end(), Real{0});
  call.columns.reals.erase("carry");
  const auto routed = route(router, call);
  REQUIRE(routed.pairs() > 0);
  for (Index t = 0; t < tokens; ++t) {
    const auto ids = routed.experts_of(t);
    for (std::size_t i = 0; i < ids.size(); ++i) CHECK(ids[i] == static_cast<ExpertId>(i));
  }
}

namespace {

/// False, with nothing checked, when some step changes a choice.
bool gradients_match(ErasedRouter<double>& router, const RouterCall<double>& call, GradientCheck options) {
  const auto tape = router.make_tape();
  OwnedTable<double> table(router, call.shape());
  const Routed<double> routed = route_train(router, call, table, tape.get());
  const auto gradients = router.make_gradients();
  std::vector<double> dx =
      backward(router, call, table, tape.get(), cotangents(call, routed, options.weight_scale),
               options.auxiliary_scale, gradients.get());
  RouterCall<double> moved = call;
  bool smooth = true;
  const auto objective = [&] {
    const Routed<double> here = route(router, moved);
    smooth = smooth && here.offsets == routed.offsets && here.expert == routed.expert;
    double sum = options.auxiliary_scale * here.loss();
    if (!smooth) return sum;
    const auto c = cotangents(moved, here, options.weight_scale);
    for (std::size_t p = 0; p < c.size(); ++p) sum += c[p] * here.weight[p];
    return sum;
  };
  std::vector<Element<double>> all = elements(router, gradients.get());
  for (std::size_t i = 0; i < moved.x.size(); ++i)
    all.push_back({"x" + std::to_string(i), &moved.x[i], &dx[i]});

  const double size = 1 + std::abs(objective());
  std::vector<std::pair<double, double>> differences;  // value, bound of its error
  for (const Element<double>& element : all) {
    const double start = *element.value;
    const auto at = [&](double shift) {
      *element.value = start + shift;
      const double value = objective();
      *element.value = start;
      return value;
    };
    const auto difference = [&](double h) {
      return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    };
    const double coarse = difference(options.step), fine = difference(options.step / 2);
    if (!smooth) return false;
    // The coarse error is 16 times the fine one, so their distance bounds the fine one; plus rounding of the
    // objective, some tens of roundings of its size, over the step.
    const double rounding = 64 * std::numeric_limits<double>::epsilon() * size / options.step;
    differences.emplace_back(fine, std::abs(coarse - fine) + rounding);
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto [expected, bound] = differences[i];
    INFO(all[i].name << ": analytic " << *all[i].gradient << ", central difference " << expected);
    REQUIRE(bound <= 1e-7 * (1 + std::abs(expected)));  // else the difference says nothing
    CHECK(std::abs(*all[i].gradient - expected) <= bound);
  }
  return true;
}

}  // namespace

void check_gradients(ErasedRouter<double>& router, Index tokens, const MakeCall<double>& make,
                     GradientCheck options) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    RouterCall<double> call = make(tokens, seed);
    call.training = true;
    if (gradients_match(router, call, options)) return;
  }
  FAIL("no draw was away from ties");
}

#define MOE_TEST_ERASED(Real)                                                                         \
  template struct Elements<Real>;                                                                     \
  template void randomise<Real>(const std::vector<Element<Real>>&, std::uint64_t, double);            \
  template Routed<Real> route<Real>(const ErasedRouter<Real>&, const RouterCall<Real>&, AnyExecutor); \
  template Routed<Real> route_train<Real>(const ErasedRouter<Real>&, const RouterCall<Real>&,         \
                                          OwnedTable<Real>&, void*, AnyExecutor);                     \
  template std::vector<Real> backward<Real>(const ErasedRouter<Real>&, const RouterCall<Real>&,       \
                                            OwnedTable<Real>&, const void*, const std::vector<Real>&, \
                                            double, void*, bool, Real, AnyExecutor);                  \
  template std::vector<Real> all_gradients<Real>(ErasedRouter<Real>&, const RouterCall<Real>&);       \
  template void check_laws<Real>(ErasedRouter<Real>&, const MakeCall<Real>&, RouterLaws);             \
  template void check_ties<Real>(const ErasedRouter<Real>&, Index);                                   \
  template MakeCall<Real> calls_for<Real>(const ErasedRouter<Real>&, bool);
MOE_TEST_ERASED(float)
MOE_TEST_ERASED(double)

}  // namespace erased

MOE_TEST_ROUTER_CALL(, float)
MOE_TEST_ROUTER_CALL(, double)
template std::vector<float> cotangents<float>(const RouterCall<float>&, const Routed<float>&, double);
template std::vector<double> cotangents<double>(const RouterCall<double>&, const Routed<double>&, double);

}  // namespace test
