// executor/eigen.hpp over the pool it is named after. (Its fences are beyond the thread sanitizer; the
// adapter itself is tested over a minimal pool in eigen_test.cpp.)
#define EIGEN_USE_THREADS
#include <unsupported/Eigen/CXX11/ThreadPool>

#include "moe/executor/eigen.hpp"
#include "support/catch.hpp"
#include "support/executor_laws.hpp"

namespace {

static_assert(moe::SchedulesTasks<Eigen::ThreadPool> && moe::SchedulesTasks<Eigen::ThreadPoolInterface>);

TEST_CASE("EigenExecutor on Eigen::ThreadPool keeps the executor's contract", "[core]") {
  const int threads = GENERATE(1, 2, 3, 7);
  CAPTURE(threads);
  Eigen::ThreadPool pool(threads);
  moe::EigenExecutor<Eigen::ThreadPoolInterface> executor(pool);
  CHECK(executor.concurrency() == threads + 1);
  test::check_executor_adapter(executor, 1000);
}

}  // namespace
