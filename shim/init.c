/* SPDX-License-Identifier: MIT */
/* init.c: start-up. The pool is set up at the first large request (setup.c). */
#include "shim.h"

#include "bypass.h"
#include "operators.h"
#include "os/os.h"
#include "passive.h"
#include "process/helper.h"
#include "process.h"
#include "report.h"
#include "report_live.h"
#include "rest_calls.h"
#include "sandbox.h"
#include "setup.h"
#include "sites.h"
#include "system.h"

#include <sys/auxv.h>
#include <unistd.h>

/* NULL, or why a profile would see no call. */
static const char *start_up(char **environment) {
    next_resolve();
    process_resolve();
    rest_calls_resolve();
    os_clock_prepare();
    tcache_setup_process();
    options_defaults(&setup_options);
    /* A program with raised rights ignores its caller's environment. */
    if (!getauxval(AT_SECURE)) options_from_environment(&setup_options, environment);
    setup_options_read = true;
    shim_first_threshold = setup_options.enabled ? max_size(setup_options.threshold_bytes, 1) : SIZE_MAX;
    shim_set_threshold(shim_first_threshold);
    bool asked = !getauxval(AT_SECURE) && options_lookup(environment, "ZEROPOOL_THRESHOLD");
    if (setup_options.enabled && !asked) shim_lower_threshold = SHIM_LOWER_TO;
    operators_resolve();
    report_configure(environment);
    if (!setup_options.enabled) return NULL;
    if (bypass_program_has_own_malloc() || passive_wanted()) {
        /* The program has a malloc of its own: only the few functions that it does not define reach us, and
         * its free does not know the pool. */
        shim_set_threshold(SIZE_MAX);
        shim_lower_threshold = 0;
        return "the program has an allocator of its own, or a sanitizer";
    }
    bypass_close();
    if (setup_harden()) {
        shim_lower_threshold = 0;
        return "the hardened mode is on";
    }
    os_helper_note_main();
    /* The C library does not know the thread, so the thread must not run what others have put in place of
     * these calls. */
    if (setup_options.background == SWITCH_ON) helper_allow(true);
    bool hooked = system_is_hooked(&os_calls, (void *)next.malloc);
    os_purges_together = !hooked;
    if (setup_options.background == SWITCH_OFF || (setup_options.background == SWITCH_AUTO && hooked))
        helper_allow(false);
    if (setup_options.live == SWITCH_ON) {
        sandbox_learn();
        os_helper_prepare();
        report_live_start(environment);
    }
    return NULL;
}

__attribute__((constructor)) static void start(int argc, char **argv, char **environment) {
    (void)argc;
    (void)argv;
    /* One window for everything that is written. If the kernel refuses, next_resolve reports it. */
    bool open = os_unseal();
    const char *unseen = start_up(environment);
    /* Looked for here: the code of the profile is in no page that other programs touch. */
    const char *profile = getauxval(AT_SECURE) ? NULL : options_lookup(environment, "ZEROPOOL_PROFILE");
    if (profile && *profile)
        sites_start(profile, max_size(setup_options.threshold_bytes, 1), setup_options.profile_rate_bytes,
                    unseen);
    if (sites_run()) operators_resolve();
    if (open) os_seal();
}
