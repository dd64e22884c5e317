// One MoE layer of a released model, from the folder it was published in: what it is, what its router does
// with tokens, what a smaller storage costs; its router trained and saved so that the model's own framework
// loads it; and the layer saved in the smaller storage, to be loaded from that file alone. --help lists the
// arguments; without any a small model is made and used.
#define EIGEN_DONT_PARALLELIZE  // the threads are the executor's

#include <Eigen/Core>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "moe/io/checkpoint.hpp"
#include "moe/models/file/load_layer.hpp"
#include "moe/models/file/load_model.hpp"
#include "moe/models/file/packed_layer.hpp"
#include "moe/models/file/save_layer.hpp"
#include "moe/moe.hpp"
#include "support/checkpoint_options.hpp"
#include "support/checkpoint_tokens.hpp"
#include "support/progress.hpp"
#include "support/svg.hpp"
#include "support/tiny_mixtral.hpp"

using namespace example;
using moe::models::AnyLayer;
using moe::models::StorageKind;
using Options = CheckpointOptions;
namespace io = moe::io;
namespace fs = std::filesystem;

/// What should hold whatever the arguments are, and does not.
struct Failed : std::logic_error {
  using std::logic_error::logic_error;
};

// ---- 1. The layer and its tokens. ----

AnyLayer load(const Options& options, StorageKind storage) {
  Progress progress(1);
  auto report = [&](Index done, Index total) {
    if (done == 1) progress = Progress(total);
    if (progress.wants(done))
      progress.show("loading: expert " + std::to_string(done) + " of " + std::to_string(total));
  };
  using Report = decltype(report);
  AnyLayer layer = moe::models::load_layer(
      options.folder, options.layer, {storage, {&report, [](void* to, Index done, Index total) noexcept {
                                                  (*static_cast<Report*>(to))(done, total);
                                                }}});
  progress.finish();
  return layer;
}

/// ||a - b|| / ||b||.
double relative_error(const Rows& a, const Rows& b) {
  return static_cast<double>((a - b).norm()) / std::max(static_cast<double>(b.norm()), 1e-30);
}

Rows run(const AnyLayer& layer, const Tokens& tokens, moe::PoolExecutor& pool) {
  Rows y(tokens.x.rows(), tokens.x.cols());
  moe::LayerOutput<float> out(y);
  moe::Workspace workspace;
  layer.forward(tokens.input(), out, workspace, pool);
  return y;
}

// ---- 2. What the router does, and how fast the block is. ----

void show_routing(const AnyLayer& layer, const Tokens& tokens, moe::PoolExecutor& pool, const fs::path& svg) {
  Rows y(tokens.x.rows(), tokens.x.cols());
  moe::RouteStats stats;
  moe::LayerOutput<float> out(y, &stats);
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  layer.forward_train(tokens.input(), out, tape, workspace, pool);
  std::printf(
      "routes:  %.2f experts per token, %td of %td pairs dropped, busiest expert %.0f%% above the mean\n",
      stats.experts_per_token(), stats.dropped, stats.pairs(), 100 * stats.max_violation());
  if (stats.dropped > 0) {
    std::printf(
        "dropped: an expert of this model takes a limited number of tokens of a sequence, and the %td rows "
        "are "
        "%zu; --sequence N makes sequences of N rows\n",
        tokens.x.rows(), tokens.segments.size() - 1);
  }
  std::printf("loads:   %s\n", load_bars(stats).c_str());

  // The map: slices of the tokens by experts, 1 = mean.
  const Index n = tokens.x.rows(), slices = std::min<Index>(8, n);
  std::vector<std::pair<std::string, std::vector<double>>> cells;
  const moe::RouteTable<float>& routes = tape.routes();
  for (Index s = 0; s < slices; ++s) {
    const Index first = s * n / slices, last = (s + 1) * n / slices;
    std::vector<double> loads(static_cast<std::size_t>(layer.experts()));
    const Index pairs = routes.offsets[last] - routes.offsets[first];
    for (Index p = routes.offsets[first]; p < routes.offsets[last]; ++p) {
      loads[static_cast<std::size_t>(routes.expert[p])] +=
          static_cast<double>(layer.experts()) / static_cast<double>(pairs);
    }
    cells.emplace_back("tokens " + std::to_string(first) + " to " + std::to_string(last - 1), loads);
  }
  draw_cells(svg,
             "Load of every expert, " + layer.spec().model + " layer " + std::to_string(layer.spec().layer),
             "expert", cells);
  std::printf("map:     %s\n", svg.string().c_str());
}

