// What is called besides whole layers, with every argument wrong in every way: plans and capacities, rows
// dispatched and combined by hand, routes handed in, banks' weights, archives, the options of parts.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/combine/rows.hpp"
#include "moe/dispatch/rows.hpp"
#include "moe/expert/bank/list.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/frame/list.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/storage/list.hpp"
#include "support/catch.hpp"
#include "support/fields.hpp"
#include "support/guarded_memory.hpp"
#include "support/layer_cases.hpp"
#include "support/nasty_calls.hpp"
#include "support/same_bits.hpp"

namespace {

using namespace test;

template <class Real>
constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();
template <class Real>
constexpr Real kInf = std::numeric_limits<Real>::infinity();
/// What few options mean, and no memory holds.
constexpr Index kWrongSizes[] = {-1, 0, PTRDIFF_MAX, -PTRDIFF_MAX, PTRDIFF_MAX / 2};
constexpr double kWrongNumbers[] = {-1, 0, 1e300, kNan<double>, kInf<double>, -kInf<double>};

/// Four tokens, three experts, two choices each, in one segment of all; every array between guards.
template <class Real>
struct PlanCall {
  GuardedMemory memory;
  std::vector<Index> offsets{0, 2, 4, 6, 8};
  moe::RouteTable<Real> table;
  moe::DispatchPlan<Real> plan;
  std::vector<Index> segment_offsets{0, 1, 4};
  moe::Segments segments;
  std::vector<std::byte> scratch, plan_memory;
  double memory_share = 1;

