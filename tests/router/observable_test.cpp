#include "moe/router/observable.hpp"

#include "moe/router/kind/every.hpp"
#include "moe/router/kind/given.hpp"
#include "support/catch.hpp"
#include "support/observable_archetype.hpp"

TEST_CASE("a router is observable if it has outputs and route_observed", "[router][smoke]") {
  STATIC_REQUIRE(moe::ObservableRouter<test::ObservableArchetype>);
  STATIC_REQUIRE(moe::TrainableRouter<test::ObservableArchetype>);
  STATIC_REQUIRE_FALSE(moe::ObservableRouter<moe::EveryExpert<double>>);
  STATIC_REQUIRE_FALSE(moe::ObservableRouter<moe::GivenRoutes<double>>);
}
