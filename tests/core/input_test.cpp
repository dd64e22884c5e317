#include "moe/core/input.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using moe::LayerInput;
using moe::RouterInput;
using moe::Segments;
using test::message_of;

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Tensor3 = Eigen::Tensor<float, 3, Eigen::RowMajor>;

static_assert(std::is_convertible_v<Matrix&, LayerInput<float>>);
static_assert(std::is_convertible_v<const Matrix&, LayerInput<float>>);
static_assert(std::is_convertible_v<Tensor3&, LayerInput<float>>);
static_assert(std::is_convertible_v<moe::MatrixView<float>, LayerInput<float>>);
static_assert(!std::is_convertible_v<Matrix&, LayerInput<double>>);
static_assert(!std::is_convertible_v<decltype(std::declval<Matrix&>() * 2.0f), LayerInput<float>>);

std::string message(const Segments& segments, Index tokens) {
  return message_of<moe::shape_error>([&] { segments.check(tokens); });
}

TEST_CASE("Segments: none given is one segment", "[core]") {
  const Segments none;
  CHECK_FALSE(none.given());
  for (const Index tokens : {0, 1, 10}) {
    none.check(tokens);
    CHECK(none.count(tokens) == 1);
    CHECK(none.begin(0) == 0);
    CHECK(none.end(0, tokens) == tokens);
  }
}

TEST_CASE("Segments: offsets", "[core]") {
  const std::array<Index, 5> offsets = {0, 3, 3, 7, 10};
  const Segments segments(offsets);
  CHECK(segments.given());
  segments.check(10);
  REQUIRE(segments.count(10) == 4);
  for (Index s = 0; s < 4; ++s) {
    CHECK(segments.begin(s) == offsets[static_cast<std::size_t>(s)]);
    CHECK(segments.end(s, 10) == offsets[static_cast<std::size_t>(s) + 1]);
  }
  const std::array<Index, 1> no_segments = {0};
  Segments(no_segments).check(0);
  CHECK(Segments(no_segments).given());
  CHECK(Segments(no_segments).count(0) == 0);
}

TEST_CASE("Segments: wrong offsets", "[core]") {
  const std::array<Index, 3> starts_late = {1, 3, 10}, descends = {0, 8, 6}, goes_back = {0, 12, 10};
  CHECK(message(Segments(starts_late), 10) == "moe: segments: expected the first offset to be 0, got 1");
  CHECK(message(Segments(descends), 6) ==
        "moe: segments: expected ascending offsets, got 6 after 8 at position 2");
  CHECK(message(Segments(goes_back), 10) ==
        "moe: segments: expected ascending offsets, got 10 after 12 at position 2");
  const std::array<Index, 3> good = {0, 4, 10};
  CHECK(message(Segments(good), 11) == "moe: segments: expected the last offset to be 11 rows, got 10");
  CHECK(message(Segments(good), 9) == "moe: segments: expected the last offset to be 9 rows, got 10");
  const std::array<Index, 2> negative = {0, -1};
  CHECK(message(Segments(negative), 0) ==
        "moe: segments: expected ascending offsets, got -1 after 0 at position 1");
  CHECK(message_of<moe::shape_error>([] { Segments(std::span<const Index>()); }) ==
        "moe: segments: expected S + 1 offsets, got none");
}

TEST_CASE("Segments: offsets of other integers, in memory of their own", "[core]") {
  std::vector<int> lengths{0, 3, 3, 7};
  const std::array<std::uint16_t, 4> narrow{0, 3, 3, 7};
  const std::vector<long long> wide{0, 3, 3, 7};
  const std::span<const int> view(lengths);
  for (const Segments& segments : {Segments(lengths), Segments(narrow), Segments(wide), Segments(view),
                                   Segments(std::vector<int>{0, 3, 3, 7})}) {
    segments.check(7);
    CHECK(segments.count(7) == 3);
    CHECK((segments.begin(2) == 3 && segments.end(2, 7) == 7));
    CHECK(segments.borrow().end(2, 7) == 7);
  }
  const Segments kept(lengths);
  LayerInput<float> in;
  in.segments = kept;
  lengths.assign(4, -1);
  in.segments.check(7);
}

TEST_CASE("Segments: all of one size", "[core]") {
  const Segments segments = Segments::uniform(4);
  CHECK(segments.given());
  segments.check(12);
  segments.check(0);
  CHECK(segments.count(12) == 3);
  CHECK(segments.count(0) == 0);
  CHECK((segments.begin(0) == 0 && segments.end(0, 12) == 4));
  CHECK((segments.begin(2) == 8 && segments.end(2, 12) == 12));
  CHECK(message(segments, 13) == "moe: segments: expected a multiple of 4 rows, got 13");
  for (const Index rows : {0, -1}) {
    CHECK(message_of<moe::shape_error>([&] { Segments::uniform(rows); }) ==
          "moe: segments: expected at least 1 row each, got " + std::to_string(rows));
  }
}

