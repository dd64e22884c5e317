// Tapes and gradients of other routers, and routers that were moved from, whole or a part: refused by name
// before anything is written. Over every part of the lists, and those in other shapes; kinds of routers
// below.
#include <algorithm>
#include <optional>
#include <type_traits>

#include "moe/router/balance/list.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "moe/router/score/list.hpp"
#include "moe/router/scorer/list.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/weighting/list.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/router_laws.hpp"
#include "support/sample_parts.hpp"

namespace {

using moe::Index;
using Router = test::ErasedRouter<double>;
using Options = moe::TokenChoiceOptions;

constexpr Index kTokens = 4;

struct Shaped {
  std::string name;
  Options options;
};

/// Every listed part that a router has at most one of, and routers of other extents.
std::vector<Shaped> shapes() {
  const Options base{.width = 5, .outputs = test::kSampleOutputs, .k = 3};
  std::vector<Shaped> all;
  const auto add = [&](std::string name, const auto& change) {
    all.push_back({std::move(name), base});
    change(all.back().options);
  };
  const auto add_scorer = [&](const char* name, const auto& scorer) {
    add(name, [&](Options& o) { o.scorer = scorer; });
  };
  moe::for_each_type(moe::Scorers<double>{}, [&]<class Part>(std::type_identity<Part>) {
    auto scorer = test::sample_scorer_options<Part>();
    if constexpr (requires { scorer.hidden; }) {
      add_scorer(Part::kName, scorer);
      scorer.hidden = 40;
    }
    if constexpr (requires { scorer.projected; }) {
      add_scorer(Part::kName, scorer);
      scorer.projected = 40;
    }
    add_scorer(Part::kName, scorer);
    if constexpr (requires { scorer.bias; }) {
      scorer.bias = !scorer.bias;
      add_scorer(Part::kName, scorer);
    }
    if constexpr (requires { scorer.jitter; }) {
      scorer.jitter = 0.1;
      add_scorer(Part::kName, scorer);
    }
  });
  add("wider", [](Options& o) { o.width = 37; });
  add("a few more outputs", [](Options& o) { o.outputs = 12; });  // packed to the same size
  add("many more outputs", [](Options& o) { o.outputs = 64; });
  add("normed", [](Options& o) { o.norm.enabled = true; });
  add("scaled", [](Options& o) { o.per_expert_scale = true; });
  moe::for_each_type(moe::LogitMaps{}, [&]<class Part>(std::type_identity<Part>) {
    add(Part::kName, [](Options& o) { o.map = test::sample_part<Part>(); });
  });
  moe::for_each_type(moe::Scores{}, [&]<class Part>(std::type_identity<Part>) {
    add(Part::kName, [](Options& o) { o.score = test::sample_part<Part>(); });
  });
  moe::for_each_type(moe::Selections{}, [&]<class Part>(std::type_identity<Part>) {
    add(Part::kName, [](Options& o) { o.selection = test::sample_part<Part>(); });
  });
  moe::for_each_type(moe::Weightings{}, [&]<class Part>(std::type_identity<Part>) {
    add(Part::kName, [](Options& o) {
      o.weighting = test::sample_part<Part>();
      if (std::is_same_v<Part, moe::SparseMixerWeighting>) o.score = moe::IdentityScore{};
    });
  });
  moe::for_each_type(moe::BalanceParts{}, [&]<class Part>(std::type_identity<Part>) {
    add(Part::kName, [](Options& o) {
      o.balance.set(test::sample_part<Part>());
      if (std::is_same_v<Part, moe::LoadLoss>) o.scorer = moe::NoisyScorerOptions{};
    });
  });
  return all;
}

/// A router with a call on its tape, and zero gradients.
struct Trained {
  Trained(std::string name_, std::shared_ptr<Router> router_, Index rows = kTokens)
      : name(std::move(name_)),
        router(std::move(router_)),
        call(test::random_call<double>(rows, router->width() == 0 ? 5 : router->width(), 3)),
        tape(router->make_tape()),
        gradients(router->make_gradients()),
        dx(static_cast<std::size_t>(rows * call.width), 8) {
    test::randomise(*router, 5, 1.0);
    test::add_targets(call, router->outputs());
    call.training = true;
    in.emplace(call.input());
    moe::Arena measuring;
    router->measure(measuring, call.shape(), 1);
    router->measure_backward(measuring, call.shape(), 1);
    memory.resize(measuring.bytes());
    moe::Arena table_arena;
    moe::RouteTable<double>::carve(table_arena, rows, router->experts(), router->max_pairs(call.shape()));
    table_memory.resize(table_arena.bytes());
    moe::Arena kept(table_memory.data(), table_memory.size());
    table = moe::RouteTable<double>::carve(kept, rows, router->experts(), router->max_pairs(call.shape()));
    route();
    router->visit_parameters(gradients.get(), [&](const moe::Parameter<double>& p) {
      shape += p.name + (" " + std::to_string(p.value.rows)) + " x " + std::to_string(p.value.cols) + "\n";
    });
  }
  void route() {
    moe::Arena arena(memory.data(), memory.size());
    moe::SerialExecutor serial;
    test::AnyExecutor executor(serial);
    router->route_train(*in, table, tape.get(), arena, executor);
  }
  void backward(const Trained& tape_of, const Trained& gradients_of) {
    moe::Arena arena(memory.data(), memory.size());
    moe::SerialExecutor serial;
    test::AnyExecutor executor(serial);
    const std::vector<double> dweight(static_cast<std::size_t>(table.pairs() + 1), 1.0);
    router->backward(*in, table, tape_of.tape.get(),
                     {dweight.data(), 1, {dx.data(), call.tokens, call.width}}, gradients_of.gradients.get(),
                     arena, executor);
  }
  bool untouched() const {
    bool all = std::all_of(dx.begin(), dx.end(), [](double v) { return v == 8; });
    router->visit_parameters(gradients.get(), [&](const moe::Parameter<double>& p) {
      for (Index i = 0; i < p.gradient.size(); ++i)
        all = all && p.gradient(i / p.gradient.cols, i % p.gradient.cols) == 0;
    });
    return all;
  }

