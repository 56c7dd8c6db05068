#!/bin/sh
# glibc 2.36 (Debian 12): `mallinfo2().fordblks`, "total free space", goes on counting memory that `malloc_trim` has
# given back to the system. A program that decides by it whether there is something to trim finds the same hundreds
# of megabytes again and again, and trims for ever; what is really there is only to be had from the resident set.
#
# Seen with glibc 2.36-9+deb12u14: 256 MiB in small pieces are freed, trimmed, and the resident set falls by as much;
# fordblks says the same number of bytes before and after.
#
# Exits with 1 if fordblks falls with the trim, or the trim gives nothing back.
set -eu
command -v cc >/dev/null || { echo "needs a C compiler" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/free.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECES = 4096, PIECE_BYTES = 65536 };

static long resident_mib(void) {
    long pages = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm || fscanf(statm, "%ld %ld", &pages, &resident) != 2) exit(2);
    fclose(statm);
    return resident * sysconf(_SC_PAGESIZE) >> 20;
}

int main(void) {
    static void *pieces[PIECES];
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = malloc(PIECE_BYTES);
        memset(pieces[i], 1, PIECE_BYTES);
    }
    /* The last stays, so that the end of the heap stays where it is. */
    for (int i = 0; i < PIECES - 1; i++) free(pieces[i]);
    long free_before = mallinfo2().fordblks >> 20, resident_before = resident_mib();
    malloc_trim(0);
    long free_after = mallinfo2().fordblks >> 20, resident_after = resident_mib();
    printf("before the trim: fordblks %ld MiB, resident %ld MiB\n", free_before, resident_before);
    printf("after the trim:  fordblks %ld MiB, resident %ld MiB\n", free_after, resident_after);
    free(pieces[PIECES - 1]);
    return free_after >= free_before - 1 && resident_before - resident_after > 200 ? 0 : 1;
}
C
cc -O1 -o "$work/free" "$work/free.c"
ldd --version | head -n 1
if "$work/free"; then
    echo "as found: free memory that is gone is still counted"
else
    echo "CHANGED: fordblks follows the trim now, or there was nothing to trim" >&2
    exit 1
fi
