// The storages that a bank's matrices may have when that is chosen at run time: a new one is a StorageBlock,
// its tile and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/storage/storage.hpp"

MOE_NAMESPACE_BEGIN

using Storages = TypeList<float,         //
                          BFloat16,      //
                          Int8Groups<>,  //
                          Int4Groups<>,  //
                          Int8Channels,  //
                          Q4K,           //
                          Q6K>;

MOE_NAMESPACE_END
