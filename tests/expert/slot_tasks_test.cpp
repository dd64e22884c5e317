#include "moe/expert/slot_tasks.hpp"

#include <atomic>
#include <vector>

#include "expert/bank_fixture.hpp"

using moe::Index;

TEST_CASE("every slot is visited once, with its expert", "[expert]") {
  moe::PoolExecutor pool(2);
  for (const std::vector<Index>& counts :
       {std::vector<Index>{0}, {1}, {0, 0, 1, 0}, {16, 0, 1}, {5, 70, 0, 33, 0}}) {
    const auto batch = test::random_batch<float>(1, counts, 1);
    const moe::RowBatch<float> in{nullptr, batch.token.data(), batch.offsets.data(), batch.experts()};
    std::vector<std::atomic<int>> visits(static_cast<std::size_t>(batch.slots()));
    std::atomic<int> wrong{0};
    moe::for_each_slot(in, pool, [&](Index e, Index s) noexcept {
      visits[static_cast<std::size_t>(s)]++;
      if (s < batch.offsets[static_cast<std::size_t>(e)] ||
          s >= batch.offsets[static_cast<std::size_t>(e) + 1])
        wrong++;
    });
    CHECK(wrong == 0);
    for (const auto& n : visits) CHECK(n == 1);
  }
}