TEST_CASE("LayerInput from a matrix: rows, nothing else", "[core]") {
  Matrix x = Matrix::Random(6, 3);
  const LayerInput<float> in = x;
  CHECK((in.x.data == x.data() && in.x.rows == 6 && in.x.cols == 3));
  CHECK_FALSE(in.segments.given());
  CHECK(in.router_x.empty());
  CHECK((in.valid.empty() && in.row_key.empty() && in.token_id.empty() && in.outside_counts.empty()));
  CHECK(in.logit_mask.empty());
  CHECK(in.mode == moe::Mode::by_call);
  CHECK(in.draws == nullptr);
  CHECK((in.options.experts_per_token == 0 && in.options.capacity_factor == 0));

  LayerInput<float> copy = in;  // not taken for a matrix
  CHECK(copy.x.data == x.data());
  const LayerInput<float> block = x.middleRows(1, 2);
  CHECK((block.x.data == &x(1, 0) && block.x.rows == 2));
  const LayerInput<float> empty;
  CHECK(empty.x.empty());
}

TEST_CASE("LayerInput takes its type from the rows", "[core]") {
  using Wide = Eigen::Matrix<double, 2, 2, Eigen::RowMajor>;
  static_assert(std::is_same_v<decltype(LayerInput(std::declval<const Matrix&>())), LayerInput<float>>);
  static_assert(std::is_same_v<decltype(LayerInput(std::declval<Wide&>())), LayerInput<double>>);
  static_assert(std::is_same_v<decltype(LayerInput(moe::ConstMatrixView<double>())), LayerInput<double>>);
  Tensor3 tensor(2, 3, 4);
  const LayerInput in(tensor);
  CHECK(in.segments.count(6) == 2);
  const LayerInput copy(in);
  CHECK(copy.x.data == tensor.data());
}

TEST_CASE("LayerInput: columns that are converted belong to it", "[core]") {
  LayerInput<float> in;
  {
    const std::vector<bool> padding{true, false, true};
    const std::vector<std::int64_t> ids{5, 6, 7};
    const std::vector<unsigned> tasks{1, 2, 3};
    in.valid = padding;
    in.token_id = ids;
    in.task = tasks;
  }
  const LayerInput<float> copy = in;
  in = {};
  CHECK((copy.valid[0] && !copy.valid[1] && copy.valid[2]));
  CHECK((copy.token_id[0] == 5 && copy.token_id[2] == 7));
  CHECK(copy.task[1] == 2);
}

TEST_CASE("LayerInput from a tensor: every sequence is a segment", "[core]") {
  Tensor3 x(2, 3, 4);
  const LayerInput<float> in = x;
  CHECK((in.x.data == x.data() && in.x.rows == 6 && in.x.cols == 4));
  CHECK(in.segments.given());
  REQUIRE(in.segments.count(6) == 2);
  CHECK((in.segments.begin(1) == 3 && in.segments.end(1, 6) == 6));

  const LayerInput<float> map = Eigen::TensorMap<const Tensor3>(x.data(), 3, 2, 4);
  CHECK(map.segments.count(6) == 3);
  const Tensor3 no_sequences(0, 3, 4), no_rows(2, 0, 4);
  const LayerInput<float> none = no_sequences;
  none.segments.check(0);
  CHECK(none.segments.count(0) == 0);
  const LayerInput<float> empty = no_rows;
  empty.segments.check(0);
}

TEST_CASE("RouterInput: an empty column is none, wherever it points", "[core]") {
  const bool valid[] = {false};
  const std::uint64_t keys[] = {7};
  const float x[] = {1, 2};
  moe::RouterInput<float> in;
  in.x = moe::ConstMatrixView<float>(x, 2, 1);
  in.valid = std::span<const bool>(valid, 0);
  in.row_key = std::span<const std::uint64_t>(keys, 0);
  CHECK((in.takes_part(0) && in.takes_part(1)));
  CHECK(in.key(1) == 1);
}

TEST_CASE("RouterInput: defaults of optional fields", "[core]") {
  Matrix x = Matrix::Random(3, 2);
  RouterInput<float> in;
  in.x = x;
  CHECK(in.tokens() == 3);
  for (Index t = 0; t < 3; ++t) {
    CHECK(in.takes_part(t));
    CHECK(in.key(t) == static_cast<std::uint64_t>(t));
    CHECK(in.mask_row(t) == nullptr);
  }
  const bool valid[] = {true, false, true};
  const std::uint64_t key[] = {7, 1, ~std::uint64_t{0}};
  in.valid = valid;
  in.row_key = key;
  CHECK((in.takes_part(0) && !in.takes_part(1) && in.takes_part(2)));
  CHECK((in.key(0) == 7 && in.key(2) == ~std::uint64_t{0}));

  Matrix one_mask = Matrix::Zero(1, 4), masks = Matrix::Zero(3, 4);
  in.logit_mask = one_mask;
  CHECK((in.mask_row(0) == one_mask.data() && in.mask_row(2) == one_mask.data()));
  in.logit_mask = masks;
  CHECK((in.mask_row(0) == masks.data() && in.mask_row(2) == masks.data() + 8));
}

TEST_CASE("every column is in the list that input, checks, tapes and tests walk", "[core]") {
  using Columns = moe::InputColumns<float>;
  std::size_t bytes = 0;
  std::vector<std::string> names;
  Columns::each([&](const char* name, auto member, moe::ColumnSize) {
    bytes += sizeof(std::declval<Columns&>().*member);
    CHECK(std::find(names.begin(), names.end(), name) == names.end());
    names.emplace_back(name);
  });
  CHECK(bytes == sizeof(Columns));  // pointers and extents: no padding
  CHECK(names.size() == 16);
}

}  // namespace
