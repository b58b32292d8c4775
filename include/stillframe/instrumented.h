/* Included first by `still cc` and `still c++`: what an instrumented compilation needs to differ.
 *
 * libstdc++ holds the code of std::string and of streams ready-made. Nobody instrumented that code:
 * have it compiled with the program instead. */
#if defined(__cplusplus) && defined(__has_include)
#if __has_include(<bits/c++config.h>)
#include <bits/c++config.h>
#undef _GLIBCXX_EXTERN_TEMPLATE
#define _GLIBCXX_EXTERN_TEMPLATE 0
#endif
#endif
