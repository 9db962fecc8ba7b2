/* sniff.c - the usual mistakes: a pointer file of Git LFS, a web page, a pickle, another container. */
#include "formats/sniff.h"

#include <string.h>
#include <strings.h>

static int begins(const char *p, size_t n, const char *with)
{
    size_t len = strlen(with);
    return n >= len && strncasecmp(p, with, len) == 0;
}

const char *qvl_sniff(const void *data, size_t size)
{
    const char *p = data;
    size_t n = size;
    if (!n)
        return " (the file is empty)";
    if (begins(p, n, "version https://git-lfs"))
        return " (it is a Git LFS pointer, not the file itself: fetch the contents with `git lfs pull`)";
    if (n >= 4 && memcmp(p, "GGUF", 4) == 0)
        return " (it is a GGUF file)";
    if (n >= 4 && memcmp(p, "PK\3\4", 4) == 0)
        return " (it is a zip archive, probably a PyTorch checkpoint: convert it to safetensors)";
    if (n >= 2 && (unsigned char)p[0] == 0x80 && p[1] >= 2 && p[1] <= 5)
        return " (it is a Python pickle, probably a PyTorch checkpoint: convert it to safetensors)";
    if (n >= 6 && memcmp(p, "\x93NUMPY", 6) == 0)
        return " (it is a NumPy array)";
    if (n >= 2 && memcmp(p, "\x1f\x8b", 2) == 0)
        return " (it is gzip-compressed)";
    while (n && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++, n--;
    if (begins(p, n, "<!doctype html") || begins(p, n, "<html"))
        return " (it is a web page, probably the error page of a download)";
    if (begins(p, n, "<?xml"))
        return " (it is XML, probably the error page of a download)";
    return "";
}
