/* SPDX-License-Identifier: MIT */
/* os_barrier.c: the asymmetric barrier. See os.h for the contract. */
#include "os/os.h"
#include "os/os_call.h"

#include <errno.h>
#include <linux/membarrier.h>

static int membarrier(int command) {
    int fault = os_fault(OS_MEMBARRIER);
    if (fault) return -fault;
    if (os_restricted) return -EPERM;
    long result = OS_CALL3(SYS_membarrier, command, 0, 0);
    return result < 0 ? (int)result : 0;
}

int os_membarrier_register(void) {
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

int os_membarrier(void) {
    return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}
