#include "moe/plan/route_table.hpp"

#include <cstring>
#include <string>

#include "moe/plan/losses.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::AuxiliaryLosses;
using moe::Index;
using Table = moe::RouteTable<float>;

TEST_CASE("AuxiliaryLosses: named values and their sum", "[plan]") {
  AuxiliaryLosses losses;
  CHECK(losses.total() == 0);
  CHECK(losses.begin() == losses.end());
  losses.add("balance", 0.5);
  losses.add("z", 0.25);
  CHECK(losses.total() == 0.75);
  REQUIRE(losses.end() - losses.begin() == 2);
  CHECK(std::string(losses.begin()[0].name) == "balance");
  CHECK(losses.begin()[1].value == 0.25);
  losses.clear();
  CHECK(losses.total() == 0);
  CHECK(losses.begin() == losses.end());
}

TEST_CASE("AuxiliaryLosses: another call's add up by name", "[plan]") {
  AuxiliaryLosses first, second;
  first.add("balance", 0.5);
  second.add("z", 0.25);
  const char other[] = "balance";  // the same text elsewhere
  second.add(other, 1);
  first.add(second);
  REQUIRE(first.end() - first.begin() == 2);
  CHECK(first.begin()[0].value == 1.5);
  CHECK(std::string(first.begin()[1].name) == "z");
  CHECK(first.total() == 1.75);
}

TEST_CASE("AuxiliaryLosses: no more than there is room for", "[plan]") {
  AuxiliaryLosses losses;
  for (int i = 0; i < AuxiliaryLosses::kMost; ++i) losses.add("a", 1);
  CHECK(test::message_of<moe::config_error>([&] { losses.add("b", 1); }) ==
        "moe: auxiliary losses: expected at most 32, got one more: b");
  CHECK(losses.total() == AuxiliaryLosses::kMost);
}

TEST_CASE("RouteTable: filled by token", "[plan]") {
  const test::Choices<float> choices = {{{2, 0.75f}, {0, 0.25f}}, {}, {{1, 1.0f}}, {}};
  const test::OwnedTable<float> owner(choices, 3);
  const Table& table = owner.table;
  CHECK((table.tokens == 4 && table.experts == 3 && table.room == 3));
  CHECK(table.pairs() == 3);
  for (Index t = 0; t < 4; ++t) {
    CHECK(table.count(t) == static_cast<Index>(choices[static_cast<std::size_t>(t)].size()));
    CHECK_FALSE(table.spoiled[t]);
  }
  CHECK((table.expert[0] == 2 && table.expert[1] == 0 && table.expert[2] == 1));
  CHECK((table.weight[0] == 0.75f && table.weight[1] == 0.25f && table.weight[2] == 1.0f));
}

TEST_CASE("RouteTable: carved from dirty memory it is cleared", "[plan]") {
  alignas(64) std::byte block[1024];
  std::memset(block, 0xff, sizeof block);
  moe::Arena arena(block, 1024);
  Table table = Table::carve(arena, 3, 4, 6);
  CHECK(table.pairs() == 0);
  for (Index t = 0; t < 3; ++t) CHECK((table.count(t) == 0 && !table.spoiled[t]));
  CHECK((table.elided == 0 && table.losses.total() == 0));

  table.begin_token(0);
  table.push(0, 3, 1.0f);
  table.begin_token(1);
  table.begin_token(2);
  table.push(2, 1, 1.0f);
  table.spoiled[1] = true;
  table.elided = 2;
  table.losses.add("a", 1);
  CHECK(table.pairs() == 2);
  table.clear();
  CHECK((table.pairs() == 0 && !table.spoiled[1] && table.elided == 0 && table.losses.total() == 0));
}

TEST_CASE("RouteTable: no tokens", "[plan]") {
  CHECK(Table{}.pairs() == 0);
  const test::OwnedTable<float> owner({}, 3);
  CHECK(owner.table.pairs() == 0);
}

TEST_CASE("RouteTable: measured as carved", "[plan]") {
  moe::Arena measuring;
  const Table none = Table::carve(measuring, 5, 4, 10);
  CHECK(none.offsets == nullptr);  // nothing to clear there
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  Table::carve(arena, 5, 4, 10);
  CHECK(arena.bytes() == measuring.bytes());
}

}  // namespace