  PlanCall() {
    table.tokens = 4;
    table.experts = 3;
    table.room = 8;
    table.offsets = memory.copy("offsets", offsets);
    table.expert = memory.copy<moe::ExpertId>("ids", {0, 1, 1, 2, 2, 0, 0, 1});
    table.weight = memory.copy<Real>("weights", std::vector<Real>(8, Real(0.5)));
    table.spoiled = memory.take<bool>("spoiled", 4);
    std::fill(table.spoiled, table.spoiled + 4, false);
    segments = moe::Segments(std::span<const Index>(segment_offsets));
    moe::Arena measuring;
    moe::DispatchPlan<Real>::carve(measuring, 4, 3, 8);
    plan_memory.resize(static_cast<std::size_t>(measuring.bytes()));
    moe::Arena arena(plan_memory.data(), measuring.bytes());
    plan = moe::DispatchPlan<Real>::carve(arena, 4, 3, 8);
  }
  void build(const moe::AnyCapacity& capacity) {
    moe::Arena measuring;
    moe::measure_plan(measuring, capacity, 8, 3);
    scratch.resize(static_cast<std::size_t>(memory_share * double(measuring.bytes())));
    moe::Arena arena(scratch.data(), static_cast<Index>(scratch.size()));
    moe::build_plan(table, capacity, segments, plan, arena);
  }
};

template <class Real>
void plans(NastyCalls& calls, const std::string& name, const moe::AnyCapacity& capacity) {
  using C = PlanCall<Real>&;
  const auto one = [&](const std::string& what, const Ends& want, const std::function<void(C)>& change) {
    PlanCall<Real> call;
    change(call);
    call.memory.remember();
    const std::vector<std::byte> before = call.plan_memory;
    const Outcome got = outcome_of([&] { call.build(capacity); });
    const bool planned = got.ending != answer && before != call.plan_memory;
    calls.check("plan, " + name + ": " + what, want, got,
                call.memory.changed() + (planned ? " the plan" : ""));
  };
  one("plain", {answer}, [](C) {});
  for (const moe::ExpertId e :
       {-1, 3, std::numeric_limits<moe::ExpertId>::max(), std::numeric_limits<moe::ExpertId>::min()}) {
    for (const Index p : {0, 5, 7}) {
      one("expert " + std::to_string(e), {routing, "expert ids"}, [=](C c) { c.table.expert[p] = e; });
    }
  }
  for (const Index t : {0, 1, 2, 3}) {
    one("an expert twice", {routing, "expert ids"},
        [=](C c) { c.table.expert[2 * t] = c.table.expert[2 * t + 1]; });
  }
  for (const Real w : {kNan<Real>, kInf<Real>, -kInf<Real>}) {
    for (const Index p : {0, 7}) {
      one("a weight that is no number", {numeric, "combine weights"}, [=](C c) { c.table.weight[p] = w; });
    }
  }
  one("offsets that fall", {routing, "offsets"}, [](C c) { c.table.offsets[2] = 1; });
  one("offsets that begin late", {routing, "offsets"}, [](C c) { c.table.offsets[0] = 1; });
  for (const std::vector<Index>& offsets :
       {std::vector<Index>{0, 5}, {0, 3}, {1, 4}, {0, 3, 2, 4}, {0, -1, 4}, {0, PTRDIFF_MAX, 4}, {0}}) {
    one("segments", {shape, "segments"},
        [&](C c) { c.segments = moe::Segments(std::span<const Index>(offsets)); });
  }
  one("segments of 3 rows", {shape, "segments"}, [](C c) { c.segments = moe::Segments::uniform(3); });
  for (const double share : {0.0, 0.2}) {
    one("a small arena", {workspace, "workspace"}, [=](C c) { c.memory_share = share; });
  }
}

template <class Real>
void rows_by_hand(NastyCalls& calls) {
  constexpr Index kWidth = 6;
  PlanCall<Real> planned;
  planned.build(moe::Dropless{});
  const moe::DispatchPlan<Real>& plan = planned.plan;
  moe::SerialExecutor serial;
  struct Rows {
    GuardedMemory memory;
    std::vector<MatrixView<Real>> view;  // in the order of the call's arguments
  };
  /// Extents of the arguments, which of them are written, and the call.
  struct Entry {
    const char* name;
    std::vector<const char*> argument;
    std::vector<std::pair<Index, Index>> extents;
    std::vector<bool> written;
    std::function<void(const std::vector<MatrixView<Real>>&)> call;
  };
  const Entry entries[] = {
      {"dispatch_rows",
       {"x", "dispatched rows"},
       {{4, kWidth}, {8, kWidth}},
       {false, true},
       [&](const auto& m) { moe::dispatch_rows<Real>(plan, m[0], m[1], serial); }},
      {"dispatch_rows_backward",
       {"gradients of dispatched rows", "dx"},
       {{8, kWidth}, {4, kWidth}},
       {false, true},
       [&](const auto& m) { moe::dispatch_rows_backward<Real>(plan, m[0], m[1], serial); }},
      {"combine_rows",
       {"result rows", "y"},
       {{8, kWidth}, {4, kWidth}},
       {false, true},
       [&](const auto& m) { moe::combine_rows<Real>(plan, m[0], m[1], serial); }},
      {"combine_rows_backward",
       {"dy", "result rows", "gradients of result rows", "gradients of weights"},
       {{4, kWidth}, {8, kWidth}, {8, kWidth}, {8, 1}},
       {false, false, true, true},
       [&](const auto& m) { moe::combine_rows_backward<Real>(plan, m[0], m[1], m[2], m[3], serial); }}};
  for (const Entry& entry : entries) {
    const std::size_t n = entry.argument.size();
    const auto one = [&](const std::string& what, const Ends& want,
                         const std::function<void(Rows&)>& change) {
      Rows rows;
      for (std::size_t i = 0; i < n; ++i) {
        rows.view.push_back(rows.memory.template rows<Real>(entry.argument[i], entry.extents[i].first,
                                                            entry.extents[i].second, {Real(3)}));
      }
      change(rows);
      rows.memory.remember();
      const Outcome got = outcome_of([&] { entry.call(rows.view); });
      for (std::size_t i = 0; got.ending == answer && i < n; ++i) {
        if (entry.written[i]) rows.memory.take_back(rows.view[i]);
      }
      calls.check(std::string(entry.name) + ": " + what, want, got, rows.memory.changed());
    };
    one("plain", {answer}, [](Rows&) {});
    for (std::size_t i = 0; i < n; ++i) {
      const auto [height, width] = entry.extents[i];
      const std::string name = entry.argument[i];
      for (const Index d : {-1, 1}) {
        one(name + " with other rows", {shape}, [&, h = height, w = width](Rows& r) {
          r.view[i] = r.memory.template rows<Real>("other", h + d, w, {Real(1)});
        });
        one(name + " with other columns", {shape}, [&, h = height, w = width](Rows& r) {
          r.view[i] = r.memory.template rows<Real>("other", h, w + d, {Real(1)});
        });
      }
      const bool may_be_absent = name == "gradients of weights";
      one(name + " empty", {may_be_absent ? answer : shape}, [&](Rows& r) { r.view[i] = {}; });
      one(name + " of 2^40 rows", {shape},
          [&, w = width](Rows& r) { r.view[i] = MatrixView<Real>(r.view[i].data, Index{1} << 40, w); });
      for (std::size_t j = 0; j < n; ++j) {
        if (j == i || !entry.written[j]) continue;
        one(std::string(entry.argument[j]) + " in the memory of " + name, {shape, entry.argument[j]},
            [&](Rows& r) {
              Real* const both = r.memory.template take<Real>("both", 16 * kWidth);
              std::fill(both, both + 16 * kWidth, Real(1));
              for (const std::size_t k : {i, j})
                r.view[k] = MatrixView<Real>(both, entry.extents[k].first, entry.extents[k].second);
            });
      }
      for (const Real v : {kNan<Real>, kInf<Real>}) {
        one(name + " with no numbers", {answer}, [&](Rows& r) { r.view[i](0, 0) = v; });
      }
    }
  }
}

/// Every matrix of the weights of a bank with every extent off by one, an expert that is not there, and
/// numbers that no storage holds.
template <class Bank>
void weights(NastyCalls& calls, Bank bank) {
  using Real = typename Bank::Real;
  constexpr bool kGated = requires(MatrixView<Real> m) {
    bank.load(0, m, m, m);
  };
  const Index width = bank.width(), hidden = bank.hidden();
  struct Matrices {
    GuardedMemory memory;
    std::vector<MatrixView<Real>> m;
  };
  const auto numbers = [&] {
    std::vector<Real> all;
    std::vector<Real> memory(static_cast<std::size_t>(3 * width * hidden));
    for (Index e = 0; e < bank.experts(); ++e) {
      const MatrixView<Real> up(memory.data(), hidden, width),
          gate(memory.data() + width * hidden, hidden, width),
          down(memory.data() + 2 * width * hidden, width, hidden);
      if constexpr (kGated) {
        bank.unpack(e, gate, up, down);
      } else {
        bank.unpack(e, up, down);
      }
      all.insert(all.end(), memory.begin(), memory.end());
    }
    return all;
  };
  for (const bool load : {true, false}) {
    const auto one = [&](const std::string& what, const Ends& want, Index e,
                         const std::function<void(Matrices&)>& change) {
      Matrices all;
      for (int i = 0; i < (kGated ? 2 : 1); ++i)
        all.m.push_back(all.memory.template rows<Real>("first", hidden, width, {Real(0.5)}));
      all.m.push_back(all.memory.template rows<Real>("second", width, hidden, {Real(0.5)}));
      change(all);
      all.memory.remember();
      const std::vector<Real> before = numbers();
      const Outcome got = outcome_of([&] {
        const auto& m = all.m;
        if constexpr (kGated) {
          load ? bank.load(e, m[0], m[1], m[2]) : bank.unpack(e, m[0], m[1], m[2]);
        } else {
          load ? bank.load(e, m[0], m[1]) : bank.unpack(e, m[0], m[1]);
        }
      });
      for (std::size_t i = 0; !load && got.ending == answer && i < all.m.size(); ++i)
        all.memory.take_back(all.m[i]);
      std::string wrong = all.memory.changed();
      if ((got.ending != answer || !load) && !same_bits(before, numbers())) wrong += " the weights";
      calls.check(std::string(Bank::kName) + (load ? ", load: " : ", unpack: ") + what, want, got, wrong);
    };
    one("plain", {answer}, 0, [](Matrices&) {});
    for (const Index e : {Index{-1}, bank.experts(), PTRDIFF_MAX, -PTRDIFF_MAX}) {
      one("expert " + std::to_string(e), {config, "expert"}, e, [](Matrices&) {});
    }
    for (std::size_t i = 0; i < (kGated ? 3u : 2u); ++i) {
      const char* const gated[] = {"gate", "up", "down"};
      const char* const plain[] = {"fc1", "fc2"};
      const char* const name = kGated ? gated[i] : plain[i];
      for (const Index d : {-1, 1}) {
        one("other rows", {shape, name}, 0, [&](Matrices& a) {
          a.m[i] = a.memory.template rows<Real>("other", a.m[i].rows + d, a.m[i].cols, {Real(1)});
        });
        one("other columns", {shape, name}, 0, [&](Matrices& a) {
          a.m[i] = a.memory.template rows<Real>("other", a.m[i].rows, a.m[i].cols + d, {Real(1)});
        });
      }
      one("empty", {shape, name}, 0, [&](Matrices& a) { a.m[i] = {}; });
      if (!load) continue;
      constexpr bool kRounds = moe::BlockStorage<typename Bank::StorageType>;
      for (const Real v : {kNan<Real>, kInf<Real>, -kInf<Real>}) {
        one("no number", {kRounds ? numeric : answer, name}, 0, [&](Matrices& a) { a.m[i](1, 2) = v; });
      }
    }
  }
}

/// What an archive sees of a layer.
template <class Real>
struct Archived {
  TestLayer<Real>& layer;
  template <class F>
  void visit_parameters(F&& f) {
    layer.visit([&](const std::string& name, moe::ParameterView<Real> value, moe::ParameterView<Real>) {
      f(moe::Parameter<Real>{name.c_str(), value, {}});
    });
  }
  template <class F>
  void visit_state(F&& f) {
    layer.visit_state([&](const std::string& name, double* values, Index n) { f(name.c_str(), values, n); });
  }
  template <class F>
  void visit_packed(F&& f) {
    layer.visit_packed([&](const std::string& name, std::byte* data, Index n) { f(name.c_str(), data, n); });
  }
  std::vector<std::byte> bytes() {
    moe::ArchiveWriter writer;
    writer.add_layer("layer", *this);
    const auto all = writer.bytes();
    return {all.begin(), all.end()};
  }
};

template <class Real>
void archives(NastyCalls& calls) {
  std::vector<LayerCase> cases;
  for (const LayerCase& c : layer_cases()) {
    if (runs_in<Real>(c)) cases.push_back(c);
  }
  std::vector<std::unique_ptr<TestLayer<Real>>> layers;
  std::vector<std::vector<std::byte>> saved;
  std::vector<std::string> shapes;
  for (const LayerCase& c : cases) {
    layers.push_back(make_layer<Real>(c.spec));
    Archived<Real> archived{*layers.back()};
    saved.push_back(archived.bytes());
    std::string& names = shapes.emplace_back();
    archived.visit_parameters([&](const auto& p) {
      names +=
          std::string(p.name) + " " + std::to_string(p.value.rows) + " " + std::to_string(p.value.cols) + " ";
    });
    archived.visit_packed([&](const char* name, std::byte*, Index n) { names += name + std::to_string(n); });
    archived.visit_state([&](const char* name, double*, Index n) { names += name + std::to_string(n); });
  }
  const auto load = [&](const std::string& what, const Ends& want, std::size_t into, const char* prefix,
                        const std::vector<std::byte>& bytes) {
    Archived<Real> layer{*layers[into]};
    const Outcome got = outcome_of([&] { moe::Archive::from_bytes(bytes).load_layer(prefix, layer); });
    const bool changed = got.ending != answer && layer.bytes() != saved[into];
    calls.check("archive of " + cases[into].part + ", " + what, want, got, changed ? " the layer" : "");
    if (got.ending == answer) moe::Archive::from_bytes(saved[into]).load_layer("layer", layer);
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    for (std::size_t j = 0; j < cases.size(); ++j) {
      load("of " + cases[j].part, {shapes[i] == shapes[j] ? answer : format}, i, "layer", saved[j]);
    }
    for (const char* const prefix : {"", "laye", "layers", "layer.", "another"})
      load("another prefix", {format}, i, prefix, saved[i]);
    auto longer = saved[i];
    longer.push_back(std::byte{0});
    load("a byte more", {format}, i, "layer", longer);
  }
  for (std::size_t n = 0; n < saved[0].size(); n += n < 200 ? 3 : 997) {
    load("cut off", {format}, 0, "layer",
         {saved[0].begin(), saved[0].begin() + static_cast<std::ptrdiff_t>(n)});
    for (const unsigned flip : {0x01u, 0x80u, 0xFFu}) {
      auto bytes = saved[0];
      bytes[n] ^= static_cast<std::byte>(flip);
      load("a byte changed", {answer | format}, 0, "layer", bytes);
    }
  }
}

/// A part of options with one number after the other replaced by nonsense is refused, or made.
template <class Part, class Options, class Make>
void try_options(NastyCalls& calls, const Options& options, const Make& make) {
  const auto with = [&](auto wrong) {
    with_each_number(options, wrong, [&](const Options& changed, std::size_t which) {
      calls.check(
          std::string(Part::kName) + ": number " + std::to_string(which) + " = " + std::to_string(wrong),
          {answer | config | size}, outcome_of([&] { make(changed); }), "");
    });
  };
  for (const Index wrong : kWrongSizes) with(wrong);
  for (const double wrong : kWrongNumbers) with(wrong);
}

}  // namespace

