// Where a layer's tensors are in a particular checkpoint: its prefix, the layout its experts have there, and
// how their elements are encoded.
#pragma once

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/experts.hpp"
#include "moe/io/json/config.hpp"
#include "moe/io/layout.hpp"
#include "moe/io/matrix_reader.hpp"
#include "moe/models/file/layer_source.hpp"
#include "moe/models/preset/spec.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// What a config's "quantization_config" says about the matrices that are not plain.
struct Quantisation {
  io::Encoding encoding = io::Encoding::plain;  // of 8-bit floats, or of packed words; mxfp4 of bytes
  Index scale_rows = 0;                         // `scaled`, see io::MatrixLayout
  Index scale_cols = 0;
  Index group = 32;       // `int4`, `gptq`, `awq`
  bool divides = false;   // `nvfp4`: by the number of the whole matrix
  Index zero_offset = 0;  // `gptq`

  /// Throws config_error for a method or a format that cannot be read, naming it.
  static Quantisation from(const io::Config& config) {
    const io::Config text = text_config(config);
    const io::Config& owner = config.has_section("quantization_config") ? config : text;
    if (!owner.has_section("quantization_config")) return {};
    const io::Config section = owner.section("quantization_config");
    const std::string method = section.required<std::string>("quant_method");
    if (method == "mxfp4") return {.encoding = io::Encoding::mxfp4};
    if (method == "fp8") {
      if (!section.has("weight_block_size")) return {.encoding = io::Encoding::scaled};
      const Buffer<Index> block = section.integers("weight_block_size");
      require_block(section, "weight_block_size", block);
      return {.encoding = io::Encoding::scaled, .scale_rows = block[0], .scale_cols = block[1]};
    }
    if (method == "gptq" || method == "awq") return words(section, method);
    if (method == "modelopt") {
      require_text(section, "quant_algo", {"NVFP4"});
      return {.encoding = io::Encoding::nvfp4};
    }
    if (method != "compressed-tensors") {
      fail<config_error>(
          section.where("quant_method").c_str(),
          ": expected \"fp8\", \"mxfp4\", \"gptq\", \"awq\", \"modelopt\" or \"compressed-tensors\", got ",
          io::in_quotes(method).c_str());
    }
    return compressed_tensors(section);
  }

