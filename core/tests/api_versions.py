#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs compiled against a header with shorter or longer structs than the library's work with it.

usage: api_versions.py HEADER LIBRARY COMPILER...

The headers are made from the present one: fields are cut off at the ends of zp_config and zp_stats, or added. One program is compiled against
each; it holds a guard behind its structs and prints what it finds.
"""
import os
import re
import subprocess
import sys
import tempfile

PROGRAM = r"""
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <zeropool.h>

struct { zp_config config; unsigned char guard[64]; } c;
struct { zp_stats stats; unsigned char guard[64]; } s;

static int intact(const unsigned char *guard)
{
    for (int i = 0; i < 64; i++)
        if (guard[i] != 0xa5) return 0;
    return 1;
}

int main(void)
{
    assert(strcmp(zp_version(), VERSION) == 0);
    memset(&c, 0xa5, sizeof c), memset(&s, 0xa5, sizeof s);
    assert(zp_config_preset(&c.config, ZP_PRESET_FILE) == 0 && intact(c.guard));
    zp_config_init(&c.config);
    assert(c.config.struct_size == sizeof(zp_config) && intact(c.guard));
    c.config.tcache_depth = 7, c.config.min_size_bytes = 5000;
    zp_pool *pool = zp_pool_create(&c.config);
    assert(pool && !zp_get(pool, 4999) && errno == EINVAL);
    void *block = zp_get(pool, 100000);
    assert(block);
    zp_put(pool, block);
    assert(zp_get(pool, 100000) == block);
    zp_pool_stats(pool, &s.stats);
    assert(s.stats.n_gets == 2 && s.stats.n_tcache_hits == 1 && s.stats.bytes_mapped >= 100000 && intact(s.guard));
    zp_put(pool, block);
    zp_pool_destroy(pool);
#ifdef NEWER
    assert(s.stats.new_count == 0 && c.config.new_size == 0);
    c.config.new_size = 1; /* what this library cannot do must not be taken for done */
    assert(!zp_pool_create(&c.config) && errno == EINVAL);
#endif
    /* By the functions without a size, as languages that read no header call them. */
    void (*init)(zp_config *) = zp_config_init;
    void (*stats)(zp_pool *, zp_stats *) = zp_pool_stats;
    int (*preset)(zp_config *, zp_preset) = zp_config_preset;
#ifndef OLDER
    memset(&c, 0xa5, sizeof c), memset(&s, 0xa5, sizeof s);
    init(&c.config);
    assert(preset(&c.config, ZP_PRESET_ML) == 0 && intact(c.guard) && (pool = zp_pool_create(&c.config)));
    stats(pool, &s.stats);
    assert(s.stats.n_gets == 0 && s.stats.n_pin_failures == 0 && intact(s.guard));
    zp_pool_destroy(pool);
#endif
    return !init || !stats || !preset;
}
"""


def body_of(text, name):
    return re.search(rf"typedef struct {name} \{{\n(.*?)\}} {name};\n", text, re.S).group(1)


def without_last_fields(text, name, n):
    """The header with the last n fields of a struct left out."""
    body = body_of(text, name)
    fields = list(re.finditer(r"^    \w[^;\n]*;(?:[^\n]*\*/|[^\n]*\n(?:^ +\*[^\n]*\n)*)", body, re.M))
    assert len(fields) > n, name
    return text.replace(body, body[:fields[-n].start()])


def with_field(text, name, field):
    body = body_of(text, name)
    return text.replace(body, body + f"    {field};\n")


def headers(text):
    """{name: (header, macros)}"""
    older = without_last_fields(without_last_fields(text, "zp_config", 3), "zp_stats", 3)
    newer = with_field(with_field(text, "zp_config", "size_t new_size"), "zp_stats", "uint64_t new_count")
    return {"present": (text, []), "older": (older, ["-DOLDER"]), "newer": (newer, ["-DNEWER"])}


def main(header, library, *compiler):
    with open(header, encoding="utf-8") as file:
        text = file.read()
    version = ".".join(re.findall(r"#define ZP_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))
    wrong = []
    for name, (changed, macros) in headers(text).items():
        with tempfile.TemporaryDirectory() as folder:
            for file_name, content in (("zeropool.h", changed), ("program.c", PROGRAM)):
                with open(os.path.join(folder, file_name), "w", encoding="utf-8") as file:
                    file.write(content)
            program = os.path.join(folder, "program")
            built = subprocess.run([*compiler, "-I", folder, f'-DVERSION="{version}"', *macros, "-o", program, os.path.join(folder, "program.c"),
                                    library, f"-Wl,-rpath,{os.path.dirname(os.path.abspath(library))}"],
                                   capture_output=True, text=True, check=False)
            result = subprocess.run([program], capture_output=True, text=True, check=False) if built.returncode == 0 else built
            if result.returncode:
                wrong.append(f"{name} header: {result.returncode} {result.stderr.strip()}")
    print("\n".join(wrong) or "older, present and newer programs work")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
