# moe_add_kernels(): the target moe::kernels, compiled in the project that asks for it and with its
# flags, because what is compiled for another instruction set does not link (moe/kernels.hpp). Flags of single targets it
# does not know: target_compile_options(moe_kernels PRIVATE ...).
function(moe_add_kernels)
  if(TARGET moe_kernels)
    return()
  endif()
  add_library(moe_kernels STATIC EXCLUDE_FROM_ALL
    "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernels/pool.cpp" "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernels/serial.cpp")
  add_library(moe::kernels ALIAS moe_kernels)
  target_link_libraries(moe_kernels PUBLIC moe::moe)
endfunction()