TEST_CASE("nasty plans, with every capacity", "[proof][smoke]") {
  NastyCalls calls;
  moe::for_each_type(moe::Capacities{}, [&]<class Part>(std::type_identity<Part>) {
    if constexpr (std::is_default_constructible_v<Part>) {
      plans<float>(calls, Part::kName, Part());
      plans<double>(calls, Part::kName, Part());
    } else {
      typename Part::Options options;
      options.factor = 1.0;
      if constexpr (requires { options.ffn; }) options.ffn = 2;
      try_options<Part>(calls, options, [&](const typename Part::Options& wrong) {
        const moe::AnyCapacity capacity = Part(wrong);
        PlanCall<float>().build(capacity);
      });
      for (const auto order :
           {moe::CapacityOrder::first_choices_first, moe::CapacityOrder::best_score_first}) {
        options.order = order;
        plans<float>(calls, Part::kName, Part(options));
        plans<double>(calls, Part::kName, Part(options));
      }
    }
  });
  CHECK(calls.count() >= 300);
}

TEST_CASE("nasty rows dispatched and combined by hand", "[proof][smoke]") {
  NastyCalls calls;
  rows_by_hand<float>(calls);
  rows_by_hand<double>(calls);
  CHECK(calls.count() >= 150);
}

TEST_CASE("nasty weights of banks, in every storage", "[proof][smoke]") {
  NastyCalls calls;
  constexpr moe::TwoLayerOptions kOptions{.experts = 2, .width = 6, .hidden = 5};
  const auto both = [&]<class Storage>(std::type_identity<Storage>) {
    moe::for_each_type(moe::FeedForwardBanks<Storage>{}, [&]<class Bank>(std::type_identity<Bank>) {
      using Act = std::remove_cvref_t<decltype(moe::AnyActivation{})>;
      const auto make = [](const moe::TwoLayerOptions& options) {
        if constexpr (std::is_constructible_v<Bank, moe::TwoLayerOptions, Act>) {
          return Bank(options, Act{});
        } else {
          return Bank(options, moe::AnyGate{});
        }
      };
      weights(calls, make(kOptions));
      try_options<Bank>(calls, kOptions, make);
    });
  };
  moe::for_each_type(moe::Storages{}, both);
  both(std::type_identity<double>{});
  try_options<moe::ZeroComputation<float>>(
      calls, moe::ZeroComputationOptions{.width = 6, .zero = 1, .copy = 1, .constant = 1},
      [](const auto& options) { moe::ZeroComputation<float>{options}; });
  CHECK(calls.count() >= 500);
}

