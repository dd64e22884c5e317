// The sweeps over the table of routers (support/router_cases.hpp).
#include "support/catch.hpp"
#include "support/router_cases.hpp"

TEST_CASE("every router obeys the laws of routers", "[router]") {
  test::sweep_laws(false);
}

TEST_CASE("a few routers obey the laws of routers", "[smoke]") {
  test::sweep_laws(true);
  test::sweep_gradients(true);
}

TEST_CASE("every router's gradients match central differences", "[router]") {
  test::sweep_gradients(false);
}

TEST_CASE("no segment changes the routes or gradients of another", "[router]") {
  test::sweep_segments();
}

TEST_CASE("threads change no bit of any router", "[router]") {
  test::sweep_threads();
}
