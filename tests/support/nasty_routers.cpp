// Routers alone, called with every argument wrong in every way.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moe/plan/statistics.hpp"
#include "support/guarded_memory.hpp"
#include "support/nasty_calls.hpp"
#include "support/router_cases.hpp"

namespace test {

namespace {

constexpr Index kTokens = 4;

/// A plain call of a router, to be changed; all it reads and writes lies between guard cells.
template <class Real>
struct NastyRoute {
  GuardedMemory memory;
  moe::MatrixView<Real> x, mask;
  moe::TokenId* token_id;
  moe::RouterInput<Real> in;
  double memory_share = 1;  // of the arena that the call needs
  bool free = false;        // another route than the plain one is right
  Columns<Real> columns;    // outlives the input

  NastyRoute(const ErasedRouter<Real>& router, Index tokens) {
    RouterCall<Real> call = random_call<Real>(tokens, router.width(), 9);
    add_targets(call, router.outputs());
    add_carry(call, router.carry_width());
    columns = call.columns;
    x = memory.rows<Real>("x", tokens, router.width(), call.x);
    mask = memory.rows<Real>("logit_mask", tokens, router.outputs(), std::vector<Real>{0});
    token_id = memory.copy("token_id", call.token_id);
    const std::uint64_t* const key = memory.copy("row_key", call.key);
    const std::vector<Index> offsets = {0, tokens / 2, tokens};
    in.x = x;
    in.token_id = {token_id, call.token_id.size()};
    in.row_key = {key, call.key.size()};
    in.segments = moe::Segments(std::span<const Index>(memory.copy("segments", offsets), offsets.size()));
    columns.show(in, tokens);
    in.draws = moe::DrawKey{7, 3};
  }
};

template <class Real>
class RouterSweep {
 public:
  using Change = std::function<void(NastyRoute<Real>&)>;
  using ChangeBack = std::function<void(moe::RouteGradients<Real>&, const void*& tape, double& memory_share)>;

  RouterSweep(const std::string& name, ErasedRouter<Real>& router, NastyCalls& calls)
      : name_(name), router_(router), calls_(calls) {
    for (const bool train : {false, true}) {
      if (!train || router.trainable())
        one(
            "plain", {answer}, [](NastyRoute<Real>& c) { c.free = true; }, train);
      plain_[train] = routed_;
    }
  }

  void route(const std::string& what, const Ends& want, const Change& change, Index tokens = kTokens) {
    for (const bool train : {false, true}) {
      if (!train || router_.trainable()) one(what, want, change, train, tokens);
    }
  }

  void one(const std::string& what, const Ends& want, const Change& change, bool train,
           Index tokens = kTokens) {
    NastyRoute<Real> call(router_, tokens);
    call.in.training = train;
    change(call);
    const moe::CallShape shape{tokens, 2, call.in.options};
    std::string wrong;
    const Outcome got = outcome_of([&] {
      OwnedTable<Real> table(router_, shape);
      moe::Arena measuring;
      router_.measure(measuring, shape, 1);
      const Index bytes = static_cast<Index>(call.memory_share * double(measuring.bytes()));
      std::byte* const own = call.memory.template take<std::byte>("arena", bytes);
      moe::Arena arena(own, bytes);
      call.memory.remember();
      const auto look = [&] {  // what a call takes from its arena is its own
        call.memory.restore(own, static_cast<std::size_t>(bytes));
        wrong = call.memory.changed();
      };
      try {
        if (train) {
          const auto tape = router_.make_tape();
          router_.route_train(call.in, *table, tape.get(), arena, executor_);
        } else {
          router_.route(call.in, *table, arena, executor_);
        }
      } catch (...) {
        look();
        throw;
      }
      look();
      routed_ = table.copy();
    });
    if (got.ending == answer && !call.free && !same_pairs(routed_, plain_[train])) wrong += " another route";
    calls_.check(name_ + (train ? ", route_train: " : ", route: ") + what, want, got, wrong);
  }

  /// On the tape of a plain call.
  void backward(const std::string& what, const Ends& want, const ChangeBack& change) {
    NastyRoute<Real> call(router_, kTokens);
    call.in.training = true;
    const auto tape = router_.make_tape(), gradients = router_.make_gradients();
    const moe::CallShape shape{kTokens, 2, {}};
    OwnedTable<Real> table(router_, shape);
    MeasuredMemory scratch([&](moe::Arena& a) { router_.measure(a, shape, 1); });
    moe::Arena arena = scratch.arena();
    router_.route_train(call.in, *table, tape.get(), arena, executor_);
    moe::RouteGradients<Real> out;
    const Index pairs = (*table).pairs();
    out.dweight = call.memory.template rows<Real>("dweight", 1, pairs, std::vector<Real>{Real(0.5)}).data;
    out.dx = call.memory.template rows<Real>("dx", kTokens, router_.width(), std::vector<Real>{0});
    const void* used = tape.get();
    double share = 1;
    change(out, used, share);
    moe::Arena measuring;
    router_.measure_backward(measuring, shape, 1);
    const Index bytes = share < 1 ? static_cast<Index>(share * double(measuring.bytes())) : measuring.bytes();
    std::byte* const arena_memory = call.memory.template take<std::byte>("arena", bytes);
    moe::Arena back(arena_memory, bytes);
    call.memory.remember();
    const Outcome got =
        outcome_of([&] { router_.backward(call.in, *table, used, out, gradients.get(), back, executor_); });
    call.memory.take_back(out.dx);
    call.memory.restore(arena_memory, static_cast<std::size_t>(bytes));
    calls_.check(name_ + ", backward: " + what, want, got, call.memory.changed());
  }

