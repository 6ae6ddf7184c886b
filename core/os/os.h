/* SPDX-License-Identifier: MIT */
/* os.h: the contract with the kernel. Of core, only the files in this folder make system calls.
 *
 * None of these functions allocates or takes a lock; all preserve errno (those that run in the background
 * thread have one of their own). What returns int returns 0 or a negative errno value unless it says
 * otherwise. All may be called from any thread, and under a seccomp filter (os_restricted): what is not to be
 * had there then fails, or gives the default named below. Callers hold no lock of the pool, since libraries
 * (RDMA) hook these symbols; the exceptions are named in heap.h.
 */
#ifndef ZP_OS_OS_H
#define ZP_OS_OS_H

#include "base/bits.h"

#include <sys/types.h>

/* The functions by which this folder changes mappings. In the pool library they are the C library's
 * (os_calls.c). The preload library has a table of its own: there these names are its own interposed
 * functions, which tell the pool what the program does to its blocks and must not hear of what the pool does;
 * the calls go on to whoever stands behind, among them libraries that hook munmap and madvise to learn which
 * memory is gone. */
struct os_calls {
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    int (*munmap)(void *, size_t);
    void *(*mremap)(void *, size_t, size_t, int, ...);
    int (*madvise)(void *, size_t, int);
    int (*mprotect)(void *, size_t, int);
    int (*pkey_mprotect)(void *, size_t, int, int);
    int (*mlock)(const void *, size_t);
};
extern struct os_calls os_calls __attribute__((visibility("hidden"))); /* sealed */

/* A seccomp filter is in force, or is about to be, or that cannot be told (os_read_filter_state). A filter
 * may answer any call with the program's death, so then no other calls are made than glibc's malloc makes:
 * mmap, munmap, mprotect, madvise, and the clock is read in the vDSO only. The preload library sets and
 * clears it (shim/sandbox.h). */
extern bool os_restricted __attribute__((visibility("hidden")));

/* Nobody else wants to see each madvise, so that one call may stand for several (os_purge_several). The
 * preload library sets it at start-up, where what stands behind it is the C library's. */
extern bool os_purges_together __attribute__((visibility("hidden")));

/* --- sealed variables (os_seal.c)
 * ---------------------------------------------------------------------------- */

/* For function pointers: read-only, but between os_unseal and os_seal, which nest. os_unseal is false where
 * the kernel refuses; then there is no os_seal. Only at start-up and where no other thread may be in such a
 * window. */
#define OS_SEALED __attribute__((section(".data.rel.ro")))
bool os_unseal(void);
void os_seal(void);

/* --- memory (os_mem.c)
 * ------------------------------------------------------------------------------------- */

/* Map length fresh zero bytes anywhere, readable and writable. *out is the address. */
int os_map(size_t length, void **out);

/* Map length fresh zero bytes at exactly address, failing with -EEXIST if anything is there. */
int os_map_at(void *address, size_t length);

/* Replace whatever is at [address, address+length), which must be ours, with fresh zero memory. Resets every
 * VMA attribute a program may have left there (mlock, mprotect, fork and dump advice, overlays, huge page
 * advice). */
int os_remap_fresh(void *address, size_t length);

/* Reserve length bytes of address space, inaccessible and free of charge. */
int os_reserve(size_t length, void **out);

int os_unmap(void *address, size_t length);

/* Give the pages back; the range reads as zero afterwards. Falls back to os_remap_fresh if the kernel refuses
 * (locked pages). On failure of both the contents are undefined. */
int os_purge(void *address, size_t length);

/* The same for several ranges by one call, which interrupts the other processors once, not for each (Linux
 * 6.16; earlier ones are asked once). False: nothing is known of any of them, purge each. */
#define OS_PURGE_MOST 16
struct iovec;
bool os_purge_several(const struct iovec *ranges, unsigned n);

/* Leave the pages, but let the kernel take them before it kills anybody for want of memory (MADV_FREE). What
 * is then read is what was there or zero, until it is written. Negative errno: nothing is marked. */
int os_mark_reclaimable(void *address, size_t length);

