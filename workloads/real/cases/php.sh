#!/bin/sh
# SPDX-License-Identifier: MIT
# php-cli builds large strings and arrays with its extensions loaded, which Debian's PHP does with RTLD_DEEPBIND.
# needs: /usr/bin/php (php-cli)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

under php "$SUITE_PROGRAMS/strings.php"
# Without PHP's own block manager every string goes to malloc.
export USE_ZEND_ALLOC=0
under php "$SUITE_PROGRAMS/strings.php"
under php -m
