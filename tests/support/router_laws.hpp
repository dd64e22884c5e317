// What every router must do whatever its policy, as checks templated on the router: laws of the route
// (check_router_laws) and gradients against central differences (check_router_gradients). Calls are made at
// run time: RouterCall holds one, random_call draws one, route / route_train run one on exactly the measured
// memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/concept.hpp"
#include "moe/storage/parameter.hpp"
#include "support/catch.hpp"

namespace test {

using moe::ExpertId;
using moe::Index;

/// Storage of one call. Rows have keys of their own, so that a row is the same one in any batch.
template <class Real>
struct RouterCall {
  Index tokens = 0;
  Index width = 0;
  std::vector<Real> x;             // [T, D]
  std::vector<std::uint64_t> key;  // [T]
  moe::Buffer<bool> valid;         // [T] or empty
  std::vector<Real> mask;          // [1 or, if mask_per_row, T, N] or empty
  bool mask_per_row = false;
  std::vector<moe::TokenId> token_id;  // [T] or empty
  std::vector<Index> segments;         // [S + 1] or empty
  std::vector<double> outside_counts;
  moe::CallOptions options{};
  bool training = false;
  std::uint64_t seed = 7;
  std::uint64_t step = 3;

  Real* row(Index t) { return x.data() + t * width; }

  moe::RouterInput<Real> input() const {
    moe::RouterInput<Real> in;
    if (tokens > 0 && width > 0) in.x = moe::ConstMatrixView<Real>(x.data(), tokens, width);
    in.x.rows = tokens;
    in.x.cols = in.x.stride = width;
    if (!segments.empty()) in.segments = moe::Segments(std::span<const Index>(segments));
    in.valid = {valid.data(), static_cast<std::size_t>(valid.size())};
    in.row_key = key;
    in.token_id = token_id;
    if (!mask.empty()) {
      const Index rows = mask_rows();
      in.logit_mask = moe::ConstMatrixView<Real>(mask.data(), rows, static_cast<Index>(mask.size()) / rows);
    }
    in.outside_counts = outside_counts;
    in.options = options;
    in.training = training;
    in.seed = seed;
    in.step = step;
    return in;
  }

  moe::CallShape shape() const {
    return {tokens, segments.empty() ? Index{1} : static_cast<Index>(segments.size()) - 1, options};
  }

  Index mask_rows() const { return mask_per_row ? tokens : 1; }

  /// The call with these rows only, in this order; without segments.
  RouterCall subset(const std::vector<Index>& rows) const {
    RouterCall part = *this;
    part.tokens = static_cast<Index>(rows.size());
    part.segments.clear();
    part.x.clear();
    part.key.clear();
    part.token_id.clear();
    part.valid = moe::Buffer<bool>(valid.empty() ? 0 : part.tokens);
    if (mask_per_row) part.mask.clear();
    const Index outputs = mask_per_row && tokens > 0 ? static_cast<Index>(mask.size()) / tokens : 0;
    for (Index i = 0; i < part.tokens; ++i) {
      const Index t = rows[static_cast<std::size_t>(i)];
      part.x.insert(part.x.end(), x.begin() + t * width, x.begin() + (t + 1) * width);
      part.key.push_back(key[static_cast<std::size_t>(t)]);
      if (!token_id.empty()) part.token_id.push_back(token_id[static_cast<std::size_t>(t)]);
      if (!valid.empty()) part.valid[i] = valid[t];
      part.mask.insert(part.mask.end(), mask.begin() + t * outputs, mask.begin() + (t + 1) * outputs);
    }
    return part;
  }
};

/// x in U(-1, 1), keys and token ids far from the positions.
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
  return call;
}

/// Three workers, last index first: shows results that depend on the order or on a worker's scratch.
struct BackwardsExecutor {
  Index concurrency() const noexcept { return 3; }
  template <class F>
  void parallel_for(Index n, F&& f) const noexcept {
    for (Index i = n - 1; i >= 0; --i) f(i, i % 3);
  }
};

