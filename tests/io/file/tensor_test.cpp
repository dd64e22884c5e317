#include "moe/io/file/tensor.hpp"

#include <vector>

#include "io/file/temporary_folder.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::DType;
using moe::io::Shape;
using moe::io::Tensor;

namespace {

Tensor tensor_of(const std::vector<std::byte>& bytes, DType dtype, const Shape& shape) {
  Tensor t;
  t.name = "t";
  t.dtype = dtype;
  t.shape = shape;
  t.data = bytes.data();
  t.bytes = static_cast<Index>(bytes.size());
  return t;
}

}  // namespace

TEST_CASE("tensor: shapes", "[io]") {
  CHECK(Shape().elements() == 1);
  CHECK(Shape(3, 0, 5).elements() == 0);
  CHECK(Shape(3, 4).elements() == 12);
  CHECK(Shape(3, 4).text() == "[3, 4]");
  CHECK(Shape().text() == "[]");
  CHECK(Shape(3, 4) == Shape(3, 4));
  CHECK_FALSE(Shape(3, 4) == Shape(4, 3));
  CHECK_FALSE(Shape(3, 4) == Shape(3, 4, 1));
  CHECK_THROWS_AS(Shape(PTRDIFF_MAX, 2).elements(), moe::size_error);
}

TEST_CASE("tensor: reading matrices and vectors checks shape and dtype", "[io][smoke]") {
  const std::vector<std::byte> bytes =
      test::exact_bytes(test::little(0x3F80, 2) + test::little(0x4000, 2) + test::little(0x4040, 2) +
                        test::little(0x4080, 2) + test::little(0x40A0, 2) + test::little(0x40C0, 2));
  const Tensor t = tensor_of(bytes, DType::BF16, Shape(2, 3));
  float to[8] = {};
  moe::io::read_matrix(t, moe::MatrixView<float>(to, 2, 3, 4));
  CHECK(std::vector<float>(to, to + 8) == std::vector<float>{1, 2, 3, 0, 4, 5, 6, 0});
  CHECK(test::message_of<moe::format_error>([&] {
          moe::io::read_matrix(t, moe::MatrixView<float>(to, 3, 2));
        }) == "moe: tensor \"t\": expected shape [3, 2], got [2, 3]");
  for (const Shape& shape : {Shape(6), Shape(1, 6), Shape(6, 1), Shape(1, 6, 1)}) {
    float v[6] = {};
    moe::io::read_vector(tensor_of(bytes, DType::BF16, shape), v, 6);
    CHECK(v[5] == 6);
  }
  CHECK_THROWS_AS(moe::io::read_vector(t, to, 6), moe::format_error);
  CHECK_THROWS_AS(moe::io::read_vector(tensor_of(bytes, DType::BF16, Shape(6)), to, 5), moe::format_error);
  for (const DType type :
       {DType::F8_E4M3, DType::F8_E8M0, DType::F4, DType::F6_E2M3, DType::C64, DType::BOOL, DType::U8,
        DType::I8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64, DType::other}) {
    INFO(moe::io::dtype_name(type));
    CHECK_THROWS_AS(moe::io::require_plain(tensor_of(bytes, type, Shape(1))), moe::format_error);
  }
  for (const DType type : {DType::F32, DType::F16, DType::BF16, DType::F64}) {
    CHECK_NOTHROW(moe::io::require_plain(tensor_of(bytes, type, Shape(1))));
  }
  CHECK_NOTHROW(moe::io::require_dtype(t, DType::BF16));
  CHECK_THROWS_AS(moe::io::require_dtype(t, DType::F16), moe::format_error);
}

TEST_CASE("tensor: integers", "[io][smoke]") {
  const auto read = [](DType type, const std::string& text, Index n) {
    const std::vector<std::byte> bytes = test::exact_bytes(text);
    std::vector<Index> out(static_cast<std::size_t>(n));
    moe::io::read_integers(tensor_of(bytes, type, Shape(n)), out.data(), n);
    return out;
  };
  using V = std::vector<Index>;
  CHECK(read(DType::I64, test::little(~std::uint64_t{0}, 8) + test::little(7, 8), 2) == V{-1, 7});
  CHECK(read(DType::I32, test::little(0x80000000, 4), 1) == V{INT32_MIN});
  CHECK(read(DType::U32, test::little(0x80000000, 4), 1) == V{Index{1} << 31});
  CHECK(read(DType::I8, "\xFE\x02", 2) == V{-2, 2});
  CHECK(read(DType::U8, "\xFE\x02", 2) == V{254, 2});
  CHECK(read(DType::U64, test::little(INT64_MAX, 8), 1) == V{PTRDIFF_MAX});
  CHECK_THROWS_AS(read(DType::U64, test::little(~std::uint64_t{0}, 8), 1), moe::format_error);
  CHECK_THROWS_AS(read(DType::F32, "1234", 1), moe::format_error);
  const std::vector<std::byte> two = test::exact_bytes("12");
  Index to[3];
  CHECK_THROWS_AS(moe::io::read_integers(tensor_of(two, DType::U8, Shape(2)), to, 3), moe::format_error);
}