void show_speed(const AnyLayer& layer, const Tokens& tokens, moe::PoolExecutor& pool) {
  Rows y(tokens.x.rows(), tokens.x.cols());
  moe::LayerOutput<float> out(y);
  moe::Workspace workspace;
  layer.forward(tokens.input(), out, workspace, pool);  // the first call allocates
  Index calls = 0;
  double seconds = 0;
  for (const auto start = std::chrono::steady_clock::now(); seconds < 0.2; ++calls) {
    layer.forward(tokens.input(), out, workspace, pool);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::printf("speed:   %.0f tokens per second in calls of %td, %td threads\n",
              static_cast<double>(calls * tokens.x.rows()) / seconds, tokens.x.rows(), pool.concurrency());
}

// ---- 3. Training the router of an otherwise frozen layer. ----

bool is_router(const char* name) {
  for (const char* const other : {"experts.", "shared_expert", "output.", "latent_"}) {
    if (std::strncmp(name, other, std::strlen(other)) == 0) return false;
  }
  return true;
}

/// f(float&) for every parameter of the router, or of everything else.
template <class F>
void each_value(AnyLayer& layer, bool of_router, F&& f) {
  layer.visit_parameters([&](const moe::Parameter<float>& p) {
    if (is_router(p.name) != of_router) return;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) f(p.value(o, i));
    }
  });
}

