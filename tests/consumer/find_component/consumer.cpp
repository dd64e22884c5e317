// A program that uses the component io: writes a tensor, reads it back.
#include <cstdio>

#include "moe/io/safetensors/writer.hpp"

int main() {
  const float values[] = {1, 2, 3};
  moe::io::SafetensorsWriter writer;
  writer.add_floats("w", moe::io::DType::F32, moe::io::Shape(3), values);
  const auto bytes = writer.bytes();
  const auto file =
      moe::io::SafetensorsFile::from_bytes({bytes.data(), static_cast<std::size_t>(bytes.size())}, "memory");
  float read[3] = {};
  moe::io::read_vector(*file.find("w"), read, 3);
  std::printf("%g %g %g\n", static_cast<double>(read[0]), static_cast<double>(read[1]),
              static_cast<double>(read[2]));
  return read[2] == 3 ? 0 : 1;
}