  std::string name, shape;
  std::shared_ptr<Router> router;
  test::RouterCall<double> call;
  std::optional<moe::RouterInput<double>> in;
  std::shared_ptr<void> tape, gradients;
  moe::Buffer<std::byte> memory, table_memory;
  moe::RouteTable<double> table{};
  std::vector<double> dx;
};

std::vector<std::unique_ptr<Trained>> trained() {
  std::vector<std::unique_ptr<Trained>> all;
  for (const Shaped& s : shapes()) {
    all.push_back(
        std::make_unique<Trained>(s.name, test::own_router(moe::token_choice_router<double>(s.options))));
  }
  return all;
}

/// Moves a part out of the router, if it has parameters.
template <class Lose>
std::string message_without(const Options& options, const Lose& lose) {
  auto router = moe::token_choice_router<double>(options);
  router.scorer().inner().inner().inner().initialise(1);
  test::RouterRef<std::remove_cvref_t<decltype(router)>> ref(router);
  Trained trained("", std::shared_ptr<Router>(std::shared_ptr<void>(), &ref));
  lose(router);
  return test::message_of<moe::state_error>([&] { trained.route(); });
}

template <class Part>
Part scorer_of(Index outputs, Index inner) {
  typename Part::Options options;
  options.width = 5;
  options.outputs = outputs;
  if constexpr (requires { options.hidden; }) options.hidden = inner;
  if constexpr (requires { options.projected; }) options.projected = inner;
  if constexpr (requires { options.jitter; }) options.jitter = 0.1;
  if constexpr (requires { options.bonus; }) options.width = 2 * outputs;
  if constexpr (requires { options.seed; })
    options.width = inner - 1;  // what its gradients have of its sizes
  return Part(options);
}

/// A scorer by itself, with a call of `rows` rows on its tape.
template <class Part>
struct Scored {
  Scored(Index rows, Index outputs, Index inner)
      : scorer(scorer_of<Part>(outputs, inner)), call(test::random_call<double>(rows, scorer.width(), 3)) {
    call.training = true;
    moe::Arena measuring;
    scorer.measure(measuring, rows, 1);
    scorer.measure_backward(measuring, rows, 1);
    memory.resize(measuring.bytes());
    for (auto& m : matrix) m.assign(static_cast<std::size_t>(rows * outputs), 0.5);
    moe::Arena arena(memory.data(), memory.size());
    moe::SerialExecutor serial;
    scorer.logits(call.input(), logits(), &tape, arena, serial);
  }
  moe::Logits<double> logits() {
    const auto view = [&](int i) {
      return moe::MatrixView<double>(matrix[i].data(), call.tokens, scorer.outputs());
    };
    return {.value = view(0), .clean = view(1), .noise_scale = view(2)};
  }
  void backward(const typename Part::Tape& taped, typename Part::Gradients& gradients) {
    moe::Arena arena(memory.data(), memory.size());
    moe::SerialExecutor serial;
    scorer.backward(call.input(), taped, logits(), {}, &gradients, arena, serial);
  }

  Part scorer;
  test::RouterCall<double> call;
  typename Part::Tape tape;
  moe::Buffer<std::byte> memory;
  std::vector<double> matrix[3];
};

}  // namespace

TEST_CASE("a scorer by itself refuses another one's tape and gradients", "[router][smoke]") {
  moe::for_each_type(moe::Scorers<double>{}, []<class Part>(std::type_identity<Part>) {
    INFO(Part::kName);
    Scored<Part> own(4, 8, 6), other(3, 12, 40);
    auto gradients = own.scorer.make_gradients(), others = other.scorer.make_gradients();
    if constexpr (!std::is_empty_v<typename Part::Tape>) {
      const std::string message =
          test::message_of<moe::state_error>([&] { own.backward(other.tape, gradients); });
      CHECK(message.find(std::string("moe: tape of ") + Part::kName + ": expected") == 0);
    }
    if constexpr (!std::is_empty_v<typename Part::Gradients>) {
      const std::string message = test::message_of<moe::shape_error>([&] { own.backward(own.tape, others); });
      CHECK(message.find("moe: gradients of ") == 0);
    }
    CHECK_NOTHROW(own.backward(own.tape, gradients));
  });
}

