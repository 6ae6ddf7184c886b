// SPDX-License-Identifier: MIT
// A preload library that changes nothing: every case must pass with it.
int nothing_changed = 1;
