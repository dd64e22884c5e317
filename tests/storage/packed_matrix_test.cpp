#include "moe/storage/packed_matrix.hpp"

#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::ConstMatrixView;
using moe::Index;
using moe::kHalf;
using moe::kPanel;
using moe::MatrixView;
using moe::PackedView;
using test::AlignedBlock;

const std::vector<Index> kSizes = {1, 3, 15, 16, 17, 31, 32, 33, 100};

/// A published matrix [rows, cols] whose rows lie apart.
template <class T>
struct Published {
  Published(Index rows, Index cols, std::uint64_t seed)
      : memory(test::numbers<T>(rows * (cols + 3), seed)), view(memory.data(), rows, cols, cols + 3) {}
  std::vector<T> memory;
  MatrixView<T> view;
};

}  // namespace

TEMPLATE_TEST_CASE("pack_plain puts column n at position n, zeroes the padding and comes back",
                   "[weights][smoke]", float, double) {
  using T = TestType;
  for (const Index columns : kSizes) {
    for (const Index rows : kSizes) {
      Published<T> w(columns, rows, 1), back(columns, rows, 2);
      const Published<T> untouched(columns, rows, 2);
      AlignedBlock<T> memory(moe::packed_size<T>(rows, moe::plain_panels<T>(columns)), T(77));
      const PackedView<T> packed(memory.data(), rows, moe::plain_panels<T>(columns));
      moe::pack_plain<T>(w.view, packed);
      bool placed = true;
      for (Index k = 0; k < rows; ++k) {
        for (Index n = 0; n < packed.panels * kPanel<T>; ++n) {
          const T stored = packed.panel(n / kPanel<T>)[k * kPanel<T> + n % kPanel<T>];
          placed = placed && stored == (n < columns ? w.view(n, k) : T(0)) && stored == packed.at(k, n);
        }
      }
      moe::unpack_plain<const T>(packed, back.view);
      bool returned = true;
      for (Index n = 0; n < columns; ++n) {
        returned = returned && test::same_bits(back.view.row(n), w.view.row(n), rows);
        const Index gap = n + 1 < columns ? 3 : 0;
        returned = returned && test::same_bits(back.view.row(n) + rows,
                                               untouched.memory.data() + n * (rows + 3) + rows, gap);
      }
      INFO(columns << " columns, " << rows << " rows");
      CHECK(placed);
      CHECK(returned);
      CHECK(memory.intact());
    }
  }
}

TEMPLATE_TEST_CASE("pack_half interleaves gate and up, half by half", "[weights]", float, double) {
  using T = TestType;
  for (const Index columns : kSizes) {
    const Index rows = 33;
    const Published<T> gate(columns, rows, 1), up(columns, rows, 2);
    AlignedBlock<T> memory(moe::packed_size<T>(rows, moe::paired_panels<T>(columns)), T(77));
    const PackedView<T> packed(memory.data(), rows, moe::paired_panels<T>(columns));
    moe::pack_half<T>(gate.view, 0, packed);
    bool other_untouched = true;
    for (Index k = 0; k < rows; ++k) {
      for (Index n = 0; n < columns; ++n) {
        other_untouched = other_untouched && packed.at(k, moe::paired_position<T>(1, n)) == T(77);
      }
    }
    moe::pack_half<T>(up.view, 1, packed);
    bool placed = true;
    for (Index k = 0; k < rows; ++k) {
      for (Index n = 0; n < packed.panels * kHalf<T>; ++n) {
        const T* const row = packed.panel(n / kHalf<T>) + k * kPanel<T>;
        placed = placed && row[n % kHalf<T>] == (n < columns ? gate.view(n, k) : T(0));
        placed = placed && row[kHalf<T> + n % kHalf<T>] == (n < columns ? up.view(n, k) : T(0));
      }
    }
    Published<T> gate_back(columns, rows, 3), up_back(columns, rows, 3);
    moe::unpack_half<T>(packed, 0, gate_back.view);
    moe::unpack_half<T>(packed, 1, up_back.view);
    bool returned = true;
    for (Index n = 0; n < columns; ++n) {
      returned = returned && test::same_bits(gate_back.view.row(n), gate.view.row(n), rows);
      returned = returned && test::same_bits(up_back.view.row(n), up.view.row(n), rows);
    }
    INFO(columns << " columns");
    CHECK(other_untouched);
    CHECK(placed);
    CHECK(returned);
    CHECK(memory.intact());
  }
}

TEST_CASE("views of packed weights become views of const, not back", "[weights]") {
  static_assert(std::is_convertible_v<PackedView<float>, PackedView<const float>>);
  static_assert(!std::is_convertible_v<PackedView<const float>, PackedView<float>>);
  static_assert(std::is_trivially_copyable_v<PackedView<float>>);
  alignas(64) float memory[2 * kPanel<float>] = {};
  const PackedView<float> view(memory, 2, 1);
  const PackedView<const float> read = view;
  CHECK(read.data == memory);
  CHECK(read.size() == 2 * kPanel<float>);
  CHECK(&read.at(1, 3) == memory + kPanel<float> + 3);
}
