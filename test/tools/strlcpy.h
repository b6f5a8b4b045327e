/* See build_stage in lib.sh: declared by glibc from 2.38 on. */
#include <stddef.h>
extern size_t strlcpy(char *dst, const char *src, size_t size);
extern size_t strlcat(char *dst, const char *src, size_t size);
