#include "moe/kernel/transpose_panel.hpp"

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::Index;
using moe::kPanel;

template <class Arch, class T>
void check_transposition() {
  for (Index rows = 0; rows <= kPanel<T>; ++rows) {
    // The block ends where its rows end, so that the address sanitizer sees a read beyond them.
    test::AlignedBlock<T> block(rows * kPanel<T>), out(kPanel<T> * kPanel<T>, T(99));
    for (Index i = 0; i < block.size(); ++i) block[i] = static_cast<T>(i + 1);
    moe::transpose_panel<Arch>(block.data(), rows, out.data());
    bool right = true;
    for (Index n = 0; n < kPanel<T>; ++n) {
      for (Index k = 0; k < kPanel<T>; ++k) {
        right = right && out[n * kPanel<T> + k] == (k < rows ? block[k * kPanel<T> + n] : T(0));
      }
    }
    INFO("rows " << rows);
    CHECK(right);
    CHECK(block.intact());
    CHECK(out.intact());
  }
}

}  // namespace

TEMPLATE_TEST_CASE("transpose_panel transposes a block and fills up with zeros", "[kernel][smoke]", float,
                   double) {
  check_transposition<moe::native_arch, TestType>();
  check_transposition<moe::reference_arch, TestType>();
}
