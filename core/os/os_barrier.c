/* SPDX-License-Identifier: MIT */
/* os_barrier.c: the asymmetric barrier. See os.h for the contract. */
#include "os/os.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static int membarrier(int command)
{
    int fault = os_fault(OS_MEMBARRIER);
    if (fault) return -fault;
    int saved = errno;
    int result = syscall(SYS_membarrier, command, 0, 0) < 0 ? -errno : 0;
    errno = saved;
    return result;
}

int os_membarrier_register(void) { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }

int os_membarrier(void) { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }
