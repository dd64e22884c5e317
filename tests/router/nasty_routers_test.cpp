// Routers alone, and routers of parts with nonsense for options: what each call ends in.
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "moe/router/balance/list.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "moe/router/scorer/list.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/weighting/list.hpp"
#include "support/catch.hpp"
#include "support/fields.hpp"
#include "support/nasty_calls.hpp"
#include "support/router_cases.hpp"
#include "support/sample_parts.hpp"

namespace {

using test::Index;
using test::kSampleOutputs;
using test::NastyCalls;

constexpr double kWrongNumbers[] = {-1,
                                    0,
                                    1e300,
                                    std::numeric_limits<double>::quiet_NaN(),
                                    std::numeric_limits<double>::infinity(),
                                    -std::numeric_limits<double>::infinity()};

moe::TokenChoiceOptions base() {
  return {.width = 5, .outputs = kSampleOutputs, .k = 2};
}

/// A router of such options is refused, or routes, or its calls are: their rows may lie on devices that it
/// does not have.
void try_router(NastyCalls& calls, const std::string& name, const moe::TokenChoiceOptions& options) {
  const test::Outcome got = test::outcome_of([&] {
    auto router = moe::token_choice_router<double>(options);
    test::randomise(router, 3);
    for (const bool training : {false, true}) {
      auto call = test::random_call<double>(4, options.width, 2);
      test::add_targets(call, options.outputs);
      call.training = training;
      static_cast<void>(test::route(router, call));
    }
  });
  calls.check(name, {test::answer | test::config | test::size | test::shape | test::routing}, got, "");
}

/// with(options of a router, wrong options of a part of it), for every listed part.
template <class List, class With>
void sweep_options(NastyCalls& calls, const With& with) {
  moe::for_each_type(List{}, [&]<class Part>(std::type_identity<Part>) {
    if constexpr (requires { typename Part::Options; }) {
      using Options = typename Part::Options;
      const auto one = [&](auto number) {
        test::with_each_number(Options{}, number, [&](const Options& wrong, std::size_t which) {
          const std::string name =
              std::string(Part::kName) + ": number " + std::to_string(which) + " = " + std::to_string(number);
          moe::TokenChoiceOptions options = base();
          const test::Outcome made =
              test::outcome_of([&] { with(options, wrong, std::type_identity<Part>{}); });
          if (made.ending == test::answer) return try_router(calls, name, options);
          calls.check(name, {test::config | test::size | test::shape}, made, "");
        });
      };
      for (const Index wrong : {Index{-1}, Index{0}, PTRDIFF_MAX, -PTRDIFF_MAX, PTRDIFF_MAX / 2}) one(wrong);
      for (const double wrong : kWrongNumbers) one(wrong);
    }
  });
}

}  // namespace

TEST_CASE("nasty calls of routers alone end in documented exceptions or right answers", "[router][smoke]") {
  NastyCalls calls;
  test::sweep_nasty(calls);
  CHECK(calls.count() >= 300);
}

TEST_CASE("routers of listed parts with nonsense for options are refused, or route", "[router][smoke]") {
  NastyCalls calls;
  sweep_options<moe::Scorers<double>>(calls,
                                      [](auto& options, const auto& wrong, auto) { options.scorer = wrong; });
  sweep_options<moe::Selections>(calls, [](auto& options, const auto& wrong, auto part) {
    options.selection = typename decltype(part)::type(wrong);
  });
  sweep_options<moe::Weightings>(calls, [](auto& options, const auto& wrong, auto part) {
    options.weighting = typename decltype(part)::type(wrong);
  });
  sweep_options<moe::BalanceParts>(calls, [](auto& options, const auto& wrong, auto part) {
    options.balance.set(typename decltype(part)::type(wrong));
  });
  for (const double wrong : kWrongNumbers) {
    moe::for_each_type(moe::LogitMaps{}, [&]<class Map>(std::type_identity<Map>) {
      moe::TokenChoiceOptions options = base();
      const test::Outcome made = test::outcome_of([&] { options.map = Map(wrong); });
      calls.check(std::string(Map::kName) + " of " + std::to_string(wrong), {test::answer | test::config},
                  made, "");
      if (made.ending == test::answer) try_router(calls, Map::kName, options);
    });
  }
  CHECK(calls.count() >= 150);
}
