// Blocks of a storage are as wide as a cache line and aligned to it.
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"

template class moe::Glu<moe::Silu, moe::BFloat16>;
template class moe::Glu<moe::Silu, moe::Int8Groups<>>;
template class moe::Mlp<moe::Relu, moe::Int4Groups<>>;
template class moe::Mlp<moe::Relu, moe::Int8Channels>;
template class moe::Mlp<moe::Relu, moe::Q4K>;
template class moe::Mlp<moe::Relu, moe::Q6K>;
