// Catch2's main, shared by every unit_<room>. Sanitizers and optimisation are off for this file: see CMakeLists.txt.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
