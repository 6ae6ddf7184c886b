#!/bin/sh
# SPDX-License-Identifier: MIT
# openssl encrypts, decrypts, hashes and signs a large file with fixed keys.
# needs: /usr/bin/openssl (openssl)
set -eu
# shellcheck source=/dev/null
. "$SUITE_LIB"

gen random 40000000 31 >data
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
under openssl enc -aes-256-cbc -K "$key" -iv 000102030405060708090a0b0c0d0e0f -in data -out sealed -bufsize 8388608
under openssl enc -d -aes-256-cbc -K "$key" -iv 000102030405060708090a0b0c0d0e0f -in sealed | cmp - data
under openssl dgst -sha512 data
under openssl enc -base64 -in data | digest

# An Ed25519 private key is 32 bytes behind a fixed prefix, and its signatures are deterministic.
{ printf '\060\056\002\001\000\060\005\006\003\053\145\160\004\042\004\040'; gen random 32 5; } >key.der
under openssl pkey -inform DER -in key.der -out key.pem
head -c 4000000 data >message
under openssl pkeyutl -sign -inkey key.pem -rawin -in message -out signature
under openssl pkey -in key.pem -pubout -out public.pem
under openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in message -sigfile signature
under openssl prime 1000003
