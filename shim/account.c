/* SPDX-License-Identifier: MIT */
/* account.c: adds the pool to what the next allocator says about itself. See account.h. */
#include "account.h"

#include "observe/stats.h"
#include "shim.h"
#include "zeropool.h"

#include <string.h>

struct account account_of_pool(void) {
    struct account account = {0, 0, 0, 0};
    if (!__atomic_load_n(&shim_pool.ready, __ATOMIC_ACQUIRE)) return account;
    zp_stats stats;
    pool_stats(&shim_pool, &stats);
    account.live_bytes = stats.bytes_live;
    account.idle_bytes = stats.bytes_cached + stats.bytes_dirty;
    pool_count_extents(&shim_pool, &account.n_live, &account.n_idle);
    return account;
}

void account_print(FILE *stream, const struct account *account) {
    fprintf(stream, "Pool (zeropool):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n",
            account->live_bytes + account->idle_bytes, account->live_bytes);
}

static void print_heap(FILE *stream, const struct account *account) {
    fprintf(stream,
            "<heap nr=\"zeropool\">\n<sizes>\n</sizes>\n<total type=\"fast\" count=\"0\" size=\"0\"/>\n");
    fprintf(stream, "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", account->n_idle,
            account->idle_bytes);
    fprintf(stream, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", account->n_live,
            account->live_bytes);
    fprintf(stream, "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n",
            account->idle_bytes, account->idle_bytes);
    fprintf(stream,
            "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n</heap>\n",
            account->idle_bytes, account->idle_bytes);
}

/* One line of the totals, with the pool's share. */
static void print_total(FILE *stream, const char *line, size_t length, const struct account *account) {
    char text[200], type[16], element[16];
    size_t count, size;
    if (length < sizeof text) {
        memcpy(text, line, length);
        text[length] = '\0';
        if (sscanf(text, "<total type=\"%15[a-z]\" count=\"%zu\" size=\"%zu\"/>", type, &count, &size) == 3) {
            bool rest = strcmp(type, "rest") == 0, mapped = strcmp(type, "mmap") == 0;
            count += rest ? account->n_idle : mapped ? account->n_live : 0;
            size += rest ? account->idle_bytes : mapped ? account->live_bytes : 0;
            fprintf(stream, "<total type=\"%s\" count=\"%zu\" size=\"%zu\"/>\n", type, count, size);
            return;
        }
        if (sscanf(text, "<%15[a-z] type=\"%15[a-z]\" size=\"%zu\"/>", element, type, &size) == 3) {
            fprintf(stream, "<%s type=\"%s\" size=\"%zu\"/>\n", element, type, size + account->idle_bytes);
            return;
        }
    }
    fwrite(line, 1, length, stream);
}

/* The text: <malloc>, a <heap> for each arena, the totals, </malloc>. What looks otherwise is printed as it
 * is. */
void account_print_xml(FILE *stream, const char *text, const struct account *account) {
    static const char heap_end[] = "</heap>\n";
    const char *totals = NULL;
    for (const char *at = text; (at = strstr(at, heap_end)); at = totals)
        totals = at + strlen(heap_end);
    if (!totals) {
        fputs(text, stream);
        return;
    }
    fwrite(text, 1, (size_t)(totals - text), stream);
    print_heap(stream, account);
    while (*totals) {
        size_t length = strcspn(totals, "\n");
        length += totals[length] == '\n';
        print_total(stream, totals, length, account);
        totals += length;
    }
}
