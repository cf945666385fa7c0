# Builds the pkg-config example from a copy, with the installed tree in `prefix`, and runs it.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE ${folder})
file(COPY ${example}/ DESTINATION ${folder})
set(ENV{PKG_CONFIG_PATH} ${prefix}/${libdir}/pkgconfig)
execute_process(COMMAND make CXX=${compiler} CXXFLAGS=${flags} WORKING_DIRECTORY ${folder}
                COMMAND_ERROR_IS_FATAL ANY)
set(ENV{LD_LIBRARY_PATH} ${prefix}/${libdir})  # for a shared evenkeel
execute_process(COMMAND ${folder}/example COMMAND_ERROR_IS_FATAL ANY)