 private:
  static void require_block(const io::Config& section, const char* key, const Buffer<Index>& block) {
    if (block.size() == 2 && block[0] > 0 && block[1] > 0) return;
    fail<config_error>(section.where(key).c_str(), ": expected two sizes above 0, got a list of ",
                       block.size());
  }
  /// Groups of inputs with zeros: GPTQ's files count them from 1 in their first version.
  static Quantisation words(const io::Config& section, const std::string& method) {
    if (section.required<Index>("bits") != 4) {
      fail<config_error>(section.where("bits").c_str(), ": expected 4, got ",
                         section.required<Index>("bits"));
    }
    const Index group = section.required_in("group_size", -1, INT32_MAX);
    Quantisation out{.encoding = method == "awq" ? io::Encoding::awq : io::Encoding::gptq,
                     .group = group < 0 ? 0 : group};
    if (method == "awq") {
      require_text(section, "version", {"gemm"}, true);
      require_flag(section, "zero_point", true, true);
    } else {
      require_text(section, "checkpoint_format", {"gptq", "gptq_v2"}, true);
      out.zero_offset = section.optional<std::string>("checkpoint_format", "gptq") == "gptq" ? 1 : 0;
    }
    return out;
  }
  /// The weights of the one group, or of several that say the same of them.
  static io::Config weights_of_groups(const io::Config& section) {
    const io::Config groups = section.section("config_groups");
    const io::Json::Object* const members = groups.json().object();
    if (members == nullptr || members->names.empty()) {
      fail<config_error>(section.where("config_groups").c_str(), ": expected a group, got none");
    }
    io::Config first = groups.section(members->names.front()).section("weights");
    for (const std::string& name : members->names) {
      const io::Config other = groups.section(name).section("weights");
      for (const char* const key : {"num_bits", "strategy", "symmetric", "type", "group_size"}) {
        const io::Json *const a = first.json().find(key), *const b = other.json().find(key);
        if ((a == nullptr) == (b == nullptr) && (a == nullptr || a->describe() == b->describe())) continue;
        fail<config_error>(other.where(key).c_str(), ": expected the value of ", first.where(key).c_str(),
                           ", ", a == nullptr ? "none" : a->describe().c_str(),
                           ", because groups of different weights are not told apart, got ",
                           b == nullptr ? "none" : b->describe().c_str());
      }
    }
    return first;
  }
  static void require_symmetric_bytes(const io::Config& weights) {
    if (weights.required<Index>("num_bits") == 8 && weights.required<bool>("symmetric")) return;
    fail<config_error>(weights.where("num_bits").c_str(), ": expected symmetric weights of 8 bits");
  }
  static Quantisation compressed_tensors(const io::Config& section) {
    const std::string format = section.required<std::string>("format");
    if (format == "mxfp4-pack-quantized") return {.encoding = io::Encoding::mxfp4};
    if (format == "nvfp4-pack-quantized") return {.encoding = io::Encoding::nvfp4, .divides = true};
    const io::Config weights = weights_of_groups(section);
    const std::string strategy = weights.required<std::string>("strategy");
    if (format == "pack-quantized") {
      if (weights.required<Index>("num_bits") != 4 || !weights.required<bool>("symmetric") ||
          strategy != "group") {
        fail<config_error>(weights.where("num_bits").c_str(),
                           ": expected symmetric groups of 4 bits for pack-quantized weights");
      }
      return {.encoding = io::Encoding::int4, .group = weights.required_in("group_size", 1, INT32_MAX)};
    }
    if (format == "int-quantized") require_symmetric_bytes(weights);
    if (format == "float-quantized" || format == "naive-quantized" || format == "int-quantized") {
      if (strategy == "channel") return {.encoding = io::Encoding::scaled, .scale_rows = 1};
      if (strategy == "tensor") return {.encoding = io::Encoding::scaled};
      if (strategy == "block") {
        const Buffer<Index> block = weights.integers("block_structure");
        require_block(weights, "block_structure", block);
        return {.encoding = io::Encoding::scaled, .scale_rows = block[0], .scale_cols = block[1]};
      }
    }
    fail<config_error>(section.where("format").c_str(), ": expected a format that this library reads, got ",
                       io::in_quotes(format).c_str(), " with strategy ", io::in_quotes(strategy).c_str());
  }
};

/// Refers to the checkpoint, which must outlive it.
class LayerTensors final : public LayerSource {
 public:
  /// Throws format_error for tensors that are not there, config_error for a quantisation that cannot be read.
  LayerTensors(const io::Checkpoint& checkpoint, const io::Config& config, const LayerSpec& spec)
      : checkpoint_(&checkpoint), quantisation_(Quantisation::from(config)) {
    const NamedTensor& router = spec.tensors.front();
    for (const std::string& candidate : spec.prefixes) {
      const std::string prefix = io::with_number(candidate, "{layer}", spec.layer);
      const bool here = std::any_of(spec.tensors.begin(), spec.tensors.end(), [&](const NamedTensor& n) {
        return n.ours == router.ours && checkpoint.find(prefix + n.theirs) != nullptr;
      });
      if (!here) continue;
      prefix_ = prefix;
      choose_names(spec.tensors);
      experts_ = choose(spec.expert_layouts, spec.experts, spec.expert_width(), spec.hidden);
      if (spec.shared_hidden > 0) shared_ = choose(spec.shared_layouts, 0, spec.width, spec.shared_hidden);
      return;
    }
    checkpoint.at(io::with_number(spec.prefixes.front(), "{layer}", spec.layer) + router.theirs);  // throws
  }

  /// Before anything is allocated: every tensor that the layer reads is there and of the shape that the
  /// config asks for, and those of the block are all read. Throws format_error naming tensors.
  void require_whole_block(const LayerSpec& spec) const {
    require_shapes(spec);
    const std::vector<const io::Tensor*> read = tensors_read(spec);
    Index unread = 0;
    std::string names;
    for (const io::Tensor* const t : checkpoint_->under(prefix_)) {
      if (std::binary_search(read.begin(), read.end(), t)) continue;
      if (!is_of_block(std::string_view(t->name).substr(prefix_.size()), spec)) continue;
      constexpr Index kNamed = 4;
      if (++unread <= kNamed) names += (unread > 1 ? ", " : "") + io::in_quotes(t->name);
      if (unread == kNamed + 1) names += ", ...";
    }
    if (unread == 0) return;
    fail<format_error>(
        io::shown(checkpoint_->path()).c_str(), ": expected every tensor of layer ", spec.layer, " under ",
        io::in_quotes(prefix_).c_str(), " to be one that the preset ", spec.model.c_str(),
        " reads with this config.json, got ", unread, " that it does not: ", names.c_str(),
        "; compare config.json with the release's: a key may be missing, have another name or say false");
  }

