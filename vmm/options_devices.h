/*
 * The options of `foal run` that give the VM its devices; rows of the table in
 * options.c. Each takes the option's name and value and fills in its part of
 * @out. 0, or a negative errno with one line in @err. Private to vmm/options*.c.
 */
#ifndef FOAL_VMM_OPTIONS_DEVICES_H
#define FOAL_VMM_OPTIONS_DEVICES_H

#include "vmm/options.h"

int option_disk(const char *name, const char *value, struct run_options *out,
		struct foal_error *err);
int option_pmem(const char *name, const char *value, struct run_options *out,
		struct foal_error *err);
int option_net(const char *name, const char *value, struct run_options *out,
	       struct foal_error *err);
int option_transport(const char *name, const char *value, struct run_options *out,
		     struct foal_error *err);
int option_vsock(const char *name, const char *value, struct run_options *out,
		 struct foal_error *err);
int option_balloon(const char *name, const char *value, struct run_options *out,
		   struct foal_error *err);
int option_console(const char *name, const char *value, struct run_options *out,
		   struct foal_error *err);
int option_reset_port(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err);
int option_rng(const char *name, const char *value, struct run_options *out,
	       struct foal_error *err);

#endif