/* Of a range that was marked and then partly written: give back what has not been written since
 * (MADV_PAGEOUT). Where there is swap space the rest may go there. Failure is harmless. */
int os_give_unwritten(void *address, size_t length);

/* Find out whether MADV_DONTNEED does what it says: under emulators it may do nothing and report success.
 * Before the first os_purge. */
void os_learn_purge(void);

/* Ask for transparent huge pages in the range. Failure is harmless. */
int os_advise_huge(void *address, size_t length);

/* Keep huge pages from the range, where they come only where they are asked for. Failure is harmless. */
int os_forbid_huge(void *address, size_t length);

/* Make the range resident. With by_advice its whole huge-page units are asked for as such for the time of the
 * call, and forbidden again afterwards. Failure is harmless. */
int os_fill(void *address, size_t length, bool by_advice);

/* How many of the pages are resident, of at most OS_RESIDENT_MAX pages? Negative errno on failure. */
#define OS_RESIDENT_MAX 512
int os_resident_pages(void *address, size_t n_pages);

/* Fault in the range for writing (MADV_POPULATE_WRITE, kernel 5.14). Failure is harmless. */
int os_populate(void *address, size_t length);

/* Move pages from one range to another of ours of the same length, which reads as zero, without copying.
 * Returns how many bytes have been moved, from the beginning on; there the old range reads as zero. The rest
 * of both is as it was: the kernel lacks MREMAP_DONTUNMAP (before 5.7), the range is more than a few VMAs, or
 * memory is short. -ENOMEM: nothing has been moved, and there are holes in the new range now. */
ssize_t os_move_pages(void *from, void *to, size_t length);

/* Move a whole mapping, made longer by fresh zero bytes, to a range of ours where nothing is. The old range
 * is unmapped. Needs no more room in a limit than what is new. On failure nothing has changed. */
int os_relocate(void *from, size_t length, void *to, size_t new_length);

/* mlock, munlock; -ENOMEM or -EPERM beyond the limit. */
int os_lock(void *address, size_t length);
int os_unlock(void *address, size_t length);
/* Set while the program wants all that it maps to be locked (mlockall with MCL_FUTURE): then nothing is
 * unlocked. */
extern bool os_keeps_locked __attribute__((visibility("hidden")));

/* Put back the attributes that programs change on memory they own: protection and its keys, locking, fork and
 * dump advice, access hints, merging, memory policy. Returns 1 if the range was not plain anonymous memory
 * any more and has been replaced with fresh zero memory. Guards (MADV_GUARD_INSTALL) stay: they are no VMAs,
 * and only os_remap_fresh forgets them. */
int os_scrub(void *address, size_t length);

/* Of these only the protection and its keys. 0 or negative errno. */
int os_make_accessible(void *address, size_t length);

/* True if the range lies within one VMA. May be false without cause (old kernels, injected faults). */
bool os_is_one_vma(void *address, size_t length);

/* Does something stand at the beginning of one of these pages? 1 yes, 0 no, negative errno if that cannot be
 * told: of any memory, whether it is there and accessible or not (process_vm_readv). */
#define OS_PEEK_PAGES 4
int os_peek_pages(void *const pages[OS_PEEK_PAGES]);

/* A word that reads 1 in this process and 0 in a forked child (MADV_WIPEONFORK), or NULL. The child sets it
 * again. */
uint32_t *os_fork_word(void);

/* --- our own memory (os_self.c)
 * ------------------------------------------------------------------------------------ */

/* Copy memory that may not be there, or not accessible: then false. False under a filter. */
bool os_read_memory(const void *from, void *to, size_t length);
/* Can all pages from that of address on be read? Under a filter: is there something in all of them? */
bool os_is_readable(const void *address, size_t n_pages);
/* Map fresh zero bytes that are zero again in a forked child. 0 or negative errno (before Linux 4.14). */
int os_map_unshared(size_t length, void **out);
/* Give one page back: it reads as zero afterwards. False if the kernel refuses (locked pages). */
bool os_drop_page(void *page);
/* Write eight bytes, aligned to that, of our own instructions. False where the kernel does not allow it. */
bool os_write_code(void *at, uint64_t word);