  const io::Checkpoint& checkpoint() const noexcept { return *checkpoint_; }
  const std::string& prefix() const noexcept { return prefix_; }
  /// With the whole names, as they are encoded.
  const io::ExpertLayout& experts() const noexcept { return experts_; }
  const io::ExpertLayout& shared() const noexcept { return shared_; }

  /// Where our parameter or state is, or null.
  const NamedTensor* named(std::string_view ours) const noexcept {
    for (const NamedTensor& n : names_) {
      if (n.ours == ours) return &n;
    }
    return nullptr;
  }
  /// The name of the tensor that holds it, or empty.
  std::string name_of(std::string_view ours) const {
    const NamedTensor* const n = named(ours);
    return n == nullptr ? std::string() : prefix_ + n->theirs;
  }
  const io::Tensor& at(const std::string& theirs) const { return checkpoint_->at(prefix_ + theirs); }

  bool has(const char* ours) const override { return !name_of(ours).empty(); }
  void read(const char* ours, const MatrixView<float>& to) const override {
    const NamedTensor* const n = named(ours);
    if (n == nullptr) fail<config_error>("preset: expected the name of a tensor for ", ours, ", got none");
    const io::Tensor& tensor = at(n->theirs);
    if (n->row >= 0) {
      io::require_plain(tensor);
      io::decode_floats(tensor.dtype, tensor.data, n->row * to.cols, to.cols, to.data);
    } else if (n->turned) {
      Buffer<float> turned(to.rows * to.cols);
      io::read_matrix(tensor, MatrixView<float>(turned.data(), to.cols, to.rows));
      for (Index o = 0; o < to.rows; ++o) {
        for (Index i = 0; i < to.cols; ++i) to(o, i) = turned[i * to.rows + o];
      }
    } else if (to.rows == 1 || to.cols == 1) {
      io::read_vector(tensor, to.data, to.rows * to.cols);
    } else {
      io::read_matrix(tensor, to);
    }
    impl::require_finite(tensor.where().c_str(), to);
  }
  HashTable hash_table(const LayerSpec& spec) const override {
    return impl::read_hash_table(at(spec.hash_tensor), spec);
  }
  std::unique_ptr<const io::AnyExpertSource> routed(const LayerSpec& spec) const override {
    io::CheckpointExperts experts(*checkpoint_, experts_, spec.experts, spec.expert_width(), spec.hidden);
    return std::make_unique<io::ErasedExpertSource<io::CheckpointExperts>>(std::move(experts));
  }
  void read_shared(io::ExpertMatrix part, const MatrixView<float>& to) const override {
    io::MatrixReader(*checkpoint_, shared_[part], 0, to.rows, to.cols).read(0, to);
  }

  std::optional<io::StoredCodes> shared_groups(io::ExpertMatrix part, Index out, Index in) const override {
    return io::MatrixReader(*checkpoint_, shared_[part], 0, out, in).groups(0);
  }

  /// Of all tensors that the layer reads, as they are in the files.
  Index bytes(const LayerSpec& spec) const {
    Index sum = 0;
    for (const io::Tensor* const t : tensors_read(spec)) sum += t->bytes;
    return sum;
  }
  /// How the experts' weights are stored there: "BF16", "F8_E4M3 with scales", "MXFP4", "int4".
  std::string storage() const {
    const io::MatrixLayout& first =
        experts_[experts_.is_gated() ? io::ExpertMatrix::gate : io::ExpertMatrix::fc1];
    if (first.encoding == io::Encoding::mxfp4) return "MXFP4";
    if (first.encoding == io::Encoding::int4) return "int4";
    if (first.encoding == io::Encoding::nvfp4) return "NVFP4";
    if (first.encoding == io::Encoding::gptq) return "GPTQ";
    if (first.encoding == io::Encoding::awq) return "AWQ";
    const io::Tensor* const t = find(first.name);
    const std::string type = t == nullptr ? "none" : t->dtype_text();
    return first.encoding == io::Encoding::scaled ? type + " with scales" : type;
  }