/// A route table copied out of its memory.
template <class Real>
struct Routed {
  std::vector<Index> offsets;
  std::vector<ExpertId> expert;
  std::vector<Real> weight;
  std::vector<bool> spoiled;
  std::vector<double> losses;
  std::vector<std::string> loss_names;
  Index elided = 0;

  Index tokens() const { return static_cast<Index>(offsets.size()) - 1; }
  Index pairs() const { return static_cast<Index>(expert.size()); }
  double loss() const {
    double sum = 0;
    for (const double value : losses) sum += value;
    return sum;
  }
  std::vector<ExpertId> experts_of(Index t) const {
    return {expert.begin() + offsets[static_cast<std::size_t>(t)],
            expert.begin() + offsets[static_cast<std::size_t>(t + 1)]};
  }
  std::vector<Real> weights_of(Index t) const {
    return {weight.begin() + offsets[static_cast<std::size_t>(t)],
            weight.begin() + offsets[static_cast<std::size_t>(t + 1)]};
  }
  /// Weight of expert e for token t, 0 where it is not routed.
  Real weight_of(Index t, Index e) const {
    for (Index p = offsets[static_cast<std::size_t>(t)]; p < offsets[static_cast<std::size_t>(t + 1)]; ++p) {
      if (expert[static_cast<std::size_t>(p)] == e) return weight[static_cast<std::size_t>(p)];
    }
    return 0;
  }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class Real>
bool same_pairs(const Routed<Real>& a, const Routed<Real>& b) {
  return a.offsets == b.offsets && a.expert == b.expert && same_bits(a.weight, b.weight) &&
         a.spoiled == b.spoiled && a.elided == b.elided;
}
template <class Real>
bool same_route(const Routed<Real>& a, const Routed<Real>& b) {
  return same_pairs(a, b) && same_bits(a.losses, b.losses) && a.loss_names == b.loss_names;
}

/// Memory of exactly the size that `measure(arena)` asks for, filled with NaN patterns.
class MeasuredMemory {
 public:
  template <class Measure>
  explicit MeasuredMemory(Measure&& measure) {
    moe::Arena measuring;
    measure(measuring);
    block_.assign(static_cast<std::size_t>(measuring.bytes()), std::byte{0xFF});
  }
  moe::Arena arena() { return {block_.data(), static_cast<Index>(block_.size())}; }

 private:
  std::vector<std::byte> block_;
};

/// A table with memory for one call.
template <class Real>
class OwnedTable {
 public:
  template <class R>
  OwnedTable(const R& router, const moe::CallShape& shape)
      : memory_([&](moe::Arena& arena) { carve(router, shape, arena); }) {
    moe::Arena arena = memory_.arena();
    table_ = carve(router, shape, arena);
  }
  moe::RouteTable<Real>& operator*() { return table_; }

  Routed<Real> copy() const {
    Routed<Real> r;
    r.offsets.assign(table_.offsets, table_.offsets + table_.tokens + 1);
    r.expert.assign(table_.expert, table_.expert + table_.pairs());
    r.weight.assign(table_.weight, table_.weight + table_.pairs());
    r.spoiled.assign(table_.spoiled, table_.spoiled + table_.tokens);
    for (const auto& entry : table_.losses) {
      r.losses.push_back(entry.value);
      r.loss_names.emplace_back(entry.name);
    }
    r.elided = table_.elided;
    return r;
  }

 private:
  template <class R>
  static moe::RouteTable<Real> carve(const R& router, const moe::CallShape& shape, moe::Arena& arena) {
    return moe::RouteTable<Real>::carve(arena, shape.tokens, router.experts(), router.max_pairs(shape));
  }
  MeasuredMemory memory_;
  moe::RouteTable<Real> table_;
};

template <class R, class X = moe::SerialExecutor>
Routed<typename R::Real> route(const R& router, const RouterCall<typename R::Real>& call, X executor = X{}) {
  OwnedTable<typename R::Real> table(router, call.shape());
  MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), executor.concurrency()); });
  moe::Arena arena = memory.arena();
  router.route(call.input(), *table, arena, executor);
  return table.copy();
}

