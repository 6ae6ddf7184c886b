// SPDX-License-Identifier: MIT
// What a run prints: a table, one line of JSON, or only its deterministic part.
#ifndef WORKLOADS_REPORT_H
#define WORKLOADS_REPORT_H

#include "meter.h"

// Set-up (generating files, opening sockets) ends here: elapsed time, CPU time and faults count from now.
void report_begin(void);

// Print the report on stdout as the options ask. `unit` names what meter.units counts, in the plural.
// Returns the exit status: FAIL_RUN when stdout could not be written.
int report_finish(const char *unit, const struct meter *total);

#endif