 private:
  static std::string without(const std::string& name, std::string_view tail) {
    const bool ends =
        name.size() >= tail.size() && name.compare(name.size() - tail.size(), tail.size(), tail) == 0;
    return ends ? name.substr(0, name.size() - tail.size()) : std::string();
  }
  const io::Tensor* find(const std::string& name) const {
    return checkpoint_->find(io::with_number(name, "{expert}", 0));
  }

  /// Of several names for one of ours the first that is found; of none the first.
  void choose_names(const std::vector<NamedTensor>& names) {
    for (const NamedTensor& n : names) {
      const auto same = std::find_if(names_.begin(), names_.end(),
                                     [&](const NamedTensor& have) { return have.ours == n.ours; });
      if (same == names_.end()) {
        names_.push_back(n);
      } else if (checkpoint_->find(prefix_ + same->theirs) == nullptr &&
                 checkpoint_->find(prefix_ + n.theirs) != nullptr) {
        *same = n;
      }
    }
  }

  void require_shapes(const LayerSpec& spec) const {
    static_cast<void>(
        io::CheckpointExperts(*checkpoint_, experts_, spec.experts, spec.expert_width(), spec.hidden));
    for (Index p = 0; p < io::kParts && spec.shared_hidden > 0; ++p) {
      if (!shared_.matrix[p]) continue;
      const auto part = static_cast<io::ExpertMatrix>(p);
      const bool second = part == io::ExpertMatrix::down || part == io::ExpertMatrix::fc2;
      static_cast<void>(io::MatrixReader(*checkpoint_, shared_.matrix[p], 0,
                                         second ? spec.width : spec.shared_hidden,
                                         second ? spec.shared_hidden : spec.width));
    }
    if (spec.hash_table) static_cast<void>(at(spec.hash_tensor));
    for (const NamedTensor& n : names_) {
      const io::Tensor& tensor = at(n.theirs);
      const impl::Extents wanted = impl::extents_of(spec, n.ours);
      if (n.row >= 0) {
        if (tensor.shape.rank == 2 && tensor.shape[0] > n.row && tensor.shape[1] == wanted.cols) continue;
        fail<format_error>(tensor.where().c_str(), ": expected more than ", n.row, " rows of ", wanted.cols,
                           " numbers, got shape ", tensor.shape.text().c_str());
      }
      impl::require_extents(tensor, n.turned ? impl::Extents{wanted.cols, wanted.rows} : wanted);
    }
  }

  /// In the order of their addresses.
  std::vector<const io::Tensor*> tensors_read(const LayerSpec& spec) const {
    std::vector<const io::Tensor*> read;
    const auto add = [&](const std::string& name) {
      if (const io::Tensor* const t = checkpoint_->find(name)) read.push_back(t);
    };
    const auto add_matrix = [&](const io::MatrixLayout& matrix, Index experts) {
      if (!matrix) return;
      const bool each = matrix.name.find("{expert}") != std::string::npos;
      for (Index e = 0; e < (each ? experts : 1); ++e) {
        const std::string name = io::with_number(matrix.name, "{expert}", matrix.first + e);
        add(name);
        if (matrix.encoding == io::Encoding::plain) continue;
        for (const std::string* const of : {&matrix.scales, &matrix.global, &matrix.zeros}) {
          if (!of->empty()) add(io::with_number(*of, "{expert}", matrix.first + e));
        }
        // Beside packed or scaled weights: their shape, which the reader compares, and the scale of
        // activations, which are not rounded here.
        add(without(name, "packed") + "shape");
        add(without(without(name, "_packed"), "weight") + "input_scale");
        add(without(name, "weight") + "input_scale");
        add(without(without(name, "_packed"), "weight") + "input_global_scale");
        add(without(name, "qweight") + "g_idx");
      }
    };
    for (const NamedTensor& n : names_) add(prefix_ + n.theirs);
    if (spec.hash_table) add(prefix_ + spec.hash_tensor);
    for (Index p = 0; p < io::kParts; ++p) {
      add_matrix(experts_.matrix[p], spec.experts);
      add_matrix(shared_.matrix[p], 1);
      const io::BiasLayout& bias = experts_.bias[p];
      if (!bias) continue;
      const bool each = bias.name.find("{expert}") != std::string::npos;
      for (Index e = 0; e < (each ? spec.experts : 1); ++e) add(io::with_number(bias.name, "{expert}", e));
    }
    std::sort(read.begin(), read.end());
    return read;
  }

