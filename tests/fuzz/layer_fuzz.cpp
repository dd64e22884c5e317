// The whole way from a file to a layer. Either a digit that is the layer, the text of config.json, a zero
// byte and a safetensors header, or a GGUF header, of which layers 0 and 1 are loaded; data are zeros.
// Refused with config_error, format_error or numeric_error before anything larger than the file is allocated,
// or a layer that computes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/core/workspace.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/gguf/reader.hpp"
#include "moe/io/json/config.hpp"
#include "moe/io/json/json.hpp"
#include "moe/models/file/gguf_layer.hpp"
#include "moe/models/file/load_layer.hpp"

namespace {

using moe::Index;
namespace io = moe::io;
namespace models = moe::models;

constexpr Index kMostData = Index{1} << 18;
constexpr std::size_t kGgufData = std::size_t{1} << 16;  // the seeds' tensors fit

/// Length, header, and zeros up to the last tensor's end; nothing where that is too far.
std::vector<std::byte> file_of(std::string_view header) {
  Index end = 0;
  const io::Json root = io::parse_json(header, "input");
  if (root.is(io::Json::Kind::object)) {
    for (const io::Json& tensor : root.object()->values) {
      const io::Json* const offsets = tensor.find("data_offsets");
      if (offsets == nullptr || offsets->array() == nullptr || offsets->array()->size() != 2) continue;
      const std::int64_t* const last = offsets->array()->back().integer();
      if (last != nullptr) end = std::max(end, static_cast<Index>(*last));
    }
  }
  if (end > kMostData) return {};
  std::vector<std::byte> bytes(8 + header.size() + static_cast<std::size_t>(end));
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(header.size() >> (8 * i));
  std::transform(header.begin(), header.end(), bytes.begin() + 8,
                 [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

void run(const models::AnyLayer& layer) {
  constexpr Index kRows = 2;
  const std::vector<float> x(static_cast<std::size_t>(kRows * layer.width()), 0.5f);
  std::vector<float> y(x.size());
  const std::vector<moe::TokenId> ids(kRows);
  const std::vector<Index> segments{0, kRows};
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kRows, layer.width()));
  in.segments = moe::Segments(std::span<const Index>(segments));
  in.token_id = ids;
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), kRows, layer.width()));
  moe::Workspace workspace;
  layer.forward(in, out, workspace);
}

void from_config(std::string_view input) {
  const std::size_t zero = input.find('\0');
  if (zero == 0 || zero == std::string_view::npos) return;
  const Index layer = input[0] - '0';
  const io::Config config = io::Config::from_text(input.substr(1, zero - 1), "input");
  const models::LayerSpec spec = models::describe_layer(config, layer);
  const std::vector<std::byte> bytes = file_of(input.substr(zero + 1));
  if (bytes.empty()) return;
  const io::Checkpoint checkpoint(io::SafetensorsFile::from_bytes(bytes, "input"));
  const models::LayerTensors tensors(checkpoint, config, spec);
  tensors.require_whole_block(spec);  // as load_layer() does, of one storage
  run(models::impl::load_any<float>(&tensors, spec, models::impl::load_router(tensors, spec), {}));
}

void from_gguf(std::string_view input, Index layer) {
  std::vector<std::byte> bytes(input.size() + kGgufData);
  std::memcpy(bytes.data(), input.data(), input.size());
  const auto file = io::GgufFile::from_bytes(bytes, "input");
  const models::LayerSpec spec = models::describe_layer(models::gguf_config(file, layer), layer);
  const models::GgufTensors tensors(file, spec);
  tensors.require_whole_block(spec);
  run(models::impl::load_any<float>(&tensors, spec, models::impl::load_router(tensors, spec), {}));
}

/// What a file may be refused with; anything else ends the fuzzer.
template <class F>
void refusable(F&& f) {
  try {
    f();
  } catch (const moe::config_error&) {
  } catch (const moe::format_error&) {
  } catch (const moe::numeric_error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.starts_with("GGUF")) {
    for (Index layer = 0; layer < 2; ++layer) refusable([&] { from_gguf(input, layer); });
  } else {
    refusable([&] { from_config(input); });
  }
  return 0;
}
