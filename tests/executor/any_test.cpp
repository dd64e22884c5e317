#include "moe/executor/any.hpp"

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/executor_laws.hpp"

static_assert(moe::Executor<moe::AnyExecutor>);

TEST_CASE("an erased executor is the executor it stands for", "[executor]") {
  moe::SerialExecutor serial;
  moe::AnyExecutor one(serial);
  CHECK(one.concurrency() == 1);
  test::check_executor(one);
  moe::PoolExecutor pool(3);
  moe::AnyExecutor many(pool);
  CHECK(many.concurrency() == 3);
  test::check_executor(many);
  test::check_tiny_calls(many, 200);
}