  /// Whether a tensor called so behind the prefix must be read.
  static bool is_of_block(std::string_view name, const LayerSpec& spec) {
    const auto begins = [&](const std::string& with) { return name.starts_with(with); };
    if (!spec.block.empty() && std::none_of(spec.block.begin(), spec.block.end(), begins)) return false;
    if (std::any_of(spec.left_out.begin(), spec.left_out.end(), begins)) return false;
    constexpr std::string_view kExpert = "experts.";
    if (spec.others == 0 || !name.starts_with(kExpert)) return true;
    Index e = -1;
    const char* const first = name.data() + kExpert.size();
    const auto [end, error] = std::from_chars(first, name.data() + name.size(), e);
    return error != std::errc() || e < spec.others_first || e - spec.others_first >= spec.others;
  }

  /// Throws format_error for experts whose weights lie in words of formats that are not read, whatever the
  /// config says or not.
  void refuse_packed_words(const std::vector<io::ExpertLayout>& layouts) const {
    for (const io::ExpertLayout& layout : layouts) {
      const io::ExpertMatrix first = layout.is_gated() ? io::ExpertMatrix::gate : io::ExpertMatrix::fc1;
      const io::Tensor* const t = find(without(prefix_ + layout[first].name, "weight") + "qweight");
      if (t == nullptr) continue;
      fail<format_error>(
          t->where().c_str(),
          ": expected a quantization_config of \"gptq\" or \"awq\" in config.json for these words, got none");
    }
  }
  bool is_here(const io::ExpertLayout& layout) const {
    const io::MatrixLayout& first =
        layout[layout.is_gated() ? io::ExpertMatrix::gate : io::ExpertMatrix::fc1];
    const std::string name = prefix_ + first.name, base = without(name, "weight");
    if (find(name) != nullptr) return true;
    return !base.empty() &&
           (find(base + "weight_packed") != nullptr || (in_words() && find(base + "qweight") != nullptr));
  }
  bool in_words() const noexcept {
    return quantisation_.encoding == io::Encoding::gptq || quantisation_.encoding == io::Encoding::awq;
  }
  /// Whether tensors of all experts have the shapes of the layout: of those that may have others under the
  /// same names.
  bool has_shapes(const io::ExpertLayout& layout, Index experts, Index width, Index hidden) const {
    for (Index p = 0; p < io::kParts; ++p) {
      const io::MatrixLayout& matrix = layout.matrix[p];
      if (!matrix || matrix.stacked || matrix.name.find("{expert}") != std::string::npos) continue;
      const io::Tensor* const t = checkpoint_->find(prefix_ + matrix.name);
      if (t == nullptr || t->shape.rank != 3 || t->shape[0] != experts + matrix.behind)
        continue;  // the reader says it
      const auto part = static_cast<io::ExpertMatrix>(p);
      const bool second = part == io::ExpertMatrix::down || part == io::ExpertMatrix::fc2;
      const Index out = second ? width : matrix.outputs == io::Outputs::all ? hidden : 2 * hidden;
      const Index in = second ? hidden : width;
      if (t->shape[1] != (matrix.transposed ? in : out) || t->shape[2] != (matrix.transposed ? out : in)) {
        return false;
      }
    }
    return true;
  }
  /// The first layout that has its first matrix here, and all matrices in their shapes; of none the first
  /// that is here, or the first, whose reader says what is missing.
  io::ExpertLayout choose(const std::vector<io::ExpertLayout>& layouts, Index experts, Index width,
                          Index hidden) const {
    const io::ExpertLayout* found = nullptr;
    for (const io::ExpertLayout& layout : layouts) {
      if (!is_here(layout)) continue;
      if (has_shapes(layout, experts, width, hidden)) return resolve(layout);
      if (found == nullptr) found = &layout;
    }
    if (found == nullptr) refuse_packed_words(layouts);
    return resolve(found == nullptr ? layouts.front() : *found);
  }

