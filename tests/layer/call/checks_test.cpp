#include "moe/layer/call/checks.hpp"

#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
constexpr Index kTokens = 3, kWidth = 2, kExperts = 4;

moe::RouterInput<float> resolve(const moe::LayerInput<float>& in) {
  return moe::impl::resolve_input(in, kWidth, kWidth, kExperts, false);
}

}  // namespace

TEST_CASE("every column of a wrong length is refused by its name", "[layer]") {
  const std::vector<float> x(kTokens * kWidth);
  const std::vector<std::byte> memory(4096);
  moe::InputColumns<float>::each([&](const char* name, auto member, moe::ColumnSize size) {
    INFO(name);
    using Column = std::remove_cvref_t<decltype(std::declval<moe::InputColumns<float>&>().*member)>;
    constexpr bool kIsMatrix = requires(Column c) {
      c.rows;
    };
    for (const Index rows : {0, 2, 3, 4, 5}) {
      if (rows == 0 && !kIsMatrix) continue;  // of no entries: not given
      moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
      if constexpr (kIsMatrix) {
        using T = std::remove_cvref_t<decltype(*std::declval<Column>().data)>;
        in.*member = Column(reinterpret_cast<const T*>(memory.data()), rows, 4);
      } else {
        using T = typename Column::value_type;
        in.*member = Column(reinterpret_cast<const T*>(memory.data()), static_cast<std::size_t>(rows));
      }
      const Index expected = size == moe::ColumnSize::experts ? kExperts : kTokens;
      if (rows == expected) {
        CHECK_NOTHROW(resolve(in));
      } else {
        const std::string message = test::message_of<moe::shape_error>([&] { resolve(in); });
        CHECK(message.find(std::string(name) + ": expected " + std::to_string(expected)) !=
              std::string::npos);
        CHECK(message.find("got " + std::to_string(rows)) != std::string::npos);
      }
    }
  });
}

TEST_CASE("a matrix without rows is not one that is absent", "[layer]") {
  const std::vector<float> x(kTokens * kWidth);
  const auto message = [&](auto change) {
    moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
    change(in);
    return test::message_of<moe::shape_error>([&] { resolve(in); });
  };
  CHECK(message([](auto& in) {
          in.logit_mask = {nullptr, 0, kExperts};
        }) == "moe: logit_mask: expected 3 rows (or 1), got 0");
  CHECK(message([](auto& in) {
          in.router_x = {nullptr, 0, kWidth};
        }) == "moe: router_x: expected 3 rows, got 0");
  CHECK(message([](auto& in) { in.features = {nullptr, 0, 2}; }) == "moe: features: expected 3 rows, got 0");
  CHECK(message([](auto& in) {
          in.router_x = {nullptr, 3, 0};
        }) == "moe: router_x: expected 2 columns, got 0");
  CHECK(message([](auto& in) { in.router_x = {}; }) == "nothing thrown");
  CHECK(message([](auto& in) {
          in.x = {nullptr, 0, kWidth};
          in.router_x = {nullptr, 0, kWidth + 1};
        }) == "moe: router_x: expected 2 columns, got 3");
}

TEST_CASE("options of a call that are no numbers of use are refused", "[layer]") {
  const std::vector<float> x(kTokens * kWidth);
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
  for (double moe::CallOptions::*const option :
       {&moe::CallOptions::capacity_factor, &moe::CallOptions::temperature, &moe::CallOptions::threshold,
        &moe::CallOptions::p}) {
    for (const double bad :
         {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      in.options = {};
      in.options.*option = bad;
      CHECK_THROWS_AS(resolve(in), moe::config_error);
    }
    in.options.*option = 0.5;
    CHECK_NOTHROW(resolve(in));
  }
  in.options = {};
  in.options.experts_per_token = -1;
  CHECK_THROWS_AS(resolve(in), moe::config_error);
}

TEST_CASE("what is given arrives", "[layer]") {
  const std::vector<float> x(kTokens * kWidth);
  const std::int32_t task[kTokens] = {1, 2, 3};
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
  in.task = task;
  in.options.threshold = 0.25;
  moe::DrawCounter draws(5, 7);
  in.draws = &draws;
  const auto resolved = resolve(in);
  CHECK(resolved.task.data() == task);
  CHECK(resolved.language.empty());
  CHECK(resolved.options == in.options);
  CHECK((resolved.draws->seed == 5 && resolved.draws->call == 7));
  CHECK(draws.calls() == 7);  // only a call that succeeds counts
  CHECK(resolved.x.data == x.data());
}
