#!/bin/sh
# SPDX-License-Identifier: MIT
# CPython's own tests, those that exercise memory, threads, processes and large objects, from Debian's package.
# needs: /usr/lib/python3.11/test/test_bytes.py (libpython3.11-testsuite)
# long: some minutes of tests
# timeout: 1800
# stderr: ignore times and warnings about the machine's load
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

# Left out: test_capi (fails in Debian's package by itself), tests that mostly sleep, the network, and the big I/O.
tests='test___future__ test_abc test_argparse test_array test_ast test_asyncgen test_atexit test_audioop test_base64
    test_bigmem test_binascii test_bisect test_bool test_buffer test_builtin test_bytes test_bz2 test_calendar
    test_call test_class test_cmath test_cmd_line_script test_codeccallbacks test_codecs test_codeop
    test_collections test_compile test_complex test_configparser test_context test_contextlib test_copy
    test_copyreg test_coroutines test_csv test_ctypes test_dataclasses test_dbm test_dbm_dumb test_decimal
    test_defaultdict test_deque test_descr test_dict test_dictviews test_difflib test_dis test_doctest
    test_email test_enum test_enumerate test_eof test_epoll test_except_star test_exceptions test_extcall
    test_faulthandler test_fcntl test_file test_fileinput test_fileio test_float test_fork1 test_format
    test_fractions test_frame test_fstring test_functools test_gc test_generators test_genericclass test_getopt
    test_gettext test_glob test_grammar test_gzip test_hashlib test_heapq test_hmac test_html test_importlib
    test_inspect test_int test_io test_ipaddress test_iter test_itertools test_json test_linecache test_list
    test_listcomps test_long test_longexp test_lzma test_mailbox test_marshal test_math test_memoryio
    test_memoryview test_metaclass test_minidom test_mmap test_module test_multibytecodec
    test_multiprocessing_fork test_multiprocessing_main_handling test_named_expressions test_operator
    test_ordered_dict test_os test_pathlib test_patma test_pickle test_picklebuffer test_pickletools
    test_pkgutil test_plistlib test_poll test_popen test_posix test_pow test_pprint test_property test_pulldom
    test_py_compile test_pyexpat test_queue test_random test_range test_re test_regrtest test_reprlib
    test_resource test_robotparser test_runpy test_sax test_sched test_scope test_secrets test_select
    test_selectors test_set test_shelve test_shlex test_shutil test_signal test_slice test_sort
    test_source_encoding test_stat test_statistics test_strftime test_string test_stringprep test_strptime
    test_strtod test_struct test_subprocess test_super test_symtable test_syntax test_sys test_sys_settrace
    test_tarfile test_tempfile test_textwrap test_thread test_threadedtempfile test_threading
    test_threading_local test_threadsignals test_timeit test_tokenize test_trace test_traceback test_tracemalloc
    test_tuple test_types test_typing test_unicode test_unicodedata test_unittest test_unpack test_unparse
    test_urllib test_urlparse test_userdict test_uuid test_wait3 test_wait4 test_warnings test_wave test_weakref
    test_weakset test_with test_xml_etree test_xml_etree_c test_zipapp test_zipfile test_zipimport test_zlib
    test_zoneinfo'

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
