/* SIGBUS: guest memory whose file shrank under the thread that touched it. Private to vmm/. */
#ifndef FOAL_VMM_BUS_ERROR_H
#define FOAL_VMM_BUS_ERROR_H

#include "ept/ept.h"

/*
 * From now on any thread that does not block SIGBUS survives the loss of a page of
 * @space, which fails instead (ept_space_bus_error()). Before the sandbox is
 * entered; one space a process. NULL: none any more. A SIGBUS of another cause
 * ends the process by that signal, its terminal put back.
 */
void bus_error_catch(struct ept_space *space);

#endif
