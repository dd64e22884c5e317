#include "moe/io/file/shards.hpp"

#include "support/catch.hpp"

TEST_CASE("names of shards", "[io]") {
  using moe::io::shard_count;
  using moe::io::shard_number;
  const char* const name = "model-00002-of-00015.safetensors";
  CHECK(shard_number(name) == 2);
  CHECK(shard_count(name) == 15);
  CHECK(moe::io::shard_name(name, 11) == "model-00011-of-00015.safetensors");
  CHECK(shard_number("-00001-of-00001.") == 1);
  for (const char* const other :
       {"", ".", "model.safetensors", "model-0002-of-00015.safetensors", "model-00002-of-0001x.safetensors",
        "-00001-of-00001", "model-00002_of_00015.gguf", "00001-of-00001."}) {
    CHECK(shard_number(other) == 0);
    CHECK(shard_count(other) == 0);
  }
}