/* --- machine (os_sys.c)
 * ------------------------------------------------------------------------------------ */

/* Ask for what the next two tell, once, while there is no filter. Without it they ask each time. */
void os_learn_machine(void);
/* RAM of the machine; 4 GiB if it cannot be told. */
size_t os_ram_bytes(void);
/* CPUs in the affinity mask; 8 if it cannot be told. */
unsigned os_cpu_count(void);
/* The CPU this thread runs on right now; from the rseq area without a system call where glibc registered
 * one. */
unsigned os_cpu_current(void);
/* Reads the beginning of a small file, at most size - 1 bytes, and ends it with NUL. The length or a negative
 * errno; -EBUSY: not at this moment, since descriptors or memory are short. */
long os_read_file(const char *path, char *buffer, size_t size);
/* The decimal number that a small file begins with; SIZE_MAX where it begins otherwise ("max") or cannot be
 * read. */
size_t os_read_number(const char *path);
/* What follows a name in a text, or NULL. */
const char *os_find_field(const char *text, const char *name);
/* From the lines of /proc/self/cgroup, which it cuts apart: the next group whose hierarchy is of version 2
 * (*is_v2) or has this controller, as a path below the mount, "" for the root; NULL at the end. *lines is
 * moved on. */
char *os_next_group(char **lines, const char *controller, bool *is_v2);
/* Is a seccomp filter in force for this thread? Reads /proc/self/status, needs 16 KiB of stack. */
enum filter_state { FILTER_NONE, FILTER_IN_FORCE, FILTER_UNKNOWN };
enum filter_state os_read_filter_state(void);
/* The memory limit of this process's control group (version 1 or 2; memory.high and the limits of parents
 * count), and how much may still be used below it, files that the kernel can drop not counted; each SIZE_MAX
 * if there is none or it cannot be learned. Reads some files: 20 us. 0; -EBUSY as os_read_file; -EPERM where
 * os_restricted. */
struct os_group_memory {
    size_t limit_bytes, room_bytes;
};
int os_read_group_memory(struct os_group_memory *memory);
/* Its first part alone. */
int os_read_cgroup_limit(size_t *limit);
/* The lower of RLIMIT_AS and RLIMIT_DATA, SIZE_MAX if neither is set; where os_restricted is set what it was
 * before. */
size_t os_address_limit(void);
/* How much more may be mapped below these limits; SIZE_MAX if there are none. Negative errno if it cannot be
 * told. */
int os_read_address_room(size_t *room);
/* The same where memory is strictly accounted (vm.overcommit_memory=2), SIZE_MAX where it is not: so much is
 * granted for certain. */
int os_read_commit_room(size_t *room);
/* Is it so accounted, or can that not be told at this moment? False where os_restricted. Reads a file. */
bool os_commit_may_be_strict(void);
/* The same below RLIMIT_MEMLOCK, for what is locked as it is mapped; it does not bind who may lock without a
 * limit. */
int os_read_lock_room(size_t *room);
void os_limits_fork_child(void);
/* How transparent huge pages are to be had on this machine; HUGE_UNKNOWN where os_read_file says -EBUSY.
 * Reads a file. */
enum huge_pages { HUGE_NEVER, HUGE_BY_ADVICE, HUGE_UNASKED, HUGE_UNKNOWN };
enum huge_pages os_huge_pages(void);
/* Has the machine more than one NUMA node? Reads a file. */
bool os_has_several_nodes(void);
/* Bytes for address-space randomisation; the same in each run where the kernel does not randomise either. */
uint64_t os_random(void);
int os_process_id(void);
int os_thread_id(void);
/* Let others run; under a filter only a pause. */
void os_yield(void);
/* Keep all signals, the C library's own, too, from the calling thread, and let them in again. Under a filter
 * nothing is changed. */
uint64_t os_block_signals(void);
void os_restore_signals(uint64_t before);

/* --- time (os_clock.c)
 * --------------------------------------------------------------------------------------- */

/* At start-up, unsealed: find the vDSO's clock. Before, the C library is asked. */
void os_clock_prepare(void);

