// Selection by a table of token ids, weights still from the learned scores: the hash layers of DeepSeek-V4.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The experts of the row's token id (LayerInput::token_id), one per hash, in the table's order; a masked one
/// is left out.
class TableSelection {
 public:
  static constexpr const char* kName = "table";

  explicit TableSelection(HashTable table) : table_(std::move(table)) {}

  const HashTable& table() const noexcept { return table_; }
  void check(Index) const { impl::require_there("hash table", table_.experts() > 0); }

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    require_extent("hash table", "experts", n, table_.experts());
    if (options.experts_per_token != 0 && options.experts_per_token != table_.hashes()) {
      fail<config_error>("experts per token: expected ", table_.hashes(), " (one per hash), got ",
                         options.experts_per_token);
    }
    return table_.hashes();
  }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::check_token_ids(in, table_.vocabulary());
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    Index count = 0;
    for (Index h = 0; h < table_.hashes(); ++h) {
      const ExpertId e = table_.expert(h, Index{row.token_id()});
      if (!is_neg_inf(choice[e])) out[count++] = e;
    }
    return count;
  }

 private:
  HashTable table_;
};

MOE_NAMESPACE_END
