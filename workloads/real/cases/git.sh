#!/bin/sh
# SPDX-License-Identifier: MIT
# git adds many files and large ones, commits with fixed dates, packs, logs, clones and checks.
# needs: /usr/bin/git (git)
# volatile: repo/.git pack layout depends on the number and timing of threads
# volatile: clone/.git pack layout depends on the number and timing of threads
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' GIT_CONFIG_NOSYSTEM=1
under git init -q -b main repo
cd repo
mkdir many
gen text 2000000 41 | split -b 2000 -a 4 - many/f
gen random 8000000 42 >large
gen mixed 10000000 43 >varied
under git add .
under git commit -q -m 'first'
for round in 1 2 3; do
    gen text 400000 "5$round" | split -b 2000 -a 4 - many/f
    printf '%s' "$round" >>varied
    under git commit -q -a -m "round $round"
done
under git repack -a -d -f -q --depth=20 --window=10
under git gc -q
under git log --stat --format='%H %s' | digest
under git fsck --full 2>&1
under git rev-list --objects --all | digest
under git diff HEAD~3 HEAD | digest
under git grep -c e -- many | digest
cd "$OLDPWD"
under git clone -q --no-local repo clone 2>&1
under git -C clone rev-parse HEAD
under git -C clone archive HEAD | digest