/// FNV-1a of everything that is not trained.
std::uint64_t digest_of_frozen(AnyLayer& layer) {
  std::uint64_t digest = 0xcbf29ce484222325;
  const auto add = [&](const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      digest = (digest ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3;
  };
  each_value(layer, false, [&](float& w) { add(&w, sizeof w); });
  layer.visit_packed([&](const char*, std::byte* data, Index n) { add(data, static_cast<std::size_t>(n)); });
  layer.visit_state([&](const char*, double* values, Index n) {
    add(values, static_cast<std::size_t>(n) * sizeof(double));
  });
  return digest;
}

/// Root mean square of the router's parameters.
float router_size(AnyLayer& layer) {
  double sum = 0, n = 0;
  each_value(layer, true, [&](float& w) { sum += static_cast<double>(w * w), ++n; });
  return static_cast<float>(std::sqrt(sum / std::max(n, 1.0)));
}

/// What the same layer, in float, gives with another router: a target that a router can reach.
Rows target_of_another_router(const Options& options, const Tokens& tokens, moe::PoolExecutor& pool) {
  AnyLayer teacher = load(options, StorageKind::float32);
  std::mt19937_64 random(1);
  std::normal_distribution<float> noise(0, router_size(teacher));
  each_value(teacher, true, [&](float& w) { w += noise(random); });
  return run(teacher, tokens, pool);
}

/// Adam on ||y - target||^2 / ||target||^2, gradients of the router alone.
void train_router(AnyLayer& layer, const Tokens& tokens, const Rows& target, Index steps,
                  moe::PoolExecutor& pool) {
  const std::uint64_t frozen = digest_of_frozen(layer);
  const double before = relative_error(run(layer, tokens, pool), target);
  auto gradients = layer.make_gradients();
  AnyLayer::Backward back;
  back.gradients = &gradients;
  back.trained = {.experts = false, .shared = false, .frame = false};
  const moe::TrainedLayer trained(layer, back);
  moe::AdamW<float> optimiser({.beta2 = 0.99, .decay = 0});
  Rows y(target.rows(), target.cols()), dy;
  moe::LayerOutput<float> out(y);
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  const double rate = 0.03 * static_cast<double>(router_size(layer));
  Progress progress(steps);
  for (Index step = 0; step < steps; ++step) {
    layer.forward_train(tokens.input(), out, tape, workspace, pool);
    dy = (y - target) * (2 / target.squaredNorm());
    back.dy = dy;
    layer.backward(tape, back, workspace, pool);
    moe::clip_by_global_norm(trained, 1, pool);
    optimiser.step(trained, rate, pool);
    if (progress.wants(step + 1)) {
      progress.show("training: step " + std::to_string(step + 1) + ", relative error " +
                    number(relative_error(y, target), 4));
    }
  }
  progress.finish();
  const double after = relative_error(run(layer, tokens, pool), target);
  std::printf("trained: %td steps, relative error to the target %.4f -> %.4f\n", steps, before, after);
  if (digest_of_frozen(layer) != frozen) throw Failed("training changed a frozen part");
  std::printf("frozen:  all parts but the router have the same bits as before\n");
  if (before > 0.01 && !(after < before)) throw Failed("the loss did not fall; try more steps");
}

void save(const Options& options, AnyLayer& layer) {  // for the model's framework
  const auto changed = moe::models::save_parameters(options.folder, options.layer, layer, options.save);
  const io::Checkpoint saved(options.save);
  std::printf("saved:   %s: %td tensors under their original names, %zu changed\n",
              options.save.string().c_str(), saved.size(), changed.size());
  for (const std::string& name : changed) std::printf("         %s\n", name.c_str());
}

/// For this library, in its storage; read back and compared.
void save_packed(const Options& options, AnyLayer& layer, const Tokens& tokens, moe::PoolExecutor& pool) {
  moe::models::save_packed(options.folder, layer, options.save);
  std::printf("packed:  %s: %.2f MB\n", options.save.string().c_str(),
              static_cast<double>(fs::file_size(options.save)) / 1e6);
  if (run(moe::models::load_packed(options.save), tokens, pool) != run(layer, tokens, pool))
    throw Failed("the packed layer gives other outputs");
  std::printf("loaded:  the packed layer gives the same bits\n");
}

// ---- 4. All of it. ----

/// The saved file beside the model's config.json is a model of this one layer: it must give the same bits.
void check_saved(Options options, const AnyLayer& layer, const Tokens& tokens, moe::PoolExecutor& pool) {
  const fs::path folder = options.save.parent_path();
  fs::copy_file(options.folder / "config.json", folder / "config.json", fs::copy_options::overwrite_existing);
  options.folder = folder;
  if (run(load(options, options.storage), tokens, pool) != run(layer, tokens, pool))
    throw Failed("the saved layer gives other outputs");
  std::printf("loaded:  the saved layer gives the same bits\n");
}

/// A model of our own, its second layer.
Options options_for_demonstration() {
  Options options{.layer = 1, .steps = 100, .storage = StorageKind::int8};
  options.folder = fs::path(MOE_EXAMPLE_OUT) / "tiny_mixtral";
  options.save = fs::path(MOE_EXAMPLE_OUT) / "trained" / "model.safetensors";
  make_tiny_mixtral(options.folder);
  fs::create_directories(options.save.parent_path());
  std::printf("Without arguments: a small model with Mixtral's names, made in %s\n",
              options.folder.string().c_str());
  std::cout << moe::models::describe(options.folder);
  return options;
}

int main(int argc, char** argv) try {
  fs::create_directories(MOE_EXAMPLE_OUT);
  Options options = argc == 1 ? options_for_demonstration() : parse_checkpoint_options(argc, argv);
  if (options.help) {
    std::printf("%s", kCheckpointUsage);
    return 0;
  }
  if (options.table) {
    std::cout << moe::models::describe(options.folder);
    return 0;
  }
  moe::PoolExecutor pool(std::max(1u, std::thread::hardware_concurrency()));
  AnyLayer layer = options.packed ? moe::models::load_packed(options.folder) : load(options, options.storage);
  const moe::models::LayerSpec& spec = layer.spec();
  if (options.layer >= 0 && options.layer != spec.layer) {
    throw std::runtime_error("--layer " + std::to_string(options.layer) + ": " + options.folder.string() +
                             " is a packed file of layer " + std::to_string(spec.layer) +
                             "; leave --layer out");
  }
  options.layer = spec.layer;
  std::printf("model:   %s, layer %td of %s\n", spec.model.c_str(), spec.layer,
              options.folder.string().c_str());
  std::printf("shape:   E %td experts, K %td per token, D %td, F %td, shared F %td\n", layer.experts(),
              spec.router.k, spec.width, spec.hidden, spec.shared_hidden);
  std::printf("storage: %s, %.2f MB of routed experts\n",
              options.packed ? "as packed" : kStorages[static_cast<int>(options.storage)],
              static_cast<double>(layer.bytes()) / 1e6);
  if (spec.hash_table && options.tokens.empty())
    throw std::runtime_error("this layer routes by token id; give --tokens FILE with \"token_ids\"");

  const Tokens tokens = read_tokens(options, layer.width());
  const Rows y = run(layer, tokens, pool);
  show_routing(layer, tokens, pool, fs::path(MOE_EXAMPLE_OUT) / "expert_loads.svg");
  show_speed(layer, tokens, pool);
  if (options.storage != StorageKind::float32) {
    const Rows exact = run(load(options, StorageKind::float32), tokens, pool);
    std::printf("error:   %.2e of y in this storage, relative to float\n", relative_error(y, exact));
  }
  const bool given = tokens.y.size() > 0;
  if (given)
    std::printf("given:   y is %.2e away from the file's, relative to it\n", relative_error(y, tokens.y));

  if (options.steps > 0) {
    const Rows target = given ? tokens.y : target_of_another_router(options, tokens, pool);
    train_router(layer, tokens, target, options.steps, pool);
  }
  if (argc == 1) {  // both kinds of files
    save(options, layer);
    check_saved(options, layer, tokens, pool);
    options.save.replace_filename("packed.safetensors");
  }
  if (!options.save.empty()) {
    if (options.storage == StorageKind::float32)
      save(options, layer);
    else
      save_packed(options, layer, tokens, pool);
  }
  return 0;
} catch (const Failed& error) {
  std::fprintf(stderr, "05_checkpoint: %s\n", error.what());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "05_checkpoint: %s\n", error.what());
  return 2;
}
