// A layer of a released model, read and run without run-time type information.
#include <cmath>
#include <filesystem>
#include <vector>

#include "moe/models/file/load_layer.hpp"
#include "moe/models/file/packed_layer.hpp"
#include "moe/models/file/save_layer.hpp"

namespace {

using moe::Index;
namespace models = moe::models;

// Of one storage: load_layer() compiles all of them.
models::AnyLayer load(const char* folder) {
  const std::filesystem::path path = std::filesystem::path(MOE_TEST_GOLDEN) / folder;
  const moe::io::Config config = moe::io::Config::from_file(path / "config.json");
  const models::LayerSpec spec = models::preset_of(config).describe(config, 0);
  const moe::io::Checkpoint checkpoint(path);
  const models::LayerTensors tensors(checkpoint, config, spec);
  return models::impl::load_any<float>(&tensors, spec, models::impl::load_router(tensors, spec), {});
}

bool refused(const models::AnyLayer& layer, const models::AnyLayer::Tape& tape, moe::MatrixView<float> dy) {
  moe::Workspace workspace;
  try {
    layer.backward(tape, {.dy = dy}, workspace);
  } catch (const moe::state_error&) {
    return true;
  }
  return false;
}

}  // namespace

int main() {
  const models::AnyLayer layer = load("mixtral");
  constexpr Index kTokens = 5;
  std::vector<float> x(static_cast<std::size_t>(kTokens * layer.width()), 0.5f), y(x);
  const moe::MatrixView<float> rows(y.data(), kTokens, layer.width());
  moe::LayerOutput<float> out(rows);
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  layer.forward_train(moe::ConstMatrixView<float>(x.data(), kTokens, layer.width()), out, tape, workspace);
  auto gradients = layer.make_gradients();
  layer.backward(tape, {.dy = rows, .gradients = &gradients}, workspace);
  double sum = 0;
  for (const float v : y) sum += std::fabs(static_cast<double>(v));
  return std::isfinite(sum) && sum > 0 && tape.tokens() == kTokens && refused(layer, layer.make_tape(), rows)
             ? 0
             : 1;
}