  io::ExpertLayout resolve(io::ExpertLayout layout) const {
    for (Index p = 0; p < io::kParts; ++p) {
      if (layout.bias[p]) layout.bias[p].name = prefix_ + layout.bias[p].name;
      io::MatrixLayout& matrix = layout.matrix[p];
      if (!matrix) continue;
      matrix.name = prefix_ + matrix.name;
      if (!matrix.scales.empty()) matrix.scales = prefix_ + matrix.scales;
      if (matrix.encoding == io::Encoding::plain) encode(matrix);
    }
    return layout;
  }

  /// What the tensor's dtype and its neighbours say about a matrix, checked against the config.
  void encode(io::MatrixLayout& matrix) const {
    const std::string base = without(matrix.name, "weight");
    const io::Tensor* const values = find(matrix.name);
    if (values == nullptr && in_words() && !base.empty() && find(base + "qweight") != nullptr) {
      matrix.encoding = quantisation_.encoding;
      matrix.transposed = true;
      matrix.group = quantisation_.group;
      matrix.zero_offset = quantisation_.zero_offset;
      matrix.name = base + "qweight";
      matrix.scales = base + "scales";
      matrix.zeros = base + "qzeros";
      return;
    }
    if (values == nullptr) {
      if (base.empty() || find(base + "weight_packed") == nullptr)
        return;  // the reader names what is missing
      const io::Tensor& packed = *find(base + "weight_packed");
      if (quantisation_.encoding != io::Encoding::int4 && quantisation_.encoding != io::Encoding::mxfp4 &&
          quantisation_.encoding != io::Encoding::nvfp4) {
        fail<format_error>(packed.where().c_str(),
                           ": expected a quantization_config of packed weights in config.json, got none");
      }
      matrix.encoding = quantisation_.encoding;
      matrix.group = quantisation_.group;
      matrix.name = base + "weight_packed";
      matrix.scales = base + "weight_scale";
      if (matrix.encoding == io::Encoding::nvfp4) {
        matrix.global = base + "weight_global_scale";
        matrix.divides = quantisation_.divides;
      }
      return;
    }
    const io::DType type = values->dtype;
    if (type == io::DType::F8_E4M3 || type == io::DType::F8_E5M2) {
      if (quantisation_.encoding != io::Encoding::scaled) {
        fail<format_error>(values->where().c_str(),
                           ": expected a quantization_config of 8-bit floats in config.json, got none");
      }
      matrix.encoding = io::Encoding::scaled;
      matrix.scale_rows = quantisation_.scale_rows;
      matrix.scale_cols = quantisation_.scale_cols;
      matrix.scales = first_found({matrix.name + "_scale_inv", matrix.name + "_scale", base + "scale"});
    } else if (quantisation_.encoding == io::Encoding::nvfp4 && type == io::DType::U8 && !base.empty()) {
      matrix.encoding = io::Encoding::nvfp4;  // ModelOpt's names
      matrix.scales = base + "weight_scale";
      matrix.global = base + "weight_scale_2";
    } else if (type == io::DType::I8 && !base.empty() && find(base + "scale") != nullptr) {
      matrix.encoding = io::Encoding::mxfp4;  // DeepSeek-V4: two numbers a byte
      matrix.scales = base + "scale";
    } else if (type == io::DType::I8 && quantisation_.encoding == io::Encoding::scaled) {
      matrix.encoding = io::Encoding::scaled;
      matrix.scale_rows = quantisation_.scale_rows;
      matrix.scale_cols = quantisation_.scale_cols;
      matrix.scales = matrix.name + "_scale";
    }
  }
  std::string first_found(std::initializer_list<std::string> names) const {
    for (const std::string& name : names) {
      if (find(name) != nullptr) return name;
    }
    return *names.begin();
  }

  const io::Checkpoint* checkpoint_;
  Quantisation quantisation_;
  std::vector<NamedTensor> names_;
  std::string prefix_;
  io::ExpertLayout experts_{};
  io::ExpertLayout shared_{};
};

}  // namespace models
MOE_NAMESPACE_END
