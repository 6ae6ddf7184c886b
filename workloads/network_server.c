// SPDX-License-Identifier: MIT
// Workload: a TCP server with a pool of worker threads, and its clients, over the loopback interface.
//
// What it stands for: services that allocate a buffer for each request and each response. Packet sizes are
// Zipf-distributed from 64 B to 64 KiB: most are small and belong to the ordinary allocator, one in eleven is
// 32 KiB or more. Lifetimes are short, but not last-in-first-out: a worker keeps its latest responses for a
// while, and some requests are handed to an audit thread which frees them.
//
// Packet: 16 bytes of header (struct packet), then payload in the pattern of the header's tag. Every side
// checks what it received, and a worker checks each kept response again before it frees it.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io.h"
#include "common/options.h"
#include "common/pattern.h"
#include "common/queue.h"
#include "common/report.h"
#include "common/zipf.h"

enum { MOST_THREADS = 256, MOST_HISTORY = 1024, PACKET_UNIT = 64, AUDIT_QUEUE = 256 };

static uint64_t workers, clients, requests, per_connection, handoff_percent, history;
static double zipf_exponent;
static uint64_t total_requests; // scaled; read-only once threads run

static const struct options_entry own_options[] = {
    {"workers", OPTIONS_COUNT, &workers, "8", NULL, 1, MOST_THREADS, "server threads"},
    {"clients", OPTIONS_COUNT, &clients, "8", NULL, 1, MOST_THREADS,
     "client threads, one connection each at a time"},
    {"requests", OPTIONS_COUNT, &requests, "2000000", NULL, 1, 1e12,
     "request/response cycles in total, times --scale"},
    {"requests-per-connection", OPTIONS_COUNT, &per_connection, "500", NULL, 1, 1e9,
     "a client reconnects after so many"},
    {"zipf", OPTIONS_REAL, &zipf_exponent, "1", NULL, 0, 4, "exponent of the packet sizes; 0 is uniform"},
    {"handoff", OPTIONS_COUNT, &handoff_percent, "25", NULL, 0, 100,
     "percent of requests that another thread checks and frees"},
    {"history", OPTIONS_COUNT, &history, "8", NULL, 1, MOST_HISTORY,
     "responses a worker keeps before it frees them"},
    {NULL, OPTIONS_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static const struct options_program program = {
    .name = "network_server",
    .purpose = "Serve request/response cycles over loopback TCP, with a malloc'd buffer for every packet.",
    .initial_scale = "0.1",
    .scale_help = "multiplies the number of requests",
    .own = own_options,
};

// What starts each packet, in both directions.
struct packet {
    uint64_t tag;   // whose payload this is
    uint32_t bytes; // of this packet, header included
    uint32_t reply; // of the response, header included
};

static struct zipf sizes;            // read-only after main filled it
static struct queue audit_queue;     // requests to be checked and freed by the audit thread
static struct meter total;           // see meter_merge
static int listener;                 // accept() on it is safe from several threads
static struct sockaddr_in server_at; // read-only after main bound it

static struct pattern payload(uint64_t tag) {
    return (struct pattern){pattern_base(tag), 0, PATTERN_FULL};
}

static void fill(unsigned char *packet, const struct packet *head) {
    memcpy(packet, head, sizeof *head);
    pattern_fill(packet + sizeof *head, head->bytes - sizeof *head, payload(head->tag));
}

// Check a packet whole, header and payload; returns a sum for the checksum.
static uint64_t check(const unsigned char *packet, const struct packet *head, const char *what) {
    uint64_t sum = 0;
    if (memcmp(packet, head, sizeof *head) != 0)
        fail_exit(FAIL_RUN, "corruption: header of a %s changed", what);
    size_t wrong = pattern_check(packet + sizeof *head, head->bytes - sizeof *head, payload(head->tag), &sum);
    if (wrong != PATTERN_INTACT)
        fail_exit(FAIL_RUN, "corruption: %s of %u bytes is wrong at byte %zu", what, head->bytes,
                  wrong + sizeof *head);
    return rng_combine(sum, head->bytes);
}

// The response's tag follows from the request's, so a client knows what it must get.
static uint64_t reply_tag(uint64_t tag) {
    return rng_combine(tag, 0x7265706c79u);
}

static uint32_t next_size(struct rng *r) {
    return PACKET_UNIT * zipf_next(&sizes, r);
}

// Header first, then a buffer of exactly the size it announces. NULL at the end of the connection.
static unsigned char *receive(struct meter *m, int fd, struct packet *head) {
    ssize_t got = io_read(fd, head, sizeof *head);
    if (got == 0) return NULL;
    if (got < 0) fail_errno("cannot receive");
    if (got < (ssize_t)sizeof *head) fail_exit(FAIL_RUN, "a connection ended within a packet");
    const uint32_t most = PACKET_UNIT * ZIPF_RANKS;
    if (head->bytes < PACKET_UNIT || head->bytes > most || head->reply > most)
        fail_exit(FAIL_RUN, "corruption: a packet announces %u bytes", head->bytes);
    unsigned char *packet = meter_malloc(m, head->bytes);
    memcpy(packet, head, sizeof *head);
    size_t rest = head->bytes - sizeof *head;
    got = io_read(fd, packet + sizeof *head, rest);
    if (got < 0) fail_errno("cannot receive");
    if ((size_t)got < rest) fail_exit(FAIL_RUN, "a connection ended within a packet");
    return packet;
}

static void set_no_delay(int fd) {
    int on = 1;
    // Without it each cycle could wait for a delayed acknowledgement; failing to set it only costs time.
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// ---- Server
// ------------------------------------------------------------------------------------------------

struct worker {
    struct meter meter;
    unsigned char *kept[MOST_HISTORY]; // ring of sent responses; NULL where none is kept yet
    uint64_t sent;
};

static void discard(struct worker *w, unsigned char *response) {
    if (response == NULL) return;
    struct packet head;
    memcpy(&head, response, sizeof head);
    if (head.bytes < PACKET_UNIT || head.bytes > PACKET_UNIT * ZIPF_RANKS)
        fail_exit(FAIL_RUN, "corruption: header of a kept response changed");
    check(response, &head, "kept response");
    meter_free(&w->meter, response);
}

static void serve_request(struct worker *w, int fd, unsigned char *request, const struct packet *head) {
    if (head->reply < PACKET_UNIT)
        fail_exit(FAIL_RUN, "corruption: a request asks for %u bytes", head->reply);
    struct packet answer = {reply_tag(head->tag), head->reply, 0};
    unsigned char *response = meter_malloc(&w->meter, answer.bytes);
    fill(response, &answer);
    w->meter.checksum += check(request, head, "request");

    // By the tag, not by chance: the same seed hands over the same requests.
    if (head->tag % 100 < handoff_percent)
        queue_put(&audit_queue, request);
    else
        meter_free(&w->meter, request);

    if (!io_send(fd, response, answer.bytes)) fail_errno("cannot send a response");
    unsigned char **slot = &w->kept[w->sent++ % history];
    discard(w, *slot);
    *slot = response;
}

static void *run_worker(void *unused) {
    struct worker w = {.sent = 0};
    meter_start(&w.meter);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (fd < 0 && errno == EINVAL) break; // main shut the listener down: no more clients
        if (fd < 0) fail_errno("cannot accept a connection");
        set_no_delay(fd);
        struct packet head;
        unsigned char *request;
        while ((request = receive(&w.meter, fd, &head)) != NULL)
            serve_request(&w, fd, request, &head);
        close(fd);
    }
    for (unsigned i = 0; i < history; i++)
        discard(&w, w.kept[i]);
    queue_done(&audit_queue);
    meter_merge(&total, &w.meter);
    return unused;
}

// Frees what workers allocated: the cross-thread path of the allocator.
static void *run_audit(void *unused) {
    struct meter m;
    meter_start(&m);
    unsigned char *request;
    while ((request = queue_get(&audit_queue)) != NULL) {
        struct packet head;
        memcpy(&head, request, sizeof head);
        if (head.bytes < PACKET_UNIT || head.bytes > PACKET_UNIT * ZIPF_RANKS)
            fail_exit(FAIL_RUN, "corruption: header of an audited request changed");
        m.checksum += check(request, &head, "audited request");
        meter_free(&m, request);
    }
    meter_merge(&total, &m);
    return unused;
}

// ---- Clients
// -----------------------------------------------------------------------------------------------

static void cycle(struct meter *m, struct rng *r, int fd, bool inject) {
    uint64_t begin = clock_begin();
    struct packet head = {rng_next(r), next_size(r), next_size(r)};
    unsigned char *request = meter_malloc(m, head.bytes);
    fill(request, &head);
    if (!io_send(fd, request, head.bytes)) fail_errno("cannot send a request");

    struct packet answer;
    unsigned char *response = receive(m, fd, &answer);
    if (response == NULL) fail_exit(FAIL_RUN, "the server closed a connection early");
    if (answer.tag != reply_tag(head.tag) || answer.bytes != head.reply)
        fail_exit(FAIL_RUN, "corruption: a response belongs to another request");
    if (inject) pattern_damage(response + sizeof answer, answer.bytes - sizeof answer);
    m->checksum += check(response, &answer, "response");
    // Only now: the request must have survived the response's allocation.
    check(request, &head, "sent request");
    meter_free(m, request);
    meter_free(m, response);
    meter_unit(m, begin);
}

static int connect_to_server(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail_errno("cannot open a socket");
    if (connect(fd, (const struct sockaddr *)&server_at, sizeof server_at) != 0) fail_errno("cannot connect");
    set_no_delay(fd);
    return fd;
}

static void *run_client(void *index) {
    uint64_t me = (uint64_t)(uintptr_t)index;
    uint64_t share = total_requests / clients + (me < total_requests % clients);
    struct meter m;
    struct rng r;
    meter_start(&m);
    rng_seed(&r, rng_combine(options_common.seed, me));
    for (uint64_t done = 0; done < share;) {
        int fd = connect_to_server();
        for (uint64_t i = 0; i < per_connection && done < share; i++, done++)
            cycle(&m, &r, fd, options_common.inject_corruption && me == 0 && done == 0);
        close(fd);
    }
    meter_merge(&total, &m);
    return NULL;
}

// ---- Start and end
// -----------------------------------------------------------------------------------------

static void listen_on_loopback(void) {
    socklen_t length = sizeof server_at;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) fail_errno("cannot open a socket");
    server_at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    // Port 0: the kernel picks a free one.
    if (bind(listener, (struct sockaddr *)&server_at, length) != 0 || listen(listener, MOST_THREADS) != 0 ||
        getsockname(listener, (struct sockaddr *)&server_at, &length) != 0)
        fail_errno("cannot listen on 127.0.0.1");
}

static pthread_t start_thread(void *(*run)(void *), uintptr_t argument) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, (void *)argument);
    if (error != 0) {
        errno = error;
        fail_errno("cannot start a thread");
    }
    return thread;
}

int main(int argc, char **argv) {
    clock_start();
    options_parse(&program, argc, argv);
    total_requests = (uint64_t)((double)requests * options_common.scale);
    if (total_requests == 0) total_requests = 1;
    zipf_init(&sizes, zipf_exponent);
    queue_init(&audit_queue, AUDIT_QUEUE, (unsigned)workers);
    meter_start(&total);
    listen_on_loopback();

    report_begin();
    pthread_t audit = start_thread(run_audit, 0), worker[MOST_THREADS], client[MOST_THREADS];
    for (unsigned i = 0; i < workers; i++)
        worker[i] = start_thread(run_worker, i);
    for (unsigned i = 0; i < clients; i++)
        client[i] = start_thread(run_client, i);

    for (unsigned i = 0; i < clients; i++)
        pthread_join(client[i], NULL);
    // Wakes every accept(). Connections still in the backlog cannot exist: their clients are done.
    shutdown(listener, SHUT_RDWR);
    for (unsigned i = 0; i < workers; i++)
        pthread_join(worker[i], NULL);
    pthread_join(audit, NULL);
    queue_finish(&audit_queue);
    close(listener);
    return report_finish("requests", &total);
}