  void other(const std::string& what, const Ends& want, const std::function<void()>& call) {
    const auto before = save();
    const Outcome got = outcome_of(call);
    calls_.check(name_ + ", " + what, want, got, got.ending != answer && before != save() ? " state" : "");
  }
  const ErasedRouter<Real>& router() const { return router_; }

 private:
  SavedState save() {
    SavedState state;
    router_.visit_state([&](const char* name, double* values, Index n) {
      state.emplace_back(name, std::vector<double>(values, values + n));
    });
    return state;
  }
  const std::string& name_;
  ErasedRouter<Real>& router_;
  NastyCalls& calls_;
  moe::SerialExecutor serial_;
  AnyExecutor executor_{serial_};
  Routed<Real> plain_[2], routed_;
};

}  // namespace

template <class Real>
void nasty_calls(const std::string& name, ErasedRouter<Real>& router, NastyCalls& calls) {
  using C = NastyRoute<Real>&;
  constexpr Real nan = std::numeric_limits<Real>::quiet_NaN(), inf = std::numeric_limits<Real>::infinity();
  RouterSweep<Real> s(name, router, calls);
  const bool reads = router.width() > 0;
  for (const bool isolates : {false, true}) {
    if (isolates && !router.set_non_finite(moe::NonFinite::isolate_row)) break;
    const unsigned refused = isolates ? answer : answer | numeric;
    for (const auto& [number, value] : {std::pair{"NaN", nan}, {"inf", inf}, {"-inf", -inf}}) {
      if (!reads) break;
      const bool spoils = isolates || std::isnan(value);
      s.route(std::string(number) + " in x",
              {isolates ? answer
               : spoils ? numeric
                        : refused,
               "logits"},
              [v = value](C c) { c.x(0, 0) = v, c.free = true; });
      s.route(std::string(number) + " in padding", {answer}, [v = value](C c) {
        bool* const valid = c.memory.template take<bool>("valid", kTokens);
        std::fill(valid, valid + kTokens, true);
        valid[0] = false, c.in.valid = {valid, kTokens};
        c.x(0, 0) = v, c.free = true;
      });
      s.route(std::string(number) + " over a row of logit_mask",
              {isolates ? answer | config : numeric | config, "logit"}, [&, v = value](C c) {
                for (Index e = 0; e < router.outputs(); ++e) c.mask(1, e) = v;
                c.in.logit_mask = c.mask, c.free = true;
              });
    }
  }
  router.set_non_finite(moe::NonFinite::throw_);
  for (const Index d : {-1, 1}) {
    s.route("logit_mask with other columns", {shape | config, "logit_mask"}, [&](C c) {
      c.in.logit_mask =
          c.memory.template rows<Real>("mask", kTokens, router.outputs() + d, std::vector<Real>{0});
    });
  }
  for (const Index d : {-1, 1}) {
    if (router.carry_width() == 0) break;
    s.route("carry with other columns", {shape, "carry"}, [&](C c) {
      c.in.carry =
          c.memory.template rows<Real>("carry", kTokens, router.carry_width() + d, std::vector<Real>{0});
    });
  }
  for (const moe::TokenId id :
       {-1, 50, std::numeric_limits<moe::TokenId>::max(), std::numeric_limits<moe::TokenId>::min()}) {
    s.route("token id " + std::to_string(id), {answer | routing, "token_id"},
            [=](C c) { c.token_id[3] = id, c.free = true; });
  }
  moe::InputColumns<Real>::each([&](const char* column, auto member, moe::ColumnSize) {
    s.route(std::string("without ") + column, {answer | config, column}, [=](C c) {
      c.in.*member = {};
      c.free = true;
    });
  });
  const auto bad = [&](const char* option, auto moe::CallOptions::*member, auto value) {
    s.route(std::string(option) + " of " + std::to_string(value), {answer | config | numeric, ""},
            [=](C c) { c.in.options.*member = value, c.free = true; });
  };
  for (const Index k : {Index{1}, Index{1} << 20, PTRDIFF_MAX})
    bad("K", &moe::CallOptions::experts_per_token, k);
  for (const double v : {0.5, 1e300, 1e-310}) {
    bad("capacity factor", &moe::CallOptions::capacity_factor, v);
    bad("temperature", &moe::CallOptions::temperature, v);
    bad("threshold", &moe::CallOptions::threshold, v);
    bad("p", &moe::CallOptions::p, v);
  }
  moe::Arena route_memory;
  router.measure(route_memory, {kTokens, 2, {}}, 1);
  for (const double share : {0.0, 0.5}) {  // in training much of it is the tape's
    const unsigned refused = route_memory.bytes() > 4 * moe::kAlignment ? workspace : workspace | answer;
    for (const bool train : {false, true}) {
      if (train && !router.trainable()) break;
      s.one(
          "a smaller arena", {train ? workspace | answer : refused, "workspace"},
          [=](C c) { c.memory_share = share, c.free = true; }, train);
    }
  }
  s.route(
      "no tokens", {answer}, [](C c) { c.free = true; }, 0);
  s.other("max_pairs of -1 tokens", {size | config | answer}, [&] { router.max_pairs({-1, 1, {}}); });
  s.other("max_pairs of many tokens", {size | config | answer}, [&] {
    router.max_pairs({PTRDIFF_MAX, 1, {}});
  });
  s.other("measure of many tokens", {size | config | answer}, [&] {
    moe::Arena measuring;
    router.measure(measuring, {PTRDIFF_MAX / 2, 1, {}}, 1);
  });
  if (!router.trainable()) return;
  moe::RouteStats stats;
  s.other("statistics of nothing", {answer | shape, "statistics"}, [&] { router.on_step_end(stats); });
  stats.load.assign(router.experts() + 1, 5);
  stats.gate_mass.assign(router.experts() + 1, 1);
  stats.tokens = 3;
  s.other("statistics of another router", {answer | shape, "statistics"}, [&] { router.on_step_end(stats); });

  using G = moe::RouteGradients<Real>&;
  s.backward("plain", {answer}, [](G, const void*&, double&) {});
  s.backward("no dx", {answer}, [](G out, const void*&, double&) { out.dx = {}; });
  moe::Arena measuring;
  router.measure_backward(measuring, {kTokens, 2, {}}, 1);
  s.backward("a smaller arena",
             {measuring.bytes() > 4 * moe::kAlignment ? workspace : workspace | answer, "workspace"},
             [](G, const void*&, double& share) { share = 0.5; });
  // From outside: obeyed, or refused before anything is written.
  const std::vector<Real> dlogit(static_cast<std::size_t>(kTokens * (router.outputs() + 1)), Real(0.25));
  const std::vector<double> advantage(static_cast<std::size_t>(kTokens), 0.5), few(1, 1.0),
      no_numbers(kTokens, nan);
  const auto columns = [&](Index n) { return moe::ConstMatrixView<Real>(dlogit.data(), kTokens, n); };
  s.backward("dlogit", {answer | config, "dlogit"},
             [&](G out, const void*&, double&) { out.dlogit = columns(router.outputs()); });
  s.backward("dlogit too wide", {shape | config, "dlogit"},
             [&](G out, const void*&, double&) { out.dlogit = columns(router.outputs() + 1); });
  const Index carry = router.carry_width();
  const std::vector<Real> dcarry_out(static_cast<std::size_t>(kTokens * (carry + 2)), Real(0.25));
  for (const Index d : {0, 1, 2}) {
    s.backward("dcarry_out of " + std::to_string(d) + " columns more",
               {carry == 0 ? config
                : d == 0   ? answer
                           : shape,
                "dcarry_out"},
               [&](G out, const void*&, double&) {
                 out.dcarry_out = moe::ConstMatrixView<Real>(dcarry_out.data(), kTokens, carry + d);
               });
  }
  std::vector<Real> dcarry(dcarry_out.size());
  s.backward("dcarry too wide", {carry == 0 ? config : shape, "dcarry"}, [&](G out, const void*&, double&) {
    out.dcarry = moe::MatrixView<Real>(dcarry.data(), kTokens, carry + 1);
  });
  s.backward("advantage", {answer | config, "advantage"},
             [&](G out, const void*&, double&) { out.advantage = advantage; });
  s.backward("one advantage", {shape | config, "advantage"},
             [&](G out, const void*&, double&) { out.advantage = few; });
  s.backward("advantages of no number", {numeric | config, "advantage"},
             [&](G out, const void*&, double&) { out.advantage = no_numbers; });
  for (const double v : {double{nan}, double{inf}, 1e300}) {
    s.backward("auxiliary_scale of no number", {answer | numeric | config, "auxiliary"},
               [=](G out, const void*&, double&) { out.auxiliary_scale = v; });
  }
}
template void nasty_calls<float>(const std::string&, ErasedRouter<float>&, NastyCalls&);
template void nasty_calls<double>(const std::string&, ErasedRouter<double>&, NastyCalls&);

void sweep_nasty(NastyCalls& calls) {
  for (const RouterCase& one : RouterCases::all()) {
    if (one.make) nasty_calls<double>(one.name, *one.make(), calls);
    if (one.make_float) nasty_calls<float>(one.name, *one.make_float(), calls);
  }
}

}  // namespace test
