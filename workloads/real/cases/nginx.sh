#!/bin/sh
# SPDX-License-Identifier: MIT
# nginx with two workers serves plain, compressed and proxied files to parallel curl clients, and reloads.
# needs: /usr/sbin/nginx (nginx-light)
# needs: /usr/bin/curl (curl)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

mkdir "$TMPDIR/root" "$TMPDIR/log"
gen text 3000000 61 >"$TMPDIR/root/text.txt"
gen random 40000000 62 >"$TMPDIR/root/large"
cd "$TMPDIR"
cat >nginx.conf <<CONF
worker_processes 2;
pid $TMPDIR/nginx.pid;
error_log $TMPDIR/log/error.log;
events { worker_connections 128; }
http {
    access_log off;
    client_body_temp_path $TMPDIR/body;
    proxy_temp_path $TMPDIR/proxy;
    fastcgi_temp_path $TMPDIR/fastcgi;
    uwsgi_temp_path $TMPDIR/uwsgi;
    scgi_temp_path $TMPDIR/scgi;
    types { text/plain txt; }
    gzip on;
    gzip_types text/plain;
    proxy_buffers 32 256k;
    proxy_buffer_size 256k;
    proxy_busy_buffers_size 512k;
    output_buffers 4 1m;
    sendfile off;
    server {
        listen unix:$TMPDIR/front;
        root $TMPDIR/root;
        location /behind/ { proxy_pass http://unix:$TMPDIR/back:/; }
    }
    server {
        listen unix:$TMPDIR/back;
        root $TMPDIR/root;
    }
}
CONF
[ "$(id -u)" -ne 0 ] || sed -i '1i user root;' nginx.conf
control() {
    under nginx -p "$TMPDIR" -c "$TMPDIR/nginx.conf" "$@" 2>>log/control
}
fetch() {
    under curl -sS --unix-socket "$TMPDIR/front" "$@"
}

control
wait_for 10 test -S "$TMPDIR/front"
fetch http://localhost/text.txt | digest
fetch --compressed http://localhost/text.txt | digest
fetch http://localhost/behind/large | digest
fetch --range 1000000-8999999 http://localhost/large | digest
fetch --parallel --parallel-max 6 'http://localhost/{large,text.txt,behind/large,behind/text.txt}?[1-3]' \
    -o '#1_#2' --create-dirs 2>/dev/null
find . -name '*_[123]' | sort | xargs sha256sum | digest
control -s reload
fetch -o /dev/null -w '%{http_code}\n' http://localhost/missing
fetch http://localhost/text.txt | digest
control -s quit
wait_for 10 test ! -e "$TMPDIR/nginx.pid"
grep -cE 'crit|alert|emerg|exited on signal' log/error.log || true
