#include "moe/io/safetensors/writer.hpp"

#include <string>
#include <vector>

#include "io/file/temporary_folder.hpp"
#include "moe/io/checkpoint.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using moe::io::DType;
using moe::io::SafetensorsFile;
using moe::io::SafetensorsWriter;
using moe::io::Shape;

namespace {
std::vector<float> values_of(const moe::io::Tensor& t) {
  std::vector<float> out(static_cast<std::size_t>(t.shape.elements()));
  moe::io::decode_floats(t.dtype, t.data, 0, t.shape.elements(), out.data());
  return out;
}
}  // namespace

TEST_CASE("safetensors writer: bytes of the format, header padded, widest elements first", "[io]") {
  SafetensorsWriter writer;
  const std::uint8_t bytes[] = {1, 2, 3};
  const float floats[] = {1, -2};
  writer.add("a", DType::U8, Shape(3), bytes);
  writer.add_floats("z\"\n", DType::F32, Shape(1, 2), floats);
  writer.add_floats("b", DType::BF16, Shape(2), floats);
  writer.add_metadata("format", "pt");
  const auto out = writer.bytes();
  const std::string text(reinterpret_cast<const char*>(out.data()), static_cast<std::size_t>(out.size()));
  const std::string header =
      "{\"__metadata__\":{\"format\":\"pt\"},\"z\\\"\\u000a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_"
      "offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]},"
      "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[12,15]}}";
  const std::size_t padded = (header.size() + 7) / 8 * 8;
  CHECK(text == test::little(padded, 8) + header + std::string(padded - header.size(), ' ') +
                    test::little(0x3F800000, 4) + test::little(0xC0000000, 4) + test::little(0x3F80, 2) +
                    test::little(0xC000, 2) + "\x01\x02\x03");
}

TEST_CASE("safetensors writer: the reader gets back what was written", "[io]") {
  SafetensorsWriter writer;
  const float matrix[] = {0.1f, 2, 99, 3, -4, 99};
  const moe::ConstMatrixView<float> view(matrix, 2, 2, 3);
  for (const DType type : {DType::F64, DType::F32, DType::BF16, DType::F16}) {
    writer.add_matrix(moe::io::dtype_name(type), type, view);
  }
  writer.add_floats("empty", DType::F32, Shape(0, 5), nullptr);
  writer.add_floats("scalar", DType::F32, Shape(), matrix);
  const auto bytes = writer.bytes();
  const SafetensorsFile file =
      SafetensorsFile::from_bytes({bytes.data(), static_cast<std::size_t>(bytes.size())}, "f");
  REQUIRE(file.tensors().size() == 6);
  using V = std::vector<float>;
  CHECK(values_of(*file.find("F32")) == V{0.1f, 2, 3, -4});
  CHECK(values_of(*file.find("F64")) == V{0.1f, 2, 3, -4});
  CHECK(values_of(*file.find("BF16")) == V{moe::BFloat16::from_float(0.1f).to_float(), 2, 3, -4});
  CHECK(values_of(*file.find("F16")) == V{moe::Float16::from_float(0.1f).to_float(), 2, 3, -4});
  CHECK(file.find("empty")->shape == Shape(0, 5));
  CHECK(values_of(*file.find("scalar")) == V{0.1f});
  for (const moe::io::Tensor& t : file.tensors()) {
    CHECK((t.data - bytes.data()) % std::max<Index>(1, moe::io::dtype_bits(t.dtype) / 8) == 0);
  }
  const auto nothing = SafetensorsWriter().bytes();
  CHECK(SafetensorsFile::from_bytes({nothing.data(), static_cast<std::size_t>(nothing.size())}, "f")
            .tensors()
            .empty());
}

TEST_CASE("safetensors writer: what a reader would refuse is not written", "[io]") {
  const float one = 1;
  SafetensorsWriter writer;
  CHECK_THROWS_AS(writer.add_floats("", DType::F32, Shape(1), &one), moe::config_error);
  CHECK_THROWS_AS(writer.add_floats("__metadata__", DType::F32, Shape(1), &one), moe::config_error);
  CHECK_THROWS_AS(writer.add_floats(std::string("a\0", 2), DType::F32, Shape(1), &one), moe::config_error);
  CHECK_THROWS_AS(writer.add_floats("i", DType::I32, Shape(1), &one), moe::config_error);
  CHECK_THROWS_AS(writer.add("f", DType::F4, Shape(3), &one), moe::config_error);
  CHECK_THROWS_AS(writer.add("f", DType::F32, Shape(PTRDIFF_MAX / 4), &one), moe::size_error);
  CHECK(writer.bytes().size() == 16);  // none of them was added
  writer.add_floats("twice", DType::F32, Shape(1), &one);
  SafetensorsWriter not_text = writer;
  writer.add_floats("twice", DType::F32, Shape(1), &one);
  CHECK(test::message_of<moe::format_error>([&] { writer.bytes(); }).find("two of \"twice\"") !=
        std::string::npos);
  not_text.add_floats("\xFF", DType::F32, Shape(1), &one);
  CHECK_THROWS_AS(not_text.bytes(), moe::format_error);

  const test::TemporaryFolder folder;
  const auto path = folder.write("old", "content");
  CHECK_THROWS_AS(writer.save(path), moe::format_error);
  CHECK_THROWS_AS(writer.save_sharded(folder.path(), 1), moe::format_error);
  CHECK(test::content_of(path) == "content");
  CHECK(folder.files() == 1);
}

TEST_CASE("safetensors writer: files are replaced whole", "[io]") {
  const test::TemporaryFolder folder;
  const auto path = folder.write("model.safetensors", "old");
  const float one = 1;
  SafetensorsWriter writer;
  writer.add_floats("w", DType::F32, Shape(1), &one);
  writer.save(path);
  CHECK(values_of(*SafetensorsFile(path).find("w")) == std::vector<float>{1});
  CHECK(folder.files() == 1);
  CHECK_THROWS_AS(writer.save(folder.path() / "none" / "model.safetensors"), moe::file_error);
  std::filesystem::create_directory(folder.path() / "folder");
  CHECK_THROWS_AS(writer.save(folder.path() / "folder"), moe::file_error);
  CHECK(folder.files() == 2);  // no part is left
}

TEST_CASE("safetensors writer: shards with an index", "[io]") {
  const test::TemporaryFolder folder;
  const float values[] = {1, 2, 3, 4, 5, 6};
  SafetensorsWriter writer;
  writer.add_floats("a", DType::F32, Shape(2), values);
  writer.add_floats("c", DType::F32, Shape(1), values + 2);
  writer.add_floats("large", DType::F32, Shape(4), values);
  writer.add_floats("b", DType::F32, Shape(1), values + 3);
  writer.save_sharded(folder.path(), 12);
  CHECK(folder.files() == 4);
  CHECK(SafetensorsFile(folder.path() / "model-00001-of-00003.safetensors").tensors().size() == 2);
  const moe::io::Checkpoint checkpoint(folder.path());
  CHECK(checkpoint.files() == 3);
  REQUIRE(checkpoint.size() == 4);
  CHECK(values_of(checkpoint.at("large")) == std::vector<float>{1, 2, 3, 4});
  CHECK(values_of(checkpoint.at("b")) == std::vector<float>{4});
  CHECK(test::content_of(folder.path() / "model.safetensors.index.json").find("\"total_size\": 32") !=
        std::string::npos);
}
