#!/bin/sh
# SPDX-License-Identifier: MIT
# CPython's own tests, those that exercise memory, threads, processes and large objects, from Debian's package.
# needs: /usr/lib/python3.11/test/test_bytes.py (libpython3.11-testsuite)
# long: some minutes of tests
# timeout: 900
# stderr: ignore times and warnings about the machine's load
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

# Left out: test_capi (fails in Debian's package by itself), tests that mostly sleep, the network, and the big I/O.
tests='test_array test_atexit test_bigmem test_buffer test_bytes test_bz2 test_codecs test_copy test_ctypes
    test_decimal test_deque test_dict test_dictviews test_exceptions test_faulthandler test_fork1 test_gc
    test_generators test_gzip test_hashlib test_int test_itertools test_json test_list test_long test_lzma
    test_marshal test_math test_memoryio test_memoryview test_mmap test_multiprocessing_main_handling
    test_os test_pickle test_pickletools test_popen test_posix test_queue test_random test_re test_regrtest
    test_set test_shutil test_sort test_statistics test_struct test_subprocess test_sys test_tarfile test_tempfile
    test_thread test_threading test_threading_local test_tuple test_unicode test_wait4 test_weakref test_xml_etree
    test_xml_etree_c test_zipfile test_zlib'

# Some tests expect that root's rights are absent.
chmod 1777 .
# shellcheck disable=SC2086  # a list of words
under_unprivileged "$PYTHON" -m test -j2 --timeout 300 --tempdir "$TMPDIR" --junit-xml "$TMPDIR/results.xml" $tests \
    >"$TMPDIR/log" 2>&1 || tail -n 60 "$TMPDIR/log" >&2

# Name and outcome of every single test; times vary.
"$PYTHON" - "$TMPDIR/results.xml" <<'PYTHON'
import collections
import sys
import xml.etree.ElementTree as tree

count = collections.Counter()
for case in sorted(tree.parse(sys.argv[1]).getroot().iter("testcase"), key=lambda case: case.get("name", "")):
    outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "ok")
    count[outcome] += 1
    if outcome in ("failure", "error"):
        print(outcome, case.get("name"))
print(*(f"{outcome} {number}" for outcome, number in sorted(count.items())))
PYTHON
rm -rf ./*
