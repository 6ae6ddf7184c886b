/* SPDX-License-Identifier: MIT */
/* rest_places.h: what the tests of waiting calls wait at: nothing comes there unless the test sends it. */
#ifndef ZP_SHIM_TESTS_REST_PLACES_H
#define ZP_SHIM_TESTS_REST_PLACES_H

#include "check.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int empty[2], connection[2], listener, events; /* events: of empty[0] */
static sigset_t usr1, none;
static char byte;
static struct iovec vector = {&byte, 1};

static void prepare(void) {
    CHECK(pipe(empty) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, connection) == 0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&any, sizeof any) == 0 &&
          listen(listener, 8) == 0);
    events = epoll_create1(0);
    CHECK(events >= 0 &&
          epoll_ctl(events, EPOLL_CTL_ADD, empty[0], &(struct epoll_event){.events = EPOLLIN}) == 0);
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
}

#endif
