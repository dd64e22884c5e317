#include "moe/core/part_hooks.hpp"

#include "support/catch.hpp"

namespace {

struct Call {};
/// Every hook as it is to be.
struct Right {
  void check(moe::Index) const {}
  void check_call(const Call&) const {}
  static constexpr moe::Coupling coupling(bool) { return moe::Coupling::per_segment; }
  void on_step_end(const moe::RouteStats&) {}
  template <class Visitor>
  void visit_state(Visitor& f) {
    double value = 0;
    f("state", &value, moe::Index{1});
  }
};
struct None {};

}  // namespace

// What must not compile: tests/compile_fail.
TEST_CASE("hooks as they are to be, and none, compile", "[core]") {
  STATIC_REQUIRE(moe::impl::refuse_wrong_hooks<Right, Call>());
  STATIC_REQUIRE(moe::impl::refuse_wrong_hooks<None, Call>());
  STATIC_REQUIRE(moe::impl::refuse_near_part_hooks<Right>());
  STATIC_REQUIRE(moe::impl::coupling_of<Right>(true) == moe::Coupling::per_segment);
  STATIC_REQUIRE(moe::impl::coupling_of<None>(true) == moe::Coupling::row_independent);
}
