#include "moe/core/one_of.hpp"

#include <string>

#include "support/catch.hpp"

namespace {

using moe::Coupling;
using moe::Index;

/// Every optional member.
struct Full {
  static constexpr const char* kName = "full";
  struct Options {
    int number = 3;
  };
  struct Tape {
    int taped = 0;
  };
  struct Gradients {
    double sum = 0;
  };
  explicit Full(Options options) : number(options.number) {}
  static constexpr Coupling coupling(bool training) {
    return training ? Coupling::per_batch : Coupling::row_independent;
  }
  Gradients make_gradients() const { return {0.5}; }
  template <class Visitor>
  void visit_parameters(Gradients* g, Visitor& f) {
    f("parameter", g == nullptr ? 0.0 : g->sum);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    f("state", 1.0);
  }
  void check(Index outputs) const {
    if (outputs != 2) moe::fail<moe::config_error>("full: expected 2, got ", outputs);
  }
  int number;
};

/// None of them.
struct Empty {
  static constexpr const char* kName = "empty";
};

using Any = moe::OneOf<Empty, Full>;

std::string visited(Any& any, Any::Gradients* gradients) {
  std::string seen;
  auto visit = [&](const char* name, double value) {
    seen += std::string(name) + " " + std::to_string(value);
  };
  any.visit_parameters(gradients, visit);
  any.visit_state(visit);
  return seen;
}

}  // namespace

TEST_CASE("one of several parts passes on what the part has", "[core]") {
  Any any = Full({.number = 4});
  CHECK(any.holds<Full>());
  CHECK(any.get_if<Empty>() == nullptr);
  CHECK(any.get_if<Full>()->number == 4);
  CHECK(std::string(any.name()) == "full");
  Any::Gradients gradients = any.make_gradients();
  CHECK(visited(any, &gradients) == "parameter 0.500000state 1.000000");
  CHECK(visited(any, nullptr) == "parameter 0.000000state 1.000000");
  CHECK_NOTHROW(any.check(2));
  CHECK_THROWS_AS(any.check(3), moe::config_error);
  CHECK(Any::coupling(true) == Coupling::per_batch);
  CHECK(Any::coupling(false) == Coupling::row_independent);
}

TEST_CASE("one of several parts passes over what the part has not", "[core]") {
  Any any = Empty{};
  Any::Gradients gradients = any.make_gradients();
  CHECK(visited(any, &gradients).empty());
  CHECK_NOTHROW(any.check(3));
  any = Full({});
  CHECK(any.get_if<Full>()->number == 3);
}

TEST_CASE("parts are made by name with their default options", "[core]") {
  CHECK(moe::part_named<Any>(Any::List{}, "toy", "full").get_if<Full>()->number == 3);
  CHECK(moe::part_named<Any>(Any::List{}, "toy", "empty").holds<Empty>());
  for (const char* const wrong : {"ful", "fulls", "", "Full"}) {
    CHECK_THROWS_WITH(moe::part_named<Any>(Any::List{}, "toy", wrong),
                      std::string("moe: toy: expected one of empty, full, got ") + wrong);
  }
}
