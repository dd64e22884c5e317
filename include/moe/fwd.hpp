// Forward declarations, for headers that only name the library's types.
#pragma once

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

template <class T>
struct MatrixView;
template <class Real>
struct LayerInput;
template <class Real>
struct LayerOutput;
template <class Real>
struct RouteTable;
template <class Real>
struct DispatchPlan;
struct RouteStats;
class Workspace;
class SerialExecutor;
class PoolExecutor;

MOE_NAMESPACE_END