template <class R, class X = moe::SerialExecutor>
Routed<typename R::Real> route_train(const R& router, const RouterCall<typename R::Real>& call,
                                     OwnedTable<typename R::Real>& table, typename R::Tape& tape,
                                     X executor = X{}) {
  MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), executor.concurrency()); });
  moe::Arena arena = memory.arena();
  router.route_train(call.input(), *table, tape, arena, executor);
  return table.copy();
}

/// dx [T, D] after backward, with `gradients` added to. `dx_start` is what dx held before.
template <class R, class X = moe::SerialExecutor>
std::vector<typename R::Real> backward(const R& router, const RouterCall<typename R::Real>& call,
                                       OwnedTable<typename R::Real>& table, const typename R::Tape& tape,
                                       const std::vector<typename R::Real>& dweight, double auxiliary_scale,
                                       typename R::Gradients* gradients, bool wants_dx = true,
                                       typename R::Real dx_start = 0, X executor = X{}) {
  using Real = typename R::Real;
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

/// One element of a parameter and of its gradient.
template <class Real>
struct Element {
  std::string name;
  Real* value;
  Real* gradient;
};

/// Every element of every parameter.
template <class R>
std::vector<Element<typename R::Real>> elements(R& router, typename R::Gradients& gradients) {
  std::vector<Element<typename R::Real>> all;
  auto collect = [&all](const moe::Parameter<typename R::Real>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        all.push_back({std::string(p.name) + "(" + std::to_string(o) + "," + std::to_string(i) + ")",
                       &p.value(o, i), &p.gradient(o, i)});
      }
    }
  };
  router.visit_parameters(&gradients, collect);
  return all;
}

/// Every parameter in U(-scale, scale), biases included.
template <class R>
void randomise(R& router, std::uint64_t seed, double scale = 1) {
  auto gradients = router.make_gradients();
  const moe::KeyedRandom draw(seed, 1, moe::DrawStream::user);
  std::uint64_t i = 0;
  for (auto& element : elements(router, gradients)) {
    *element.value = static_cast<typename R::Real>(scale * (2 * draw.uniform(i++, 0) - 1));
  }
}

