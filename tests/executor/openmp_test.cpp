#include "moe/executor/openmp.hpp"

#include <string>
#include <type_traits>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executor_laws.hpp"

namespace {

using moe::Index;
using moe::OpenMpExecutor;

static_assert(moe::Executor<OpenMpExecutor> && moe::Executor<const OpenMpExecutor>);
static_assert(std::is_copy_constructible_v<OpenMpExecutor>);

TEST_CASE("OpenMpExecutor keeps the executor's contract", "[core]") {
  const Index threads = GENERATE(as<Index>{}, 1, 2, 3, 8);
  CAPTURE(threads);
  OpenMpExecutor executor(threads);
  CHECK(executor.concurrency() == threads);
  test::check_executor_adapter(executor, 400);
}

TEST_CASE("OpenMpExecutor: 0 threads are as many as OpenMP takes", "[core]") {
  OpenMpExecutor executor;
  CHECK(executor.concurrency() == moe::openmp_max_threads());
  test::check_executor(executor);
#if !defined(_OPENMP)
  CHECK(executor.concurrency() == 1);
#endif
}

TEST_CASE("OpenMpExecutor: number of threads out of range", "[core]") {
  for (const Index threads : {Index{-1}, Index{4097}, PTRDIFF_MIN, PTRDIFF_MAX}) {
    CHECK(test::message_of<moe::config_error>([&] { OpenMpExecutor executor(threads); }) ==
          "moe: threads: expected a value in [0, 4096], got " + std::to_string(threads));
  }
}

}  // namespace