TEST_CASE("nasty archives", "[proof][smoke]") {
  NastyCalls calls;
  archives<float>(calls);
  archives<double>(calls);
  CHECK(calls.count() >= 500);
}

TEST_CASE("frames of nonsense are refused", "[proof][smoke]") {
  NastyCalls calls;
  const auto made = [&](const std::string& what, bool right, const std::function<void()>& make) {
    calls.check(what, {right ? answer | size : config | size}, outcome_of(make), "");
  };
  moe::for_each_type(moe::Frames<float>{}, [&]<class Frame>(std::type_identity<Frame>) {
    const std::string name = Frame::kName;
    for (const Index w : {Index{-1}, Index{0}, PTRDIFF_MAX, -PTRDIFF_MAX}) {
      if constexpr (std::is_constructible_v<Frame, Index, double>) {
        made(name, false, [&] { Frame(w, 2.0); });
      }
      if constexpr (std::is_constructible_v<Frame, Index>) {
        made(name, false, [&] { Frame{w}; });
      }
      if constexpr (std::is_constructible_v<Frame, Index, Index, moe::LatentNorm>) {
        made(name, false, [&] { Frame(w, Index{4}); });
        made(name, false, [&] { Frame(Index{4}, w); });
      }
    }
    for (const double v : kWrongNumbers) {
      if constexpr (std::is_constructible_v<Frame, Index, Index, moe::LatentNorm>) {
        made(name, v >= 0 && std::isfinite(v), [&] { Frame(4, 2, {.enabled = true, .eps = v}); });
      } else if constexpr (std::is_constructible_v<Frame, Index, double>) {
        made(name, std::abs(v) <= double{std::numeric_limits<float>::max()}, [&] { Frame(4, v); });
      }
    }
  });
  CHECK(calls.count() >= 25);
}