TEST_CASE("the tape of another router is refused", "[router][smoke]") {
  const auto all = trained();
  std::string accepted;
  for (const auto& a : all) {
    for (const auto& b : all) {
      if (a == b) continue;
      const std::string message = test::message_of<moe::state_error>([&] { b->backward(*a, *b); });
      if (message.find("moe: router tape: expected") != 0 || !b->untouched()) {
        accepted += a->name + " -> " + b->name + ": " + message + "\n";
      }
    }
  }
  CHECK(accepted == "");
  // Its own, of another batch.
  Trained& b = *all.front();
  b.call = test::random_call<double>(kTokens - 1, 5, 3);
  b.in.emplace(b.call.input());
  CHECK(test::message_of<moe::state_error>([&] { b.backward(b, b); }) ==
        "moe: router tape: expected that of a call with 3 rows and 8 outputs, got 4 and 8, and a table of 4 "
        "rows");
}

TEST_CASE("gradients of another router are refused", "[router][smoke]") {
  const auto all = trained();
  Index tried = 0;
  std::string accepted;
  for (const auto& a : all) {
    for (const auto& b : all) {
      if (a->shape == b->shape) continue;
      ++tried;
      const std::string message = test::message_of<moe::shape_error>([&] { b->backward(*b, *a); });
      if (message.find("moe: gradients") != 0 || !a->untouched() || !b->untouched()) {
        accepted += a->name + " -> " + b->name + ": " + message + "\n";
      }
      const auto nobody = [](const moe::Parameter<double>&) {};
      CHECK_THROWS_AS(b->router->visit_parameters(a->gradients.get(), nobody), moe::shape_error);
    }
  }
  CHECK(accepted == "");
  CHECK(tried > 500);
}

TEST_CASE("gradients of a gate are refused where there is another or none", "[router][smoke]") {
  const auto every = [](Index width) {
    return std::make_unique<Trained>("", test::own_router(moe::EveryExpert<double>(2, width)));
  };
  const auto gated = every(5), wider = every(9), ungated = every(0);
  const auto message = [](Trained& to, Trained& from) {
    return test::message_of<moe::shape_error>([&] { to.backward(to, from); });
  };
  CHECK(message(*gated, *ungated) ==
        "moe: gradients of expert_gate.weight: expected 5 entries (ask make_gradients()), got 0");
  CHECK(message(*ungated, *gated) ==
        "moe: gradients of expert_gate.weight: expected 0 entries (ask make_gradients()), got 5");
  CHECK(message(*wider, *gated) ==
        "moe: gradients of expert_gate.weight: expected 9 entries (ask make_gradients()), got 5");
  CHECK(message(*gated, *gated) == "nothing thrown");
}

TEST_CASE("a router that was moved from, whole or a part, is refused", "[router][smoke]") {
  const std::string gone = "moe: router: expected one with its parts, got one that was moved from";
  for (const Shaped& s : shapes()) {
    INFO(s.name);
    CHECK(message_without(s.options, [](auto& router) { auto moved = std::move(router); }) == gone);
    CHECK(message_without(s.options, [](auto& router) { auto moved = std::move(router.scorer()); }) == gone);
  }
  // Of other parts, those that own memory.
  const auto part_gone = [](const char* part) {
    return std::string("moe: ") + part + ": expected one with its parts, got one that was moved from";
  };
  const auto lose_balancing = [](auto& router) { auto moved = std::move(router.balancing()); };
  auto biased = shapes().front().options, weighed = biased, scaled = biased, table = biased;
  biased.balance.set(moe::SelectionBias({.outputs = biased.outputs}));
  CHECK(message_without(biased, lose_balancing) == part_gone("selection bias"));
  weighed.balance.set(moe::LoadBalance({.coefficient = 1}, moe::Buffer<double>(weighed.outputs)));
  CHECK(message_without(weighed, lose_balancing) == part_gone("load balance factors"));
  scaled.per_expert_scale = true;
  CHECK(message_without(scaled, [](auto& router) { auto moved = std::move(router.weighting()); }) ==
        part_gone("per-expert scale"));
  table.selection = test::sample_part<moe::TableSelection>();
  CHECK(message_without(table, [](auto& router) { auto moved = std::move(router.selection()); }) ==
        part_gone("hash table"));

  const auto message = [](auto router) {
    test::RouterRef<decltype(router)> ref(router);
    Trained trained("", std::shared_ptr<Router>(std::shared_ptr<void>(), &ref));
    auto moved = std::move(router);
    return test::message_of<moe::state_error>([&] { trained.route(); });
  };
  CHECK(message(moe::EveryExpert<double>(2, 5)) == gone);
  CHECK(message(moe::HashRouter<double>(moe::HashTable::random(50, 4, 1))) == gone);
}
