# Installs the build tree `build` and moves the result to `prefix`: nothing that is installed may
# depend on the place that it was installed to.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE ${prefix} ${prefix}.first)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} --prefix ${prefix}.first
                COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${prefix}.first ${prefix})