/* Milliseconds of a coarse monotonic clock, modulo 2^32. A vDSO read. */
uint32_t os_clock_ms(void);
uint64_t os_clock_ns(void);
/* Nanoseconds of processor time of the calling thread. A system call; under a filter those of os_clock_ns, in
 * steps of some milliseconds. */
uint64_t os_thread_ns(void);

/* --- barrier (os_barrier.c)
 * -------------------------------------------------------------------------------- */

/* Register for and use the private expedited membarrier: after it returns every running thread of the process
 * has executed a full barrier. -ENOSYS where unavailable. */
int os_membarrier_register(void);
int os_membarrier(void);

/* --- tasks (os_tasks.c)
 * -------------------------------------------------------------------------------------- */

/* Has the C library never made a thread in this process? A plain read. False where it does not tell (before
 * glibc 2.32). */
bool os_single_threaded(void);
/* The tasks of this process, ours included; 0 if it cannot be told. One system call. */
int os_task_count(void);
/* Are there so many places for tasks left (RLIMIT_NPROC, the pids control groups of both versions) that one
 * more is not missed? Where it cannot be told, yes. Reads files; for one caller at a time. */
bool os_room_for_task(void);

/* --- the background thread (os_helper.c)
 * --------------------------------------------------------------------- */

/* At start-up, on the main thread: note what only that can tell. No system call. */
void os_helper_note_main(void);
/* Before the first start, on any thread: find out the rest. Without it, or under a filter, none is
 * started. */
void os_helper_prepare(void);

/* Could it be started as far as that can be told without a system call: it is not there, and the main thread
 * is. */
bool os_helper_may_start(void);

/* Start the thread. Call it with all signals blocked (os_block_signals), which the thread inherits, and from
 * one thread at a time. tls: the lowest thread-local variable that entry uses. -EAGAIN: not at this moment;
 * -EBUSY: something stands in the way that may go (a tracer, a limit, no memory, a filter, user ids that
 * differ); other errors: never. */
int os_helper_start(void (*entry)(void), const void *tls);

/* In the thread: has it been dismissed, has the main thread left, or has the program changed its user? */
bool os_helper_must_leave(void);

/* In the thread. Meanwhile it answers signals that are sent to it (os_helper_signals.c). */
void os_helper_sleep(unsigned timeout_ms);

/* Make it leave, and wait until the kernel no longer counts it. False: it has not left in time; it will,
 * unless it is started again. */
bool os_helper_dismiss(unsigned timeout_ms);

/* Have it look for signals now. */
void os_helper_wake(void);
/* End its sleep, this one or the next. */
void os_helper_look(void);
/* Is that its number? */
bool os_helper_is(int thread);

/* False in a vfork child, which runs in the memory of its parent. */
bool os_is_own_process(void);

/* In a forked child: the parent's thread is not ours. */
void os_helper_fork_child(void);

/* --- fault injection (os_fault.c, only in builds with -DZP_FAULT)
 * -------------------------------------------- */

enum os_call {
    OS_MMAP,
    OS_MUNMAP,
    OS_MREMAP,
    OS_MADVISE,
    OS_MPROTECT,
    OS_MLOCK,
    OS_MINCORE,
    OS_MEMBARRIER,
    OS_THREAD,
    OS_N_CALLS,
};

#ifdef ZP_FAULT
/* 0, or the errno with which this call must fail. Configured by os_fault_configure. */
int os_fault(enum os_call call);
void os_fault_configure(long fail_at, int error, unsigned random_one_in, uint64_t seed);
long os_fault_count(void);
/* One attempt in so many to take a lock fails, as if its holder had not let go in time; 0: none. */
void os_fault_locks(unsigned random_one_in, uint64_t seed);
bool os_fault_lock(void);
/* What os_clock_ms says; 0: the real time. Set it where there is one thread. */
extern uint32_t os_fault_clock_ms;
#else
static inline int os_fault(enum os_call call) {
    (void)call;
    return 0;
}
static inline bool os_fault_lock(void) {
    return false;
}
#endif

#endif