/// Numbers that stand in for the gradients of the combine weights, one for every (row key, expert).
template <class Real>
std::vector<Real> cotangents(const RouterCall<Real>& call, const Routed<Real>& routed, double scale = 1) {
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

/// Gradients of a call, parameters first, then dx.
template <class R>
std::vector<typename R::Real> all_gradients(R& router, const RouterCall<typename R::Real>& call) {
  using Real = typename R::Real;
  typename R::Tape tape;
  OwnedTable<Real> table(router, call.shape());
  const Routed<Real> routed = route_train(router, call, table, tape);
  auto gradients = router.make_gradients();
  const std::vector<Real> dx = backward(router, call, table, tape, cotangents(call, routed), 1, &gradients);
  std::vector<Real> all;
  for (const auto& element : elements(router, gradients)) all.push_back(*element.gradient);
  all.insert(all.end(), dx.begin(), dx.end());
  return all;
}

/// Saved state: names and values, and back.
template <class R>
std::vector<std::pair<std::string, std::vector<double>>> save_state(R& router) {
  std::vector<std::pair<std::string, std::vector<double>>> state;
  auto save = [&state](const char* name, double* values, Index n) {
    state.emplace_back(name, std::vector<double>(values, values + n));
  };
  router.visit_state(save);
  return state;
}
template <class R>
void load_state(R& router, const std::vector<std::pair<std::string, std::vector<double>>>& state) {
  std::size_t i = 0;
  auto load = [&](const char* name, double* values, Index n) {
    REQUIRE(i < state.size());
    REQUIRE(state[i].first == name);
    REQUIRE(static_cast<Index>(state[i].second.size()) == n);
    std::copy(state[i].second.begin(), state[i].second.end(), values);
    ++i;
  };
  router.visit_state(load);
  REQUIRE(i == state.size());
}

/// Columns of the logit mask.
template <class R>
Index outputs_of(const R& router) {
  if constexpr (requires { router.outputs(); }) {
    return router.outputs();
  } else {
    return router.experts();
  }
}

/// Masks about 7 outputs in 10, never all of a row.
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

/// Offsets ascend from 0, at most max_pairs pairs, ids in range, no expert twice for a token, finite weights.
template <class R>
void check_well_formed(const R& router, const RouterCall<typename R::Real>& call,
                       const Routed<typename R::Real>& routed) {
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

/// Row t of `whole` and row i of `part` are the same pairs, bit for bit.
template <class Real>
bool same_row(const Routed<Real>& whole, Index t, const Routed<Real>& part, Index i) {
  return whole.experts_of(t) == part.experts_of(i) && same_bits(whole.weights_of(t), part.weights_of(i));
}

namespace detail {

template <class R>
void check_batch_laws(R& router, const RouterCall<typename R::Real>& call) {
  using Real = typename R::Real;
  const Routed<Real> routed = route(router, call);
  check_well_formed(router, call, routed);
  CHECK(same_route(routed, route(router, call)));
  CHECK(same_route(routed, route(router, call, BackwardsExecutor{})));

  if (R::coupling(call.training) == moe::Coupling::row_independent) {
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
template <class R>
void check_padding(R& router, RouterCall<typename R::Real> call) {
  call.segments.clear();
  const auto routed = route(router, call);
  call.valid.assign(call.tokens, true);
  CHECK(same_route(routed, route(router, call)));
  std::vector<Index> kept;
  for (Index t = 0; t < call.tokens; ++t) {
    call.valid[t] = t % 3 != 1;
    if (call.valid[t]) kept.push_back(t);
  }
  const RouterCall<typename R::Real> clean = call;
  for (Index t = 1; t < call.tokens && call.width > 0; t += 3) {
    std::fill_n(call.row(t), call.width, std::numeric_limits<typename R::Real>::quiet_NaN());
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
  if constexpr (moe::TrainableRouter<R>) {
    CHECK(same_bits(all_gradients(router, call), all_gradients(router, clean)));
  }
}

template <class R>
void check_masks(R& router, RouterCall<typename R::Real> call) {
  const Index outputs = outputs_of(router);
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
    if constexpr (moe::TrainableRouter<R>) {
      for (const auto g : all_gradients(router, call)) CHECK(moe::is_finite(g));
    }
  }
}

template <class R>
void check_isolation(R& router, RouterCall<typename R::Real> call) {
  using Real = typename R::Real;
  const Index spoiled = call.tokens / 2;
  RouterCall<Real> without = call;
  without.valid.assign(call.tokens, true);
  without.valid[spoiled] = false;
  const Routed<Real> expected = route(router, without);
  call.row(spoiled)[call.width - 1] = std::numeric_limits<Real>::quiet_NaN();
  try {
    route(router, call);
    FAIL("expected numeric_error for NaN logits");
  } catch (const moe::numeric_error& error) {
    INFO(error.what());
    CHECK(std::strstr(error.what(), ("token " + std::to_string(spoiled)).c_str()) != nullptr);
  }
  router.set_non_finite(moe::NonFinite::isolate_row);
  const Routed<Real> isolated = route(router, call);
  if constexpr (moe::TrainableRouter<R>) {
    CHECK(same_bits(all_gradients(router, call), all_gradients(router, without)));
  }
  router.set_non_finite(moe::NonFinite::throw_);
  for (Index t = 0; t < call.tokens; ++t)
    CHECK(isolated.spoiled[static_cast<std::size_t>(t)] == (t == spoiled));
  CHECK(isolated.offsets == expected.offsets);
  CHECK(isolated.expert == expected.expert);
  CHECK(same_bits(isolated.weight, expected.weight));
  CHECK(same_bits(isolated.losses, expected.losses));
}

/// Training: the same table with a tape (a used one too), any executor, frozen parameters, gradients added
/// to.
template <class R>
void check_training_laws(R& router, const RouterCall<typename R::Real>& call,
                         const RouterCall<typename R::Real>& larger) {
  using Real = typename R::Real;
  typename R::Tape tape;
  OwnedTable<Real> larger_table(router, larger.shape());
  route_train(router, larger, larger_table, tape);
  OwnedTable<Real> table(router, call.shape());
  const Routed<Real> routed = route_train(router, call, table, tape);
  CHECK(same_route(routed, route(router, call)));

  const std::vector<Real> dweight = cotangents(call, routed);
  auto gradients = router.make_gradients();
  const std::vector<Real> dx = backward(router, call, table, tape, dweight, 1, &gradients);
  std::vector<Real> all;
  for (const auto& element : elements(router, gradients)) all.push_back(*element.gradient);

  CHECK(same_bits(dx, backward<R>(router, call, table, tape, dweight, 1, nullptr)));
  auto again = router.make_gradients();
  CHECK(same_bits(
      dx, backward(router, call, table, tape, dweight, 1, &again, true, Real{0}, BackwardsExecutor{})));
  std::vector<Real> second;
  for (const auto& element : elements(router, again)) second.push_back(*element.gradient);
  CHECK(same_bits(all, second));
  auto alone = router.make_gradients();
  backward(router, call, table, tape, dweight, 1, &alone, false);
  second.clear();
  for (const auto& element : elements(router, alone)) second.push_back(*element.gradient);
  CHECK(same_bits(all, second));

  // Added to what was there: one more rounding of each element, at a size of |old| + |new|.
  const std::vector<Real> on_top = backward(router, call, table, tape, dweight, 1, &gradients, true, Real{1});
  const Real u = std::numeric_limits<Real>::epsilon();
  Real largest = 1;
  for (const Real v : dx) largest += std::abs(v);
  for (const Real v : all) largest += std::abs(v);
  for (std::size_t i = 0; i < dx.size(); ++i) CHECK(std::abs(on_top[i] - 1 - dx[i]) <= 8 * u * largest);
  std::size_t i = 0;
  for (const auto& element : elements(router, gradients)) {
    CHECK(std::abs(*element.gradient - 2 * all[i++]) <= 8 * u * static_cast<Real>(call.tokens + 2) * largest);
  }

  // Without losses a row's dx depends on that row alone.
  if (R::coupling(true) == moe::Coupling::row_independent) {
    const std::vector<Real> free = backward<R>(router, call, table, tape, dweight, 0, nullptr);
    for (Index t = 0; t < call.tokens; ++t) {
      const RouterCall<Real> row = call.subset({t});
      OwnedTable<Real> row_table(router, row.shape());
      const Routed<Real> row_routed = route_train(router, row, row_table, tape);
      const std::vector<Real> row_dx =
          backward<R>(router, row, row_table, tape, cotangents(row, row_routed), 0, nullptr);
      INFO("dx of token " << t);
      CHECK(same_bits(row_dx,
                      std::vector<Real>(free.begin() + t * call.width, free.begin() + (t + 1) * call.width)));
    }
  }
}

}  // namespace detail

/// Which laws apply.
struct RouterLaws {
  bool masks = true;      // honours logit_mask
  bool isolation = true;  // reads rows, has set_non_finite()
  bool padding = true;  // the losses skip rows that take no part (false: only the route is checked elsewhere)
};

/// All laws, inference and training. `make(tokens, seed)` gives a RouterCall.
template <class R, class Make>
void check_router_laws(R& router, Make&& make, RouterLaws laws = {}) {
  using Real = typename R::Real;
  STATIC_REQUIRE(moe::Router<R>);
  REQUIRE(router.experts() >= 1);
  for (const bool training : {false, true}) {
    INFO((training ? "training" : "inference"));
    for (const Index tokens : {0, 1, 2, 33, 70}) {  // routers work in blocks of 32 tokens
      INFO("T = " << tokens);
      RouterCall<Real> call = make(tokens, static_cast<std::uint64_t>(tokens + 1));
      call.training = training;
      detail::check_batch_laws(router, call);
    }
    RouterCall<Real> call = make(Index{20}, std::uint64_t{5});
    call.training = training;
    if (laws.padding) detail::check_padding(router, call);
    if (laws.masks) detail::check_masks(router, call);
    if constexpr (requires { router.set_non_finite(moe::NonFinite::throw_); }) {
      if (laws.isolation) detail::check_isolation(router, call);
    }
  }
  if constexpr (moe::TrainableRouter<R>) {
    for (const Index tokens : {0, 1, 40}) {
      INFO("training with a tape, T = " << tokens);
      RouterCall<Real> call = make(tokens, std::uint64_t{9}), larger = make(Index{50}, std::uint64_t{10});
      call.training = larger.training = true;
      detail::check_training_laws(router, call, larger);
    }
  }
}

/// With rows read by the router's own width.
template <class R>
void check_router_laws(R& router, RouterLaws laws = {}) {
  check_router_laws(
      router,
      [&router](Index tokens, std::uint64_t seed) {
        return random_call<typename R::Real>(tokens, router.width(), seed);
      },
      laws);
}

/// Equal scores everywhere (rows of zeros, no bias): choices ascend by id.
template <class R>
void check_ties_take_lower_ids(const R& router, Index tokens = 3) {
  RouterCall<typename R::Real> call = random_call<typename R::Real>(tokens, router.width(), 1);
  std::fill(call.x.begin(), call.x.end(), typename R::Real{0});
  const auto routed = route(router, call);
  REQUIRE(routed.pairs() > 0);
  for (Index t = 0; t < tokens; ++t) {
    const auto ids = routed.experts_of(t);
    for (std::size_t i = 0; i < ids.size(); ++i) CHECK(ids[i] == static_cast<ExpertId>(i));
  }
}

struct GradientCheck {
  double weight_scale = 1;     // of the combine weights' random cotangent; 0: losses only
  double auxiliary_scale = 1;  // of the losses; 0: weights only
  double step = 2e-3;
};

/// Gradients of sum over pairs of c(token, expert) * weight + auxiliary_scale * losses, for every parameter
/// and every x, against fourth-order central differences. False, with nothing checked, when some step changes
/// a choice.
template <class R>
bool gradients_match(R& router, const RouterCall<double>& call, GradientCheck options = {}) {
  typename R::Tape tape;
  OwnedTable<double> table(router, call.shape());
  const Routed<double> routed = route_train(router, call, table, tape);
  auto gradients = router.make_gradients();
  std::vector<double> dx = backward(router, call, table, tape, cotangents(call, routed, options.weight_scale),
                                    options.auxiliary_scale, &gradients);
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
  std::vector<Element<double>> all = elements(router, gradients);
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

/// The same for calls made by `make(tokens, seed)`, in training mode, redrawn until no step changes a choice.
template <class R, class Make>
void check_router_gradients(R& router, Index tokens, Make&& make, GradientCheck options = {}) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    RouterCall<double> call = make(tokens, seed);
    call.training = true;
    if (gradients_match(router, call, options)) return;
  }
  FAIL("no draw was away from ties");
}
template <class R>
void check_router_gradients(R& router, Index tokens, GradientCheck options = {}) {
  check_router_gradients(
      router, tokens,
      [&router](Index t, std::uint64_t seed) { return random_call<double>(t, router.width(), seed); },
      options);
}

/// And with most outputs masked, differently for every token.
template <class R>
void check_masked_router_gradients(R& router, Index tokens, GradientCheck options = {}) {
  check_router_gradients(
      router, tokens,
      [&router](Index t, std::uint64_t seed) {
        RouterCall<double> call = random_call<double>(t, router.width(), seed);
        mask_some(call, outputs_of(router), true);
        return call;
      },
      options);
}

}  // namespace test
