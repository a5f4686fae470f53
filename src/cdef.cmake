# From the preprocessed cdef.h (IN), which includes every public header, makes
#   CDEF: a Lua module that returns the declarations, for ffi.cdef;
#   ABI:  a C file with cueball_layout_at(): where every member of every struct is.
# VERSION is that of the build.  Run by CMakeLists.txt as cmake -DIN=… -DVERSION=… -DCDEF=… -DABI=… -P cdef.cmake; for a library
# beside libcueball without CDEF, and with the HEADER it has and the FUNCTION that takes the place of cueball_layout_at().
#
# CMake's lists are text with semicolons, and brackets shield them: so ; [ ] become @ < > while the text is taken apart.
cmake_minimum_required(VERSION 3.18)

file(READ "${IN}" text)
string(REGEX REPLACE "\n\n+" "\n" text "${text}")
if(text MATCHES "[@<>#\\\\]")
  message(FATAL_ERROR "the headers: '${CMAKE_MATCH_0}' in a declaration: src/cdef.cmake cannot read that")
endif()
string(MD5 digest "${VERSION}\n${text}")

if(NOT DEFINED HEADER)
  set(HEADER "cdef.h")
  set(FUNCTION "cueball_layout_at")
endif()

# The first line tells the version; the last type tells that these very declarations were made before.
if(DEFINED CDEF)
  file(WRITE "${CDEF}.new" "-- Generated from src/include by cdef.cmake: do not edit.
return [==[
/* cueball ${VERSION} */
${text}typedef struct cueball_cdef_${digest} cueball_cdef_${digest};
]==]
")
endif()

string(REPLACE ";" "@" rest "${text}")
string(REPLACE "[" "<" rest "${rest}")
string(REPLACE "]" ">" rest "${rest}")
string(REGEX REPLACE "[ \t\r\n]+" " " rest "${rest}")
string(REGEX MATCHALL "(struct|union)[^@(){}]*{" bodies "${rest}")
list(LENGTH bodies wanted)

set(table "")
set(seen "")
while(rest MATCHES "typedef struct ([A-Za-z_0-9]+) ?{([^{}]*)} ?([A-Za-z_0-9]+) ?@(.*)")
  set(type "${CMAKE_MATCH_3}")
  set(body "${CMAKE_MATCH_2}")
  set(rest "${CMAKE_MATCH_4}")
  list(APPEND seen "${type}")
  string(APPEND table "    WHOLE(${type}),\n")
  string(REPLACE "@" ";" members "${body}")
  foreach(member IN LISTS members)
    string(STRIP "${member}" member)
    if(member STREQUAL "")
      continue()
    elseif(member MATCHES "\\( ?\\* ?([A-Za-z_0-9]+)[^)]*\\)") # void *(*name)(…), and arrays of such
      string(APPEND table "    MEMBER(${type}, ${CMAKE_MATCH_1}),\n")
      continue()
    elseif(member MATCHES "[(){}:]")
      message(FATAL_ERROR "the headers: ${type}: '${member}': src/cdef.cmake cannot read that")
    endif()
    string(REGEX REPLACE "<[^>]*>" "" names "${member}") # array bounds
    string(REPLACE "," ";" names "${names}")
    foreach(name IN LISTS names)
      if(NOT name MATCHES "([A-Za-z_0-9]+) *$")
        message(FATAL_ERROR "the headers: ${type}: '${member}': src/cdef.cmake cannot read that")
      endif()
      string(APPEND table "    MEMBER(${type}, ${CMAKE_MATCH_1}),\n")
    endforeach()
  endforeach()
endwhile()

# No struct with a body may have been passed over (nested ones, unions, names with attributes).
list(LENGTH seen found)
if(found EQUAL 0 OR NOT wanted EQUAL found)
  message(FATAL_ERROR "the headers: ${wanted} structs have bodies, src/cdef.cmake can read ${found} of them: ${seen}")
endif()

file(WRITE "${ABI}.new" "/* Generated from src/include by cdef.cmake: do not edit. */
#include \"${HEADER}\"

#define WHOLE(type) {#type, \"\", 0, (uint32_t)sizeof(type)}
#define MEMBER(type, member) {#type, #member, (uint32_t)offsetof(type, member), (uint32_t)sizeof(((type *)0)->member)}

static const cueball_layout layouts[] = {
${table}};

bool ${FUNCTION}(uint32_t index, cueball_layout *layout)
{
    if (index >= sizeof layouts / sizeof *layouts) {
        return false;
    }
    *layout = layouts[index];
    return true;
}
")

# Written whole or not at all, so that a build that was broken off is not taken for a finished one.
if(DEFINED CDEF)
  file(RENAME "${CDEF}.new" "${CDEF}")
endif()
file(RENAME "${ABI}.new" "${ABI}")
